"""What the report says, decided in Python: the template only lays it out.

The lock is read as plain JSON. Keys that every lock has are indexed; those that an image may lack
(driver, CUDA, frameworks, GPU architectures) are asked for and said to be absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
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

LockData = Mapping[str, Any]

SEVERITY = (Outcome.INCORRECT, Outcome.MISSING, Outcome.UNREACHABLE, Outcome.CORRECT)
"""Order in which outcomes are shown: what a person must act on comes first."""


@dataclass(frozen=True)
class Fact:
    """A line of "What is inside": the value, and in `note` what qualifies it."""

    term: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A headline number with its comparison to the previous build, if there is one."""

    term: str
    value: str
    note: str


@dataclass(frozen=True)
class PassedOverRow:
    """A candidate that the lock did not take."""

    what: str
    reason: str


@dataclass(frozen=True)
class ChoiceRow:
    """One choice of the lock."""

    component: str
    taken: str
    why: str
    passed_over: tuple[PassedOverRow, ...]


@dataclass(frozen=True)
class CheckRow:
    """One check; `before` is its outcome in the previous build where that differs."""

    check: Check
    before: Outcome | None


@dataclass(frozen=True)
class Group:
    """The checks of one role, failures first."""

    role: str
    rows: tuple[CheckRow, ...]
    counts: tuple[tuple[Outcome, int], ...]
    seconds: float
    failed: bool


@dataclass(frozen=True)
class Conclusion:
    """The verdict and the sentence that explains it. `word` is for people, `good` for colour."""

    word: str
    good: bool
    sentence: str


@dataclass(frozen=True)
class PackageRow:
    """One line of the full package list: `download` is the .deb's size, `installed` what dpkg says
    it takes."""

    name: str
    version: str
    architecture: str
    download: str
    installed: str
    origin: str
    sha256: str


def conclusion(verify: VerifyRecord | None, image: str) -> Conclusion:
    """The verdict in words; a build without a record of verify is plainly not verified."""
    if verify is None:
        sentence = f"This disk has not been booted: there is no verify.json. Run make verify IMAGE={image}."
        return Conclusion(Verdict.NOT_VERIFIED, False, sentence)
    total, boots = len(verify.checks), _counted(len(verify.boots), "boot")
    wrong = [check for check in verify.checks if check.outcome is not Outcome.CORRECT]
    what = "AMI on" if verify.accel is Accel.EC2 else "sealed disk under"
    how = f"{boots} of the {what} {verify.accel.upper()}, {units.duration(verify.seconds)}"
    if not total:
        return Conclusion(verify.verdict, False, f"No check ran ({how}).")
    if wrong:
        split = ", ".join(f"{count} {outcome}" for outcome, count in _counts(wrong))
        be = "is" if len(wrong) == 1 else "are"
        return Conclusion(verify.verdict, False,
                          f"{len(wrong)} of {total} checks {be} not correct: {split} ({how}).")
    if verify.verdict is not Verdict.VERIFIED:
        sentence = f"All {total} checks are correct, yet the verdict was withheld ({how})."
        return Conclusion(verify.verdict, False, sentence)
    return Conclusion(verify.verdict, True, f"All {total} checks are correct ({how}).")


def facts(lock: LockData) -> tuple[Fact, ...]:
    """What is inside the image."""
    base, kernel, hardware = lock["base"], lock["kernel"], lock.get("hardware") or {}
    lines = [
        Fact("Base", f"{base['distribution']} {base['release']}", _text(base.get("architecture"))),
        Fact("Archive", ", ".join(_suite(suite) for suite in base.get("suites") or ())),
        Fact("Kernel", str(kernel["release"]), f"package version {kernel['version']}"),
        *_driver(lock.get("driver")),
        _cuda(lock),
        _frameworks(lock.get("frameworks")),
        Fact("Hardware families", _text(hardware.get("families")) or "none"),
        Fact("GPU architectures", _text([f"sm_{sm}" for sm in hardware.get("sm") or ()]) or "none"),
        Fact("CPU architectures", _text(hardware.get("cpus"))),
        Fact("CPU baseline", _text(hardware.get("march")), " ".join(hardware.get("options") or ())),
        Fact("Roles", _text(lock.get("roles"))),
    ]
    return tuple(fact for fact in lines if fact.value)


