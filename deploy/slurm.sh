#!/bin/bash
# A search on the nodes of a Slurm job: sbatch deploy/slurm.sh SPEC RUN
# SPEC, its data and the folder RUN are on storage that all nodes share. A job that is pre-empted,
# or near its time limit, is queued again and resumes.
#SBATCH --job-name=evomix
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
set -euo pipefail
spec=$1 run=$2

port=$((20000 + SLURM_JOB_ID % 10000)) # other jobs may share the node
head=$(hostname)
address=$(hostname --ip-address | cut -d ' ' -f 1):$port
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') # locks the cluster
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
trap 'jobs -p | xargs --no-run-if-empty kill 2>/dev/null' EXIT
each=(--num-cpus="$SLURM_CPUS_PER_TASK" --block)

srun --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --port="$port" --include-dashboard=false "${each[@]}" &
until ray status --address="$address" >/dev/null 2>&1; do sleep 2; done
if ((SLURM_JOB_NUM_NODES > 1)); then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$address" "${each[@]}" &
fi

evo launch "$spec" --run "$run" --address "$address" --or-resume &
search=$!
trap 'kill -TERM "$search"' TERM # of Slurm, to this script alone
code=0
wait "$search" || code=$?
if kill -0 "$search" 2>/dev/null; then # the trap ended the first wait
    code=0
    wait "$search" || code=$?
fi
if ((code == 130)); then # stopped, with the run left to resume
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
