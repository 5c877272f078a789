"""Findings: what is wrong with a machine, in words, by its facts and by what its type has.

A finding is `broken` if another machine of the type would not have it. A fault that comes from the
image, a setting or a user's program would be on a new machine, too.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from golden_health.kernel_log import UNCORRECTED

Facts = Mapping[str, Any]
CORRUPTED = 14  # nvml.h, NVML_ERROR_CORRUPTED_INFOROM
MEMORY_SHARE = 0.9
"""The share of the type's memory that a GPU has at least: ECC of GDDR6 takes a sixteenth, the
driver a little more."""
SLOWDOWNS = {0x8: "hardware slowdown", 0x40: "hardware thermal slowdown", 0x80: "power brake"}
"""Bits of nvml.h's nvmlClocksThrottleReason that no load of a healthy machine sets."""
HOT = 0x20
"""The bit for a GPU that is warmer than its driver wants it, as on a hot day."""
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
"""Xids that a user's program causes, and errors that were contained or repaired (NVIDIA's "XID
Errors" document). Any Xid that is in neither list is reported, but does not make the machine
broken."""
# EFA adapters of a family's size with eight GPUs. A launch with more than one wants all.
EFAS = {"g6e": 4, "g7e": 4, "p4d": 4, "p4de": 4, "p5": 32, "p5e": 32, "p5en": 16}
SLOW = " within "
"""Text in the error of a call that did not return in time."""
ACTIVE = "4: ACTIVE"
"""The state of a port that works (Linux: Documentation/ABI/stable/sysfs-class-infiniband)."""
SETTLED_S = 600
"""Seconds after boot in which the clock may be unsynchronized still."""


@dataclass(frozen=True)
class Finding:
    """A fault in words, with the number of its GPU if it has one."""

    text: str
    broken: bool


def judge(facts: Facts, expected: Mapping[str, Any] | None) -> list[Finding]:
    """Return all findings. Facts from the driver may be missing. `expected` is what the instance's
    type has, or None if the type is unknown."""
    results = [*_of_machine(facts, expected), *_of_adapters(facts)]
    for device, words in facts.get("troubles", ()):
        place = f"{device}: " if device else ""
        results.append(Finding(f"kernel's log: {place}{words}", words == UNCORRECTED))
    if not facts["bus"] and not (expected and expected["gpus"]):
        return results
    results += [*_of_bus(facts, expected), *_of_log(facts)]
    if "gpus" in facts:
        results += [*_of_driver(facts), *_of_counts(facts), *_of_switches(facts)]
        # GPUs with the same finding share a line.
        gpus_by_finding = dict[tuple[str, bool], list[str]]()
        for gpu in facts["gpus"]:
            for finding in (
                *_of_gpu(gpu, expected or {}, facts["persistence"]),
                *_of_awake(gpu.get("awake", {}), expected or {}),
            ):
                gpus_by_finding.setdefault(finding, []).append(str(gpu["number"]))
        for (text, broken), numbers in gpus_by_finding.items():
            results.append(Finding(f"GPU {', '.join(numbers)}: {text}", broken))
    return results


def unanswered(facts: Facts) -> bool:
    """Return whether a call did not return in time. A busy machine may be too slow for it."""
    answers = list(facts["lost"])
    for gpu in facts["gpus"]:
        answers.append(gpu.get("awake", {}))
    errors = [facts["error"], facts["cuda_error"], *(row.get("error", "") for row in answers)]
    return any(SLOW in text for text in errors)


def is_narrow(facts: Facts, expected: Mapping[str, Any] | None) -> bool:
    """Return whether a GPU has fewer PCIe lanes than its type. A healthy one may, while it
    rests."""
    if not expected:
        return False
    widths = [gpu["width"] for gpu in facts["gpus"]]
    return any(width is not None and width < expected["pcie_width"] for width in widths)


def _of_machine(facts: Facts, expected: Mapping[str, Any] | None) -> Iterator[Finding]:
    if expected and facts["disks"] < expected["disks"]:
        yield Finding(f"{facts['disks']} of {expected['disks']} local disks", True)
    for name, state in facts["controllers"]:
        if state not in ("live", "connecting", "new"):
            yield Finding(f"disk {name}: its controller is {state}", True)
    for place in facts.get("read_only", ()):
        yield Finding(f"{place} became read-only: see `dmesg` for its disk's errors", True)
    online, present, threads = facts.get("processors", ("", "", ""))
    # Where hyper-threading is off by choice, half of them are offline.
    if online != present and "off" not in threads:
        yield Finding(f"of the processors {present} only {online} are online", False)
    if not facts["clock"] and facts["up_s"] > SETTLED_S:
        yield Finding(
            "the clock is not synchronized: `systemctl status chrony systemd-timesyncd`", False
        )


def _of_adapters(facts: Facts) -> Iterator[Finding]:
    adapters = dict(facts.get("efa", ()))
    for address, port in adapters.items():
        if port != ACTIVE:
            state = f"its port is {port}" if port else "no driver has it"
            yield Finding(f"EFA {address}: {state}", bool(port))
    count = EFAS.get(facts.get("type", "").partition(".")[0], 0)
    if 1 < len(adapters) < count and len(facts["bus"]) > 4:
        yield Finding(f"{len(adapters)} of {count} EFA adapters", False)
    for (address,) in facts.get("seen", ()):
        if address not in adapters and address not in facts["bus"]:
            yield Finding(f"{address}: gone from the bus since the boot's first look", True)


