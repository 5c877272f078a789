"""What a command works on: a checkout of the repository, and the user's cache and store."""

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

if TYPE_CHECKING:  # imports botocore, which is slow and which not every command needs
    from goldenami.aws.channels.channels import ImageInAccount
    from goldenami.aws.session import Account
    from goldenami.release.gpu_test.gpu_evidence import GpuJudge

IMAGES = "packer/images"
"""The folder that identifies a checkout."""


@dataclass(frozen=True)
class Checkout:
    """A checkout in the folder `named_folder`, or in the working directory or above it if it is
    None. Each part is read when it is first needed."""

    named_folder: Path | None = None

    @cached_property
    def root(self) -> Path:
        start = (self.named_folder or Path.cwd()).resolve()
        folders, problem = [start], f"{start} is no checkout of goldenami"
        if not self.named_folder:
            folders += start.parents
            problem += ", nor is a folder above it"
        for folder in folders:
            if (folder / IMAGES).is_dir():
                return folder
        raise BadInput(
            f"{problem}: there is no {IMAGES}",
            hint="go to a checkout, or name one: `golden --root PATH ...`",
        )

    @cached_property
    def cache(self) -> CachePaths:
        return CachePaths.default()

    @cached_property
    def store(self) -> Store:
        remote = None
        if location := os.environ.get("GOLDEN_STORE_S3"):
            remote = self._remote(location)
        return Store(self.cache.folder, remote=remote)

    def _remote(self, location: str) -> Remote:
        from goldenami.aws.services.remote_store import S3Store  # noqa: PLC0415 - botocore, as below

        bucket, _ = S3Store.location(location, "GOLDEN_STORE_S3")
        return S3Store.at(self.account().bucket(bucket), location)

    def account(self, *definitions: Definition, also: Iterable[str] = ()) -> Account:
        """Return the account, limited to the regions that the repository and each of `definitions`
        allow.

        `also` are further regions, for a command that only reads or removes: an image that once got
        elsewhere must be found and removed there.
        """
        from goldenami.aws.session import Account  # noqa: PLC0415 - botocore, as below

        allowed = self.allowed(*definitions)
        company_tags = dict[str, str]()
        # What a command creates for several images belongs to none, so it gets no image's tags.
        if len(definitions) == 1 and definitions[0].publish:
            company_tags = definitions[0].publish.tags
        return Account(allowed.model_copy(update={"also": frozenset(also)}), company_tags)

    def in_account(self, image: str) -> ImageInAccount:
        """Return the image in the account that it is published to."""
        from goldenami.aws.channels.channels import ImageInAccount  # noqa: PLC0415 - botocore, as below

        definition = self.definition(image)
        return ImageInAccount(self.account(definition), definition)

    def gpu_judge(self, image: ImageInAccount) -> GpuJudge:
        """Return the judge of the image's GPU tests."""
        from goldenami.release.gpu_test.gpu_evidence import GpuJudge  # noqa: PLC0415 - botocore, as below

        return GpuJudge(self.root, image.with_short_timeouts.account, image.definition)

    def allowed(self, *definitions: Definition) -> AllowedRegions:
        sections = []
        for definition in definitions:
            sections.append((f"{definition.image}.yml: residency", definition.residency))
        return residency.allowed(self.root, sections)

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
        """Yield the definitions; each is read when it is its turn."""
        return (definition_file.load(self.root, path) for path in self.paths(image))

    def images_by_region(self, image: str | None, only: list[str]) -> dict[str, list[str]]:
        """Return the images by region: of the regions in `only`, declared or not, or else of those
        that each definition declares."""
        from goldenami.aws.session import check_regions  # noqa: PLC0415 - botocore, as below

        images: dict[str, list[str]] = {}
        for definition in self.definitions(image):
            for region in only or definition.regions:
                images.setdefault(region, []).append(definition.image)
        check_regions(images)
        return images

    def lock(self, image: str) -> tuple[Lock, str]:
        """Return the lock and its SHA-256."""
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
        """Return the build's lock as plain JSON, from the committed one or the copy beside the
        build. None if neither is of that build."""
        for path in (lockfile.path_of(self.root, image), self.builds(image).build(build_id).lock):
            # A build's id is the beginning of its lock's SHA-256.
            if path.exists() and records.sha256_file(path).startswith(build_id):
                return records.read_object(path)
        return None

    def kept(self, image: str, build_id: str) -> tuple[Lock, BuildFolder]:
        """Return a baked build with the lock that it was baked from. Raises BadInput if it is not
        here."""
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
