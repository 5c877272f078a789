"""Architectures by Debian's name, with EC2's name, boot modes and CPUs. Does no I/O. A new
architecture needs a row here, and code for its boot loader (`local/disk/grub.py`), its QEMU
(`local/vm/`) and DKMS's name for it (`local/programs/compile_modules.py`).

A feature has the name of GCC's option without `-m` ("avx512vl", "sse4.2"). Left out are features
that only an operating system uses (XSAVE, PKU, SGX, WBNOINVD), those that a hypervisor may hide and
no compiler emits by itself (ENQCMD, UINTR, TSX, Arm's LS64), and hints that older CPUs execute as
no-operations (PREFETCHW, PTWRITE, CLDEMOTE).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

GccVersion = tuple[int, int]


@dataclass(frozen=True)
class March:
    """A value of -march (x86) or -mcpu (Arm). It has all features of `parent`, and those of `adds`;
    `since` is the first GCC that knows it."""

    parent: str | None
    adds: tuple[str, ...]
    since: GccVersion


def _march(parent: str | None, adds: str = "", since: GccVersion = (11, 1)) -> March:
    return March(parent=parent, adds=tuple(adds.split()), since=since)


_AVX512 = "avx512f avx512bw avx512cd avx512dq avx512vl"
X86: Mapping[str, March] = {
    "x86-64": _march(None),
    "x86-64-v2": _march("x86-64", "cx16 sahf popcnt sse3 ssse3 sse4.1 sse4.2"),
    "x86-64-v3": _march("x86-64-v2", "avx avx2 bmi bmi2 f16c fma lzcnt movbe"),
    "x86-64-v4": _march("x86-64-v3", _AVX512),
    "haswell": _march("x86-64-v3", "fsgsbase pclmul rdrnd"),
    "broadwell": _march("haswell", "adx rdseed"),
    "skylake": _march("broadwell", "aes clflushopt"),
    "skylake-avx512": _march("skylake", f"clwb {_AVX512}"),
    "cascadelake": _march("skylake-avx512", "avx512vnni"),
    "cooperlake": _march("cascadelake", "avx512bf16"),
    "icelake-client": _march(
        "skylake",
        f"{_AVX512} avx512ifma avx512vbmi sha avx512bitalg avx512vbmi2 "
        "avx512vnni avx512vpopcntdq gfni rdpid vaes vpclmulqdq",
    ),
    "icelake-server": _march("icelake-client", "clwb"),
    "sapphirerapids": _march(
        "icelake-server",
        "amx-bf16 amx-int8 amx-tile avx512bf16 avx512fp16 avxvnni movdir64b movdiri waitpkg",
    ),
    "emeraldrapids": _march("sapphirerapids", since=(13, 1)),
    "graniterapids": _march("sapphirerapids", "amx-fp16", since=(13, 1)),
    "znver1": _march(
        "x86-64-v3", "adx aes clflushopt clzero fsgsbase mwaitx pclmul rdrnd rdseed sha sse4a"
    ),
    "znver2": _march("znver1", "clwb rdpid"),
    "znver3": _march("znver2", "vaes vpclmulqdq"),
    "znver4": _march(
        "znver3",
        f"{_AVX512} avx512bf16 avx512bitalg avx512ifma avx512vbmi avx512vbmi2 "
        "avx512vnni avx512vpopcntdq gfni",
        since=(12, 3),
    ),
    "znver5": _march("znver4", "avx512vp2intersect avxvnni movdir64b movdiri", since=(14, 1)),
}
"""Values of -march (GCC manual, "x86 Options", and the macros that GCC 14 predefines for each).
x86-64-v2 to v4 are the levels of the x86-64 psABI. Skylake and later are without HLE, as in GCC
since 11."""

ARM: Mapping[str, March] = {
    "neoverse-n1": _march(None, "lse crc dotprod fp16 rdma rcpc"),
    "neoverse-v1": _march("neoverse-n1", "bf16 fcma fp16fml i8mm jscvt pauth rng sve"),
    "neoverse-v2": _march("neoverse-v1", "sve2 sve2-bitperm memtag bti frintts", since=(13, 1)),
    "neoverse-v3": _march("neoverse-v2", since=(15, 1)),
}
"""Values of -mcpu (GCC manual, "AArch64 Options", and the macros that GCC 14 predefines for
each)."""


class BootMode(StrEnum):
    """Boot modes by EC2's names."""

    LEGACY_BIOS = "legacy-bios"
    UEFI = "uefi"


@dataclass(frozen=True)
class Architecture:
    """An architecture: EC2's name, its CPUs and boot modes.

    `boot` has the modes of a family that states none (EC2 user guide, "Instance type boot modes").
    `images` is false if no images are made for it and only its families are known.
    """

    ec2: str
    cpus: Mapping[str, March]
    boot: tuple[BootMode, ...]
    images: bool


ARCHITECTURES: Mapping[str, Architecture] = {
    "amd64": Architecture("x86_64", X86, (BootMode.LEGACY_BIOS, BootMode.UEFI), images=True),
    "arm64": Architecture("arm64", ARM, (BootMode.UEFI,), images=False),
}


def of_cpu(cpu: str) -> str:
    """Return Debian's architecture of a CPU, which has to be in one of the tables."""
    return next(name for name, row in ARCHITECTURES.items() if cpu in row.cpus)
