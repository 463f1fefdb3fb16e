#!/usr/bin/env bash
# Runs a small sweep on a Ray cluster of two nodes, each with a network and processes of its own, and cuts the network
# between them for 30 seconds (or PARTED_S) in the middle. The sweep must end with the curves of an undisturbed one.
# Needs root, iproute2 and util-linux; make setup first. Takes 3 minutes on two idle cores, and ten more if Ray loses an
# answer of a worker.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$PWD/.venv/bin here=$PWD/tests/deploy
# shellcheck source=tests/deploy/expect.sh
. "$here/expect.sh"
must_have "iproute2 util-linux" ip unshare
work=$(mktemp -d /tmp/kdas-p-XXXX) # short: Ray's sockets are in it
tag=k$$
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true KDAS_TRACKING=
RAY_AUTH_TOKEN=$("$bin/python" -c 'import secrets; print(secrets.token_hex(32))')
parted_s=${PARTED_S:-30}
started=()

clean_up() {
  local code=$?
  # unshare heeds nothing less, and takes all of its processes along.
  for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait || true
  for end in 1 2; do ip netns delete "$tag-$end" 2>/dev/null || true; done
  ip link delete "$tag" 2>/dev/null || true
  if [ "$code" = 0 ]; then rm -rf "$work"; else echo "failed; what there is lies in $work" >&2; fi
}
trap clean_up EXIT

# A machine is a network namespace on a common bridge. Every command there sees only its own processes.
ip link add "$tag" type bridge
ip link set "$tag" up
for end in 1 2; do
  ip netns add "$tag-$end"
  ip link add "$tag.$end" type veth peer name eth0 netns "$tag-$end"
  ip link set "$tag.$end" master "$tag" up
  ip -n "$tag-$end" link set lo up
  ip -n "$tag-$end" address add "10.99.99.$end/24" dev eth0
  ip -n "$tag-$end" link set eth0 up
done

on() { # on MACHINE COMMAND...: until it ends, or is killed with all that it has started
  local machine=$1
  shift
  exec ip netns exec "$tag-$machine" unshare --pid --fork --kill-child --mount-proc "$@"
}

echo "undisturbed, on this machine alone"
export KDAS_CACHE=$work/cache
RUNS_DIR=$work/alone "$bin/kdas-sweeps" sweep "$here/small.yaml" --set resources.trials_at_once=2 >"$work/alone.log" 2>&1

"$here/begun.sh" "$work/alone/small" "$work/parted/small"

echo "on two nodes"
# The first machine also runs the driver, so both are in one shell there.
cat >"$work/first.sh" <<END
KDAS_CACHE=$work/cache1 $bin/ray start --head --node-ip-address=10.99.99.1 --port=6379 --num-cpus=1 \
  --object-store-memory=100000000 --include-dashboard=false --temp-dir=$work/r1 --disable-usage-stats >$work/head.log 2>&1
until [ -e $work/second-has-joined ]; do sleep 1; done
KDAS_CACHE=$work/cache RUNS_DIR=$work/parted exec $bin/kdas-sweeps sweep $here/small.yaml --cluster 10.99.99.1:6379
END
# Ray ends a node that its head has given up; whoever started it starts it again.
cat >"$work/second.sh" <<END
while true; do
  KDAS_CACHE=$work/cache2 $bin/ray start --address=10.99.99.1:6379 --node-ip-address=10.99.99.2 --num-cpus=1 \
    --object-store-memory=100000000 --temp-dir=$work/r2 --block >>$work/node.log 2>&1
  sleep 2
done
END
(on 1 bash "$work/first.sh") >"$work/parted.log" 2>&1 &
sweep=$!
started+=("$sweep")
(on 2 bash "$work/second.sh") &
started+=($!)
wait_for "the second node" 300 grep -q "Ray runtime started" "$work/node.log"
touch "$work/second-has-joined"

rows_of_two() { [ "$(find "$work/parted/small/trials" -name curve.jsonl -size +0 | wc -l)" -ge 2 ]; }
wait_for "a row of two trials" 600 rows_of_two
ip link set "$tag.2" down
echo "parted for $parted_s s"
sleep "$parted_s"
ip link set "$tag.2" up
echo "joined again"

is_over() { ! kill -0 "$sweep"; }
wait_for "the end of the sweep" 1800 is_over
code=0
wait "$sweep" || code=$?
cat "$work/parted.log"
[ "$code" = 0 ]
# Ray gives a node up after about 30 seconds, so it may have done so or not.
grep -q "The machine .* is gone" "$work/parted.log" || echo "Ray kept the second node"
"$bin/python" "$here/same_curves.py" "$work/alone" "$work/parted" small
