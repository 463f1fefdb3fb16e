#!/usr/bin/env bash
# Measures on a GPU what could not be measured without one. Run it from the repository's root, with nothing else running:
#   benchmarks/on_gpu.sh                         # about an hour; CIFAR-10 is downloaded if DATA is not set
#   DATA=/data/cifar10 benchmarks/on_gpu.sh      # a folder with train.parquet and test.parquet
#   DEVICE=cpu EPOCHS=1 benchmarks/on_gpu.sh     # dry run of all parts on a CPU, on small digits: minutes
# PARTS=cd runs parts c and d alone. PYTHON names another interpreter than .venv/bin/python.
set -euo pipefail
DEVICE=${DEVICE:-cuda} EPOCHS=${EPOCHS:-20} PARTS=${PARTS:-abcdefg} PYTHON=${PYTHON:-.venv/bin/python} DATA=${DATA:-}

work=$(mktemp -d) has_mps=
end() {
  # The processes of an interrupted part, by their ids.
  jobs -p | xargs -r kill 2>/dev/null || true
  stop_mps
  rm -rf "$work"
}
stop_mps() {
  if [ "$has_mps" ]; then
    echo quit | nvidia-cuda-mps-control || true
    has_mps=
    unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
  fi
}
trap end EXIT
export KDAS_CACHE="$work/cache" RUNS_DIR="$work/runs"

data_of_bench=()
case $DEVICE in
  cuda)
    dataset="{name: cifar10${DATA:+, path: $DATA}}" teacher=vgg13 student=vgg8 batch_size=64
    if [ "$DATA" ]; then data_of_bench=(--data "$DATA"); fi
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    ;;
  cpu)
    dataset=digits teacher=resnet8 student=resnet8 batch_size=16
    export CUDA_VISIBLE_DEVICES=
    ;;
  *)
    echo "DEVICE: expected cuda or cpu, got $DEVICE." >&2
    exit 2
    ;;
esac
"$PYTHON" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'

recipe="dataset: $dataset
validation: 0.1
teacher: {model: $teacher, epochs: 1}
student: $student
batch_size: $batch_size
device: $DEVICE"
printf '%s\nepochs: %s\n' "$recipe" "$EPOCHS" >"$work/trial.yaml"
# Long enough to be killed after its first checkpoint.
printf '%s\nepochs: %s\nsampler: kdas\n' "$recipe" "$((EPOCHS + 9))" >"$work/repeated.yaml"
cat >"$work/sweep.yaml" <<EOF
$recipe
epochs: $EPOCHS
evaluations: $((2 * EPOCHS))
baselines: {plain_kd: full, rs2: random}
search: {START_RATE: {low: 0.3, high: 0.9}}
seeds: 2
budget: {configurations: 4}
scheduler: none
confirm: false
resources: {trials_per_gpu: auto}
EOF

has() { [[ $PARTS == *"$1"* ]]; }
title() { printf '\n== %s\n' "$*"; }
train() { # FILE CURVE [more words]; its output is kept beside the curve
  "$PYTHON" -m kdas train "$1" --curve "$2" "${@:3}" >"$2.log" 2>&1 || { tail -n 5 "$2.log" >&2; return 1; }
}

# The first trial trains the teacher, measures prices and fills the bank. Prices that look busy would be measured again
# by each process; here they must be the same for all, and they compare no methods.
prepare() {
  if [ -e "$work/first.jsonl" ]; then return; fi
  train "$work/trial.yaml" "$work/first.jsonl"
  "$PYTHON" - <<'EOF'
from kdas.files.cache import cache_root
from kdas.files.prices import calibration_of, read_calibration, write_calibration
for path in (cache_root() / "calibrations").glob("*.json"):
    kept = read_calibration(path)
    if kept.busy:
        print(f"WARNING: {kept.busy}. Measured with nothing else running, these figures would differ.")
    write_calibration(path, calibration_of(kept.measured_on, kept.prices, kept.rounds, kept.measured_at))
EOF
}

# Trials per hour of several processes that train at the same time, by the clock of each: without the start of Python.
at_once() {
  local number=$1 kind=$2 pids=() index failed=
  for index in $(seq "$number"); do
    train "$work/trial.yaml" "$work/$kind-$number-$index.jsonl" &
    pids+=($!)
  done
  for index in "${pids[@]}"; do wait "$index" || failed=yes; done
  if [ "$failed" ]; then
    echo "$number at once: failed; the last lines of its log are above"
    return
  fi
  "$PYTHON" - "$work/$kind-1-1.jsonl" "$work/$kind-$number"-*.jsonl <<'EOF'
import json, sys
def per_hour(path):
    last = json.loads(open(path).read().splitlines()[-1])
    return 3600 / (last["wall_s"] + last["eval_s"])
alone, *together = map(per_hour, sys.argv[1:])
print(f"{len(together)} at once: {sum(together):.1f} trials per hour, {sum(together) / alone:.2f} times one at a time")
EOF
}

