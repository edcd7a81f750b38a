#!/usr/bin/env bash
# Measures what docs/GPU.md reports about a GPU, on the machine that it runs on:
#
#   scripts/gpu/measure.sh [FOLDER]      default out/gpu; make gpu does the same
#
# PROVIDER is the GPU's execution provider (webgpu), NETS are three networks of
# the zoo (resnet50 mobilenetv2 fbnetc), BUDGET is how long each profile measures
# (2m), DURATION how long each policy plays traffic (10s), and REPEATS how often (6). Each step is a file
# in the folder, and is left out if it is there: an interrupted measurement goes
# on where it was. Leave the machine alone meanwhile.
set -euo pipefail
mkdir -p "${1:-out/gpu}"
out=$(cd "${1:-out/gpu}" && pwd)
cd "$(dirname "$0")/../.."

provider=${PROVIDER:-webgpu}
nets=${NETS:-resnet50 mobilenetv2 fbnetc}
budget=${BUDGET:-2m}
duration=${DURATION:-10s}
repeats=${REPEATS:-6}
policies=fcfs,edf,llf,heft,dream,terastal,terastal-novariants,terastal-nobudgets,pedf,rollout

# step NAME COMMAND... writes what a command prints to NAME.txt. Exit code 3 says
# that a run cannot support its claim; what it prints says why.
step() {
  local name=$1 code=0
  shift
  [ -f "$out/$name.txt" ] && return
  echo "== $name: $*" >&2
  "$@" >"$out/$name.part" || code=$?
  if [ "$code" != 0 ] && [ "$code" != 3 ]; then
    exit "$code"
  fi
  mv "$out/$name.part" "$out/$name.txt"
}

# models are the networks of a configuration, at a granularity.
models() {
  local net
  for net in $nets; do
    echo "  - {name: $net, source: \"zoo:$net\", rate: 10, granularity: $1}"
  done
}

# configuration NAME GRANULARITY ACCELERATOR... writes a configuration. Layouts are those
# of WebGPU; the deadlines are the periods, rates are scaled to the load.
configuration() {
  local name=$1 granularity=$2
  shift 2
  {
    echo "accelerators:"
    printf '  - %s\n' "$@"
    echo "models:"
    models "$granularity"
    echo "traffic: {duration: $duration, arrivals: poisson}"
    echo "profile: {budget: $budget}"
    echo "out: $out/$name"
  } >"$out/$name.yaml"
}

cpu="{name: cpu, cores: [0]}"
gpu="{name: gpu, provider: $provider}"
configuration block block "$cpu" "$gpu"
configuration op op "$gpu"
configuration layouts block '{name: nchw, provider: webgpu, options: ["preferredLayout=NCHW"]}' '{name: nhwc, provider: webgpu, options: ["preferredLayout=NHWC"]}'

step doctor bin/terastal doctor
if command -v nvidia-smi >/dev/null; then
  step nvidia nvidia-smi -q -d CLOCK,POWER,PERFORMANCE
fi
# Layers, skew, handoffs, the chain against the whole model.
step profile-block bin/terastal profile --config "$out/block.yaml" --out "$out/block/profile.json" --force
step profile-op bin/terastal profile --config "$out/op.yaml" --out "$out/op/profile.json" --force
if [ "$provider" = webgpu ]; then
  step profile-layouts bin/terastal profile --config "$out/layouts.yaml" --out "$out/layouts/profile.json" --force
fi
# A mixed schedule with all policies at three loads, and each run against its replay.
for load in 0.5 0.8 1.1; do
  step "compare-$load" bin/terastal compare --config "$out/block.yaml" --profile "$out/block/profile.json" --policies "$policies" --repeats "$repeats" --load "$load" --out "$out/load-$load"
  step "validate-$load" bin/terastal validate "$out/load-$load"
done
echo "== done: $out/*.txt" >&2
