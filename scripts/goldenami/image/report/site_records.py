"""What the site knows of a build: `site.json` in its folder there, which outlives the build on this
machine."""

from __future__ import annotations

from typing import Any, Literal

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.image.report import beside
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Outcome, Utc, Verdict, VerifyRecord

SITE_FILE = "site.json"
RESTORE = "restore it from packer/locks/, or bake again"
_LOCK_KEYS = ("base", "kernel", "driver", "cuda")
"""What of a lock says until when its parts are supported."""


class SiteBuild(Record):
    """One build. `seconds` of the bake and `bytes` allocated on the disk are None where the record
    has none.

    `layers` were reused from earlier bakes. `gpu` says what GPUs ran it, "" of an image without.
    `rated` counts known vulnerabilities, `stops` those that stop a publish; `asked_at` is "" where
    nobody has asked. `amis`: by region.
    """

    schema_version: Literal[1] = 1
    image: str
    build_id: str
    description: str
    started_at: Utc
    seconds: float | None
    bytes: int | None
    layers: int
    verified: bool
    verdict: str
    correct: int
    checks: int
    gpu: str
    asked_at: str
    rated: str
    stops: int
    amis: dict[str, str]
    report: bool
    lock: dict[str, Any]

    @property
    def untested(self) -> bool:
        """Whether it is for GPUs, and none has run it."""
        return self.gpu == beside.NO_GPU


def of_build(folder: BuildFolder) -> SiteBuild:
    """What the build's records say; BadInput names one that is damaged."""
    bake, lock = folder.read_bake(), _lock(folder)
    verify = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    gpu, security, published = beside.gpu_test(folder,
                                               lock), beside.security(folder), beside.publication(folder)
    return SiteBuild(
        image=bake.image, build_id=bake.build_id, description=str(lock.get("description") or ""),
        started_at=bake.started_at, seconds=bake.seconds,
        bytes=bake.disk.bytes_allocated if bake.disk else None,
        layers=len(bake.layers), verified=verify is not None and verify.verdict is Verdict.VERIFIED,
        verdict=str(verify.verdict if verify else Verdict.NOT_VERIFIED),
        correct=sum(check.outcome is Outcome.CORRECT for check in verify.checks) if verify else 0,
        checks=len(verify.checks) if verify else 0, gpu=gpu[0].value if gpu else "",
        asked_at=security.checked_at if security else "",
        rated=beside.rated(security.findings) if security else "",
        stops=sum(finding.stops for finding in security.findings) if security else 0,
        amis={row.region: row.ami for row in published.rows} if published else {},
        report=folder.report.exists(),
        lock={key: lock[key] for key in _LOCK_KEYS if key in lock})


def _lock(folder: BuildFolder) -> dict[str, Any]:
    """The copy of the lock; builds of before it was kept have none."""
    return records.read_object(folder.lock, RESTORE) if folder.lock.exists() else {}
