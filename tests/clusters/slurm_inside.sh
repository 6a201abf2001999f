#!/usr/bin/env bash
# Within a SLURM: submits the job script, sends SIGTERM to its first turn, and waits for the end: slurm_inside.sh SCRIPT RUN
set -euo pipefail
script=$1 run=$2
job=$(sbatch --parsable "$script")
state() { squeue --noheader --jobs "$job" --format=%T 2>/dev/null || true; }
epochs() { cat "$run"/trainings/*/history.jsonl 2>/dev/null | wc -l; }
for _ in $(seq 240); do
    test "$(epochs)" -ge 3 && break
    test -n "$(state)" || break
    sleep 0.5
done
echo "epochs before: $(epochs)"
scancel --batch --signal=TERM "$job"
for _ in $(seq 800); do
    test -n "$(state)" || break
    sleep 0.5
done
scontrol show job "$job" | grep -oE 'JobState=\w+|Restarts=\w+|ExitCode=\S+'
echo "epochs: $(epochs)"
