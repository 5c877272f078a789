"""Compare a disk with its bake: every path, and what boots the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from goldenami.core import clock
from goldenami.local.disk import boot_regions
from goldenami.local.drift import comparison, manifest, overlays
from goldenami.local.drift.disk_records import (
    DataArea,
    DiskDifference,
    DiskRecord,
    DiskVerdict,
    MadeAtLaunch,
)
from goldenami.local.drift.launched_with import UNKNOWN, LaunchedWith
from goldenami.local.drift.may_differ import Allowed, Made, MayDiffer
from goldenami.local.reader.block_source import BlockSource, Extent, merged
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Observation, Observed, Region, observe
from goldenami.local.reader.path_state import PathState
from goldenami.local.reader.walk import Area
from goldenami.model.builds.build_folder import BuildFolder

EXACT = "each path of the image is as baked, and nothing is added"
_BY_MKE2FS = "/lost+found"
"""Folder that is in every file system, and in no manifest."""
MEMORY, OTHER_DISKS = "memory", "other disks of the machine"


@dataclass(frozen=True)
class LookedAt:
    """A disk to compare. `label` is what people call it.

    `base` is the disk as it was baked and `changed` what was written since, in bytes of the disk.
    With both, only what is in `changed` is read, and of `base` only what lies between; otherwise
    all of the disk. `launch` is what is known of its launch, `unseen` what its machine has besides.
    """

    label: str
    disk: BlockSource
    base: BlockSource | None = None
    changed: Sequence[Extent] | None = None
    launch: LaunchedWith = UNKNOWN
    unseen: Sequence[str] = (MEMORY, OTHER_DISKS)


@dataclass
class _Findings:
    """Findings about paths, by the three lists: exact, made at launch, data."""

    may: MayDiffer
    launch: LaunchedWith
    allowed: Allowed
    drift: list[DiskDifference] = field(default_factory=list)
    passed: list[DiskDifference] = field(default_factory=list)
    made: list[MadeAtLaunch] = field(default_factory=list)
    named: dict[str, list[str]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)

    def add(self, path: str, before: PathState | None, now: PathState | None) -> None:
        """Add a path; one that is as baked goes into none of the three."""
        lines = comparison.differences(before, now)
        if not lines:
            return
        if area := self.may.area(path):
            self._data(area, before, now)
            return
        made, rule = self.may.made(path), EXACT
        if made and now:
            lines, rule = comparison.of_made(now, made, self.launch), made.why
            self._list(now, made)
        if lines and (reason := self.allowed(path)):
            self.passed.append(_difference(path, before, lines, reason))
        elif lines:
            self.drift.append(_difference(path, before, lines, rule))

    def _list(self, now: PathState, made: Made) -> None:
        if now.sha256 and not made.launch:
            self.made.append(
                MadeAtLaunch(
                    path=_shown(now.path), sha256=now.sha256, why=made.why, alike=made.alike
                )
            )

    def _data(self, area: str, before: PathState | None, now: PathState | None) -> None:
        if now is None:
            return
        shown = _shown(now.path)
        if (
            before
            and before.kind == now.kind == "directory"
            and (lines := comparison.of_folder(before, now))
        ):
            self.drift.append(
                _difference(now.path, before, lines, "a baked folder keeps its owner and mode")
            )
        self.named.setdefault(area, []).extend(
            f"{shown}: {line}" for line in comparison.dangers(now)
        )
        if started := self.may.start(now.path, now.text or ""):
            self.starts.append(f"{started}: {shown}")


def check(build: BuildFolder, looked_at: LookedAt, allowed: Allowed = lambda _: "") -> DiskRecord:
    """Compare a disk with what `build` baked, and return the record.

    Raises Unreadable (exit 4) if the disk cannot be read as a whole, BadInput if the manifest is
    missing, of another build, or edited. A disk that was not read to its end has no record.
    """
    baked = manifest.read(build)
    may = MayDiffer(baked.paths)
    findings = _Findings(may, looked_at.launch, allowed, drift=list(_boot(baked.boot, looked_at)))
    is_immutable = boot_regions.PERSIST in (entry["name"] for entry in baked.boot["partitions"])
    # What an instance of an immutable image writes is in a partition of its own.
    observed = _observe(looked_at, baked, may, data=[] if is_immutable else may.areas())
    findings.drift += _settings(baked, boot_regions.ROOT, observed.settings)
    states: Mapping[str, PathState] = {state.path: state for state in observed.states}
    untouched, count = observed.as_baked, len(states) + len(observed.as_baked)
    if is_immutable:
        findings.drift += _immutable(baked, states, untouched)
        observed = _written(looked_at, baked, may)
        findings.drift += _settings(baked, boot_regions.PERSIST, observed.settings)
        states = overlays.merged(baked.paths, observed.states)
        untouched, count = set(), len(states)
    for path in sorted((baked.paths.keys() | states.keys()) - untouched):
        findings.add(path, baked.paths.get(path), states.get(path))
    record = build.read_bake()
    return DiskRecord(
        image=record.image,
        build_id=record.build_id,
        manifest_sha256=baked.sha256,
        disk=looked_at.label,
        looked_at=clock.stamp(),
        verdict=DiskVerdict.DRIFTED if findings.drift else DiskVerdict.AS_BAKED,
        paths=count,
        drift=findings.drift,
        passed=findings.passed,
        made=findings.made,
        starts=findings.starts,
        data=[_area(name, area, findings) for name, area in observed.areas.items()],
        unseen=list(looked_at.unseen),
    )


def _area(name: str, area: Area, findings: _Findings) -> DataArea:
    named = findings.named.get(name, [])
    return DataArea(area=name, paths=area.paths, bytes=area.bytes, named=named)


def _shown(path: str) -> str:
    """Return a path's text; bytes that are no UTF-8 are shown as escapes."""
    return path.encode("utf-8", "backslashreplace").decode()


