"""What is wrong with a machine, in words: a function of its facts and of what its type has.

A finding is `broken` where another machine of the type would not have it. What the image, a
setting or a user's program brought along, a new machine would have, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, Any]
MEMORY_SHARE = 0.9
"""Of the type's memory: ECC of GDDR6 takes a sixteenth, the driver a little more."""
SLOWDOWNS = {0x8: "hardware slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake"}
"""nvml.h, nvmlClocksThrottleReason...: those that no load of a healthy machine brings about."""
HOT = 0x20
"""The same: warmer than its driver wants it, which a hot day may bring about."""
XIDS = {
    48: "uncorrected memory error",
    64: "remapping a row failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    95: "uncontained memory error",
    119: "GSP does not answer",
    120: "GSP error",
    140: "unrecovered memory error",
}
OF_PROGRAMS = frozenset({13, 31, 32, 37, 43, 45, 63, 68, 69, 94})
"""NVIDIA's "XID Errors" document: what a user's program brings about, and errors that were
contained or mended. Any other Xid is told of, and nothing follows from it."""
SLOW = " within "
"""What a call has in its error that did not return."""
ACTIVE = "4: ACTIVE"
"""Of a port that works (Linux: Documentation/ABI/stable/sysfs-class-infiniband)."""
SETTLED_S = 600
"""Seconds after boot until which a clock may still be on its way."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with the number of its GPU."""

    text: str
    broken: bool


def judge(facts: Facts, kind: Mapping[str, Any] | None) -> list[Finding]:
    """All that is wrong, as far as the driver was asked; `kind` is what the instance's type has,
    None where nobody knows."""
    found = list(_of_machine(facts, kind))
    if not facts["bus"] and not (kind and kind["gpus"]):
        return found
    found += [*_of_bus(facts, kind), *_of_log(facts)]
    if "gpus" in facts:
        found += [*_of_driver(facts), *_of_counts(facts), *_of_switches(facts)]
        alike = dict[tuple[str, bool], list[str]]()
        for gpu in facts["gpus"]:
            for each in (
                *_of_gpu(gpu, kind or {}, facts["persistence"]),
                *_of_awake(gpu.get("awake", {}), kind or {}),
            ):
                alike.setdefault(each, []).append(str(gpu["number"]))
        found += [
            Finding(f"GPU {', '.join(numbers)}: {text}", broken)
            for (text, broken), numbers in alike.items()
        ]
    return found


def unanswered(facts: Facts) -> bool:
    """Whether a call did not return in time, which a machine at work may be too slow for."""
    said = [
        facts["error"],
        facts["cuda_error"],
        *(each["error"] for each in facts["lost"]),
        *(gpu.get("awake", {}).get("error", "") for gpu in facts["gpus"]),
    ]
    return any(SLOW in text for text in said)


def is_narrow(facts: Facts, kind: Mapping[str, Any] | None) -> bool:
    """Whether a GPU has fewer lanes than its type, as a healthy one may have that rests."""
    wanted = kind["pcie_width"] if kind else 0
    return any(gpu["width"] is not None and gpu["width"] < wanted for gpu in facts["gpus"])


def _of_machine(facts: Facts, kind: Mapping[str, Any] | None) -> Iterator[Finding]:
    if kind and facts["disks"] < kind["disks"]:
        yield Finding(f"{facts['disks']} of {kind['disks']} local disks", True)
    for name, state in facts["controllers"]:
        if state not in ("live", "connecting", "new"):
            yield Finding(f"disk {name}: its controller is {state}", True)
    for place in facts.get("read_only", ()):
        yield Finding(f"{place} became read-only: see `dmesg` for its disk's errors", True)
    for address, port in facts.get("efa", ()):
        if port != ACTIVE:
            yield Finding(
                f"EFA {address}: {f'its port is {port}' if port else 'no driver has it'}",
                bool(port),
            )
    if not facts["clock"] and facts["up_s"] > SETTLED_S:
        yield Finding(
            "the clock is not synchronized: `systemctl status chrony systemd-timesyncd`", False
        )


def _of_driver(facts: Facts) -> Iterator[Finding]:
    if facts["error"]:
        yield Finding(f"NVML: {facts['error']}", False)
    divided = any(gpu["mig"] for gpu in facts["gpus"])  # CUDA sees parts, or none
    if facts["cuda_error"] and not divided:
        yield Finding(f"CUDA: {facts['cuda_error']}", False)
    for each in facts["lost"]:
        yield Finding(f"GPU {each['number']}: {each['error']}", True)
    library = facts.get("library", "").rpartition(".so.")[2]
    cuda = facts.get("cuda_library", "").rpartition(".so.")[2]
    if cuda and library and cuda != library:
        yield Finding(f"libcuda {cuda} beside NVML {library}: install both of one version", False)
    if library and facts["module"] != library:
        yield Finding(
            f"driver's module {facts['module'] or 'none'} beside libraries {library}: reboot", False
        )


def _of_bus(facts: Facts, kind: Mapping[str, Any] | None) -> Iterator[Finding]:
    bus, switches = facts["bus"], facts["switches"]
    if kind and len(bus) != kind["gpus"]:
        yield Finding(
            f"{len(bus)} of {kind['gpus']} GPUs on the bus: {', '.join(bus) or 'none'}", True
        )
    if kind and switches < kind["nvswitches"]:
        yield Finding(f"{switches} of {kind['nvswitches']} NVSwitches on the bus", True)


