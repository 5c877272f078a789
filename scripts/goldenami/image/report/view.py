"""What the report says, decided in Python: the template only lays it out.

The lock is read as plain JSON. Keys that every lock has are indexed; those that an image may lack
(driver, CUDA, frameworks, GPU architectures) are asked for and said to be absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.core import units
from goldenami.model.builds.build_records import (
    Accel,
    BakeRecord,
    Check,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.supported import release_dates

LockData = Mapping[str, Any]

SEVERITY = (Outcome.INCORRECT, Outcome.MISSING, Outcome.UNREACHABLE, Outcome.CORRECT)
"""Order in which outcomes are shown: what a person must act on comes first."""


@dataclass(frozen=True)
class Fact:
    """A line of "What is inside", or a headline number: the value, and in `note` what qualifies
    it."""

    term: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Group:
    """The checks of one role, failures first, and how many had which outcome."""

    role: str
    checks: tuple[Check, ...]
    counts: str
    failed: bool


@dataclass(frozen=True)
class Conclusion:
    """The verdict and the sentence that explains it. `word` is for people, `good` for colour."""

    word: str
    good: bool
    sentence: str


def conclusion(verify: VerifyRecord | None, image: str) -> Conclusion:
    """The verdict in words; a build without a record of verify is plainly not verified."""
    if verify is None:
        return Conclusion(Verdict.NOT_VERIFIED, False, "This disk has not been booted: there is no "
                          f"verify.json. Run make verify IMAGE={image}.")
    total, boots = len(verify.checks), len(verify.boots)
    wrong = [check for check in verify.checks if check.outcome is not Outcome.CORRECT]
    what = "AMI on" if verify.accel is Accel.EC2 else "sealed disk under"
    how = (f"{boots} boot{'' if boots == 1 else 's'} of the {what} {verify.accel.upper()}, "
           f"{units.duration(verify.seconds)}")
    if not total:
        sentence = f"No check ran ({how})."
    elif wrong:
        sentence = f"{len(wrong)} of {total} checks not correct: {_counts(wrong)} ({how})."
    elif verify.verdict is not Verdict.VERIFIED:
        sentence = f"All {total} checks are correct, yet the verdict was withheld ({how})."
    else:
        sentence = f"All {total} checks are correct ({how})."
    good = bool(total) and not wrong and verify.verdict is Verdict.VERIFIED
    return Conclusion(verify.verdict, good, sentence)


def facts(lock: LockData) -> tuple[Fact, ...]:
    """What is inside the image."""
    base, kernel, hardware = lock["base"], lock["kernel"], lock.get("hardware") or {}
    suites = [f"{suite['suite']} of {release_dates.iso(suite['date'])[:10]}"
              for suite in base.get("suites") or ()]
    lines = [
        Fact("Base", f"{base['distribution']} {base['release']}", base.get("architecture", "")),
        Fact("Archive", _list(suites)),
        Fact("Kernel", str(kernel["release"]), f"package version {kernel['version']}"),
        *_driver(lock.get("driver")),
        _cuda(lock.get("cuda")),
        _frameworks(lock.get("frameworks")),
        *_python_packages(lock.get("python")),
        Fact("Hardware families", _list(hardware.get("families")) or "none"),
        Fact("GPU architectures", _list(f"sm_{sm}" for sm in hardware.get("sm") or ()) or "none"),
        Fact("CPU architectures", _list(hardware.get("cpus"))),
        Fact("CPU baseline", hardware.get("march") or "", " ".join(hardware.get("options") or ())),
        Fact("Roles", _list(lock.get("roles"))),
    ]
    return tuple(fact for fact in lines if fact.value)


def figures(
    bake: BakeRecord, verify: VerifyRecord | None, old_bake: BakeRecord | None,
    old_verify: VerifyRecord | None,
) -> tuple[Fact, ...]:
    """The headline numbers, with their comparison to the previous build, if there is one."""
    return (
        _size(bake, old_bake),
        Fact("Bake", units.duration(bake.seconds),
             _against("", bake.seconds, old_bake.seconds if old_bake else None)),
        _boot(verify, old_verify),
        _correct(verify),
        Fact("Packages", f"{bake.packages_count:,}", "installed"),
    )


def groups(verify: VerifyRecord | None) -> tuple[Group, ...]:
    """Checks by role: roles with failures first, and in each the failures first."""
    by_role: dict[str, list[Check]] = {}
    for check in verify.checks if verify else ():
        by_role.setdefault(check.role, []).append(check)
    found = [
        # sorted() is stable: within an outcome the order is that of the run
        Group(role, tuple(sorted(checks, key=lambda check: SEVERITY.index(check.outcome))),
              _counts(checks), any(check.outcome is not Outcome.CORRECT for check in checks))
        for role, checks in by_role.items()
    ]
    return tuple(sorted(found, key=lambda group: not group.failed))


def _size(bake: BakeRecord, old_bake: BakeRecord | None) -> Fact:
    if bake.ami is not None:
        return Fact("Volume", f"{bake.ami.volume_gib} GiB", f"{bake.ami.id} in {bake.ami.region}")
    assert bake.disk is not None  # a record has one of them
    old = old_bake.disk.bytes_allocated if old_bake and old_bake.disk else None
    return Fact("Disk", units.size(bake.disk.bytes_allocated),
                _against(f"of {units.size(bake.disk.bytes_apparent)}", bake.disk.bytes_allocated,
                         old))


def _driver(driver: LockData | None) -> tuple[Fact, ...]:
    if not driver:
        return (Fact("NVIDIA driver", "none"),)
    supports = f", supports CUDA {driver['cuda']}" if driver.get("cuda") else ""
    version = Fact("NVIDIA driver", str(driver["version"]),
                   f"branch {driver['branch']}, {driver['flavour']} modules{supports}")
    modules = driver.get("modules")
    if not modules:
        return (version,)
    signature = modules.get("signature")
    signed = "unsigned: Secure Boot would refuse them"
    if signature:
        signed = f"signed by {signature['signer']}"
    return (version, Fact("Kernel modules", modules["package"], f"{modules['compiler']}, {signed}"))


def _cuda(cuda: LockData | None) -> Fact:
    if not cuda:
        return Fact("CUDA", "none")
    return Fact("CUDA", str(cuda["version"]),
                "; ".join(filter(None, (cuda.get("variant"), cuda.get("why")))))


def _frameworks(frameworks: Sequence[LockData] | None) -> Fact:
    if not frameworks:
        return Fact("Frameworks", "none")
    compiled = _list(one["name"] for one in frameworks if one["origin"] == "source")
    return Fact("Frameworks", _list(f"{one['name']} {one['version']}" for one in frameworks),
                f"compiled for these CPUs and GPUs: {compiled}" if compiled else "")


def _python_packages(python: LockData | None) -> tuple[Fact, ...]:
    if not python:
        return ()
    versions = {file["project"]: file["version"] for file in python["wheels"]}
    return (Fact("Python packages", _list(f"{name} {versions[name]}" for name in python["asked"]),
                 f"and all that they need, in {python['environment']}"),)


def _boot(verify: VerifyRecord | None, previous: VerifyRecord | None) -> Fact:
    if verify is None or not verify.boots:
        return Fact("Power-on to SSH", "unknown", "never booted")
    slowest = max(boot.seconds_to_ssh for boot in verify.boots)
    firmwares = _list(dict.fromkeys(boot.firmware for boot in verify.boots))
    # under another accelerator the same disk takes another time: that is no change of the image
    comparable = previous is not None and previous.accel is verify.accel and previous.boots
    old = max(boot.seconds_to_ssh for boot in previous.boots) if previous and comparable else None
    return Fact("Power-on to SSH", units.duration(slowest), _against(firmwares, slowest, old))


def _correct(verify: VerifyRecord | None) -> Fact:
    if verify is None:
        return Fact("Checks correct", "none", "not verified")
    correct = sum(check.outcome is Outcome.CORRECT for check in verify.checks)
    return Fact("Checks correct", str(correct), f"of {len(verify.checks)}")


def _against(note: str, now: float, before: float | None) -> str:
    if before is None:
        return note
    moved = units.change(now, before)
    return _list(filter(None, (note, "as before" if moved == "=" else f"{moved} on previous")))


def _counts(checks: Iterable[Check]) -> str:
    found = [check.outcome for check in checks]
    return _list(f"{found.count(outcome)} {outcome}" for outcome in SEVERITY if outcome in found)


def _list(values: Iterable[Any] | None) -> str:
    return ", ".join(map(str, values or ()))
