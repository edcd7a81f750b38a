#!/usr/bin/env python3
"""Keeps the code of one GPU architecture in ONNX Runtime's CUDA provider.

    shrink-cuda.py libonnxruntime_providers_cuda.so OUT.so 90 [PATTERN]

The library holds every kernel once per architecture, in a section of its ELF file. This overwrites the code of the
others with zeros, in place: all addresses stay, and the library works as before on GPUs of the architecture that is
kept (90: H100 and H200). Of 230 MB some 38 remain when packed by xz. It does not run on other GPUs.

PATTERN is a regular expression: units of code that define something it matches are overwritten, too (the program zstd
unpacks them). 'flash_fwd|moe_|fpA_intB', the kernels of large language models, leaves 15 MB.
"""
import re
import struct
import subprocess
import sys
from collections import Counter

SECTION = ".nv_fatbin"
CONTAINER = 0xBA55ED50  # what begins a container: this, a version, the length of its header, the length of the rest
MACHINE_CODE = 2        # kind of an entry; others hold PTX, which a driver compiles for a GPU without machine code
ZSTD = b"\x28\xb5\x2f\xfd"


def section(data, wanted):
    """Offset and size of a section of a 64-bit ELF file with little-endian numbers."""
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit("shrink-cuda: not a 64-bit ELF file")
    headers, = struct.unpack_from("<Q", data, 0x28)
    length, count, of_names = struct.unpack_from("<HHH", data, 0x3A)
    table = [struct.unpack_from("<IIQQQQ", data, headers + i * length) for i in range(count)]
    names = table[of_names][4]
    for name, _, _, _, offset, size in table:
        end = data.index(b"\0", names + name)
        if data[names + name:end] == wanted.encode():
            return offset, size
    sys.exit(f"shrink-cuda: no section {wanted}: not a library with GPU code")


def entries(data, offset, size):
    """Kind, architecture, offset and size of what is in the containers of a section."""
    end = offset + size
    while offset < end:
        magic, _, header, rest = struct.unpack_from("<IHHQ", data, offset)
        if magic != CONTAINER:  # padding
            offset += 8
            continue
        at, stop = offset + header, offset + header + rest
        while at < stop:
            kind, _, header, rest = struct.unpack_from("<HHIQ", data, at)
            architecture, = struct.unpack_from("<I", data, at + 28)
            yield kind, architecture, at + header, rest
            at += header + rest
        offset = (stop + 7) & ~7


def unpacked(code):
    """Machine code as the driver sees it."""
    if code[:4] != ZSTD:
        return code
    return subprocess.run(["zstd", "-dc"], input=code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def main(source, target, keep, without=None):
    with open(source, "rb") as f:
        data = bytearray(f.read())
    sizes = Counter()
    for kind, architecture, offset, size in entries(data, *section(data, SECTION)):
        kept = kind == MACHINE_CODE and architecture == keep
        if kept and without and re.search(without.encode(), unpacked(data[offset:offset + size])):
            kept, architecture = False, f"{keep} that matches"
        sizes[architecture if kind == MACHINE_CODE else "PTX"] += size
        if not kept:
            data[offset:offset + size] = bytes(size)
    if not sizes[keep]:
        sys.exit(f"shrink-cuda: no code for architecture {keep}: there is {', '.join(map(str, sizes))}")
    with open(target, "wb") as f:
        f.write(data)
    print(f"{target}: kept {sizes[keep] / 1e6:.0f} of {sum(sizes.values()) / 1e6:.0f} MB of GPU code", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or not sys.argv[3].isdigit():
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
