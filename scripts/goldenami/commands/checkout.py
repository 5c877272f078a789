"""What a command works on: a checkout of the repository, and this user's cache and store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.operation import residency
from goldenami.model.operation.residency import AllowedRegions
from goldenami.model.supported import hardware
from goldenami.model.supported.hardware import Family
from goldenami.packages.store import Remote, Store

if TYPE_CHECKING:  # botocore, with which not each command starts
    from goldenami.aws.session import Account

IMAGES = "packer/images"
"""The folder by which a checkout is known."""


@dataclass(frozen=True)
class Checkout:
    """A checkout in the folder `given`, else in the working directory or above it; all of it is
    opened when needed."""

    given: Path | None = None

    @cached_property
    def root(self) -> Path:
        start = (self.given or Path.cwd()).resolve()
        for folder in [start] if self.given else [start, *start.parents]:
            if (folder / IMAGES).is_dir():
                return folder
        raise BadInput(
            f"{start} is no checkout of goldenami"
            + ("" if self.given else ", nor is a folder above it")
            + f": there is no {IMAGES}",
            hint="go to a checkout, or name one: `golden --root PATH ...`",
        )

    @cached_property
    def cache(self) -> CachePaths:
        return CachePaths.default()

    @cached_property
    def store(self) -> Store:
        location = os.environ.get("GOLDEN_STORE_S3")
        return Store(self.cache.folder, remote=self._remote(location) if location else None)

    def _remote(self, location: str) -> Remote:
        from goldenami.aws.services.remote_store import S3Store  # noqa: PLC0415 - botocore, as below

        bucket, _ = S3Store.location(location, "GOLDEN_STORE_S3")
        return S3Store.at(self.account().bucket(bucket), location)

    def account(self, *definitions: Definition, also: Iterable[str] = ()) -> Account:
        """The account in the regions that the repository and each of `definitions` allow.

        `also` are regions that a command only looks at, or takes something away from: of an image
        that got elsewhere once, somebody has to know, and be able to end it.
        """
        from goldenami.aws.session import Account  # noqa: PLC0415 - botocore, as below

        allowed = self.allowed(*definitions)
        sections = [each.publish for each in definitions if each.publish]
        # What a command makes for several images is no image's.
        demanded = sections[0].tags if len(definitions) == 1 and sections else {}
        return Account(allowed.model_copy(update={"also": frozenset(also)}), demanded)

    def allowed(self, *definitions: Definition) -> AllowedRegions:
        return residency.allowed(
            self.root, [(f"{each.image}.yml: residency", each.residency) for each in definitions]
        )

    @property
    def families(self) -> dict[str, Family]:
        return hardware.load(self.root)

    def definition(self, image: str) -> Definition:
        return definition_file.load(self.root, definition_file.path_of(self.root, image))

    def paths(self, image: str | None) -> list[Path]:
        if image is None:
            return sorted((self.root / IMAGES).glob("*.yml"))
        return [definition_file.path_of(self.root, image)]

    def definitions(self, image: str | None) -> Iterator[Definition]:
        """Each is read when it is its turn."""
        return (definition_file.load(self.root, path) for path in self.paths(image))

    def images_by_region(self, image: str | None, only: list[str]) -> dict[str, list[str]]:
        """Of `only` these regions, declared or not."""
        from goldenami.aws.session import check_regions  # noqa: PLC0415 - botocore, as below

        images: dict[str, list[str]] = {}
        for definition in self.definitions(image):
            for region in only or definition.regions:
                images.setdefault(region, []).append(definition.image)
        check_regions(images)
        return images

    def lock(self, image: str) -> tuple[Lock, str]:
        """The lock with its SHA-256."""
        return lockfile.read(lockfile.path_of(self.root, image))

    @property
    def locked(self) -> list[str]:
        return [name for name in self.images if lockfile.path_of(self.root, name).exists()]

    def of_lock(self, image: str) -> tuple[Lock, BuildFolder]:
        lock, digest = self.lock(image)
        return lock, self.builds(image).build(digest[: lockfile.ID_LENGTH])

    def baked(self, image: str) -> tuple[Lock, BuildFolder]:
        lock, build = self.of_lock(image)
        if not build.is_baked:
            raise BadInput(f"{build.path} is not baked", hint=f"run `make bake IMAGE={image}`")
        return lock, build

    def lock_of(self, image: str, build_id: str) -> dict[str, Any] | None:
        """Committed or beside the build, as plain JSON; None where neither is of that build."""
        for path in (lockfile.path_of(self.root, image), self.builds(image).build(build_id).lock):
            if path.exists() and records.sha256_file(path).startswith(build_id):
                return records.read_object(path)
        return None

    def kept(self, image: str, build_id: str) -> tuple[Lock, BuildFolder]:
        """A build with the lock that it was baked from."""
        build = self.builds(image).build(build_id)
        if not build.is_baked:
            raise BadInput(
                f"{image} has no build {build_id} here",
                hint=f"builds are the folders of {build.image.path}",
            )
        return lockfile.read_copy(build.lock)[0], build

    @property
    def images(self) -> list[str]:
        return sorted(path.stem for path in (self.root / IMAGES).glob("*.yml"))

    def builds(self, image: str) -> ImageFolder:
        return ImageFolder.of(self.root, image)

    def log(self, image: str, stage: str) -> Path:
        path = self.builds(image).log(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        return path

    def progress(self, stage: str, image: str) -> Progress:
        return Progress.of(stage, image, self.cache)
