#!/bin/sh
# Measures a configuration on this machine and makes a scenario of it that ships:
#
#   scripts/scenario/measure.sh NAME CONFIG NOTE [BUDGET]
#
# writes sched/scenario/data/hw/NAME.json, with rates at load 0.6, and leaves the profile and the plan in out/NAME. CONFIG
# may be "demo": then the demo's networks are measured, with their variants. Leave the machine alone meanwhile. BUDGET is
# how long to measure, 60s unless given.
set -eu
name=$1 config=$2 note=$3 budget=${4:-60s}
cd "$(dirname "$0")/../.."
ONNXRUNTIME_LIB=${ONNXRUNTIME_LIB:-$(scripts/setup-onnxruntime.sh)}
export ONNXRUNTIME_LIB
out=out/$name
go build -o bin/terastal ./cmd/terastal
if [ "$config" = demo ]; then
	bin/terastal demo --load 0.6 --duration 1s --policies edf --budget "$budget" --out "$out" ||
		test $? = 3 # too short a run for its figures: only the profile and the plan count
else
	bin/terastal profile --config "$config" --budget "$budget" --out "$out/profile.json"
	bin/terastal plan --config "$config" --profile "$out/profile.json" --load 0.6 --out "$out"
fi
go run ./scripts/scenario -plan "$out/plan.json" -profile "$out/profile.json" -name "$name" \
	-commit "$(git rev-parse --short HEAD)" -note "$note; scale 1 is load 0.6"
bin/terastal profile show "$out/profile.json" | tail -n 12
