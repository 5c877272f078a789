"""Instruction sets: what each -march of GCC contains, and the best one that a set of CPUs shares.
Pure: no I/O.

A feature has the name of GCC's option without `-m` ("avx512vl", "sse4.2"). Left out is what only an
operating system uses (XSAVE, PKU, SGX, WBNOINVD), what a hypervisor may hide and no compiler emits
by itself (ENQCMD, UINTR, TSX), and hints that older CPUs take for a no-operation (PREFETCHW,
PTWRITE, CLDEMOTE).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldenami.core.errors import NoFit

GccVersion = tuple[int, int]


@dataclass(frozen=True)
class March:
    """A value of -march (x86) or -mcpu (Arm): all of `parent`, and `adds`; `since` is the first GCC
    that knows it."""

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
    "icelake-client": _march("skylake",
                             f"{_AVX512} avx512ifma avx512vbmi sha avx512bitalg avx512vbmi2 "
                             "avx512vnni "
                                        "avx512vpopcntdq gfni rdpid vaes vpclmulqdq"),
    "icelake-server": _march("icelake-client", "clwb"),
    "sapphirerapids": _march("icelake-server",
                             "amx-bf16 amx-int8 amx-tile avx512bf16 avx512fp16 avxvnni movdir64b "
                                               "movdiri waitpkg"),
    "emeraldrapids": _march("sapphirerapids", since=(13, 1)),
    "graniterapids": _march("sapphirerapids", "amx-fp16", since=(13, 1)),
    "znver1": _march("x86-64-v3",
                     "adx aes clflushopt clzero fsgsbase mwaitx pclmul rdrnd rdseed sha sse4a"),
    "znver2": _march("znver1", "clwb rdpid"),
    "znver3": _march("znver2", "vaes vpclmulqdq"),
    "znver4": _march("znver3",
                     f"{_AVX512} avx512bf16 avx512bitalg avx512ifma avx512vbmi avx512vbmi2 "
                     "avx512vnni "
                               "avx512vpopcntdq gfni", since=(12, 3)),
    "znver5": _march("znver4", "avx512vp2intersect avxvnni movdir64b movdiri", since=(14, 1)),
}
"""GCC manual, "x86 Options", and the macros that GCC 14 predefines for each value; x86-64-v2 to v4
are the levels of the x86-64 psABI. Skylake and later without HLE, as GCC has them since 11."""

ARM: Mapping[str, March] = {
    "neoverse-n1": _march(None, "lse crc dotprod fp16 rdma rcpc"),
    "neoverse-v1": _march("neoverse-n1", "bf16 i8mm sve fp16fml rng pauth"),
    "neoverse-v2": _march("neoverse-v1", "sve2 sve2-bitperm memtag bti frintts", since=(13, 1)),
}
"""GCC manual, "AArch64 Options", and the macros that GCC 14 predefines for each value of -mcpu."""

MARCHES = {"amd64": X86, "arm64": ARM}
"""By Debian's name of the architecture."""

KNOWN_X86 = frozenset(name for row in X86.values() for name in row.adds)
"""Every feature that some x86 baseline has."""

FLAG_SINCE: Mapping[str, GccVersion] = {"avx512fp16": (12, 1), "amx-fp16": (13, 1)}
"""Options that are newer than GCC 11, the oldest compiler of a supported release (GCC's release
notes)."""

NO_SPEEDUP = frozenset({"clflushopt", "clwb", "clzero", "fsgsbase", "movdir64b", "movdiri",
                        "mwaitx", "rdpid",
                        "waitpkg"})
"""Allowed where a baseline has them, but not worth an option: no compiler uses them to make a loop
faster."""


@dataclass(frozen=True)
class Baseline:
    """What all of `cpus` can run: GCC's options for it, and every feature, which is what a gate
    holds code to."""

    cpus: tuple[str, ...]
    march: str
    options: tuple[str, ...]
    features: tuple[str, ...]


def architecture(cpu: str) -> str:
    """Debian's architecture of a CPU that is in one of the tables."""
    return next(name for name, table in MARCHES.items() if cpu in table)


def features(cpu: str) -> frozenset[str]:
    """Every feature of a value of -march or -mcpu."""
    row = MARCHES[architecture(cpu)][cpu]
    return frozenset(row.adds) | (features(row.parent) if row.parent else frozenset())


def baseline(cpus: Iterable[str], gcc: GccVersion) -> Baseline:
    """The best code that `gcc` can make for all of `cpus`, or NoFit where no program runs on all of
    them.

    That is the value of -march with the most features of those within the intersection, then an
    option for each feature that it lacks. Where it is not one of the CPUs themselves it is an
    intersection's name and no CPU's: then the code is not tuned for it.
    """
    wanted = tuple(sorted(set(cpus)))
    kinds = {architecture(cpu) for cpu in wanted}
    if len(kinds) != 1:
        raise NoFit(f"no program runs on both {' and '.join(sorted(kinds))}",
                    hint="split the image: one for each")
    table = MARCHES[kinds.pop()]
    shared = frozenset.intersection(*(features(cpu) for cpu in wanted))
    known = [name for name, row in table.items() if row.since <= gcc and features(name) <= shared]
    if not known:
        raise NoFit(f"GCC {gcc[0]}.{gcc[1]} knows no code for {', '.join(wanted)}",
                    hint="choose a newer release")
    best = max(known, key=lambda name: (len(features(name)), name in wanted))
    extra = sorted(name for name in shared - features(best) - NO_SPEEDUP
                   if FLAG_SINCE.get(name, (0, 0)) <= gcc)
    # There each CPU has all of the one before: nothing is left for an option to add.
    if table is ARM:
        return Baseline(wanted, best, (f"-mcpu={best}",), tuple(sorted(shared)))
    tune = _tune(wanted, gcc)
    options = (f"-march={best}", *(f"-m{name}" for name in extra),
               *([] if tune == best else [f"-mtune={tune}"]))
    return Baseline(wanted, best, options, tuple(sorted(shared)))


def _tune(cpus: tuple[str, ...], gcc: GccVersion) -> str:
    """The CPU to tune for: the only one, or the newest ancestor of its that `gcc` knows; `generic`
    for several."""
    name: str | None = cpus[0] if len(cpus) == 1 else None
    while name and X86[name].since > gcc:
        name = X86[name].parent
    return name or "generic"
