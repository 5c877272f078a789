"""The `report` stage: one build as one self-contained HTML page.

The page needs no script, no network and no other file: its Content-Security-Policy forbids them. It
depends on the records alone (no clock is read), so equal records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class BuildRecords:
    """One build's records; `verify` is None for a disk that was never booted."""

    bake: BakeRecord
    verify: VerifyRecord | None
    lock: Mapping[str, Any] | None


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
    build = _load(folder)
    _check_lock(build.bake, lock, folder)
    old = _load_previous(previous, build.bake) if previous else None
    bake, verify = build.bake, build.verify
    old_bake, old_verify = (old.bake, old.verify) if old else (None, None)
    gpu, security, day = beside.gpu_test(folder, lock), beside.security(folder), beside.day(folder)
    return {
        "bake": bake, "verify": verify, "previous": old_bake,
        "description": lock.get("description") or "",
        "conclusion": view.conclusion(verify, bake.image),
        "figures": view.figures(bake, verify, old_bake, old_verify),
        "facts": [*view.facts(lock), *gpu, *beside.vulnerabilities(folder),
                  *beside.hardness(folder)],
        "untested": any(fact.value == beside.NO_GPU for fact in gpu),
        "support": support.of_lock(lock), "day": day,
        "security": security, "parts": beside.by_part(security),
        "publication": beside.publication(folder),
        "files": beside.files(folder, previous if old else None),
        "choices": view.choices(lock),
        "sizes": charts.sizes(bake, old_bake), "timings": charts.timings(bake, old_bake),
        "outcomes": charts.outcomes(verify.checks if verify else ()),
        "groups": view.groups(verify, old_verify),
        "diff": package_diff.compare(old.lock["packages"], lock["packages"]) if old and old.lock
        else None,
        "packages": view.packages(lock),
    }


def _load(folder: BuildFolder) -> BuildRecords:
    bake = folder.read_bake()
    verify = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    if verify and (verify.image, verify.build_id) != (bake.image, bake.build_id):
        raise BadInput(
            f"{folder.verify} is of {verify.image} {verify.build_id}, "
            f"but {folder.bake.name} of {bake.image} {bake.build_id}",
            hint=f"run `make verify IMAGE={bake.image}` again",
        )
    return BuildRecords(bake=bake, verify=verify, lock=None)


def _load_previous(folder: BuildFolder, bake: BakeRecord) -> BuildRecords | None:
    old = _load(folder)
    if old.bake.image != bake.image:
        raise BadInput(
            f"{folder.path} is a build of {old.bake.image}, not of {bake.image}",
            hint="compare builds of one image"
        )
    if old.bake.build_id == bake.build_id:
        return None
    path = folder.lock
    if not path.exists():
        return old
    lock = records.read_object(path, "restore it from packer/locks/ or name another build")
    _check_lock(old.bake, lock, folder)
    return BuildRecords(bake=old.bake, verify=old.verify, lock=lock)


def _check_lock(bake: BakeRecord, lock: Any, folder: BuildFolder) -> None:
    found = records.sha256_text(records.canonical(lock))
    if found != bake.lock_sha256:
        raise BadInput(
            f"{folder.path} was baked from lock {bake.lock_sha256[:12]}, but the lock given is "
            f"{found[:12]}",
            hint=f"run `make bake IMAGE={bake.image}` for the lock as it is now, or give the lock "
                 "that was baked",
        )