def _difference(path: str, before: PathState | None, lines: list[str], rule: str) -> DiskDifference:
    return DiskDifference(
        path=_shown(path),
        package=before.package if before else "",
        what=[_shown(line) for line in lines],
        rule=rule,
    )


def _observe(
    looked_at: LookedAt, baked: manifest.Manifest, may: MayDiffer, data: list[tuple[str, str]]
) -> Observed:
    """Observe the root of a disk."""
    root = _root(looked_at.disk)
    base: Region | None = None
    changed: list[Extent] | None = None
    if looked_at.base and looked_at.changed is not None:
        baked_root = _root(looked_at.base)
        # Offsets of blocks are the same only if the root begins where it was baked.
        if baked_root.offset == root.offset:
            base, changed = baked_root, _changed_in(root, looked_at.changed)
    observed = observe(
        Observation(root, baked.paths, baked.paths.sizes(), may.kept, base, changed, data)
    )
    if not observed.states and not observed.as_baked:
        raise Unreadable("the reader found nothing")
    return observed


def _changed_in(root: Region, changed: Sequence[Extent]) -> list[Extent]:
    """Return the changed parts of the disk that are in `root`, by their bytes in it."""
    return [
        (max(start - root.offset, 0), min(stop - root.offset, root.size))
        for start, stop in merged(changed)
        if stop > root.offset
    ]


def _immutable(
    baked: manifest.Manifest,
    states: Mapping[str, PathState],
    untouched: set[str],
) -> Iterator[DiskDifference]:
    """Yield what differs in the root of an immutable image."""
    for path in sorted((baked.paths.keys() | states.keys()) - untouched - {_BY_MKE2FS}):
        before = baked.paths.get(path)
        if lines := comparison.differences(before, states.get(path)):
            yield _difference(path, before, lines, "the root of an immutable image may not change")


def _written(looked_at: LookedAt, baked: manifest.Manifest, may: MayDiffer) -> Observed:
    """Observe what an instance of an immutable image wrote."""
    above = {overlays.upper(path): state for path, state in baked.paths.items()}
    sizes = {overlays.upper(path): size for path, size in baked.paths.sizes().items()}
    region = _partition(looked_at.disk, boot_regions.PERSIST)
    places = f"(?:{overlays.upper('')}|{overlays.plain('')})"
    return observe(
        Observation(region, above, sizes, f"{places}(?:{may.kept})", data=may.areas(places))
    )


def _root(disk: BlockSource) -> Region:
    return _within(disk, boot_regions.root(_table(disk)))


def _partition(disk: BlockSource, name: str) -> Region:
    """Return the one partition of that name. Raises Unreadable if there are none or several."""
    entries = [entry for entry in _table(disk) if entry["name"] == name]
    if len(entries) != 1:
        raise Unreadable(f"the disk has no partition {name}, or more than one")
    return _within(disk, entries[0])


def _within(disk: BlockSource, entry: dict[str, Any]) -> Region:
    if entry["size"] <= 0 or entry["offset"] + entry["size"] > disk.size:
        raise Unreadable(f"the disk has not all of its partition {entry['name']}")
    return Region(disk, entry["offset"], entry["size"])


def _table(disk: BlockSource) -> list[dict[str, Any]]:
    return boot_regions.partitions(Region(disk, 0, disk.size).read)


def _boot(baked: dict[str, Any], looked_at: LookedAt) -> Iterator[DiskDifference]:
    """Yield the partitions and places that are not as baked. The partition that lies last may have
    grown."""
    table = _table(looked_at.disk)
    last = max(table, key=lambda entry: int(entry["offset"]), default=None)
    before = {entry["name"]: entry for entry in baked["partitions"]}
    names = [entry["name"] for entry in table]
    if names != list(before):
        yield _place("partition table", [f"partitions {', '.join(before)}, now {', '.join(names)}"])
        return
    for entry in table:
        grown = entry is last and entry["size"] > before[entry["name"]]["size"]
        lines = [
            f"{key}: {value}, now {entry[key]}"
            for key, value in before[entry["name"]].items()
            if entry[key] != value and not (grown and key == "size")
        ]
        if lines:
            yield _place(f"partition {entry['name']}", lines)
            return
    whole = Region(looked_at.disk, 0, looked_at.disk.size)
    for name, (offset, size) in boot_regions.places(table).items():
        if _is_untouched(looked_at, offset, offset + size):
            continue
        digest = boot_regions.digest(whole.read, name, offset, size)
        if digest != baked["places"][name]:
            yield _place(
                name, [f"content: SHA-256 {baked['places'][name][:12]}, now {digest[:12]}"]
            )


def _settings(baked: manifest.Manifest, name: str, current: str) -> Iterator[DiskDifference]:
    before = baked.boot["settings"][name]
    # A manifest of an older build has only the beginning: the rest cannot be compared.
    if before not in (current, current.rpartition("; journal inode ")[0]):
        yield _place(f"file system of {name}", [f"{before}, now {current}"])


def _is_untouched(looked_at: LookedAt, start: int, stop: int) -> bool:
    return (
        looked_at.base is not None
        and looked_at.changed is not None
        and not any(first < stop and start < last for first, last in looked_at.changed)
    )


def _place(name: str, lines: list[str]) -> DiskDifference:
    return DiskDifference(
        path=name, package="", what=lines, rule="what boots the disk may not change"
    )
