"""`golden clean`: what builds and the demo hold of the disk goes."""

from __future__ import annotations

import shutil
from pathlib import Path

from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder


def run(image: ImageFolder, *, everything: bool) -> list[str]:
    """Remove builds and leftovers of an image; the newest verified build stays unless `everything`,
    or where none is verified the newest.

    Of what is published only the disk and the container image go: by its records the next upload is
    a difference, and can be read back. The caller holds the image's lock: a build in progress is in
    this folder too. What a session of `shell` uses stays.
    """
    workspace.restore(image.path)
    keep, freed = set[str](), list[str]()
    if not everything:
        newest = max(image.builds, key=lambda build: build.bake.stat().st_mtime, default=None)
        kept = image.latest or newest
        keep = {image.logs.name, kept.build_id if kept else ""}
        if kept and not image.latest:
            freed.append(
                f"kept {image.image}/{kept.build_id}, which is not verified: "
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
        freed += [
            free(large, f"{name}/{large.name}")
            for large in (build.disk, build.layout)
            if large.exists()
        ]
    if everything:
        image.latest_link.unlink(missing_ok=True)
    return freed or [f"nothing to free of {image.image}"]


def free(path: Path, name: str) -> str:
    """Remove a folder or a file; returns what to say of it."""
    size = sum(part.stat().st_blocks * 512 for part in (path, *path.rglob("*")) if part.is_file())
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return f"removed {name} ({size / 1e6:.0f} MB)"
