"""The `report` stage: one build as one self-contained HTML page.

The page needs no script, no network and no other file: its Content-Security-Policy forbids them. It
depends on the records alone, so equal records give equal bytes.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from goldenami.core import records, units
from goldenami.core.errors import BadInput
from goldenami.core.terminal.progress import Progress
from goldenami.image.report import charts, view
from goldenami.image.verify import verify
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import BakeRecord, VerifyRecord
from goldenami.model.supported import support
from goldenami.packages import package_diff

TEMPLATES = Path(__file__).parent / "templates"


@cache
def template(name: str) -> Template:
    """A template of this folder. Values are escaped as in HTML: Markdown may hold HTML, too."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(size=units.size, duration=units.duration, growth=units.growth)
    return environment.get_template(name)


def write_report(folder: BuildFolder, previous: BuildFolder | None) -> Path:
    """Write page and summary beside the records that they show, compared with the build in
    `previous` if given. Returns the page's path.

    A `previous` with the same build id is ignored. Raises BadInput for a record that is missing
    (except verify.json), damaged or of another image, and for a lock that was not baked.
    """
    context = _context(folder, previous)
    records.write_text(folder.summary, template("summary.md.j2").render(context))
    records.write_text(folder.report, template("report.html.j2").render(context))
    return folder.report


def written(build: BuildFolder) -> Path:
    """Write page and summary of a build, compared with the verified one before it. Returns the
    page's path."""
    return write_report(build, verify.previous(build))


def tell(build: BuildFolder, progress: Progress) -> None:
    """Write the report again and say where it is."""
    try:
        progress.say(f"report: {written(build)}")
    # Records of an earlier build may be damaged: that is no failure of this build.
    except BadInput as error:
        progress.say(f"no report: {error.message}")


def _context(folder: BuildFolder, previous: BuildFolder | None) -> dict[str, Any]:
    bake, checked, lock = _load(folder)
    old_bake, old_verify, old_lock = _load_previous(previous, bake)
    gpu, security = view.gpu_test(folder, lock), view.security(folder)
    newest = bake.started_at
    if security:
        newest = max(newest, security.checked_at)
    diff = None
    if old_lock:
        diff = package_diff.compare(old_lock["packages"], lock["packages"])
    return {
        "bake": bake,
        "verify": checked,
        "previous": old_bake,
        "description": lock.get("description") or "",
        "conclusion": view.conclusion(checked, bake.image),
        "figures": view.figures(bake, checked, old_bake, old_verify),
        "facts": [
            *view.facts(lock),
            *gpu,
            *view.vulnerabilities(security),
            *view.hardness(folder),
            *view.container(folder),
        ],
        "untested": any(fact.value == view.NO_GPU for fact in gpu),
        # No clock is read: support is shown for the day of the newest record.
        "support": support.of_lock(folder.root, lock),
        "day": date.fromisoformat(newest[:10]),
        "security": security,
        "publication": view.publication(folder),
        "files": view.files(folder, previous if old_bake else None),
        "choices": lock.get("choices") or (),
        "charts": charts.of_bake(bake),
        "moved": [
            *view.moved(old_lock, lock),
            *view.measured(folder, previous if old_bake else None),
        ],
        "groups": view.groups(checked),
        "packages": lock["packages"],
        "diff": diff,
    }


def _load(folder: BuildFolder) -> tuple[BakeRecord, VerifyRecord | None, dict[str, Any]]:
    """A build's records and its lock. The VerifyRecord is None if the build was never booted."""
    bake, lock = folder.read_bake(), view.lock_of(folder)
    checked = records.read(folder.verify, VerifyRecord) if folder.verify.exists() else None
    if checked and (checked.image, checked.build_id) != (bake.image, bake.build_id):
        raise BadInput(
            f"{folder.verify} is of {checked.image} {checked.build_id}, "
            f"but {folder.bake.name} of {bake.image} {bake.build_id}",
            hint=f"run `make verify IMAGE={bake.image}` again",
        )
    lock_sha256 = records.sha256_text(records.canonical(lock))
    if lock_sha256 != bake.lock_sha256:
        raise BadInput(
            f"{folder.path} was baked from lock {bake.lock_sha256[:12]}, but {folder.lock.name} is "
            f"{lock_sha256[:12]}",
            hint=view.RESTORE,
        )
    return bake, checked, lock


def _load_previous(
    folder: BuildFolder | None, bake: BakeRecord
) -> tuple[BakeRecord | None, VerifyRecord | None, dict[str, Any] | None]:
    if folder is None:
        return None, None, None
    old_bake, old_verify, old_lock = _load(folder)
    if old_bake.build_id == bake.build_id:
        return None, None, None
    if old_bake.image != bake.image:
        raise BadInput(
            f"{folder.path} is a build of {old_bake.image}, not of {bake.image}",
            hint="compare builds of one image",
        )
    return old_bake, old_verify, old_lock
