#!/usr/bin/env bash
# Measures ResNet-50 at op on this machine's accelerators twice, with the
# settings that everybody gets, and shows how long it took, how well layers
# predict the whole chain (sum/chain) and how far the two profiles differ (the
# last line). Leave the machine alone meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
make build
mkdir -p out
for n in 1 2; do
	begin=$(date +%s.%N)
	bin/terastal profile --model zoo:resnet50 --granularity op --accelerators auto --out "out/goals/$n.json" --force >"out/goals-$n.txt"
	printf 'profile %s: %.1f s\n' "$n" "$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')"
	grep -E '^precision|^model +accelerator|^resnet50 +cpu|^ +cpu' "out/goals-$n.txt"
done
bin/terastal profile compare out/goals/1.json out/goals/2.json | tail -n 4
