#!/bin/sh
# Designs variants for the trained networks, and for files of ./shared models
# where there are any, and rewrites the tables of docs/VARIANTS.md:
#
#	scripts/variants/tables.sh FOLDER
#
# Takes some minutes, and wants a machine that does nothing else.
set -eu
out=$1
mkdir -p "$out"

# config NAME SOURCE CALIBRATION LABELLED
config() {
	cat >"$out/$1.yaml" <<END
accelerators:
  - {name: all, optimization: all}
  - {name: basic, optimization: basic}
models:
  - {name: $1, source: "$2", rate: 1, granularity: op, calibration: $3, labelled: $4}
END
}

# design CONFIG FOLDER FLAG...
design() {
	c=$1 to=$2
	shift 2
	bin/terastal variants design --models-dir / --config "$out/$c.yaml" --out "$out/$to" --all --budget 20s "$@" >"$out/$to.txt" 2>&1 ||
		{ tail -n 1 "$out/$to.txt" >&2; return 1; }
}

for n in glyph_resnet glyph_vgg glyph_mobile glyph_vit; do
	config $n zoo:$n '{source: "glyphs:calibration", count: 300}' '{source: "glyphs:test", count: 1000}'
	design $n $n --speedup 3
	design $n $n-d2s --families d2s --speedup 1.3
done

shared=$(cd "${TERASTAL_SHARED:-../shared}" 2>/dev/null && pwd) || shared=
if [ -f "$shared/models/mnist-8.onnx" ]; then
	config mnist-8 "$shared/models/mnist-8.onnx" "{source: $shared/data/mnist/t10k-images-idx3-ubyte.gz, first: 8000, count: 500}" \
		"{source: $shared/data/mnist/t10k-images-idx3-ubyte.gz, labels: $shared/data/mnist/t10k-labels-idx1-ubyte.gz, count: 2000}"
	design mnist-8 mnist-8 --speedup 2
fi

go run ./scripts/variants "$out"/*/plan.json >"$out/tables.md"
sed '/<!-- tables -->/q' docs/VARIANTS.md >"$out/VARIANTS.md"
echo >>"$out/VARIANTS.md"
cat "$out/tables.md" >>"$out/VARIANTS.md"
mv "$out/VARIANTS.md" docs/VARIANTS.md
