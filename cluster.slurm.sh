#!/usr/bin/env bash
# A sweep as a job of SLURM, on one node or on several. Copy this file, change the #SBATCH lines and the three names
# below, and submit it:
#
#   tskd-tune cluster init --provider slurm        writes cluster.slurm.sh
#   sbatch cluster.slurm.sh                        submits the job
#   tskd-tune status RUN --watch                   from the login node, while the job runs
#
# Before the time limit, SLURM sends SIGTERM. The sweep then stops cleanly, and the job asks for another turn, in which
# the sweep continues from its last checkpoints. The job ends when the sweep has ended.
#
#SBATCH --job-name=tskd-tune
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -uo pipefail

sweep=${TSKD_TUNE_SWEEP:-digits}                  # the YAML file, or the name of a search space of the package
run=${TSKD_TUNE_RUN:-$PWD/runs/slurm-$SLURM_JOB_ID}  # the run's folder, which all nodes share: PARENT/NAME
restarts=${TSKD_TUNE_RESTARTS:-50}                # after so many turns the job asks for no other one

# The first job makes the token; the token keeps other users of the nodes out of this Ray.
export RAY_AUTH_MODE=token RAY_DISABLE_DOCKER_CPU_WARNING=1
umask 077
test -s ~/.ray/auth_token || ray get-auth-token --generate > /dev/null

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
gpus=${SLURM_GPUS_ON_NODE:-0}
# A folder of this job's own, so that two jobs on one node have two Rays. A socket's path has at most 103 letters.
temporary=$(mktemp -d "/tmp/ray-XXXXXX")
address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

on_head() {
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" "$@"
}
on_others() {
    srun --overlap --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 \
        --exclude="$head" "$@"
}

stop=0 driver=
trap 'stop=1; test -z "$driver" || kill -TERM "$driver" 2>/dev/null' TERM
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$temporary"' EXIT

on_head ray start --head --block --node-ip-address="$address" --port="$port" --temp-dir="$temporary" \
    --num-cpus="$cpus" --num-gpus="$gpus" --include-dashboard=false --disable-usage-stats > "$temporary/head.log" 2>&1 &
for _ in $(seq 60); do
    ray health-check --address "$address:$port" > /dev/null 2>&1 && break
    sleep 2
done
ray health-check --address "$address:$port" || { tail -n 20 "$temporary/head.log"; exit 1; }
if ((SLURM_JOB_NUM_NODES > 1)); then
    on_others ray start --block --address="$address:$port" --num-cpus="$cpus" --num-gpus="$gpus" \
        --disable-usage-stats > "$temporary/others.log" 2>&1 &
fi

export RAY_ADDRESS=$address:$port
# The sweep runs in the background, because bash handles a signal only after a program in the foreground has ended.
if test -e "$run/sweep.yaml"; then
    tskd-tune resume "$run" &
else
    tskd-tune sweep "$sweep" --storage "$(dirname "$run")" --name "$(basename "$run")" &
fi
driver=$!
test "$stop" = 0 || kill -TERM "$driver"
wait "$driver"
code=$?
# A signal ends the first wait at once; the second one waits for the sweep's clean end.
while kill -0 "$driver" 2>/dev/null; do
    wait "$driver"
    code=$?
done

if [ "$stop" = 1 ] && [ "$code" != 0 ]; then
    turns=${SLURM_RESTART_COUNT:-0}
    if ((turns < restarts)); then
        echo "the time of this turn is over; the sweep continues in the next turn ($((turns + 1)) of $restarts)"
        scontrol requeue "$SLURM_JOB_ID"
        exit 0
    fi
    echo "no turns are left; continue with: tskd-tune resume $run"
fi
exit "$code"
