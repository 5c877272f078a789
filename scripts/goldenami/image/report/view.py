"""The report's contents, decided in Python: the template only lays them out.

The lock is read as plain JSON. Keys that every lock has are indexed. Keys that an image may lack
(driver, CUDA, frameworks, GPU architectures) are read by `get`, and the page says that they are
absent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.core import records, units
from goldenami.model.builds import figures as figures_file
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import (
    Accel,
    BakeRecord,
    Check,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.builds.container_records import CONTAINER_FILE, ContainerRecord
from goldenami.model.builds.gpu_proofs import ATTEST_FILE, GpuTestRecord
from goldenami.model.builds.hardening_records import HARDENING_FILE, HardeningRecord
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Vulnerability
from goldenami.model.locked import release_dates
from goldenami.model.supported.scales import Rating

LockData = Mapping[str, Any]

SEVERITY = (Outcome.INCORRECT, Outcome.MISSING, Outcome.UNREACHABLE, Outcome.CORRECT)
"""The order in which outcomes are shown: what a person must act on comes first."""
FILES = (
    "lock.json",
    "bake.json",
    CONTAINER_FILE,
    "verify.json",
    "publish.json",
    CVE_FILE,
    "cve.vex.json",
    "sbom.cdx.json",
    "provenance",
    "hardening.json",
    "coverage.json",
    figures_file.FIGURES_FILE,
    "junit.xml",
    "serial-bios.log",
    "serial-uefi.log",
)
"""Files of a build to which the report links."""
TOOLS = ("python3", "docker.io", "podman", "containerd", "git", "awscli", "gcc", "tmux", "nvtop")
"""Packages whose versions people ask for."""
NO_GPU = "no GPU has run this build"
"""Text beside the verdict of a build for GPUs until `gpu-test` has a result."""
RESTORE = "restore it from packer/locks/, or bake again"
LOGS = ("bake", "verify")
"""Stages whose log belongs to one build."""


@dataclass(frozen=True)
class Fact:
    """A line of "What is inside", or a headline number. `note` qualifies the value."""

    term: str
    value: str
    note: str = ""


def conclusion(verify: VerifyRecord | None, image: str) -> dict[str, Any]:
    """The verdict and the sentence that explains it: `word` is for people, `good` decides the
    colour."""
    if verify is None:
        return {
            "word": Verdict.NOT_VERIFIED,
            "good": False,
            "sentence": "This disk has not been booted: there is no verify.json. "
            f"Run make verify IMAGE={image}.",
        }
    total, boots = len(verify.checks), len(verify.boots)
    wrong = [check for check in verify.checks if check.outcome is not Outcome.CORRECT]
    booted = "AMI on" if verify.accel is Accel.EC2 else "sealed disk under"
    noun = "boot" if boots == 1 else "boots"
    circumstances = (
        f"{boots} {noun} of the {booted} {verify.accel.upper()}, {units.duration(verify.seconds)}"
    )
    if not total:
        sentence = f"No check ran ({circumstances})."
    elif wrong:
        sentence = (
            f"{len(wrong)} of {total} checks not correct: {_counts(wrong)} ({circumstances})."
        )
    elif verify.verdict is not Verdict.VERIFIED:
        sentence = (
            f"All {total} checks are correct, yet the verdict was withheld ({circumstances})."
        )
    else:
        sentence = f"All {total} checks are correct ({circumstances})."
    good = bool(total) and not wrong and verify.verdict is Verdict.VERIFIED
    return {"word": verify.verdict, "good": good, "sentence": sentence}


def facts(lock: LockData) -> tuple[Fact, ...]:
    """The lines of "What is inside" for a lock."""
    base, kernel, hardware = lock["base"], lock["kernel"], lock.get("hardware") or {}
    suites = [
        f"{suite['suite']} of {release_dates.iso(suite['date'])[:10]}"
        for suite in base.get("suites") or ()
    ]
    lines = [
        Fact("Base", f"{base['distribution']} {base['release']}", base.get("architecture", "")),
        Fact("Archive", _list(suites)),
        Fact("Kernel", str(kernel["release"]), f"package version {kernel['version']}"),
        *_driver(lock.get("driver")),
        _cuda(lock.get("cuda")),
        _frameworks(lock.get("frameworks")),
        *_python_packages(lock.get("python")),
        _tools(lock["packages"]),
        Fact("Hardware families", _list(hardware.get("families")) or "none"),
        Fact("GPU architectures", _list(f"sm_{sm}" for sm in hardware.get("sm") or ()) or "none"),
        Fact("CPU architectures", _list(hardware.get("cpus"))),
        Fact("CPU baseline", hardware.get("march") or "", " ".join(hardware.get("options") or ())),
        Fact("Roles", _list(lock.get("roles"))),
    ]
    return tuple(fact for fact in lines if fact.value)


def _tools(packages: Mapping[str, LockData]) -> Fact:
    present = [name for name in TOOLS if name in packages]
    return Fact(
        "Tools", _list(f"{name} {_upstream(packages[name]['version'])}" for name in present)
    )


def moved(old: LockData | None, lock: LockData) -> list[tuple[str, str, str]]:
    """Facts that differ from those of the lock `old`, each with its old and its new values. [] if
    `old` is None."""
    if not old:
        return []
    before = {fact.term: fact.value.split(", ") for fact in facts(old)}
    differences = list[tuple[str, str, str]]()
    for fact in facts(lock):
        old_values, values = before.get(fact.term), fact.value.split(", ")
        if old_values is not None and values != old_values:
            gone, new = _without(old_values, values), _without(values, old_values)
            differences.append((fact.term, gone, new))
    return differences


def measured(folder: BuildFolder, previous: BuildFolder | None) -> list[tuple[str, str, str]]:
    """Measured figures of both builds, with the change or why it is not judged."""
    if previous is None:
        return []
    changes = figures_file.changes(figures_file.read(folder), figures_file.read(previous))
    return [
        (change.now.name, str(change.before), f"{change.now} ({change.judged})")
        for change in changes
    ]


def _without(values: list[str], others: list[str]) -> str:
    return _list(value for value in values if value not in others) or "none"


def _upstream(version: str) -> str:
    """A package's version without the distribution's additions."""
    # The epoch before `:` is no part of it either.
    return re.split(r"[-+~]", version.partition(":")[2] or version)[0]


def figures(
    bake: BakeRecord,
    verify: VerifyRecord | None,
    old_bake: BakeRecord | None,
    old_verify: VerifyRecord | None,
) -> tuple[Fact, ...]:
    """The headline numbers, with the growth of the disk since the previous build."""
    return (
        _size(bake, old_bake),
        Fact("Bake", units.duration(bake.seconds)),
        _boot(verify, old_verify),
        _correct(verify),
        Fact("Packages", f"{bake.packages_count:,}", "installed"),
    )


def groups(verify: VerifyRecord | None) -> list[dict[str, Any]]:
    """Checks by role, roles with failures first, with the number of checks of each outcome."""
    by_role: dict[str, list[Check]] = {}
    for check in verify.checks if verify else ():
        by_role.setdefault(check.role, []).append(check)
    rows = list[dict[str, Any]]()
    for role, checks in by_role.items():
        # sorted() is stable: checks with the same outcome stay in the order of the run.
        worst_first = sorted(checks, key=lambda check: SEVERITY.index(check.outcome))
        rows.append(
            {
                "role": role,
                "counts": _counts(checks),
                "checks": tuple(worst_first),
                "failed": worst_first[0].outcome is not Outcome.CORRECT,
            }
        )
    return sorted(rows, key=lambda group: not group["failed"])


def _size(bake: BakeRecord, old_bake: BakeRecord | None) -> Fact:
    if bake.ami is not None:
        return Fact("Volume", f"{bake.ami.volume_gib} GiB", f"{bake.ami.id} in {bake.ami.region}")
    assert bake.disk is not None  # a record has one of them
    size, note = bake.disk.bytes_allocated, f"of {units.size(bake.disk.bytes_apparent)}"
    if old_bake and old_bake.disk:
        change = units.change(size, old_bake.disk.bytes_allocated)
        note += ", as before" if change == "=" else f", {change} on previous"
    return Fact("Disk", units.size(size), note)


def _driver(driver: LockData | None) -> tuple[Fact, ...]:
    if not driver:
        return (Fact("NVIDIA driver", "none"),)
    note = f"branch {driver['branch']}, {driver['flavour']} modules"
    if driver.get("cuda"):
        note += f", supports CUDA {driver['cuda']}"
    version = Fact("NVIDIA driver", str(driver["version"]), note)
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
    return Fact(
        "CUDA",
        str(cuda["version"]),
        "; ".join(filter(None, (cuda.get("variant"), cuda.get("why")))),
    )


def _frameworks(frameworks: Sequence[LockData] | None) -> Fact:
    if not frameworks:
        return Fact("Frameworks", "none")
    versions = _list(f"{framework['name']} {framework['version']}" for framework in frameworks)
    compiled = [framework["name"] for framework in frameworks if framework["origin"] == "source"]
    if not compiled:
        return Fact("Frameworks", versions)
    return Fact("Frameworks", versions, f"compiled for these CPUs and GPUs: {_list(compiled)}")


def _python_packages(python: LockData | None) -> tuple[Fact, ...]:
    if not python:
        return ()
    versions = {file["project"]: file["version"] for file in python["wheels"]}
    return (
        Fact(
            "Python packages",
            _list(f"{name} {versions[name]}" for name in python["asked"]),
            f"and all that they need, in {python['environment']}",
        ),
    )


def _boot(verify: VerifyRecord | None, old: VerifyRecord | None) -> Fact:
    if verify is None or not verify.boots:
        return Fact("Power-on to SSH", "unknown", "never booted")
    slowest = max(boot.seconds_to_ssh for boot in verify.boots)
    firmwares = _list(dict.fromkeys(boot.firmware for boot in verify.boots))
    if old and old.boots and old.accel is verify.accel:
        before = units.duration(max(boot.seconds_to_ssh for boot in old.boots))
        firmwares += f"; {before} before"
    return Fact("Power-on to SSH", units.duration(slowest), firmwares)


def _correct(verify: VerifyRecord | None) -> Fact:
    if verify is None:
        return Fact("Checks correct", "none", "not verified")
    correct = sum(check.outcome is Outcome.CORRECT for check in verify.checks)
    return Fact("Checks correct", str(correct), f"of {len(verify.checks)}")


def _counts(checks: Iterable[Check]) -> str:
    outcomes = [check.outcome for check in checks]
    return _list(
        f"{outcomes.count(outcome)} {outcome}" for outcome in SEVERITY if outcome in outcomes
    )


def _list(values: Iterable[Any] | None) -> str:
    return ", ".join(map(str, values or ()))


def lock_of(folder: BuildFolder) -> dict[str, Any]:
    """The lock from which a build was baked."""
    return records.read_object(folder.lock, RESTORE)


def publication(folder: BuildFolder) -> dict[str, Any] | None:
    """The content of publish.json, or None for a build that was not published from here."""
    if not folder.publish.exists():
        return None
    return records.read_object(folder.publish)


def gpu_test(folder: BuildFolder, lock: Mapping[str, Any]) -> list[Fact]:
    """Whether a GPU has run the build; [] for an image without GPUs."""
    if not (lock.get("hardware") or {}).get("sm"):
        return []
    if (path := folder.path / ATTEST_FILE).exists():
        record = records.read(path, GpuTestRecord)
        return [Fact("GPU test", str(record), f"{len(record.checks)} checks, {record.at}")]
    published_result = str((publication(folder) or {}).get("gpu", ""))
    if published_result.startswith("tested"):
        return [Fact("GPU test", published_result)]
    return [Fact("GPU test", NO_GPU, f"after publish: make gpu-test IMAGE={lock['image']}")]


def security(folder: BuildFolder) -> CveRecord | None:
    """The record of known vulnerabilities, or None if nobody looked for any."""
    path = folder.path / CVE_FILE
    if not path.exists():
        return None
    return records.read(path, CveRecord)


def vulnerabilities(record: CveRecord | None) -> list[Fact]:
    """The number of known vulnerabilities, in one line; [] if `record` is None."""
    if record is None:
        return []
    stops = sum(finding.stops for finding in record.findings)
    verb = "stops" if stops == 1 else "stop"
    ratings = rated(record.findings) or "none is known"
    note = f"{stops} of them {verb} a publish; asked {record.checked_at}"
    return [Fact("Vulnerabilities", ratings, note)]


def records_of(folder: BuildFolder) -> Iterator[str]:
    """Those of FILES that exist, by their paths in the build's folder. A folder stands for each of
    its files."""
    for name in FILES:
        path = folder.path / name
        if path.is_dir():
            for file in sorted(path.iterdir()):
                yield file.relative_to(folder.path).as_posix()
        elif path.exists():
            yield path.relative_to(folder.path).as_posix()


def hardness(folder: BuildFolder) -> list[Fact]:
    """The hardening score; [] for a build that was not scanned."""
    path = folder.path / HARDENING_FILE
    if not path.exists():
        return []
    return [Fact("Hardening", str(records.read(path, HardeningRecord)))]


def container(folder: BuildFolder) -> list[Fact]:
    """The container image of the same lock; [] for a build without one."""
    if not folder.container.exists():
        return []
    record = records.read(folder.container, ContainerRecord)
    note = ", ".join(f"{layer.name} {units.size(layer.bytes)}" for layer in record.layers)
    if record.least_driver:
        note += f"; driver {record.least_driver} or newer"
    note += f"; sha256:{record.digest}"
    return [Fact("Container image", units.size(record.bytes), note)]


def files(folder: BuildFolder, previous: BuildFolder | None) -> list[str]:
    """Files of the build and the report of the previous one, as addresses relative to the page."""
    paths = list(records_of(folder))
    outside = [folder.log(stage) for stage in LOGS]
    if previous:
        outside.append(previous.report)
    return paths + [f"../{path.parent.name}/{path.name}" for path in outside if path.exists()]


def rated(findings: Iterable[Vulnerability]) -> str:
    """The number of findings of each rating, the worst first: "2 high, 5 unknown"."""
    counts = Counter(finding.rating for finding in findings)
    return ", ".join(f"{counts[rating]} {rating}" for rating in reversed(Rating) if counts[rating])
