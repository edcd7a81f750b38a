#!/bin/sh
# Regenerates internal/onnxpb/onnx.pb.go from the ONNX schema (Apache-2.0) in
# the PyPI wheel of the `onnx` package. Building Terastal never needs this.
#
#   scripts/gen-onnxpb.sh [WHEEL]
#
# Needs go, protoc, python3 and, when no wheel is given, pip.
set -eu

cd "$(dirname "$0")/.."
onnx_version=1.23.2
for tool in go protoc python3; do
	command -v "$tool" >/dev/null || { echo "gen-onnxpb: $tool is not installed" >&2; exit 1; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

wheel=${1:-}
if [ -z "$wheel" ]; then
	python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
		--dest "$work" "onnx==$onnx_version"
	wheel=$(ls "$work"/onnx-*.whl)
fi

# The schema has no string literals that hold "//" or "/*", so comments can be
# stripped by pattern.
python3 - "$wheel" >"$work/onnx.proto" <<'PY'
import re, sys, zipfile
text = zipfile.ZipFile(sys.argv[1]).read("onnx/onnx-ml.proto").decode()
text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
text = re.sub(r"//[^\n]*", "", text)
print("\n".join(line.rstrip() for line in text.splitlines() if line.strip()))
PY

module=$(go list -m)
plugin_version=$(go list -m -f '{{.Version}}' google.golang.org/protobuf)
GOBIN="$work/bin" go install "google.golang.org/protobuf/cmd/protoc-gen-go@$plugin_version"

protoc --proto_path="$work" --plugin="$work/bin/protoc-gen-go" \
	--go_out="$work" --go_opt=paths=source_relative \
	--go_opt="Monnx.proto=$module/internal/onnxpb" "$work/onnx.proto"
mkdir -p internal/onnxpb
sed 's/^\/\/ 	protoc .*/\/\/ 	protoc/' "$work/onnx.pb.go" >internal/onnxpb/onnx.pb.go
