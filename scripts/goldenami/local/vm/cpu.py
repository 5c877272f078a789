"""The emulated CPU: exactly a baseline's features, so that a program that needs more dies of
SIGILL.

QEMU's TCG refuses what its `max` model does not list; a feature that is switched off is both
refused and hidden. It has no AVX-512 and no AMX: of a baseline with those it offers a part, and
names what is missing.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from goldenami.core import shell
from goldenami.core.errors import HostNotReady

PROPERTIES = {
    "avx512bf16": "avx512-bf16",
    "avx512fp16": "avx512-fp16",
    "avx512vp2intersect": "avx512-vp2intersect",
    "avx512vpopcntdq": "avx512-vpopcntdq",
    "avxvnni": "avx-vnni",
    "bmi": "bmi1",
    "lzcnt": "abm",
    "pclmul": "pclmulqdq",
    "rdrnd": "rdrand",
    "sahf": "lahf-lm",
    "sha": "sha-ni",
    "sse3": "pni",
}
"""GCC's names of features that QEMU's properties call otherwise (`-cpu help`)."""
_LINUX = {
    "avx512bitalg": "avx512_bitalg",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
}
"""GCC's names of features that /proc/cpuinfo calls otherwise (Linux,
arch/x86/include/asm/cpufeatures.h). It calls the rest as QEMU does, with an underscore for any
other sign."""
OTHERS = ("3dnow", "3dnowext", "xop", "fma4", "tbm")
"""QEMU's properties of instructions that no CPU of EC2 has."""
_PROBE_LIMIT_S = 30.0
"""Seconds for QEMU's answer. It takes 0.2 s; a host that is short of CPUs may need longer."""


@dataclass(frozen=True)
class Emulated:
    """`argument` is for -cpu; `missing` are features of the baseline that the emulator does not
    have."""

    argument: str
    missing: tuple[str, ...]


def emulated(features: Iterable[str], all_features: Iterable[str]) -> Emulated:
    """Return the CPU that has just `features` of `all_features` (GCC's names), as far as the
    emulator can."""
    needed, offered = set(features), probe()
    off = sorted(
        prop
        for name in all_features
        if name not in needed and (prop := PROPERTIES.get(name, name)) in offered
    )
    off += sorted(prop for prop in OTHERS if prop in offered)
    return Emulated(
        argument=",".join(["max", *(f"{prop}=off" for prop in off)]),
        missing=tuple(sorted(name for name in needed if PROPERTIES.get(name, name) not in offered)),
    )


def shown(flags: Iterable[str], all_features: Iterable[str]) -> set[str]:
    """Return those of `all_features` that the flags of /proc/cpuinfo name."""
    flag_set = set(flags)
    return {name for name in all_features if linux_flag(name) in flag_set}


def linux_flag(name: str) -> str:
    """Return /proc/cpuinfo's name of a feature by GCC's."""
    return _LINUX.get(name, re.sub("[.-]", "_", PROPERTIES.get(name, name)))


def probe() -> frozenset[str]:
    """Return the properties that are on in TCG's `max` model of this QEMU."""
    words = [
        {"execute": "qmp_capabilities"},
        {
            "execute": "query-cpu-model-expansion",
            "arguments": {"type": "full", "model": {"name": "max"}},
        },
        {"execute": "quit"},
    ]
    argv = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-machine",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-qmp",
        "stdio",
    ]
    try:
        text = shell.Command(argv).output(
            stdin="".join(f"{json.dumps(word)}\n" for word in words), timeout_s=_PROBE_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        text = ""
    for line in text.splitlines():
        answer = json.loads(line).get("return", {})
        if "model" in answer:
            return frozenset(
                name for name, value in answer["model"]["props"].items() if value is True
            )
    raise HostNotReady(
        "QEMU did not say what its CPU model `max` has", hint="is qemu-system-x86_64 whole?"
    )
