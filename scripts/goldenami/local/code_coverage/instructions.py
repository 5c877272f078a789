"""Which instruction-set extension each x86-64 instruction of a program needs, by the names of GCC's
options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from iced_x86 import Code, CpuidFeature, Decoder, Instruction

_EVERYWHERE = (
    "INTEL8086 INTEL8086_ONLY INTEL186 INTEL286 INTEL286_ONLY INTEL386 INTEL386_ONLY INTEL486 X64 "
    "CMOV CPUID CX8 FPU "
    "FPU287 FPU387 FXSR MMX SSE SSE2 MSR SEP SYSCALL TSC CLFSH PAUSE MULTIBYTENOP RDTSCP RDPMC "
    "XSAVE XSAVEC XSAVEOPT "
    "XSAVES CET_IBT CET_SS PREFETCHW CLDEMOTE PREFETCHITI"
)
EVERYWHERE = frozenset(_EVERYWHERE.split())
"""CPUID features, by the decoder's names, of every x86-64 machine of EC2, and hints that other
machines execute as a no-operation (Intel SDM vol. 2: ENDBR64, RDSSP, PREFETCHW, CLDEMOTE)."""
_RENAMED = {
    "SSE4_1": "sse4.1",
    "SSE4_2": "sse4.2",
    "CMPXCHG16B": "cx16",
    "BMI1": "bmi",
    "PCLMULQDQ": "pclmul",
    "RDRAND": "rdrnd",
    "MONITORX": "mwaitx",
    "HLE_OR_RTM": "rtm",
}
_FEATURES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
_BIT_SCANS = frozenset(value for name, value in vars(Code).items() if name.startswith("TZCNT_"))
"""TZCNT is BSF with a prefix that a CPU without BMI ignores; compilers write it for any x86-64 if
both give the same result."""


@dataclass
class Use:
    """Instructions of one function that need one extension, and the first of them."""

    count: int
    example: str


class Classifier:
    """A classifier of code. It keeps what it learnt of each opcode, so use one for many files."""

    def __init__(self) -> None:
        self._needs: dict[int, tuple[str, ...]] = {}

    def uses(self, code: bytes, address: int) -> tuple[int, dict[str, Use]]:
        """Return the number of instructions in `code` and, for each extension beyond plain x86-64,
        those that need it.

        An instruction that needs several (AVX-512VL and F) counts for each. Bytes that are no
        instruction are skipped.
        """
        decoder, instruction, needs = Decoder(64, code, ip=address), Instruction(), self._needs
        total, uses = 0, dict[str, Use]()
        while decoder.can_decode:
            decoder.decode_out(instruction)
            total += 1
            opcode = instruction.code
            if (extensions := needs.get(opcode)) is None:
                extensions = needs[opcode] = tuple(_extensions(instruction))
            for name in extensions:
                if use := uses.get(name):
                    use.count += 1
                else:
                    uses[name] = Use(1, f"{instruction.ip:#x}: {instruction}")
        return total, uses


def _extensions(instruction: Instruction) -> Iterator[str]:
    if instruction.code == Code.INVALID or instruction.code in _BIT_SCANS:
        return
    for feature in instruction.cpuid_features():
        if (name := _FEATURES[feature]) not in EVERYWHERE:
            yield option(name)


def option(name: str) -> str:
    """Return GCC's option, without -m, for the decoder's name of a CPUID feature."""
    plain = name.lower()
    if plain.startswith("amx_"):
        plain = plain.replace("_", "-")
    return _RENAMED.get(name, plain.replace("_", ""))
