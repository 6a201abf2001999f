#!/usr/bin/env bash
# Starts a SLURM of its own with one node, in namespaces of its own, and runs a command there: slurm_here.sh FOLDER COMMAND...
# Needs root, and Debian's slurmctld, slurmd, slurm-client and munge. Everything ends with the command.
set -euo pipefail
folder=$1
shift
if [ "${1:-}" != --inside ]; then
    exec unshare --mount --pid --fork --mount-proc --net --uts --ipc --kill-child --propagation private \
        bash "$0" "$folder" --inside "$@"
fi
shift
ip link set lo up
# SLURM listens nowhere if a machine has no address besides 127.0.0.1.
ip link add name eth0 type veth peer name eth1
ip address add 10.99.0.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
hostname node1
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p "$folder"/{state,spool} /run/munge /var/log/munge
printf '127.0.0.1 localhost\n10.99.0.1 node1\n' > "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=node1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=/run/munge/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
JobRequeue=1
NodeName=node1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE
CONF
export SLURM_CONF=$folder/slurm.conf
munged --force --key-file="$folder/munge.key" --log-file="$folder/munged.log" --pid-file=/run/munge/munged.pid \
    --socket=/run/munge/munge.socket --seed-file="$folder/munge.seed"
slurmctld
slurmd
for _ in $(seq 60); do
    sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
    sleep 0.5
done
sinfo --noheader --format=%T | grep -q idle || { cat "$folder"/slurm*.log; exit 1; }
"$@"
