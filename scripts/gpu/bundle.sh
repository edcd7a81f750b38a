#!/usr/bin/env bash
# Packs what scripts/gpu/check.sh needs on a machine with a GPU that has no Go, no network and no checkout:
#
#   scripts/gpu/bundle.sh [cuda|webgpu]     writes out/gpu/bundle-cuda (40 MB) or out/gpu/bundle-webgpu
#
# Copy the folder to an x86-64 Linux machine with glibc 2.34 and python3, and run its check.sh there. CUDA needs CUDA 13
# and cuDNN 9 there (NVIDIA's Python packages will do), and ARCHITECTURE, the GPU's compute capability (90: H100, H200):
# the code of others is left out. The CUDA build of ONNX Runtime is downloaded once, below out/gpu.
set -euo pipefail
cd "$(dirname "$0")/../.."

provider=${1:-cuda}
architecture=${ARCHITECTURE:-90}
# Kernels of large language models, which no network of the check runs.
without='flash_fwd|moe_|fpA_intB'
bundle=out/gpu/bundle-$provider
case "$provider" in
cuda) library=$(TERASTAL_CACHE=$PWD/out/gpu/cache scripts/setup-onnxruntime.sh --with cuda 2>/dev/null) ;;
webgpu) library=$(scripts/setup-onnxruntime.sh) ;;
*) echo "bundle: provider '$provider': use cuda or webgpu" >&2 && exit 1 ;;
esac
for tool in xz zstd; do
  if ! command -v $tool >/dev/null; then
    echo "bundle: $tool is missing (Debian: sudo apt-get install xz-utils zstd)" >&2
    exit 1
  fi
done
mkdir -p "$bundle"

# pack FILE TO packs a file unless it was packed after its last change.
pack() {
  [ "$2" -nt "$1" ] && return
  xz -T0 --x86 --lzma2=preset=9,dict=64MiB -c "$1" >"$2.part"
  mv "$2.part" "$2"
}

mkdir -p out/gpu/build
CGO_ENABLED=1 go build -trimpath -ldflags '-s -w' -o out/gpu/build/terastal ./cmd/terastal
pack out/gpu/build/terastal "$bundle/terastal.xz"
headers=$(go list -m -f '{{.Dir}}' github.com/yalue/onnxruntime_go)
"${CC:-cc}" -O2 -I "$headers" scripts/gpu/chain.c -o out/gpu/build/chain -ldl -lpthread -lm
pack out/gpu/build/chain "$bundle/chain.xz"
packed=$bundle/$(basename "$library").xz
find "$bundle" -name 'libonnxruntime.so.*.xz' ! -path "$packed" -delete # another version's
pack "$library" "$packed"
if [ "$provider" = cuda ]; then
  folder=$(dirname "$library")
  pack "$folder/libonnxruntime_providers_shared.so" "$bundle/libonnxruntime_providers_shared.so.xz"
  # It stays packed next to those of other architectures and versions, and the bundle gets the one that was asked for.
  small=out/gpu/build/cuda-$architecture-${library##*.so.}.so
  if [ ! -f "$small" ]; then
    scripts/gpu/shrink-cuda.py "$folder/libonnxruntime_providers_cuda.so" "$small.part" "$architecture" "$without"
    mv "$small.part" "$small"
  fi
  pack "$small" "$small.xz"
  cp "$small.xz" "$bundle/libonnxruntime_providers_cuda.so.xz"
fi
cp scripts/gpu/check.sh scripts/gpu/{check,goals,results,runner}.py "$bundle"
if [ -d out/gpu/profiles ]; then # of an earlier check of the same kind of machine
  mkdir -p "$bundle/profiles"
  cp out/gpu/profiles/*.profile.json "$bundle/profiles"
fi

bytes=$(cat "$bundle"/*.xz "$bundle"/check.sh "$bundle"/*.py | wc -c)
echo "$bundle: $((bytes >> 20)) MiB"
if [ "$bytes" -gt $((64 << 20)) ]; then
  echo "bundle: more than 64 MiB" >&2
  exit 1
fi
