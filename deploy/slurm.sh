#!/usr/bin/env bash
# A sweep as a SLURM job, on one node or several. Submit it from the checkout:
#   sbatch --nodes=4 --export=ALL,NAME=mine.yaml,RUNS_DIR=/shared/runs deploy/slurm.sh
# The same command resumes a job that was cancelled. docs/deploying.md explains it.
#SBATCH --job-name=kdas-sweeps
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Before the time is up, stop and queue again. SLURM itself queues again what it preempts.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A lost node does not end the job.
#SBATCH --no-kill
set -uo pipefail
: "${NAME:?name a sweep: sbatch --export=ALL,NAME=digits_kd,RUNS_DIR=/shared/runs deploy/slurm.sh}"
: "${RUNS_DIR:?name a folder that all nodes share: sbatch --export=ALL,NAME=$NAME,RUNS_DIR=/shared/runs deploy/slurm.sh}"
cd "$SLURM_SUBMIT_DIR" || exit 2
bin=$SLURM_SUBMIT_DIR/.venv/bin
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
cpus=${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}
# As SLURM itself reaches this node: its host name may mean the loopback address.
address=$(scontrol show node "$SLURMD_NODENAME" --oneliner | grep --only-matching 'NodeAddr=[^ ]*')
ip=$(getent ahostsv4 "${address#NodeAddr=}" | awk 'NR == 1 {print $1}')
# Jobs may share a machine.
port=$((20000 + SLURM_JOB_ID % 10000)) folder=/tmp/ray-$SLURM_JOB_ID
# Told to end, Ray would wait for half a minute first, and SLURM then kills it.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
RAY_AUTH_TOKEN=$("$bin/python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

mkdir -p "$folder"
"$bin/ray" start --head --node-ip-address="$ip" --port="$port" --num-cpus="$cpus" --temp-dir="$folder" \
  --include-dashboard=false --block >"$folder/head.out" 2>&1 &
head=$!
until grep -qs "Ray runtime started" "$folder/head.out"; do
  kill -0 $head 2>/dev/null || { cat "$folder/head.out" >&2; exit 1; }
  sleep 1
done

# Removes its folder also when it is told to end.
# shellcheck disable=SC2016
node_of_ray='trap : TERM; folder=$1; shift; "$@" --temp-dir="$folder"; rm -rf "$folder"'
worker() { # a node of Ray on a node of the job; Ray ends one that the head has given up, and another one may come
  while true; do
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" --output=/dev/null bash -c "$node_of_ray" worker \
      "$folder-$1" "$bin/ray" start --address="$ip:$port" --num-cpus="$cpus" --block
    sleep 10
  done
}
workers=()
for node in "${nodes[@]:1}"; do
  worker "$node" &
  workers+=($!)
done

"$bin/kdas-sweeps" sweep "$NAME" --yes --cluster "$ip:$port" &
sweep=$! again=false
trap 'again=true; kill -TERM $sweep 2>/dev/null' USR1
trap 'kill -TERM $sweep 2>/dev/null' TERM
# A signal ends `wait`, not what it waits for.
wait $sweep
code=$?
while kill -0 $sweep 2>/dev/null; do
  wait $sweep
  code=$?
done
if $again; then scontrol requeue "$SLURM_JOB_ID"; fi
kill "${workers[@]}" 2>/dev/null
kill $head 2>/dev/null && wait $head
rm -rf "$folder"
exit $code
