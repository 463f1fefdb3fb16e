#!/usr/bin/env bash
# Makes of a sweep that has ended one that has trained a single trial: begun.sh SWEEP NEW_SWEEP. Both then have the
# same prices, which a busy machine would measure differently, and so the same evaluations.
set -euo pipefail
mkdir -p "$2"
cp "$1"/{sweep.yaml,inputs.json,teacher.pth,calibration.json} "$2"
cp -r "$1/calibrations" "$2"
trial=$(dirname "$(grep --files-with-matches '"plain_kd"' "$1"/trials/*/*/trial.json | sort | head --lines=1)")
mkdir -p "$2/trials/$(basename "$(dirname "$trial")")"
cp -r "$trial" "$2/trials/$(basename "$(dirname "$trial")")/"
