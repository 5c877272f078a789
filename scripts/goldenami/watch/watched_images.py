"""Which images `watch` looks at: those of a checkout that have a lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from goldenami.core.errors import GoldenError
from goldenami.model.builds import lockfile
from goldenami.model.definitions import definition_file
from goldenami.watch.watch_results import WatchedImage


@dataclass(frozen=True)
class WatchedImages:
    """Images with their locks, warnings of those that have none, and by name the errors of the
    unreadable."""

    images: list[WatchedImage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: dict[str, GoldenError] = field(default_factory=dict)


def read(root: Path, name: str | None) -> WatchedImages:
    """All images of the checkout `root`, or the one that is named: what is wrong with that one is
    raised."""
    watched = WatchedImages()
    named = definition_file.path_of(root, name) if name else None
    for path in [named] if named else sorted((root / "packer/images").glob("*.yml")):
        try:
            loaded, lock = definition_file.load(root, path), lockfile.path_of(root, path.stem)
            if lock.exists() or named:
                watched.images.append(WatchedImage(loaded, *lockfile.read(lock)))
            else:
                watched.warnings.append(f"{loaded.image}: no lock, so nothing to compare with: "
                                        f"make lock IMAGE={loaded.image}")
        except GoldenError as error:
            if named:
                raise
            watched.errors[path.stem] = error
    return watched
