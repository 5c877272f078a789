"""A disk against its bake: every path, and what boots it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goldenami.core import clock
from goldenami.fleet.drift.disk import comparison, manifest, overlays
from goldenami.fleet.drift.disk.disk_records import DiskDifference, DiskRecord, DiskVerdict
from goldenami.fleet.drift.disk.neighbours import UNKNOWN, LaunchedWith, Neighbours
from goldenami.fleet.drift.disk.policy import Allowed, Freedom, Policy
from goldenami.local.disk import boot_regions
from goldenami.local.reader.block_source import BlockSource, Extent, merged
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.observe import Observation, Observed, Region, observe
from goldenami.local.reader.path_state import PathState
from goldenami.model.builds.build_folder import BuildFolder

NO_RULE = "nothing may change here"
_BY_MKE2FS = "/lost+found"
"""In every file system, and in no manifest."""


@dataclass(frozen=True)
class LookedAt:
    """A disk to look at. `label` is what people call it, `user` the image's default user.

    `base` is the disk as it was baked and `changed` what was written since, in bytes of the disk.
    With both, only what is in `changed` is read, and of `base` only what lies between; without, all
    of it. `launch` is what is known of it.
    """

    label: str
    user: str
    disk: BlockSource
    base: BlockSource | None = None
    changed: Sequence[Extent] | None = None
    launch: LaunchedWith = UNKNOWN


def check(
    build: BuildFolder, looked_at: LookedAt, allowed: Allowed = lambda _: ""
) -> DiskRecord:
    """Compare a disk with what `build` baked.

    Raises Unreadable (exit 4) where the disk cannot be read as a whole, BadInput where the manifest
    is missing, of another build or edited. A disk that was not read to its end has no record.
    """
    baked = manifest.read(build)
    policy = Policy(baked.paths)
    drift, passed, expected = list[DiskDifference](), list[DiskDifference](), 0
    drift += _boot(baked.boot, looked_at)
    seen = _observe(looked_at, baked, policy)
    drift += _settings(baked, boot_regions.ROOT, seen.settings)
    found: Mapping[str, PathState] = {state.path: state for state in seen.states}
    untouched, count = seen.as_baked, len(found) + len(seen.as_baked)
    if boot_regions.PERSIST in (entry["name"] for entry in baked.boot["partitions"]):
        drift += _immutable(baked, found, untouched)
        written = _written(looked_at, baked, policy)
        drift += _settings(baked, boot_regions.PERSIST, written.settings)
        found = overlays.merged(baked.paths, written.states)
        untouched, count = set(), len(found)
    near = Neighbours(looked_at.user, looked_at.launch, baked.paths, found, untouched)
    for path in sorted((baked.paths.keys() | found.keys()) - untouched):
        before, now = baked.paths.get(path), found.get(path)
        if not comparison.differences(before, now):
            continue
        rule = policy.rule(path)
        what = comparison.broken(before, now, rule, near)
        reason = allowed(path) if rule is None or rule.may is not Freedom.NOTHING else ""
        if not what:
            expected += 1
        elif reason:
            passed.append(_difference(path, before, what, reason))
        else:
            drift.append(_difference(path, before, what, str(rule or NO_RULE)))
    record = build.read_bake()
    return DiskRecord(
        image=record.image, build_id=record.build_id, manifest_sha256=baked.sha256,
        disk=looked_at.label, looked_at=clock.stamp(),
        verdict=DiskVerdict.DRIFTED if drift else DiskVerdict.AS_BAKED,
        paths=count, expected=expected, drift=drift, passed=passed)


def _difference(path: str, before: PathState | None, what: list[str], rule: str) -> DiskDifference:
    shown = path.encode("utf-8", "backslashreplace").decode()
    lines = [line.encode("utf-8", "backslashreplace").decode() for line in what]
    return DiskDifference(path=shown, package=before.package if before else "", what=lines,
                          rule=rule)


def _observe(looked_at: LookedAt, baked: manifest.Manifest, policy: Policy) -> Observed:
    root = _root(looked_at.disk)
    base = _root(looked_at.base) if looked_at.base and looked_at.changed is not None else None
    changed = [(max(start - root.offset, 0), min(stop - root.offset, root.size))
               for start, stop in merged(looked_at.changed or []) if stop > root.offset]
    same_place = base is not None and base.offset == root.offset
    found = observe(Observation(root, baked.paths, baked.paths.sizes(), policy.kept,
                                base if same_place else None,
                                changed if same_place else None))
    if not found.states and not found.as_baked:
        raise Unreadable("the reader found nothing")
    return found


def _immutable(
    baked: manifest.Manifest, found: Mapping[str, PathState], untouched: set[str],
) -> Iterator[DiskDifference]:
    for path in sorted((baked.paths.keys() | found.keys()) - untouched - {_BY_MKE2FS}):
        before = baked.paths.get(path)
        if what := comparison.differences(before, found.get(path)):
            yield _difference(path, before, what, "the root of an immutable image may not change")


def _written(looked_at: LookedAt, baked: manifest.Manifest, policy: Policy) -> Observed:
    above = {overlays.upper(path): state for path, state in baked.paths.items()}
    sizes = {overlays.upper(path): size for path, size in baked.paths.sizes().items()}
    region = _partition(looked_at.disk, boot_regions.PERSIST)
    return observe(Observation(region, above, sizes, f"{overlays.upper('')}(?:{policy.kept})"))


def _root(disk: BlockSource) -> Region:
    return _within(disk, boot_regions.root(_table(disk)))


def _partition(disk: BlockSource, name: str) -> Region:
    found = [entry for entry in _table(disk) if entry["name"] == name]
    if len(found) != 1:
        raise Unreadable(f"the disk has no partition {name}, or more than one")
    return _within(disk, found[0])


def _within(disk: BlockSource, entry: dict[str, Any]) -> Region:
    if entry["size"] <= 0 or entry["offset"] + entry["size"] > disk.size:
        raise Unreadable(f"the disk has not all of its partition {entry['name']}")
    return Region(disk, entry["offset"], entry["size"])


def _table(disk: BlockSource) -> list[dict[str, Any]]:
    return boot_regions.partitions(Region(disk, 0, disk.size).read)


def _boot(baked: dict[str, Any], looked_at: LookedAt) -> Iterator[DiskDifference]:
    """Partitions and places that are not as baked. The partition that lies last may have grown."""
    table = _table(looked_at.disk)
    last = max(table, key=lambda entry: int(entry["offset"]), default=None)
    before = {entry["name"]: entry for entry in baked["partitions"]}
    if [entry["name"] for entry in table] != list(before):
        yield _place("partition table", [f"partitions {', '.join(before)}, now "
                                         f"{', '.join(entry['name'] for entry in table)}"])
        return
    for entry in table:
        grown = entry is last and entry["size"] > before[entry["name"]]["size"]
        said = [f"{key}: {value}, now {entry[key]}" for key, value in before[entry["name"]].items()
                if entry[key] != value and not (grown and key == "size")]
        if said:
            yield _place(f"partition {entry['name']}", said)
            return
    whole = Region(looked_at.disk, 0, looked_at.disk.size)
    for name, (offset, size) in boot_regions.places(table).items():
        if _is_untouched(looked_at, offset, offset + size):
            continue
        digest = boot_regions.digest(whole.read, name, offset, size)
        if digest != baked["places"][name]:
            yield _place(name,
                         [f"content: SHA-256 {baked['places'][name][:12]}, now {digest[:12]}"])


def _settings(baked: manifest.Manifest, name: str, found: str) -> Iterator[DiskDifference]:
    if (before := baked.boot["settings"][name]) != found:
        yield _place(f"file system of {name}", [f"{before}, now {found}"])


def _is_untouched(looked_at: LookedAt, start: int, stop: int) -> bool:
    return looked_at.base is not None and looked_at.changed is not None and not any(
        first < stop and start < last for first, last in looked_at.changed)


def _place(name: str, what: list[str]) -> DiskDifference:
    return DiskDifference(path=name, package="", what=what,
                          rule="what boots the disk may not change")
