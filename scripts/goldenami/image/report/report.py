"""The `report` stage: one build as one self-contained HTML page.

The page needs no script, no network and no other file: its Content-Security-Policy forbids them. It
depends on the records alone (no clock is read), so equal records give equal bytes.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from goldenami.core import records, units
from goldenami.core.errors import BadInput
from goldenami.image.report import beside, charts, view
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, VerifyRecord
from goldenami.model.supported import support
from goldenami.packages import package_diff

TEMPLATES = Path(__file__).parent / "templates"


@cache
def template(name: str) -> Template:
    """A template of this folder. What it is given is escaped as in HTML: Markdown may hold that,
    too."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters.update(size=units.size, duration=units.duration, growth=units.growth)
    return environment.get_template(name)


def render(folder: BuildFolder, previous: BuildFolder | None, lock: dict[str, Any]) -> str:
    """The page of the build in `folder`, compared with the one in `previous` if given.

    `lock` is the lock that was baked; the previous one is read from the previous build's lock.json.
    A `previous` of the same build id is no comparison and is ignored. Raises BadInput for a record
    that is missing (except verify.json), damaged or of another image, and for a lock that was not
    baked.
    """
    return template("report.html.j2").render(_context(folder, previous, lock))


def summary(folder: BuildFolder, previous: BuildFolder | None, lock: dict[str, Any]) -> str:
    """The same as Markdown, in short: for a release page."""
    return template("summary.md.j2").render(_context(folder, previous, lock))


def write_report(folder: BuildFolder, previous: BuildFolder | None, lock: dict[str, Any]) -> Path:
    """Write page and summary beside the records they show, replacing older ones atomically; returns
    the page's path."""
    records.write_text(folder.summary, summary(folder, previous, lock))
    records.write_text(folder.report, render(folder, previous, lock))
    return folder.report


def _context(
    folder: BuildFolder, previous: BuildFolder | None, lock: dict[str, Any]
) -> dict[str, Any]:
    bake, verify = _load(folder)
    _check_lock(bake, lock, folder)
    old_bake, old_verify, old_lock = _load_previous(previous, bake)
    gpu, security = beside.gpu_test(folder, lock), beside.security(folder)
    newest = max(bake.started_at, security.checked_at if security else "")
    return {
        "bake": bake, "verify": verify, "previous": old_bake,
        "description": lock.get("description") or "",
        "conclusion": view.conclusion(verify, bake.image),
        "figures": view.figures(bake, verify, old_bake, old_verify),
        "facts": [*view.facts(lock), *gpu, *beside.vulnerabilities(security),
                  *beside.hardness(folder), *beside.container(folder)],
        "untested": any(fact.value == beside.NO_GPU for fact in gpu),
        # no clock is read: the newest record dates what is supported
        "support": support.of_lock(lock), "day": date.fromisoformat(newest[:10]),
        "security": security, "publication": beside.publication(folder),
        "files": beside.files(folder, previous if old_bake else None),
        "choices": lock.get("choices") or (), "charts": charts.of_bake(bake),
        "groups": view.groups(verify), "packages": lock["packages"],
        "diff": package_diff.compare(old_lock["packages"], lock["packages"]) if old_lock else None,
    }


def _load(folder: BuildFolder) -> tuple[BakeRecord, VerifyRecord | None]:
    """A build's records; without that of `verify` for a disk that was never booted."""
    bake = folder.read_bake()
    verify = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    if verify and (verify.image, verify.build_id) != (bake.image, bake.build_id):
        raise BadInput(
            f"{folder.verify} is of {verify.image} {verify.build_id}, "
            f"but {folder.bake.name} of {bake.image} {bake.build_id}",
            hint=f"run `make verify IMAGE={bake.image}` again",
        )
    return bake, verify


def _load_previous(
    folder: BuildFolder | None, bake: BakeRecord
) -> tuple[BakeRecord | None, VerifyRecord | None, dict[str, Any] | None]:
    """Records and lock of the build before; nothing of the same build."""
    if folder is None or (old := _load(folder))[0].build_id == bake.build_id:
        return None, None, None
    if old[0].image != bake.image:
        raise BadInput(f"{folder.path} is a build of {old[0].image}, not of {bake.image}",
                       hint="compare builds of one image")
    lock = records.read_object(folder.lock, "restore it from packer/locks/")
    _check_lock(old[0], lock, folder)
    return *old, lock


def _check_lock(bake: BakeRecord, lock: Any, folder: BuildFolder) -> None:
    found = records.sha256_text(records.canonical(lock))
    if found != bake.lock_sha256:
        raise BadInput(
            f"{folder.path} was baked from lock {bake.lock_sha256[:12]}, but the lock given is "
            f"{found[:12]}",
            hint=f"run `make bake IMAGE={bake.image}`, or give the lock that was baked")
