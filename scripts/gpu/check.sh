#!/usr/bin/env bash
# Measures this machine's GPU with Terastal and holds it against goals, in at most 8 minutes:
#
#   scripts/gpu/check.sh [cuda|webgpu] [FOLDER]     default cuda; FOLDER default $OUT, else out/gpu
#
# Results are printed as they come, with a table at the end; FOLDER gets them as check.txt, check.json and archives of
# the documents. It runs in a checkout (make gpu builds what it needs), or in a folder made by scripts/gpu/bundle.sh on
# a machine without Go, network or checkout. It needs python3. Leave the machine alone meanwhile.
#
# BUDGET=480 is how many seconds it may take; the steps have shares, and the most important come first. SCALE=0.5 plays
# and measures for half as long. STEPS="doctor chains mixed-4-streams" runs these only; NETS and MIXED name the networks
# of the chains and of the mixed schedule. PROFILES=FOLDER has profiles of the mixed schedules (from documents.tar.gz of
# an earlier check of the same kind of machine), which are then not measured again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
provider=${1:-cuda}
out=${2:-${OUT:-}}
command -v python3 >/dev/null || { echo "check: python3 is missing" >&2; exit 1; }

if [ -f "$here/terastal.xz" ]; then
  # A bundle: what is packed is unpacked next to it.
  unpacked=$here/unpacked
  mkdir -p "$unpacked"
  python3 - "$here" "$unpacked" <<'PYTHON'
import glob, lzma, os, shutil, sys
from concurrent.futures import ThreadPoolExecutor
source, target = sys.argv[1:]
def unpack(packed):
    path = os.path.join(target, os.path.basename(packed)[:-3])
    if not os.path.exists(path):
        with lzma.open(packed) as a, open(path + ".part", "wb") as b:
            shutil.copyfileobj(a, b, 1 << 20)
        os.chmod(path + ".part", 0o755)
        os.rename(path + ".part", path)
with ThreadPoolExecutor() as pool:
    list(pool.map(unpack, glob.glob(os.path.join(source, "*.xz"))))
PYTHON
  bin=$unpacked
  ONNXRUNTIME_LIB=$(ls "$unpacked"/libonnxruntime.so.* | head -1)
  work=$here/work
  out=${out:-$PWD/check}
else
  root=$(cd "$here/../.." && pwd)
  bin=${TERASTAL_BIN:-$root/bin}
  : "${ONNXRUNTIME_LIB:=$("$root/scripts/setup-onnxruntime.sh")}"
  out=${out:-$root/out/gpu}
  work=$out/work
fi
mkdir -p "$out" "$work"
out=$(cd "$out" && pwd)
work=$(cd "$work" && pwd)

# CUDA's libraries: those of NVIDIA's Python packages, and where drivers are mounted.
libraries=$(python3 - <<'PYTHON' 2>/dev/null || true
import glob, nvidia
print(":".join(sorted(l for p in nvidia.__path__ for l in glob.glob(p + "/*/lib") + glob.glob(p + "/lib"))))
PYTHON
)
libraries=$(dirname "$ONNXRUNTIME_LIB")${libraries:+:$libraries}:/usr/local/nvidia/lib64
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PROFILES=${PROFILES:-$here/profiles}
export ONNXRUNTIME_LIB TERASTAL_BIN=$bin WORK=$work PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/check.py" "$provider" "$out"