# The same with trials in threads of one process.
in_one_process() { # NUMBER [KEY=VALUE ...]
  "$PYTHON" -m benchmarks.on_streams "$work/trial.yaml" "$@" || echo "$1 at once: no valid measurement; see above"
}

if has a; then
  title "(a) a whole trial against the usual trainer"
  "$PYTHON" -m benchmarks against_reference --quick "${data_of_bench[@]}"
fi
if has b; then
  title "(b) a training step against the student alone"
  "$PYTHON" -m benchmarks limit --quick "${data_of_bench[@]}"
fi
if has c; then
  title "(c) trials per hour on one device, $EPOCHS epochs each"
  prepare
  for number in 1 2 4 8; do at_once "$number" plain; done
  if [ "$DEVICE" = cpu ]; then
    echo "NVIDIA's multi-process service: skipped, since the device is a CPU."
  elif command -v nvidia-cuda-mps-control >/dev/null; then
    echo "With NVIDIA's multi-process service:"
    mkdir "$work/mps" "$work/mps-log"
    export CUDA_MPS_PIPE_DIRECTORY="$work/mps" CUDA_MPS_LOG_DIRECTORY="$work/mps-log"
    nvidia-cuda-mps-control -d
    has_mps=yes
    for number in 1 2 4 8; do at_once "$number" mps; done
    stop_mps
  else
    echo "NVIDIA's multi-process service: skipped, since nvidia-cuda-mps-control is not installed."
  fi
  if [ "$DEVICE" = cpu ]; then
    echo "In one process, in threads:"
    for number in 1 2 4 8; do in_one_process "$number"; done
    echo "In one process, on streams, with cuda_graphs: skipped, since the device is a CPU."
  else
    echo "In one process, on streams:"
    for number in 1 2 4 8; do in_one_process "$number"; done
    echo "In one process, on streams, with cuda_graphs:"
    for number in 1 2 4 8; do in_one_process "$number" cuda_graphs=true; done
  fi
fi
if has d; then
  title "(d) the same trial again, and killed and resumed"
  prepare
  train "$work/repeated.yaml" "$work/one.jsonl"
  train "$work/repeated.yaml" "$work/two.jsonl"
  # Not through `train`, whose subshell would be killed in place of the trial.
  "$PYTHON" -m kdas train "$work/repeated.yaml" --curve "$work/killed.jsonl" --checkpoint "$work/killed.ckpt" \
    >"$work/killed.log" 2>&1 &
  trial=$!
  until [ -e "$work/killed.ckpt" ] || ! kill -0 "$trial" 2>/dev/null; do sleep 0.05; done
  kill -KILL "$trial" 2>/dev/null || true
  code=0
  wait "$trial" 2>/dev/null || code=$?
  num_rows=$(wc -l <"$work/killed.jsonl")
  if [ "$code" = 137 ]; then
    echo "killed after $num_rows evaluations"
  else
    echo "ended with code $code before it could be killed: raise EPOCHS" >&2
    exit 1
  fi
  train "$work/repeated.yaml" "$work/killed.jsonl" --checkpoint "$work/killed.ckpt"
  "$PYTHON" - "$work" <<'EOF'
import json, pathlib, sys
OF_THE_RUN = {"wall_s", "eval_s", "data_s", "num_cotenants", "cost_as_run_s"}
def curve(name):
    lines = pathlib.Path(sys.argv[1], name).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in OF_THE_RUN} for line in lines]
one, equal = curve("one.jsonl"), True
for name, told in (("two.jsonl", "again"), ("killed.jsonl", "killed and resumed")):
    other = curve(name)
    differing = [row["step"] for row, its in zip(one, other) if row != its]
    equal = equal and other == one
    verdict = "equal bit for bit" if other == one else f"differs, first at step {differing[0] if differing else 'none'}"
    print(f"{told}: {verdict} ({len(one)} and {len(other)} evaluations)")
sys.exit(not equal)
EOF
fi
if has e; then
  title "(e) a short sweep with trials_per_gpu: auto"
  "$PYTHON" -m sweeps run --yes -- "$work/sweep.yaml"
fi
if has f; then
  title "(f) steps whose kernels are recorded"
  "$PYTHON" -m benchmarks.recorded_steps "$work/trial.yaml"
fi
if has g; then
  title "(g) what KDAS chooses on this device and on a CPU"
  "$PYTHON" -m benchmarks.selections "$work/trial.yaml"
fi