def choices(lock: LockData) -> tuple[ChoiceRow, ...]:
    """What the lock took, and what it passed over and why."""
    return tuple(
        ChoiceRow(
            component=str(choice["component"]), taken=_text(choice["taken"]),
            why=_text(choice.get("why")),
            passed_over=tuple(
                PassedOverRow(_text(over["what"]),
                              _text(over.get("reason"))) for over in choice.get("passed_over") or ()
            ),
        )
        for choice in lock.get("choices") or ()
    )


def figures(
    bake: BakeRecord, verify: VerifyRecord | None, old_bake: BakeRecord | None,
    old_verify: VerifyRecord | None,
) -> tuple[Figure, ...]:
    """The headline numbers."""
    baked, old_baked = _bake_seconds(bake), _bake_seconds(old_bake) if old_bake else None
    return (
        _size_figure(bake, old_bake),
        Figure("Bake", units.duration(baked), _against("", baked, old_baked)),
        _boot_figure(verify, old_verify),
        _checks_figure(verify),
        Figure("Packages", f"{bake.packages_count:,}", "installed"),
    )


def _bake_seconds(bake: BakeRecord) -> float:
    """What the bake took by the clock; an older record has only its phases."""
    return bake.seconds if bake.seconds is not None else sum(phase.seconds for phase in bake.phases)


def _size_figure(bake: BakeRecord, old_bake: BakeRecord | None) -> Figure:
    if bake.ami is not None:
        return Figure("Volume", f"{bake.ami.volume_gib} GiB", f"{bake.ami.id} in {bake.ami.region}")
    assert bake.disk is not None  # a record has one of them
    old = old_bake.disk.bytes_allocated if old_bake and old_bake.disk else None
    apparent = f"of {units.size(bake.disk.bytes_apparent)}"
    return Figure("Disk", units.size(bake.disk.bytes_allocated),
                  _against(apparent, bake.disk.bytes_allocated, old))


def groups(verify: VerifyRecord | None, previous: VerifyRecord | None) -> tuple[Group, ...]:
    """Checks by role: roles with failures first, and in each the failures first."""
    before = {check.id: check.outcome for check in previous.checks} if previous else {}
    by_role: dict[str, list[Check]] = {}
    for check in verify.checks if verify else ():
        by_role.setdefault(check.role, []).append(check)
    found = [_group(role, checks, before) for role, checks in by_role.items()]
    return tuple(sorted(found, key=lambda group: not group.failed))


def packages(lock: LockData) -> tuple[PackageRow, ...]:
    """Every package of the lock by name."""
    return tuple(
        PackageRow(
            name=name, version=str(entry["version"]),
            architecture=str(entry.get("architecture", "")),
            download=_size(entry.get("size")), installed=_size(entry.get("installed_size")),
            origin=_text(entry.get("origin")), sha256=str(entry.get("sha256", "")),
        )
        for name, entry in sorted(lock["packages"].items())
    )


def _driver(driver: LockData | None) -> tuple[Fact, ...]:
    if not driver:
        return (Fact("NVIDIA driver", "none"),)
    supports = f", supports CUDA {driver['cuda']}" if driver.get("cuda") else ""
    version = Fact(
        "NVIDIA driver", str(driver["version"]),
        f"branch {driver['branch']}, {driver['flavour']} modules{supports}")
    modules = driver.get("modules")
    if not modules:
        return (version,)
    signature = modules.get("signature")
    signed = (
        f"signed by {signature['signer']}"
        if signature
        else "unsigned: Secure Boot would refuse them"
    )
    compiler = _text(modules.get("compiler"))
    return (version, Fact("Kernel modules", _text(modules.get("package")), f"{compiler}, {signed}"))


