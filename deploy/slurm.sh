#!/usr/bin/env bash
# A run on the nodes of a Slurm job: sbatch deploy/slurm.sh CONFIG RUN_DIR
#SBATCH --job-name=ratchet
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=48:00:00
#SBATCH --signal=B:TERM@300
set -euo pipefail

config=$1
run_dir=$2
# EDIT: where the project and its virtual environment lie, on a file system that every node sees.
project=${RATCHET_PROJECT:-$PWD}
# `ray symmetric-run` looks for `ray` there.
export PATH=$project/.venv/bin:$PATH

nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1}')
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_AUTH_TOKEN
port=6379

# Slurm's SIGTERM reaches the controller, which commits what is in flight; the next job goes on from there.
cd "$project"
exec srun --kill-on-bad-exit=1 ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  python run_loop.py run --config "$config" --run-dir "$run_dir" \
  --set engine.replicas=auto --set "cluster.address=$head:$port" --set cluster.shared_files=true
