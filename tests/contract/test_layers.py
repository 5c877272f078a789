"""Bakes that start from kept layers: the same bytes as from nothing, and no damaged layer in an image."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.local.tree.layers import RECORD, LayerRecord
from goldenami.model.build_records import BakeRecord
from support.builds import checkout
from support.builds.tools import need_reproducible_disks

pytestmark = pytest.mark.slow
IMAGE = "debian-12-ml-cpu"
LIMIT_S = 900


class Checkout:
    """A copy of the checkout with layers of its own; what was downloaded is shared."""

    def __init__(self, folder: Path) -> None:
        self.root = checkout.copy(folder / "checkout")
        self.cache = checkout.cache(folder / "cache")
        self.run("lock")

    def start(self, stage: str, *options: str) -> subprocess.Popen[str]:
        return checkout.golden(self.root, stage, IMAGE, *options, GOLDEN_CACHE=str(self.cache))

    def run(self, stage: str, *options: str) -> str:
        process = self.start(stage, *options)
        output, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, output
        return output

    def bake(self) -> tuple[str, BakeRecord]:
        """Bake; returns what was said and the record."""
        output = self.run("bake", "--no-verify", "--force")
        newest = max(self.root.glob(f"build/{IMAGE}/*/bake.json"), key=lambda path: path.stat().st_mtime)
        return output, records.read(newest, BakeRecord)

    def layers(self) -> dict[str, Path]:
        """The kept layers by the name of their step."""
        return {records.read(path, LayerRecord).name: path.parent for path in self.cache.glob(f"layers/*/{RECORD}")}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("layers"))
    yield made
    shutil.rmtree(made.root.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def first(copy: Checkout) -> BakeRecord:
    """A bake from nothing."""
    need_reproducible_disks()
    output, record = copy.bake()
    assert "starts from layer" not in output
    assert record.layers == []
    return record


def test_a_bake_from_layers_gives_the_same_bytes(copy: Checkout, first: BakeRecord) -> None:
    output, record = copy.bake()
    assert "starts from layer kernel" in output
    assert record.layers == ["base", "os_updates", "frameworks", "kernel"]
    assert record.disk.sha256 == first.disk.sha256
    assert record.manifest_sha256 == first.manifest_sha256


def test_a_damaged_layer_is_made_anew(copy: Checkout, first: BakeRecord) -> None:
    victim = copy.layers()["os_updates"] / "root/etc/chrony/conf.d/golden.conf"
    times = victim.stat()
    victim.write_bytes(victim.read_bytes()[::-1])
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    output, record = copy.bake()
    assert "damaged layer removed (os_updates): baking again without it" in output
    assert record.disk.sha256 == first.disk.sha256


def test_a_changed_role_is_baked_from_the_layer_below_it(copy: Checkout, first: BakeRecord) -> None:
    """And a step that is killed leaves no layer: the next run does it again."""
    defaults = copy.root / "roles/frameworks/defaults/main.yml"
    defaults.write_text(defaults.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    copy.run("lock")
    kept = set(copy.layers().values())
    process = copy.start("bake", "--no-verify")
    assert process.stdout is not None
    for line in process.stdout:
        if "role frameworks" in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert set(copy.layers().values()) == kept
    output, record = copy.bake()
    assert "starts from layer os_updates" in output
    assert record.layers == ["base", "os_updates"]
    assert record.disk.sha256 != first.disk.sha256
    assert [timing.name for timing in record.roles] == [
        "frameworks", "kernel", "limits", "network_tuning", "provenance", "seal"]
    assert not list(copy.cache.glob("layers/*.part"))


@pytest.mark.usefixtures("first")
def test_layers_that_do_not_fit_the_limit_go(copy: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_LAYERS_GB", "0")
    output, record = copy.bake()
    assert "layer base removed: not used for longest" in output
    assert copy.layers() == {}
    assert len(record.layers) > 0
