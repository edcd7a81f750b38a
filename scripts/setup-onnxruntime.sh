#!/usr/bin/env bash
# Finds or installs the ONNX Runtime library that terastal loads.
#
#   scripts/setup-onnxruntime.sh [--with cuda | --with openvino] [LIBRARY]
#
# The first of these that has the right version wins:
#   1. the library named by the argument, or by ONNXRUNTIME_LIB
#   2. the cache folder: ${TERASTAL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/terastal}/onnxruntime/<version>/
#   3. a library installed on this system
#   4. the npm package onnxruntime-node, downloaded to the cache folder
#   5. the pip package onnxruntime, downloaded to the cache folder
#
# --with cuda installs the build of ONNX Runtime that has the CUDA and TensorRT
# providers (pip package onnxruntime-gpu, 260 MB installed) beside the other in the
# cache folder, where terastal prefers it, and says which libraries of NVIDIA are
# missing. Remove the folder to go back to the other build.
#
# --with openvino also installs OpenVINO's plugin (pip package
# onnxruntime-ep-openvino, 160 MB installed). It offers its CPU device on Intel's
# processors only; on others a small library is compiled that stands in front of
# it (scripts/openvino/any-cpu.c).
#
# The path of the library is the last line on standard output; everything else
# goes to standard error. Needs no root, runs no install script of a package,
# and writes nothing outside the cache folder (and a temporary folder in it).
# Downloads are checked against the SHA-256 sums below before they are used.
set -euo pipefail

version=1.29.0
openvino=1.8.1

with=""
while :; do
  case "${1:-}" in
  --with)
    with=${2:-}
    shift $(($# > 1 ? 2 : 1))
    ;;
  --with=*)
    with=${1#--with=}
    shift
    ;;
  *) break ;;
  esac
  case "$with" in
  cuda | openvino) ;;
  *)
    echo "setup-onnxruntime: --with '$with' is not known: use --with cuda or --with openvino" >&2
    exit 1
    ;;
  esac
done

case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-amd64)
  file=libonnxruntime.so.$version
  npm_path=linux/x64/libonnxruntime.so.1
  npm_sum=89688f5cf51c7e31befbb7b9101bc027799009b18d1baa9a5b1146a72e69538d
  pip_platform=manylinux_2_28_x86_64
  pip_sum=8902e52a04bf6bf26f1613746811d6194f9c97ce7a6a7a28452b48522d3bd8d0
  # Of the whole packages.
  cuda_sum=8ccd052ca4de21b2a335f3503a283126163b6fab9dba29d1d9cbf3fa55c51d28
  openvino_sum=3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924
  ;;
Linux-aarch64 | Linux-arm64)
  file=libonnxruntime.so.$version
  npm_path=linux/arm64/libonnxruntime.so.1
  npm_sum=a27d21126db312aa8f02f3d5eaebe466e991f51f469882e6d0407d5a8b64afda
  pip_platform=manylinux_2_28_aarch64
  pip_sum=1444bdca675524f4d265f71397810c9b1f39164b6dccc8f1a39cd81d938e98f4
  ;;
Darwin-arm64)
  file=libonnxruntime.$version.dylib
  npm_path=darwin/arm64/libonnxruntime.$version.dylib
  npm_sum=3e4c63909e9fc6648c93c68741c1ccf1e3d89218dd1d6a7d4f3d629ffc7f9918
  pip_platform=macosx_14_0_arm64
  pip_sum=8ab8982e8fc0a3d5121bf95404dba7a15d70b7df49a8bab1ba481ff961d93dc8
  ;;
*)
  file='' npm_path='' npm_sum='' pip_platform='' pip_sum=''
  ;;
esac

cuda_sum=${cuda_sum:-} openvino_sum=${openvino_sum:-}

reasons="" # what was tried and why it did not work, for the one line of die
notes=""   # what is worth knowing when it did work

# progress speaks only to a person: a failure stays one line when piped.
progress() { if [ -t 2 ]; then echo "$*" >&2; fi; }
note() { notes="$notes$*"$'\n'; }
tried() { reasons="${reasons:+$reasons; }$*"; }

die() {
  echo "setup-onnxruntime: $*" >&2
  exit 1
}

found() {
  if [ "$with" = openvino ]; then with_openvino; fi
  printf '%s' "$notes" >&2
  echo "$1"
  exit 0
}

have() { command -v "$1" >/dev/null 2>&1; }

absolute() { (cd -- "$(dirname -- "$1")" && printf '%s/%s\n' "$(pwd -P)" "$(basename -- "$1")"); }

