"""Where the files of builds are: `build/<image>/`, and in it a folder for each build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from goldenami.core import records
from goldenami.core.records import Record
from goldenami.model.builds import container_records
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


class PublishedAmi(Record, extra="ignore"):
    """What is in a region."""

    ami: str
    snapshot: str


class _PublishedAmis(Record, extra="ignore"):
    """The part of publish.json that every stage may read."""

    regions: Annotated[dict[str, PublishedAmi], Field(min_length=1)]


@dataclass(frozen=True)
class BuildFolder:
    """`build/<image>/<build id>/`: the records and the disk of one build."""

    path: Path

    @property
    def build_id(self) -> str:
        return self.path.name

    @property
    def image(self) -> ImageFolder:
        return ImageFolder(self.path.parent)

    @property
    def lock(self) -> Path:
        return self.path / LOCK_FILE

    @property
    def bake(self) -> Path:
        return self.path / BAKE_FILE

    @property
    def verify(self) -> Path:
        return self.path / VERIFY_FILE

    @property
    def publish(self) -> Path:
        return self.path / PUBLISH_FILE

    @property
    def coverage(self) -> Path:
        return self.path / COVERAGE_FILE

    @property
    def container(self) -> Path:
        return self.path / container_records.CONTAINER_FILE

    @property
    def layout(self) -> Path:
        return self.path / container_records.LAYOUT

    @property
    def report(self) -> Path:
        return self.path / REPORT_FILE

    @property
    def summary(self) -> Path:
        return self.path / SUMMARY_FILE

    @property
    def disk(self) -> Path:
        return self.path / "disk.raw"

    @property
    def blocks(self) -> Path:
        return self.path / BLOCKS_FILE

    @property
    def variables(self) -> Path:
        return self.path / "vars.json"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

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
    """`build/<image>/`: builds, their logs, and `latest`, a link to the newest verified one."""

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
        return [BuildFolder(path.parent) for path in sorted(self.path.glob(f"*/{BAKE_FILE}"))
                if path.parent != self.latest_link]

    @property
    def latest_link(self) -> Path:
        return self.path / "latest"

    @property
    def latest(self) -> BuildFolder | None:
        return BuildFolder(self.latest_link.resolve()) if self.latest_link.exists() else None
