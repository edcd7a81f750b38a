#!/bin/sh
# Designs variants for the trained networks, and for networks of ./shared with
# data there, where that folder is, measures the trained D2S variants, and
# rewrites docs/evaluation/variants.md. Before that it fits the variants that
# the zoo ships for the trained networks again (models/zoo/trained/fitted):
#
#	scripts/variants/tables.sh FOLDER [fitted | trained | shared]
#
# Takes some minutes for the trained networks and more for the others, and wants
# a machine that does nothing else. Files are read where they are.
set -eu
mkdir -p "$1"
out=$(cd "$1" && pwd) which=${2:-}

# config NAME SOURCE CALIBRATION LABELLED [PIXELS]
config() {
	cat >"$out/$1.yaml" <<END
accelerators:
  - {name: all, optimization: all}
  - {name: basic, optimization: basic}
models:
  - {name: $1, source: "$2", rate: 1, granularity: op, calibration: $3, labelled: $4${5:+, pixels: $5}}
END
}

# design CONFIG FOLDER FLAG...
design() {
	c=$1 to=$2
	shift 2
	bin/terastal variants design --models-dir / --config "$out/$c.yaml" --out "$out/$to" --budget 20s "$@" >"$out/$to.txt" 2>&1 ||
		{ tail -n 1 "$out/$to.txt" >&2; return 1; }
}

# both NAME designs with all families, and with D2S alone.
both() {
	plans="$plans $out/$1/plan.json $out/$1-d2s/plan.json"
	design "$1" "$1" --all --speedup 3
	design "$1" "$1-d2s" --all --families d2s --speedup 1.3
}

# tables MARKER FLAG... writes those of $plans between a marker of the document
# and the next one, or its end.
tables() {
	marker=$1
	shift
	# shellcheck disable=SC2086
	go run ./scripts/variants "$@" $plans >"$out/tables.md"
	awk -v marker="<!-- $marker -->" -v from="$out/tables.md" '
		/^<!-- / || /^## / { if (skip) print ""; skip = 0 }
		!skip
		$0 == marker { print ""; while ((getline line <from) > 0) print line; skip = 1 }' docs/evaluation/variants.md >"$out/variants.md"
	mv "$out/variants.md" docs/evaluation/variants.md
}

if [ -z "$which" ] || [ "$which" = fitted ]; then
	# For capacity where each of the four demands the same share, as in the demo; 8 bits that saturate nowhere. Those that
	# the zoo has were made on a processor without VNNI, where other families than 8 bits are worth most.
	{
		printf 'accelerators:\n  - {name: all, optimization: all, cores: [0]}\n'
		printf '  - {name: basic, optimization: basic, cores: [1]}\nmodels:\n'
		for of in glyph_mobile:2289 glyph_resnet:2214 glyph_vgg:1563 glyph_vit:1299; do
			n=${of%:*}
			printf '  - {name: %s, source: "zoo:%s", rate: %s, granularity: block, ' "$n" "$n" "${of#*:}"
			printf 'calibration: {source: "glyphs:calibration", count: 300}, labelled: {source: "glyphs:test", count: 1000}}\n'
		done
	} >"$out/fitted.yaml"
	design fitted fitted --arithmetic saturating --budget 60s
	go run ./scripts/variants -ship models/zoo/trained/fitted "$out/fitted/plan.json"
	[ -z "$which" ] || exit 0
	go build -o bin/terastal ./cmd/terastal
fi

if [ "$which" != shared ]; then
	plans= published=
	for n in glyph_resnet glyph_vgg glyph_mobile glyph_vit; do
		config $n zoo:$n '{source: "glyphs:calibration", count: 300}' '{source: "glyphs:test", count: 1000}'
		both $n
		if [ -d models/zoo/trained/d2s/$n ]; then # what is fitted at the speed of D2S
			design $n $n-fitted --all --speedup 1.5
			published="$published $out/$n-fitted/plan.json $out/$n-d2s/plan.json"
		fi
	done
	tables trained
	plans=$published
	tables "d2s trained" -d2s
fi

shared=$(cd "${TERASTAL_SHARED:-../shared}" 2>/dev/null && pwd) || shared=
[ "$which" != trained ] && [ -d "$shared/models" ] || exit 0
models=$shared/models data=$shared/data plans=
if [ -f "$models/mnist-8.onnx" ]; then
	digits="source: $data/mnist/t10k-images-idx3-ubyte.gz"
	config mnist-8 "$models/mnist-8.onnx" "{$digits, first: 8000, count: 300}" \
		"{$digits, labels: $data/mnist/t10k-labels-idx1-ubyte.gz, count: 1000}" "{range: 255}"
	both mnist-8
fi
# Images come in the order of their classes: three in five calibrate, the others judge.
for part in calibration labelled; do
	[ ! -f "$data/imagenet500/labels.csv" ] ||
		awk -v part=$part 'NR > 1 && (NR % 5 < 3) == (part == "calibration")' "$data/imagenet500/labels.csv" >"$out/$part.csv"
done
photos="source: $data/imagenet500"
if [ -f "$models/squeezenet1.1_fp32.onnx" ]; then
	config squeezenet1.1 "$models/squeezenet1.1_fp32.onnx" "{$photos, labels: $out/calibration.csv, count: 300}" \
		"{$photos, labels: $out/labelled.csv, count: 200}" "{range: 255, bgr: true, mean: [104, 117, 123]}"
	both squeezenet1.1
fi
tables shared
