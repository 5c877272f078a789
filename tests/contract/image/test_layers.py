"""Bakes from nothing and from kept layers: the same bytes, and no damaged layer in an image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.image.bake import bake_plan, toolchain_digest
from goldenami.local.tree.layers import RECORD, LayerRecord
from goldenami.model.builds.build_records import BakeRecord
from goldenami.model.locked import lockfile
from support.builds import checkout
from support.builds.bakes import (
    IMAGE,
    LIMIT_S,
    build_of_lock,
    changed,
    finish,
    kill,
    locked,
    settle,
    until,
)
from support.builds.tools import need_reproducible_disks

pytestmark = pytest.mark.slow
LAYERS = ["base", "os_updates", "frameworks", "instance_store+tools", "kernel"]


class LayerCheckout:
    """A copy of the checkout with layers of its own, at first this machine's; what was downloaded
    is shared, and what was read of code."""

    def __init__(self, folder: Path) -> None:
        self.root = locked(folder / "checkout")
        self.cache = checkout.cache(folder / "cache", built=("modules", "apt", "code"))
        (self.cache / "layers").mkdir()
        layers = [CachePaths.default().layers / key for key in self.keys()]
        if not all((layer / RECORD).exists() for layer in layers):
            # In this machine's cache: the tests beside these need them too, and wait for one who
            # makes them.
            status, output = finish(checkout.golden(self.root, "bake", IMAGE, "--no-verify"))
            assert status == 0, output
        subprocess.run(["cp", "--archive", "--link", *layers, self.cache / "layers"], check=True)

    def keys(self) -> list[str]:
        """The layers' keys, the base tree's first; of the last step none is kept."""
        lock, _ = lockfile.read(lockfile.path_of(self.root, IMAGE))
        found, toolchain = [bake_plan.base_key(lock)], toolchain_digest.digest(self.root)
        for step in lock.steps[:-1]:
            found.append(bake_plan.step_key(lock, step, found[-1], toolchain))
        return found

    def start(self, stage: str, *options: str, **env: str) -> subprocess.Popen[str]:
        return checkout.golden(
            self.root, stage, IMAGE, *options, GOLDEN_CACHE=str(self.cache), **env
        )

    def bake(self, **env: str) -> tuple[str, BakeRecord]:
        """Bake; returns what was said and the record."""
        status, output = finish(self.start("bake", "--no-verify", "--force", **env))
        assert status == 0, output
        return output, records.read(build_of_lock(self.root) / "bake.json", BakeRecord)

    def layers(self) -> dict[str, Path]:
        """The kept layers by the name of their step."""
        return {
            records.read(path, LayerRecord).name: path.parent
            for path in self.cache.glob(f"layers/*/{RECORD}")
        }


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LayerCheckout]:
    need_reproducible_disks()
    made = LayerCheckout(tmp_path_factory.mktemp("layers"))
    yield made
    shutil.rmtree(made.root.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def first(copy: LayerCheckout) -> BakeRecord:
    """A bake from all layers."""
    output, record = copy.bake()
    assert "starts from layer kernel" in output
    assert record.layers == LAYERS
    return record


@pytest.mark.long
def test_bakes_from_nothing_agree_elsewhere_on_another_day_and_with_one_from_layers(
    copy: LayerCheckout,
    first: BakeRecord,
) -> None:
    """The network is cut: a namespace without a link, so that not even this machine's services
    answer."""
    program = str(copy.root / "scripts/golden")
    script = f'ip -o link && ip -o route && exec "{program}" reproduce {IMAGE}'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        cwd=copy.root,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    link, said = done.stdout.splitlines()
    assert link.startswith("1: lo: <LOOPBACK> "), "something is reachable"
    assert first.disk is not None
    assert said == (
        f"reproduced: both disks have SHA-256 {first.disk_sha256}; "
        "the second was baked as on the machine `elsewhere`, 400 days later"
    )
    assert settle(copy.root) == []


@pytest.mark.long
def test_a_damaged_layer_is_made_anew(copy: LayerCheckout, first: BakeRecord) -> None:
    victim = copy.layers()["kernel"] / "root/etc/default/golden-cmdline"
    times, text = victim.stat(), victim.read_bytes()
    victim.unlink()  # the machine's own layer has the same file
    victim.write_bytes(text[::-1])
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    output, record = copy.bake()
    assert "damaged layer removed (kernel): baking again without it" in output
    assert record.layers == LAYERS[:-1]
    assert record.disk is not None and first.disk is not None
    assert record.disk_sha256 == first.disk_sha256
    assert record.manifest_sha256 == first.manifest_sha256


def test_a_changed_role_is_baked_from_the_layer_below_it(copy: LayerCheckout) -> None:
    """A step that is killed leaves no layer: the next run does it again. Then layers that do not
    fit the limit go."""
    defaults = copy.root / "roles/kernel/defaults/main.yml"
    changed(copy.root, defaults, f"{defaults.read_text(encoding='utf-8')}# changed\n")
    kept = set(copy.layers().values())
    process = copy.start("bake", "--no-verify")
    until(process, "role kernel")
    kill(process)
    assert set(copy.layers().values()) == kept
    output, record = copy.bake(GOLDEN_LAYERS_GB="0")
    assert "starts from layer instance_store+tools" in output
    assert record.layers == LAYERS[:-1]
    assert [timing.name for timing in record.roles] == [
        "kernel",
        "hardening",
        "limits",
        "network_tuning",
        "first_touch",
        "fast_boot",
        "provenance",
        "seal",
    ]
    assert not list(copy.cache.glob("layers/*.part"))
    assert "layer base removed: not used for longest" in output
    assert copy.layers() == {}