if have sha256sum; then
  hasher=(sha256sum)
elif have shasum; then
  hasher=(shasum -a 256)
else
  die "neither sha256sum nor shasum is installed: install one (Debian: coreutils, macOS: perl) and run this again"
fi
sha256() { "${hasher[@]}" <"$1" | cut -d ' ' -f 1; }

# version_of prints the ONNX Runtime version of a library without loading it:
# from the symbol version on Linux, from the version string elsewhere.
version_of() {
  local v
  v=$(LC_ALL=C grep -aoE 'VERS_[0-9]+\.[0-9]+\.[0-9]+' -- "$1" | head -n 1) || true
  if [ -z "$v" ] && LC_ALL=C tr '\0' '\n' <"$1" | LC_ALL=C grep -axF -- "$version" >/dev/null; then
    v=$version
  fi
  v=${v#VERS_}
  echo "${v:-unknown}"
}

# --- packages that are taken whole ------------------------------------------
# python_with_pip names a Python that has pip.
python_with_pip() {
  local p
  for p in python3 python; do
    if have "$p" && "$p" -m pip --version >/dev/null 2>&1; then
      echo "$p"
      return 0
    fi
  done
  return 1
}

# wheel downloads a package to FOLDER/wheel.whl, checks it, and unpacks it there.
wheel() { # PACKAGE VERSION SUM FOLDER
  local python file="" p
  python=$(python_with_pip) || die "$1 $2 cannot be downloaded: install pip (Debian: python3-pip) and run this again"
  progress "fetching $1 $2 with pip ..."
  mkdir -p "$4"
  "$python" -m pip --disable-pip-version-check --no-cache-dir --quiet download --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp --platform "$pip_platform" --dest "$4" "$1==$2" >/dev/null 2>&1 ||
    die "pip could not download $1 $2: connect to a package registry and run this again"
  for p in "$4"/*.whl; do file=$p; done
  [ -f "$file" ] || die "pip gave no package for $1 $2"
  p=$(sha256 "$file")
  [ "$p" = "$3" ] || die "pip gave $1 $2 with the wrong checksum ($p): nothing was installed"
  { "$python" -m zipfile -e "$file" "$4" || unzip -qo "$file" -d "$4"; } >/dev/null 2>&1 || die "the package $1 $2 could not be unpacked"
  rm -f -- "$file"
}

# seal notes the checksums of the files in a folder; whole holds them against it.
seal() { (cd -- "$1" && for f in *; do [ "$f" = SUMS ] || "${hasher[@]}" "$f"; done >SUMS); }
whole() { (cd -- "$1" 2>/dev/null && [ -s SUMS ] && "${hasher[@]}" -c SUMS >/dev/null 2>&1); }

# place moves an unpacked folder to where it belongs, in one step.
place() { # FROM TO
  mkdir -p "$(dirname -- "$2")" && rm -rf -- "$2" && mv -- "$1" "$2" || die "cannot write $2"
}

temporary() {
  mkdir -p "$cache" 2>/dev/null && mktemp -d "$cache/.download.XXXXXX" 2>/dev/null ||
    die "cannot write to $cache: set TERASTAL_CACHE to a folder that you may write to, and run this again"
}

with_openvino() {
  [ -n "$openvino_sum" ] || die "there is no OpenVINO plugin for $(uname -s) $(uname -m)"
  local folder=$cache/plugins/openvino/$openvino front=libterastal_openvino_any_cpu.so
  if ! whole "$folder"; then
    extra=$(temporary)
    wheel onnxruntime-ep-openvino "$openvino" "$openvino_sum" "$extra"
    local unpacked=$extra/onnxruntime_ep_openvino
    rm -f -- "$unpacked"/*.py
    if ! LC_ALL=C grep -q GenuineIntel /proc/cpuinfo 2>/dev/null; then
      if have cc && cc -shared -fPIC -O2 -fvisibility=hidden -o "$unpacked/$front" "$here/openvino/any-cpu.c" -ldl 2>/dev/null; then
        :
      else
        note "note: OpenVINO offers its CPU device on Intel's processors only: install a C compiler and run this again, after removing $folder"
      fi
    fi
    seal "$unpacked"
    place "$unpacked" "$folder"
    rm -rf -- "$extra"
    extra=""
  fi
  note "note: the OpenVINO plugin $openvino is in $folder"
}

# with_cuda prints the path of the build with CUDA, after what is missing.
with_cuda() {
  [ -n "$cuda_sum" ] || die "there is no build of ONNX Runtime $version with CUDA for $(uname -s) $(uname -m)"
  local folder=$cache/onnxruntime/$version-cuda
  if ! whole "$folder"; then
    extra=$(temporary)
    wheel onnxruntime-gpu "$version" "$cuda_sum" "$extra"
    rm -f -- "$extra"/onnxruntime/capi/*.py "$extra"/onnxruntime/capi/*pybind11* 
    mkdir -p "$extra/libraries"
    mv -- "$extra"/onnxruntime/capi/libonnxruntime* "$extra/libraries"
    seal "$extra/libraries"
    place "$extra/libraries" "$folder"
    rm -rf -- "$extra"
    extra=""
  fi
  local lib missing="" tensorrt="" known
  known=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null) || true
  for lib in libcuda.so.1 libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libcudnn.so.9 libnvinfer.so.10 libnvonnxparser.so.10; do
    case "$known" in *"$lib "*) continue ;; esac
    in_path "$lib" && continue
    case "$lib" in
    libnv*) tensorrt="$tensorrt $lib" ;;
    *) missing="$missing $lib" ;;
    esac
  done
  if [ -n "$missing" ]; then
    note "note: the CUDA provider will not open before these libraries are found:$missing"
    case "$missing" in *libcuda.so.1*) note "note: libcuda.so.1 comes with the NVIDIA driver, which has to be one for CUDA 13" ;; esac
    note "note: the others come with CUDA 13 and cuDNN 9: install NVIDIA's packages cuda-toolkit-13-0 and cudnn9-cuda-13,"
    note "note: or: pip install 'onnxruntime-gpu[cuda,cudnn]==$version', and put the lib folders below site-packages/nvidia into LD_LIBRARY_PATH"
  fi
  if [ -n "$tensorrt" ]; then note "note: the TensorRT provider also needs TensorRT 10:$tensorrt"; fi
  printf '%s' "$notes" >&2
  echo "$folder/$file"
  exit 0
}

# in_path tells whether a library lies in a folder of LD_LIBRARY_PATH or CUDA's.
in_path() {
  local dir IFS=:
  for dir in ${LD_LIBRARY_PATH:-} /usr/local/cuda/lib64; do
    if [ -n "$dir" ] && [ -e "$dir/$1" ]; then return 0; fi
  done
  return 1
}

# checked tells whether a library has one of the published checksums.
checked() {
  local sum
  sum=$(sha256 "$1")
  [ "$sum" = "$npm_sum" ] || [ "$sum" = "$pip_sum" ]
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
extra="" work="" # folders to remove
trap 'rm -rf -- ${extra:+"$extra"} ${work:+"$work"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the cache folder -------------------------------------------------------
if [ -n "${TERASTAL_CACHE:-}" ]; then
  cache=$TERASTAL_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
  cache=$XDG_CACHE_HOME/terastal
elif [ -n "${HOME:-}" ]; then
  cache=$HOME/.cache/terastal
else
  cache=""
fi
no_cache="no cache folder: set TERASTAL_CACHE to a folder that you may write to, and run this again"
case "$cache" in "" | /*) ;; *) cache=$PWD/$cache ;; esac
if [ -n "$with" ] && [ -z "$cache" ]; then die "$no_cache"; fi
if [ "$with" = cuda ]; then with_cuda; fi

# --- 1. a path somebody gave ------------------------------------------------
explicit=${1:-${ONNXRUNTIME_LIB:-}}
if [ -n "$explicit" ]; then
  if [ -n "${1:-}" ]; then from="the argument"; else from="ONNXRUNTIME_LIB"; fi
  [ -f "$explicit" ] || die "$from names $explicit, which is not a file: correct it, or leave it out to let this script install ONNX Runtime $version"
  [ -r "$explicit" ] || die "$from names $explicit, which cannot be read: fix its permissions, or leave it out to let this script install ONNX Runtime $version"
  v=$(version_of "$explicit")
  [ "$v" = "$version" ] || die "$from names $explicit, whose ONNX Runtime version is $v, but terastal needs $version: correct it, or leave it out to let this script install that version"
  if [ -z "$npm_sum" ] || ! checked "$explicit"; then
    note "note: $explicit is not a published build; its version is right, its checksum was not checked"
  fi
  found "$(absolute "$explicit")"
fi

# --- 2. the cache folder ----------------------------------------------------
[ -n "$cache" ] || die "$no_cache"
folder=$cache/onnxruntime/$version
if [ -n "$file" ] && [ -f "$folder/$file" ]; then
  if checked "$folder/$file"; then
    found "$folder/$file"
  fi
  note "note: $folder/$file was damaged (wrong checksum) and has been replaced"
  tried "the cached $folder/$file is damaged (wrong checksum)"
fi

# --- 3. an installed library ------------------------------------------------
installed() {
  if have ldconfig; then
    ldconfig -p 2>/dev/null | sed -n 's/^.*libonnxruntime\.so[^=]*=> //p' || true
  elif [ -x /sbin/ldconfig ]; then
    /sbin/ldconfig -p 2>/dev/null | sed -n 's/^.*libonnxruntime\.so[^=]*=> //p' || true
  fi
  local dir name
  for dir in /usr/local/lib /usr/lib "/usr/lib/$(uname -m)-linux-gnu" /usr/lib64 /usr/local/lib64 \
    /opt/onnxruntime/lib /opt/homebrew/lib /opt/homebrew/opt/onnxruntime/lib /home/linuxbrew/.linuxbrew/lib; do
    for name in "libonnxruntime.so.$version" libonnxruntime.so.1 libonnxruntime.so \
      "libonnxruntime.$version.dylib" libonnxruntime.1.dylib libonnxruntime.dylib; do
      echo "$dir/$name"
    done
  done
}
while IFS= read -r candidate; do
  if [ -f "$candidate" ] && [ -r "$candidate" ] && [ "$(version_of "$candidate")" = "$version" ]; then
    notes=""
    note "note: using the library installed on this system; its version is right, its checksum was not checked"
    found "$candidate"
  fi
done < <(installed)

# --- 4. and 5. downloads ----------------------------------------------------
[ -n "$file" ] || die "there is no ONNX Runtime $version package for $(uname -s) $(uname -m): build it from source and run this again with ONNXRUNTIME_LIB set to the library"
mkdir -p "$folder" 2>/dev/null || die "cannot create $folder: set TERASTAL_CACHE to a folder that you may write to, and run this again"
# In the cache folder, so that the last step is a rename within one file system.
work=$(mktemp -d "$folder/.download.XXXXXX" 2>/dev/null) || die "cannot write to $folder: set TERASTAL_CACHE to a folder that you may write to, and run this again"

# install_file moves a downloaded library into place when its checksum is right.
install_file() { # WHO FILE SUM
  local sum
  sum=$(sha256 "$2")
  if [ "$sum" != "$3" ]; then
    tried "$1 gave a file with the wrong checksum ($sum)"
    return 1
  fi
  chmod 0644 "$2"
  if ! mv -f -- "$2" "$folder/$file"; then
    tried "cannot write $folder/$file"
    return 1
  fi
}

with_npm() {
  have npm || { tried "npm is not installed"; return 1; }
  progress "fetching ONNX Runtime $version with npm ..."
  mkdir -p "$work/npm"
  # pack downloads the package as it is: no install script runs.
  if ! (cd "$work/npm" && npm pack --silent --ignore-scripts --cache "$work/npm-cache" "onnxruntime-node@$version") >/dev/null 2>&1; then
    tried "npm could not download onnxruntime-node $version"
    return 1
  fi
  local member=package/bin/napi-v6/$npm_path
  if ! tar -xzf "$work/npm/onnxruntime-node-$version.tgz" -C "$work/npm" "$member" 2>/dev/null; then
    tried "the npm package has no $member"
    return 1
  fi
  install_file npm "$work/npm/$member" "$npm_sum"
}

with_pip() {
  local python p
  python=$(python_with_pip) || { tried "pip is not installed"; return 1; }
  progress "fetching ONNX Runtime $version with pip ..."
  mkdir -p "$work/pip"
  if ! "$python" -m pip --disable-pip-version-check --no-cache-dir --quiet download --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp --platform "$pip_platform" --dest "$work/pip" "onnxruntime==$version" >/dev/null 2>&1; then
    tried "pip could not download onnxruntime $version"
    return 1
  fi
  local wheel=""
  for p in "$work"/pip/onnxruntime-"$version"-*.whl; do wheel=$p; done
  if ! { "$python" -m zipfile -e "$wheel" "$work/pip" || unzip -qo "$wheel" -d "$work/pip"; } >/dev/null 2>&1; then
    tried "the pip package could not be unpacked"
    return 1
  fi
  if [ ! -f "$work/pip/onnxruntime/capi/$file" ]; then
    tried "the pip package has no onnxruntime/capi/$file"
    return 1
  fi
  install_file pip "$work/pip/onnxruntime/capi/$file" "$pip_sum"
}

if with_npm || with_pip; then
  found "$folder/$file"
fi
die "no ONNX Runtime $version ($reasons): connect to a package registry and install npm or pip, or set ONNXRUNTIME_LIB to a library of that version"
