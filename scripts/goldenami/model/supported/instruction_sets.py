"""Instruction sets of CPUs, and the best compiler options for a set of CPUs. Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from goldenami.core.errors import NoFit
from goldenami.model.supported.architectures import ARCHITECTURES, ARM, X86, GccVersion, of_cpu

KNOWN_X86 = frozenset(chain.from_iterable(row.adds for row in X86.values()))
"""Every feature that some x86 baseline has."""

FLAG_SINCE: Mapping[str, GccVersion] = {"avx512fp16": (12, 1), "amx-fp16": (13, 1)}
"""First GCC for options that GCC 11, the oldest compiler of a supported release, lacks (GCC's
release notes)."""

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
"""Features that get no option, since no compiler uses them to make a loop faster. Code may use them
if the baseline has them."""


@dataclass(frozen=True)
class Baseline:
    """The instruction set that all `cpus` can run: GCC's options for it, and all its features, by
    which the coverage check judges code."""

    cpus: tuple[str, ...]
    march: str
    options: tuple[str, ...]
    features: tuple[str, ...]


def features(cpu: str) -> frozenset[str]:
    """Return all features of a value of -march or -mcpu."""
    row = ARCHITECTURES[of_cpu(cpu)].cpus[cpu]
    if not row.parent:
        return frozenset(row.adds)
    return frozenset(row.adds) | features(row.parent)


def baseline(cpus: Iterable[str], gcc: GccVersion) -> Baseline:
    """Return the best baseline of `gcc` for all of `cpus`. Raises NoFit if no program runs on all
    of them.

    It is the value of -march with the most features among those that all CPUs can run, and an
    option for each shared feature that this value lacks. If that value is none of the CPUs, the
    code is not tuned for it.
    """
    sorted_cpus = tuple(sorted(set(cpus)))
    architectures = {of_cpu(cpu) for cpu in sorted_cpus}
    if len(architectures) != 1:
        raise NoFit(
            f"no program runs on both {' and '.join(sorted(architectures))}",
            hint="split the image: one for each",
        )
    table = ARCHITECTURES[architectures.pop()].cpus
    shared = frozenset.intersection(*(features(cpu) for cpu in sorted_cpus))
    candidates = [
        name for name, row in table.items() if row.since <= gcc and features(name) <= shared
    ]
    if not candidates:
        raise NoFit(
            f"GCC {gcc[0]}.{gcc[1]} knows no code for {', '.join(sorted_cpus)}",
            hint="choose a newer release",
        )
    best = max(candidates, key=lambda name: (len(features(name)), name in sorted_cpus))
    added_features = sorted(
        name for name in shared - features(best) - NO_SPEEDUP if FLAG_SINCE.get(name, (0, 0)) <= gcc
    )
    # Each Arm CPU of the table has all features of the one before, so no option could add any.
    if table is ARM:
        return Baseline(sorted_cpus, best, (f"-mcpu={best}",), tuple(sorted(shared)))
    tune = _tune(sorted_cpus, gcc)
    options = [f"-march={best}", *(f"-m{name}" for name in added_features)]
    if tune != best:
        options.append(f"-mtune={tune}")
    return Baseline(sorted_cpus, best, tuple(options), tuple(sorted(shared)))


def _tune(cpus: tuple[str, ...], gcc: GccVersion) -> str:
    """Return the CPU to tune for: the only one, or its newest ancestor that `gcc` knows; `generic`
    for several CPUs."""
    name: str | None = cpus[0] if len(cpus) == 1 else None
    while name and X86[name].since > gcc:
        name = X86[name].parent
    return name or "generic"
