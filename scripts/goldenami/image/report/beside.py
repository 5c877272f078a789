"""What the report shows beside bake and verify: where the build is published, what is known of it,
which files it has.

Records of later stages are read as plain JSON, as the lock is; a file that is not there is left
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from goldenami.core import records, units
from goldenami.image.report.view import Fact
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.container_records import CONTAINER_FILE, ContainerRecord
from goldenami.model.builds.gpu_proofs import ATTEST_FILE, GpuTestRecord
from goldenami.model.builds.hardening_records import HARDENING_FILE, HardeningRecord
from goldenami.model.builds.security_records import CVE_FILE, CveRecord, Rating, Vulnerability

FILES = ("lock.json", "bake.json", CONTAINER_FILE, "verify.json", "publish.json", CVE_FILE, "cve.vex.json",
         "sbom.cdx.json", "sbom.spdx.json", "provenance", "hardening.json", "coverage.json",
         "junit.xml", "serial-bios.log", "serial-uefi.log")
"""Files of a build that a reader may want."""
NO_GPU = "no GPU has run this build"
"""What stands beside the verdict of a build for GPUs until `gpu-test` says otherwise."""
LOGS = ("bake", "verify")
"""Stages whose log belongs to one build."""


def publication(folder: BuildFolder) -> dict[str, Any] | None:
    """What publish.json says; None of a build that was not published from here."""
    return records.read_object(folder.publish) if folder.publish.exists() else None


def gpu_test(folder: BuildFolder, lock: Mapping[str, Any]) -> list[Fact]:
    """Whether a GPU has run the build; nothing of an image without one."""
    if not (lock.get("hardware") or {}).get("sm"):
        return []
    if (path := folder.path / ATTEST_FILE).exists():
        record = records.read(path, GpuTestRecord)
        return [Fact("GPU test", str(record), f"{len(record.checks)} checks, {record.at}")]
    said = str((publication(folder) or {}).get("gpu", ""))
    if said.startswith("tested"):
        return [Fact("GPU test", said)]
    return [Fact("GPU test", NO_GPU, f"after publish: make gpu-test IMAGE={lock['image']}")]


def security(folder: BuildFolder) -> CveRecord | None:
    """What is known against the build; None where nobody has asked."""
    path = folder.path / CVE_FILE
    return records.read(path, CveRecord) if path.exists() else None


def vulnerabilities(found: CveRecord | None) -> list[Fact]:
    """The same in a line."""
    if found is None:
        return []
    stops = sum(each.stops for each in found.findings)
    return [Fact("Vulnerabilities", rated(found.findings) or "none is known",
                 f"{stops} of them stop{'s' if stops == 1 else ''} a publish; asked "
                 f"{found.checked_at}")]


def records_of(folder: BuildFolder) -> Iterator[str]:
    """The FILES that there are, by their paths in the build's folder; of a folder each file."""
    for path in (folder.path / name for name in FILES):
        for one in sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []:
            yield one.relative_to(folder.path).as_posix()


def hardness(folder: BuildFolder) -> list[Fact]:
    """What a guide to hardening says; nothing of a build that was not asked."""
    path = folder.path / HARDENING_FILE
    return [Fact("Hardening", str(records.read(path, HardeningRecord)))] if path.exists() else []


def container(folder: BuildFolder) -> list[Fact]:
    """The container image of the same lock; nothing of a build without one."""
    if not folder.container.exists():
        return []
    record = records.read(folder.container, ContainerRecord)
    layers = ", ".join(f"{layer.name} {units.size(layer.bytes)}" for layer in record.layers)
    asks = f"; driver {record.least_driver} or newer" if record.least_driver else ""
    return [Fact("Container image", units.size(record.bytes),
                 f"{layers}{asks}; sha256:{record.digest}")]


def files(folder: BuildFolder, previous: BuildFolder | None) -> list[str]:
    """What there is of the build, as addresses from the page, and the report of the previous
    one."""
    found = list(records_of(folder))
    beyond = [folder.log(stage) for stage in LOGS]
    if previous:
        beyond.append(previous.report)
    return found + [f"../{path.parent.name}/{path.name}" for path in beyond if path.exists()]


def rated(findings: Iterable[Vulnerability]) -> str:
    """How many there are of each rating, the worst first: "2 high, 5 unknown"."""
    counts = Counter(each.rating for each in findings)
    return ", ".join(f"{counts[rating]} {rating}" for rating in reversed(Rating) if counts[rating])
