"""Instruction sets: what a CPU can run, and the best code that a set of CPUs shares. Pure: no
I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldenami.core.errors import NoFit
from goldenami.model.supported.architectures import ARCHITECTURES, ARM, X86, GccVersion, of_cpu

KNOWN_X86 = frozenset(name for row in X86.values() for name in row.adds)
"""Every feature that some x86 baseline has."""

FLAG_SINCE: Mapping[str, GccVersion] = {"avx512fp16": (12, 1), "amx-fp16": (13, 1)}
"""Options that are newer than GCC 11, the oldest compiler of a supported release (GCC's release
notes)."""

NO_SPEEDUP = frozenset(
    {
        "clflushopt",
        "clwb",
        "clzero",
        "fsgsbase",
        "movdir64b",
        "movdiri",
        "mwaitx",
        "rdpid",
        "waitpkg",
    }
)
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


def features(cpu: str) -> frozenset[str]:
    """Every feature of a value of -march or -mcpu."""
    row = ARCHITECTURES[of_cpu(cpu)].cpus[cpu]
    return frozenset(row.adds) | (features(row.parent) if row.parent else frozenset())


def baseline(cpus: Iterable[str], gcc: GccVersion) -> Baseline:
    """The best code that `gcc` can make for all of `cpus`, or NoFit where no program runs on all of
    them.

    That is the value of -march with the most features of those within the intersection, then an
    option for each feature that it lacks. Where it is not one of the CPUs themselves it is an
    intersection's name and no CPU's: then the code is not tuned for it.
    """
    wanted = tuple(sorted(set(cpus)))
    kinds = {of_cpu(cpu) for cpu in wanted}
    if len(kinds) != 1:
        raise NoFit(
            f"no program runs on both {' and '.join(sorted(kinds))}",
            hint="split the image: one for each",
        )
    table = ARCHITECTURES[kinds.pop()].cpus
    shared = frozenset.intersection(*(features(cpu) for cpu in wanted))
    known = [name for name, row in table.items() if row.since <= gcc and features(name) <= shared]
    if not known:
        raise NoFit(
            f"GCC {gcc[0]}.{gcc[1]} knows no code for {', '.join(wanted)}",
            hint="choose a newer release",
        )
    best = max(known, key=lambda name: (len(features(name)), name in wanted))
    extra = sorted(
        name for name in shared - features(best) - NO_SPEEDUP if FLAG_SINCE.get(name, (0, 0)) <= gcc
    )
    # There each CPU has all of the one before: nothing is left for an option to add.
    if table is ARM:
        return Baseline(wanted, best, (f"-mcpu={best}",), tuple(sorted(shared)))
    tune = _tune(wanted, gcc)
    options = (
        f"-march={best}",
        *(f"-m{name}" for name in extra),
        *([] if tune == best else [f"-mtune={tune}"]),
    )
    return Baseline(wanted, best, options, tuple(sorted(shared)))


def _tune(cpus: tuple[str, ...], gcc: GccVersion) -> str:
    """The CPU to tune for: the only one, or the newest ancestor of its that `gcc` knows; `generic`
    for several."""
    name: str | None = cpus[0] if len(cpus) == 1 else None
    while name and X86[name].since > gcc:
        name = X86[name].parent
    return name or "generic"
