#!/usr/bin/env bash
# Starts SLURM on this machine, with two nodes, and runs a small sweep through deploy/slurm.sh. The job is cancelled and
# submitted again, and later queued again by SLURM's own signal. The curves must be those of an undisturbed sweep.
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge; make setup first. Takes 5 minutes on two idle cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/deploy
# shellcheck source=tests/deploy/expect.sh
. "$here/expect.sh"
must_have "slurmctld slurmd slurm-client munge" munged slurmctld slurmd sbatch
work=$(mktemp -d /tmp/kdas-s-XXXX)
export SLURM_CONF=$work/slurm.conf
export KDAS_CACHE=$work/cache KDAS_TRACKING="" MLFLOW_DISABLE_TELEMETRY=true
started=() jobs=()

clean_up() {
  local code=$?
  scancel --quiet --user=root 2>/dev/null || true
  # A slurmd waits for its jobs.
  for _ in $(seq 60); do
    [ -n "$(squeue --noheader 2>/dev/null)" ] || break
    sleep 1
  done
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait || true
  # SLURM may have killed a job before it removed its own.
  for job in "${jobs[@]}"; do rm -rf "/tmp/ray-$job" "/tmp/ray-$job-n2"; done
  if [ "$code" = 0 ]; then rm -rf "$work"; else echo "failed; what there is lies in $work" >&2; fi
}
trap clean_up EXIT

head --bytes=1024 /dev/urandom >"$work/munge.key"
chmod 600 "$work/munge.key"
munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munge.pid" \
  --log-file="$work/munge.log" --seed-file="$work/munge.seed" 2>"$work/munge.out" &
started+=($!)
host=$(hostname -s)
cat >"$SLURM_CONF" <<END
ClusterName=small
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=30
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=16821 CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=16822 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES State=UP
END
mkdir "$work/state"
wait_for "munge" 60 test -S "$work/munge.socket"
slurmctld -D >"$work/slurmctld.out" 2>&1 &
started+=($!)
for node in n1 n2; do
  mkdir "$work/spool.$node"
  slurmd -D -N "$node" >"$work/slurmd.$node.out" 2>&1 &
  started+=($!)
done
are_idle() { [ "$(sinfo --noheader --Node --states=idle | wc -l)" = 2 ]; }
wait_for "two idle nodes" 120 are_idle

echo "undisturbed, on this machine alone"
RUNS_DIR=$work/alone .venv/bin/kdas-sweeps sweep "$here/small.yaml" --set resources.trials_at_once=2 >"$work/alone.log" 2>&1

submit() {
  sbatch --parsable --cpus-per-task=1 --output="$work/job.log" \
    --export="ALL,NAME=$here/small.yaml,RUNS_DIR=$work/runs" deploy/slurm.sh
}
rows() { cat "$work"/runs/small/trials/*/*/curve.jsonl 2>/dev/null | wc -l; }
has_rows() { [ "$(rows)" -ge "$1" ]; }
is_in() { [ "$(squeue --noheader --jobs="$1" --format=%T 2>/dev/null)" = "$2" ]; }
has_gone() { [ -z "$(squeue --noheader --jobs="$1" 2>/dev/null)" ]; }

"$here/begun.sh" "$work/alone/small" "$work/runs/small"
job=$(submit)
jobs+=("$job")
wait_for "ten more rows" 900 has_rows $(($(rows) + 10))
scancel "$job"
echo "cancelled after $(rows) rows"
wait_for "the end of the job" 120 has_gone "$job"
before=$(rows)

job=$(submit)
jobs+=("$job")
wait_for "ten more rows" 900 has_rows $((before + 10))
scancel --batch --signal=USR1 "$job"
echo "told that its time is nearly up, after $(rows) rows"
wait_for "the job in the queue again" 180 is_in "$job" PENDING
# SLURM would let it wait for two minutes.
scontrol update "jobid=$job" starttime=now || true
wait_for "the end of the job" 1800 has_gone "$job"

cat "$work/job.log"
.venv/bin/python "$here/same_curves.py" "$work/alone" "$work/runs" small