def _of_driver(facts: Facts) -> Iterator[Finding]:
    if facts["error"]:
        yield Finding(f"NVML: {facts['error']}", False)
    # CUDA sees the parts of a divided GPU, or none.
    divided = any(gpu["mig"] for gpu in facts["gpus"])
    if facts["cuda_error"] and not divided:
        yield Finding(f"CUDA: {facts['cuda_error']}", False)
    for gpu in facts["lost"]:
        yield Finding(f"GPU {gpu['number']}: {gpu['error']}", True)
    library = facts.get("library", "").rpartition(".so.")[2]
    cuda = facts.get("cuda_library", "").rpartition(".so.")[2]
    if cuda and library and cuda != library:
        yield Finding(f"libcuda {cuda} beside NVML {library}: install both of one version", False)
    if library and facts["module"] != library:
        yield Finding(
            f"driver's module {facts['module'] or 'none'} beside libraries {library}: reboot", False
        )


def _of_bus(facts: Facts, expected: Mapping[str, Any] | None) -> Iterator[Finding]:
    bus, switches = facts["bus"], facts["switches"]
    if expected and len(bus) != expected["gpus"]:
        yield Finding(
            f"{len(bus)} of {expected['gpus']} GPUs on the bus: {', '.join(bus) or 'none'}", True
        )
    if expected and switches < expected["nvswitches"]:
        yield Finding(f"{switches} of {expected['nvswitches']} NVSwitches on the bus", True)


def _of_counts(facts: Facts) -> Iterator[Finding]:
    bus, known_to_driver = facts["bus"], {gpu["bus"] for gpu in facts["gpus"]}
    missing = sorted(set(bus) - known_to_driver)
    if not facts["error"] and len(missing) > len(facts["lost"]):
        # A driver that is not for these GPUs knows none of them, as on a new machine.
        yield Finding(
            f"on the bus, unknown to the driver: {', '.join(missing)}", bool(known_to_driver)
        )
    for gpu in facts["gpus"]:
        if facts["cuda"] and gpu["bus"] not in facts["cuda"] and not gpu["mig"]:
            yield Finding(f"GPU {gpu['number']}: CUDA does not see it", True)


def _of_gpu(gpu: Facts, expected: Mapping[str, Any], persistence: bool) -> list[tuple[str, bool]]:
    """Return the findings of a GPU at rest: (text, broken). `expected` is empty if the type is
    unknown."""
    remapped = gpu["remapped"] or [0, 0, 0, 0]
    memory = expected.get("memory_mib", gpu["memory_mib"])
    limit, power = (gpu["power_limit"] or 0) / 1000, (gpu["full_power"] or 0) / 1000
    links = gpu["nvlinks"]
    words = set(re.split(r"[^a-z0-9]+", gpu["name"].lower()))
    slowed = [text for bit, text in SLOWDOWNS.items() if (gpu["slowed"] or 0) & bit]
    rows = (
        (
            not words.issuperset(expected.get("gpu", "").lower().split()),
            False,
            f"is {gpu['name']}, not {expected.get('gpu')}",
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
        (gpu["inforom"] == CORRUPTED, False, "its infoROM is corrupted"),
        (limit < MEMORY_SHARE * power, False, f"power limit {limit:.0f} W of {power:.0f} W"),
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
            len(links) < expected.get("nvlinks", 0),
            True,
            f"{len(links)} of {expected.get('nvlinks')} NVLinks",
        ),
    )
    return _wrong(rows)


def _wrong(rows: Iterable[tuple[Any, bool, str]]) -> list[tuple[str, bool]]:
    """Return (text, broken) of the rows whose condition, the first value, holds."""
    return [(text, broken) for condition, broken, text in rows if condition]


def _of_awake(awake: Facts, expected: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return the findings of a GPU while it copied: (text, broken), or an empty list if it did
    not."""
    error, whole = awake.get("error", ""), awake.get("whole", True)
    width, generation = expected.get("pcie_width", 0), expected.get("pcie_generation", 0)
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
    return _wrong(rows)


def _of_log(facts: Facts) -> Iterator[Finding]:
    """Yield the findings of the kernel's log, each once, however often it is logged."""
    gpus = facts.get("gpus", [])
    names = {f"PCI:{gpu['bus'][:-2]}": f"GPU {gpu['number']}" for gpu in gpus}
    xids = {(device, int(text)) for device, text in facts["xids"]}
    for device, text in sorted(xids):
        if text not in OF_PROGRAMS:
            words = XIDS.get(text, "see NVIDIA's list of Xids")
            yield Finding(f"{names.get(device, device)}: Xid {text} ({words})", text in XIDS)
    for device, text in sorted(set(map(tuple, facts["sxids"]))):
        yield Finding(f"NVSwitch {device}: SXid {text}", False)
    for device, words in sorted(set(map(tuple, facts["failures"]))):
        # Xid 79 says already that the GPU has fallen off the bus.
        if "bus" not in words or (f"PCI:{device.removesuffix('.0')}", 79) not in xids:
            yield Finding(f"{device or 'a GPU'}: {words}", True)


def _of_switches(facts: Facts) -> Iterator[Finding]:
    if not facts["switches"]:
        return
    manager, version = facts["fabricmanager"], facts["fabricmanager_version"]
    if manager != "active":
        yield Finding(f"nvidia-fabricmanager is {manager or 'not installed'}", False)
    if version and facts.get("driver") and version != facts["driver"]:
        yield Finding(f"fabric manager {version} beside driver {facts['driver']}", False)
    unreached = dict[int, list[str]]()
    for number, other in sorted(facts["not_peers"], key=operator.itemgetter(0)):
        unreached.setdefault(number, []).append(str(other))
    for number, others in unreached.items():
        yield Finding(f"GPU {number}: does not reach the memory of GPU {', '.join(others)}", False)
