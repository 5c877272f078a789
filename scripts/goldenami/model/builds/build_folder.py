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
    """What is in a region, as `publish` recorded it."""

    ami: str
    snapshot: str


class _PublishedAmis(Record, extra="ignore"):
    """What every stage may read of publish.json, the record of the stage `publish`."""

    regions: Annotated[dict[str, PublishedAmi], Field(min_length=1)]


@dataclass(frozen=True)
class BuildFolder:
    """`build/<image>/<build id>/`: the records and the disk of one build."""

    path: Path

    @property
    def build_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def image(self) -> ImageFolder:
        """The folder of its image."""
        return ImageFolder(self.path.parent)

    @property
    def lock(self) -> Path:
        """The copy of the lock that it was baked from."""
        return self.path / LOCK_FILE

    @property
    def bake(self) -> Path:
        """What `bake` wrote."""
        return self.path / BAKE_FILE

    @property
    def verify(self) -> Path:
        """What `verify` wrote."""
        return self.path / VERIFY_FILE

    @property
    def publish(self) -> Path:
        """What `publish` wrote."""
        return self.path / PUBLISH_FILE

    @property
    def coverage(self) -> Path:
        """What the coverage check read."""
        return self.path / COVERAGE_FILE

    @property
    def container(self) -> Path:
        """What `container` wrote."""
        return self.path / container_records.CONTAINER_FILE

    @property
    def layout(self) -> Path:
        """The container image."""
        return self.path / container_records.LAYOUT

    @property
    def report(self) -> Path:
        """The page that shows all of it."""
        return self.path / REPORT_FILE

    @property
    def summary(self) -> Path:
        """The same in short, for a release page."""
        return self.path / SUMMARY_FILE

    @property
    def disk(self) -> Path:
        """The disk image."""
        return self.path / "disk.raw"

    @property
    def blocks(self) -> Path:
        """The SHA-256 of each block of the disk."""
        return self.path / BLOCKS_FILE

    @property
    def variables(self) -> Path:
        """The roles' variables."""
        return self.path / "vars.json"

    @property
    def manifest(self) -> Path:
        """The files of the disk."""
        return self.path / "manifest.json"

    def log(self, stage: str) -> Path:
        """The log of a stage of this build."""
        return self.image.log(f"{stage}-{self.build_id}")

    @property
    def is_baked(self) -> bool:
        """Whether it has a record of its bake."""
        return self.bake.exists()

    def read_bake(self) -> BakeRecord:
        """The record of its bake; BadInput where there is none."""
        return records.read(self.bake, BakeRecord)

    def read_published(self) -> dict[str, PublishedAmi]:
        """What is published from here, by region; nothing where no publish record is here."""
        return records.read(self.publish, _PublishedAmis).regions if self.publish.exists() else {}

    @property
    def is_verified(self) -> bool:
        """Whether it has a passing record."""
        return (
            self.verify.exists()
            and records.read(self.verify, VerifyRecord).verdict is Verdict.VERIFIED
        )


@dataclass(frozen=True)
class ImageFolder:
    """`build/<image>/`: the builds of an image, their logs, and `latest`, a link to the newest
    verified one."""

    path: Path

    @classmethod
    def of(cls, root: Path, image: str) -> ImageFolder:
        """The folder of `image` in the checkout `root`."""
        return cls(root / "build" / image)

    @property
    def image(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """The folder of its logs."""
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """One of its logs."""
        return self.logs / f"{name}.log"

    def build(self, build_id: str) -> BuildFolder:
        """The folder of one build, or `latest`."""
        return BuildFolder(self.path / build_id)

    @property
    def builds(self) -> list[BuildFolder]:
        """The builds that are baked, by their ids."""
        return [BuildFolder(path.parent) for path in sorted(self.path.glob(f"*/{BAKE_FILE}"))
                if path.parent != self.latest_link]

    @property
    def latest_link(self) -> Path:
        """The link to the newest verified build."""
        return self.path / "latest"

    @property
    def latest(self) -> BuildFolder | None:
        """The newest verified build."""
        return BuildFolder(self.latest_link.resolve()) if self.latest_link.exists() else None