def _of_counts(facts: Facts) -> Iterator[Finding]:
    bus, known = facts["bus"], {gpu["bus"] for gpu in facts["gpus"]}
    missing = sorted(set(bus) - known)
    if not facts["error"] and len(missing) > len(facts["lost"]):
        # Another driver than the GPUs want knows none of them, on a new machine, too.
        yield Finding(f"on the bus, unknown to the driver: {', '.join(missing)}", bool(known))
    for gpu in facts["gpus"]:
        if facts["cuda"] and gpu["bus"] not in facts["cuda"] and not gpu["mig"]:
            yield Finding(f"GPU {gpu['number']}: CUDA does not see it", True)


def _of_gpu(gpu: Facts, kind: Mapping[str, Any], persistence: bool) -> list[tuple[str, bool]]:
    """What one GPU says of itself; `kind` is empty where its type is unknown."""
    remapped, memory = gpu["remapped"] or [0, 0, 0, 0], kind.get("memory_mib", gpu["memory_mib"])
    links = gpu["nvlinks"]
    words = set(re.split(r"[^a-z0-9]+", gpu["name"].lower()))
    slowed = [text for bit, text in SLOWDOWNS.items() if (gpu["slowed"] or 0) & bit]
    rows = (
        (
            not words.issuperset(kind.get("gpu", "").lower().split()),
            False,
            f"is {gpu['name']}, not {kind.get('gpu')}",
        ),
        (
            not MEMORY_SHARE <= gpu["memory_mib"] / memory <= 2 - MEMORY_SHARE,
            True,
            f"{gpu['memory_mib']} of {memory} MiB of memory",
        ),
        (gpu["ecc"] == 0, False, "ECC is off: `nvidia-smi -e 1`, then reboot"),
        (gpu["uncorrected"], True, f"{gpu['uncorrected']} uncorrected memory errors since boot"),
        (
            gpu["uncorrected_ever"] and not gpu["uncorrected"],
            False,
            f"{gpu['uncorrected_ever']} uncorrected memory errors in its life",
        ),
        (remapped[1], False, f"{remapped[1]} rows of memory remapped"),
        (remapped[2] or gpu["pages_pending"], False, "memory waits for repair: reboot"),
        (remapped[3], True, "memory is beyond repair: remapping a row failed"),
        (slowed, True, ", ".join(slowed)),
        ((gpu["slowed"] or 0) & HOT, False, "software thermal slowdown"),
        (
            persistence and gpu["persistence"] == 0,
            False,
            "persistence mode is off: `systemctl status nvidia-persistenced`",
        ),
        (
            not all(links),
            True,
            f"NVLinks down: {', '.join(str(link) for link, up in enumerate(links) if not up)}",
        ),
        (
            len(links) < kind.get("nvlinks", 0),
            True,
            f"{len(links)} of {kind.get('nvlinks')} NVLinks",
        ),
    )
    return [(text, broken) for wrong, broken, text in rows if wrong]


def _of_awake(awake: Facts, kind: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """What one GPU shows while it copies; nothing where it did not have to."""
    error, whole = awake.get("error", ""), awake.get("whole", True)
    width, generation = kind.get("pcie_width", 0), kind.get("pcie_generation", 0)
    rows = (
        (error, SLOW in error, error),
        (not whole, True, "copies are not whole"),
        (0 < awake.get("width", 0) < width, True, f"{awake.get('width')} of {width} PCIe lanes"),
        (
            0 < awake.get("generation", 0) < generation,
            False,
            f"PCIe generation {awake.get('generation')} of {generation}",
        ),
    )
    return [(text, broken) for wrong, broken, text in rows if wrong]


def _of_log(facts: Facts) -> Iterator[Finding]:
    """Each once, however often the kernel's log has it."""
    known = facts.get("gpus", [])
    names = {f"PCI:{gpu['bus'][:-2]}": f"GPU {gpu['number']}" for gpu in known}
    xids = {(device, int(text)) for device, text in facts["xids"]}
    for device, text in sorted(xids):
        if text not in OF_PROGRAMS:
            words = XIDS.get(text, "see NVIDIA's list of Xids")
            yield Finding(f"{names.get(device, device)}: Xid {text} ({words})", text in XIDS)
    for device, text in sorted({(device, text) for device, text in facts["sxids"]}):
        yield Finding(f"NVSwitch {device}: SXid {text}", False)
    for device, words in sorted({(device, words) for device, words in facts["failures"]}):
        if "bus" not in words or (f"PCI:{device[:-2]}", 79) not in xids:
            yield Finding(f"{device or 'a GPU'}: {words}", True)


def _of_switches(facts: Facts) -> Iterator[Finding]:
    if not facts["switches"]:
        return
    manager, version = facts["fabricmanager"], facts["fabricmanager_version"]
    if manager != "active":
        yield Finding(f"nvidia-fabricmanager is {manager or 'not installed'}", False)
    if version and facts.get("driver") and version != facts["driver"]:
        yield Finding(f"fabric manager {version} beside driver {facts['driver']}", False)
    for one in sorted({one for one, _ in facts["not_peers"]}):
        others = [str(other) for each, other in facts["not_peers"] if each == one]
        yield Finding(f"GPU {one}: does not reach the memory of GPU {', '.join(others)}", False)
