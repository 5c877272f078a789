"""Paths of the files of builds: `build/<image>/` has a folder for each build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.model.builds.build_records import (
    BAKE_FILE,
    BLOCKS_FILE,
    COVERAGE_FILE,
    LOCK_FILE,
    PUBLISH_FILE,
    REPORT_FILE,
    SUMMARY_FILE,
    VERIFY_FILE,
    BakeRecord,
    Verdict,
    VerifyRecord,
)
from goldenami.model.builds.container_records import CONTAINER_FILE, LAYOUT


class PublishedAmi(Record, extra="ignore"):
    """AMI and snapshot of a build in one region."""

    ami: str
    snapshot: str


class _PublishedAmis(Record, extra="ignore"):
    """The part of publish.json that every stage may read."""

    regions: Annotated[dict[str, PublishedAmi], Field(min_length=1)]


class _File:
    """A file of a build's folder, by its name there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, build: BuildFolder, _: type) -> Path:
        return build.path / self._name


@dataclass(frozen=True)
class BuildFolder:
    """`build/<image>/<build id>/`: the records and the disk of one build."""

    path: Path

    lock = _File(LOCK_FILE)  # the copy of the lock that it was baked from
    bake = _File(BAKE_FILE)
    verify = _File(VERIFY_FILE)
    publish = _File(PUBLISH_FILE)
    coverage = _File(COVERAGE_FILE)
    container = _File(CONTAINER_FILE)
    layout = _File(LAYOUT)  # the container image
    report = _File(REPORT_FILE)
    summary = _File(SUMMARY_FILE)  # the report in short, for a release page
    disk = _File("disk.raw")
    blocks = _File(BLOCKS_FILE)
    variables = _File("vars.json")  # the roles'
    manifest = _File("manifest.json")  # the files of the disk

    @property
    def build_id(self) -> str:
        return self.path.name

    @property
    def image(self) -> ImageFolder:
        return ImageFolder(self.path.parent)

    @property
    def root(self) -> Path:
        """The repository that it is of."""
        return self.path.parents[2]

    def log(self, stage: str) -> Path:
        return self.image.log(f"{stage}-{self.build_id}")

    @property
    def is_baked(self) -> bool:
        return self.bake.exists()

    def read_bake(self) -> BakeRecord:
        return records.read(self.bake, BakeRecord)

    def read_published(self) -> dict[str, PublishedAmi]:
        return records.read(self.publish, _PublishedAmis).regions if self.publish.exists() else {}

    @property
    def is_verified(self) -> bool:
        return (
            self.verify.exists()
            and records.read(self.verify, VerifyRecord).verdict is Verdict.VERIFIED
        )


@dataclass(frozen=True)
class ImageFolder:
    """`build/<image>/`: an image's builds, their logs, and `latest`, a link to the newest verified
    build."""

    path: Path

    @classmethod
    def of(cls, root: Path, image: str) -> ImageFolder:
        return cls(root / "build" / image)

    @property
    def image(self) -> str:
        return self.path.name

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def build(self, build_id: str) -> BuildFolder:
        return BuildFolder(self.path / build_id)

    @property
    def builds(self) -> list[BuildFolder]:
        return [
            BuildFolder(path.parent)
            for path in sorted(self.path.glob(f"*/{BAKE_FILE}"))
            if path.parent != self.latest_link
        ]

    @property
    def latest_link(self) -> Path:
        return self.path / "latest"

    @property
    def latest(self) -> BuildFolder | None:
        return BuildFolder(self.latest_link.resolve()) if self.latest_link.exists() else None
