"""Bakes from nothing and from kept layers: the same bytes, and no damaged layer in an image."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from goldenami.model.builds.build_records import BakeRecord
from support.builds.bakes import IMAGE, LIMIT_S, settle
from support.builds.layer_checkout import LAYERS, LayerCheckout
from support.builds.tools import need_reproducible_disks

pytestmark = pytest.mark.long


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
