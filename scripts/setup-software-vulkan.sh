#!/usr/bin/env bash
# Fetches a Vulkan device in software, with which the WebGPU provider runs on a
# machine without a GPU: SwiftShader, out of Debian's package chromium-common, and
# the Vulkan loader. For tests; it is slow.
#
#   eval "$(scripts/setup-software-vulkan.sh)"
#
# Prints the environment variables that choose the device, as export commands;
# everything else goes to standard error. Needs Debian (or another system whose
# apt has these packages), no root, and writes nothing outside the cache folder,
# ${TERASTAL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/terastal}/software-vulkan/. apt
# checks the packages against the signatures of its archive. Once they are there
# it does nothing. Remove the folder to get newer ones.
set -euo pipefail

folder=${TERASTAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/terastal}/software-vulkan

die() {
  echo "setup-software-vulkan: $*" >&2
  exit 1
}

complete() {
  [ -f "$1/vk_swiftshader_icd.json" ] && [ -f "$1/libvk_swiftshader.so" ] && [ -e "$1/libvulkan.so.1" ]
}

# fetch downloads packages to the current folder, with the system's package
# lists, or where those are missing or old with lists of its own.
fetch() {
  apt-get -qq download "$@" >&2 2>/dev/null && return
  mkdir -p lists/partial archives/partial
  local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD" -o "Dir::Cache::archives=$PWD/archives" -o APT::Sandbox::User=)
  apt-get -qq "${own[@]}" update >&2 || return
  apt-get -qq "${own[@]}" download "$@" >&2
}

install() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    die "apt-get and dpkg-deb are needed: on other systems install a Vulkan driver (Mesa or the vendor's) and its loader"
  fi
  mkdir -p "$folder"
  local work
  work=$(mktemp -d "$folder/.setup.XXXXXX")
  # shellcheck disable=SC2064 # the folder's name of now
  trap "rm -rf '$work'" EXIT
  cd "$work"
  fetch chromium-common libvulkan1 || die "apt cannot download chromium-common and libvulkan1: is there a network, and does this system have them?"
  local package
  for package in *.deb; do
    dpkg-deb -x "$package" root || die "$package cannot be unpacked"
  done
  mkdir new
  find root -name 'libvk_swiftshader.so' -exec mv {} new/ \;
  find root -name 'vk_swiftshader_icd.json' -exec mv {} new/ \;
  find root -path '*/lib/*-linux-gnu/libvulkan.so.1*' -exec mv {} new/ \;
  complete new || die "the packages of this system hold no SwiftShader (on Ubuntu chromium is a snap): use Debian, or install a Vulkan driver"
  mv new/* "$folder/"
}

if ! complete "$folder"; then
  (install)
fi
cat <<END
export VK_DRIVER_FILES='$folder/vk_swiftshader_icd.json'
export LD_LIBRARY_PATH='$folder'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export XDG_RUNTIME_DIR=\${XDG_RUNTIME_DIR:-/tmp}
END
