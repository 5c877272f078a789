"""No rule frees what root executes, parses as its configuration or unpickles, as an image's own
files say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from goldenami.fleet.drift.disk.policy import Freedom, Policy
from goldenami.local.disk import boot_regions
from goldenami.local.reader.block_source import RawFile
from goldenami.local.reader.observe import Observation, Region, observe
from support import trees
from support.builds.tools import ROOT
from support.drift import plants, root_reads

FREE = (Freedom.ANYTHING, Freedom.DATA, Freedom.LAYERS)
CLOUD = "/var/lib/cloud/instances/i-0123456789abcdef0"
DATA_ONLY = {
    "/var/log/x": "units wait for its mount", "/var/log/journal": "units wait for its mount",
    "/var/log/journal/x": "units wait for its mount",
    "/var/lib/systemd/random-seed": "the kernel mixes it",
    "/var/lib/docker/x": "of what the engine keeps there, each file that it obeys has a rule of its own",
    "/var/lib/containerd/x": "of what the engine keeps there, each file that it obeys has a rule of its own",
    "/tmp/scrub/": "a mount within a unit", "/tmp/scrub/x": "a mount within a unit",
    f"{CLOUD}/network-config.json": "cloud-init writes it for people",
}
"""What root's programs name and take neither code nor configuration from, and why."""


def freed(reads: Mapping[str, str], policy: Policy) -> list[str]:
    rules = {path: policy.rule(path) for path in reads if path not in DATA_ONLY}
    return [f"{path} ({reads[path]}): {rule}" for path, rule in rules.items() if rule and (
        rule.may in FREE
        or (rule.may is Freedom.CONTENT and not rule.form and rule.text.startswith(".*")))]


def committed() -> dict[str, str]:
    """Paths of debian-13-ml, and the files that name them."""
    text = Path(root_reads.__file__).with_suffix(".txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines()) | root_reads.reads({})


def test_no_rule_frees_what_root_reads() -> None:
    reads = committed()
    assert len(reads) > 120
    assert freed(reads, Policy({f"/{name}" for name in plants.ENGINE})) == []


@pytest.mark.slow
@pytest.mark.parametrize("image", sorted(path.parent.name for path in trees.glob(ROOT / "build", "*/latest")) or [""])
def test_no_rule_frees_what_root_of_a_baked_image_reads(image: str) -> None:
    if not image:
        pytest.skip("no image is baked here")
    disk = RawFile(ROOT / "build" / image / "latest/disk.raw")
    whole = Region(disk, 0, disk.size)
    entry = boot_regions.root(boot_regions.partitions(whole.read))
    states = observe(Observation(Region(disk, entry["offset"], entry["size"]), {}, {},
                                 root_reads.KEPT)).states
    texts = {state.path: state.text for state in states if state.text is not None}
    assert len(texts) > 150
    reads = root_reads.reads(texts)
    assert len(reads) > 150
    assert freed(reads, Policy({state.path for state in states})) == []
