#!/usr/bin/env bash
# Plays the demo's networks on this machine's accelerators at loads from 0.4 to 2 of what the originals can sustain,
# under every policy, and rewrites the measured tables of docs/evaluation/accuracy.md. It takes about half an hour, in
# which nothing else may run, and simulates for some ten minutes after that. Run again, it continues after the last load
# that is whole.
#
#   scripts/accuracy-goals.sh [FOLDER]     default out/accuracy/demo, which gets the documents
#
# DURATION=3s is how long requests are released per run, REPEATS=6 how often every policy plays at each load.
# LOADS="0.9 1.1" plays these only. ACCURACY=0.99 is the accuracy floor.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/accuracy/demo}
floor=${ACCURACY:-0.99}
make --no-print-directory setup build
ONNXRUNTIME_LIB=$(scripts/setup-onnxruntime.sh)
export ONNXRUNTIME_LIB
originals=fcfs,edf,dream,terastal-novariants,pedf-novariants,rollout-novariants
variants=terastal,terastal-budget,pedf,rollout

# INVALID (exit status 3) is part of what was measured: the tables say so.
measured() { "$@" || [ $? = 3 ]; }

# The demo chooses rates and deadlines for this machine, measures layers and plans. What follows uses its profile.
if [ ! -f "$out/demo.yaml" ]; then
  measured bin/terastal demo --out "$out" --policies fcfs --duration 1s --accuracy "$floor"
fi
results=()
for load in ${LOADS:-0.4 0.9 1.1 1.3 1.6 2.0}; do
  result=$out/load-$load.json
  if [ ! -f "$result" ]; then
    rm -f "$out/result.json"
    measured bin/terastal compare --config "$out/demo.yaml" --out "$out" --accuracy "$floor" --load "$load" \
      --policies "unscheduled,$originals,$variants" --baseline fcfs --aa --repeats "${REPEATS:-6}" \
      --duration "${DURATION:-3s}"
    cp "$out/result.json" "$result"
  fi
  results+=("$result")
done
# Not on the hardware, where so many floors and loads would take a day. Rollouts search for seconds in every second of
# these networks, so they get fewer and shorter runs.
curves() {
  if [ ! -f "$out/curves-$1.json" ]; then
    measured bin/terastal sweep curves --config "$out/demo.yaml" --out "$out" --load 1 --policies "$2" \
      --accuracy 1,0.999,0.99,0.98 --limit 0.01,0.05 --from 0.6 --to 2.2 --step 0.4 --resolution 0.02 "${@:3}"
    cp "$out/curves.json" "$out/curves-$1.json"
  fi
}
curves rules fcfs,edf,terastal,terastal-budget,pedf --seeds 4 --duration 4s
curves rollout rollout --seeds 2 --duration 1s
scripts/compared.py --into docs/evaluation/accuracy.md --plan "$out/plan.json" --curves "$out/curves-rules.json" \
  --curves "$out/curves-rollout.json" "${results[@]}"