def _cuda(lock: LockData) -> Fact:
    """CUDA, and why it is another than the newest that the driver runs."""
    cuda, driver = lock.get("cuda"), lock.get("driver") or {}
    if not cuda:
        return Fact("CUDA", "none")
    version, newest = str(cuda["version"]), str(driver.get("cuda") or "")
    note = [str(cuda.get("variant") or "")]
    if newest and _release(version) != _release(newest):
        older = _release(version) < _release(newest)
        why = (
            f"the archive of {lock['base']['release']} has no newer one"
            if older and (lock.get("variables") or {}).get("cuda_source") == "debian"
            else str(cuda.get("why") or "")
        )
        note.append(f"{'older' if older else 'newer'} than {newest}, which the driver has: {why}")
    return Fact("CUDA", version, "; ".join(filter(None, note)))


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number: they order as numbers."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _suite(suite: Any) -> str:
    if not isinstance(suite, Mapping):
        return _text(suite)
    return f"{suite['suite']} of {_day(str(suite.get('date', '')))}"


def _day(date: str) -> str:
    """The day of a Release file's date (RFC 2822) as ISO 8601; anything else as it stands."""
    try:
        return parsedate_to_datetime(date).date().isoformat()
    except ValueError:
        return date


def _frameworks(frameworks: Sequence[LockData] | None) -> Fact:
    if not frameworks:
        return Fact("Frameworks", "none")
    compiled = _text([one["name"] for one in frameworks if one["origin"] == "source"])
    return Fact("Frameworks", _text([f"{one['name']} {one['version']}" for one in frameworks]),
                f"compiled for these CPUs and GPUs: {compiled}" if compiled else "")


def _boot_figure(verify: VerifyRecord | None, previous: VerifyRecord | None) -> Figure:
    if verify is None or not verify.boots:
        return Figure("Power-on to SSH", "unknown", "never booted")
    slowest = max(boot.seconds_to_ssh for boot in verify.boots)
    firmwares = ", ".join(dict.fromkeys(boot.firmware for boot in verify.boots))
    # under another accelerator the same disk takes another time: that is no change of the image
    comparable = previous is not None and previous.accel is verify.accel and previous.boots
    old = max(boot.seconds_to_ssh for boot in previous.boots) if previous and comparable else None
    return Figure("Power-on to SSH", units.duration(slowest), _against(firmwares, slowest, old))


def _checks_figure(verify: VerifyRecord | None) -> Figure:
    if verify is None:
        return Figure("Checks correct", "none", "not verified")
    correct = sum(check.outcome is Outcome.CORRECT for check in verify.checks)
    return Figure("Checks correct", str(correct), f"of {len(verify.checks)}")


def _against(note: str, now: float, before: float | None) -> str:
    if before is None:
        return note
    moved = units.change(now, before)
    return ", ".join(part
                     for part in (note, "as before" if moved == "=" else f"{moved} on previous")
                     if part)


def _group(role: str, checks: Sequence[Check], before: Mapping[str, Outcome]) -> Group:
    # sorted() is stable: within an outcome the order is that of the run
    ordered = sorted(checks, key=lambda check: SEVERITY.index(check.outcome))
    rows = tuple(
        CheckRow(check, was if (was := before.get(check.id)) is not check.outcome else None)
        for check in ordered
    )
    return Group(
        role=role, rows=rows, counts=_counts(checks),
        seconds=sum(check.seconds for check in checks),
        failed=any(check.outcome is not Outcome.CORRECT for check in checks),
    )


def _counts(checks: Iterable[Check]) -> tuple[tuple[Outcome, int], ...]:
    found = [check.outcome for check in checks]
    return tuple((outcome, found.count(outcome)) for outcome in SEVERITY if outcome in found)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _size(count: int | None) -> str:
    return "" if count is None else units.size(count)


def _text(value: Any) -> str:
    """A scalar, list or mapping of the lock on one line; nothing for None and for an empty
    collection."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(entry) for entry in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
