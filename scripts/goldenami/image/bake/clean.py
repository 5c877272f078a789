"""`golden clean`: removes what builds hold of the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder


def run(image: ImageFolder, *, everything: bool) -> list[str]:
    """Remove builds and leftovers of an image. The newest verified build stays unless `everything`;
    if none is verified, the newest.

    The caller holds the image's lock: a build in progress is in this folder too. Sessions of
    `shell` keep what they use.
    """
    # A killed bake may have moved a build aside: it is put back before anything is removed.
    workspace.restore(image.path)
    keep, freed = set[str](), list[str]()
    if not everything:
        newest = max(image.builds, key=lambda build: build.bake.stat().st_mtime, default=None)
        kept_build = image.latest or newest
        keep = {image.logs.name, kept_build.build_id if kept_build else ""}
        if kept_build and not image.latest:
            freed.append(
                f"kept {image.image}/{kept_build.build_id}, which is not verified: "
                "`golden clean --all` removes it"
            )
    for path in sorted(
        path for path in image.path.iterdir() if path.is_dir() and not path.is_symlink()
    ):
        build, name = BuildFolder(path), f"{image.image}/{path.name}"
        if path.name in keep or workspace.in_use(path):
            continue
        if not build.publish.exists():
            freed.append(free(path, name))
            continue
        # Of a published build only disk and container image go: its records let the next upload be
        # a difference, and can be read back.
        for large in (build.disk, build.layout):
            if large.exists():
                freed.append(free(large, f"{name}/{large.name}"))
    if everything:
        image.latest_link.unlink(missing_ok=True)
    return freed or [f"nothing to free of {image.image}"]


def free(path: Path, name: str) -> str:
    """Remove a folder or a file. Returns the message about it."""
    size = sum(part.stat().st_blocks * 512 for part in (path, *path.rglob("*")) if part.is_file())
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return f"removed {name} ({size / 1e6:.0f} MB)"
