"""Boots of the immutable image, whose disk somebody wrote to from outside, or a user from inside.

`scripts/test` has baked it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from support.builds import damaged, guest, installed
from support.builds.tools import ROOT

pytestmark = pytest.mark.long

IMAGE = "debian-13-immutable"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy of the disk that anybody may write to."""
    latest = ROOT / "build" / IMAGE / "latest"
    assert latest.is_symlink(), f"run `make bake IMAGE={IMAGE}` first: scripts/test does"
    shell.output(
        ["cp", "--sparse=always", str(latest.resolve() / "disk.raw"), str(tmp_path / "disk.raw")]
    )
    return tmp_path / "disk.raw"


def boot(image: Path) -> dict[str, str]:
    """What a machine of this disk says, or how its boot ended."""
    return guest.facts("support.builds.damaged", image.parent)


def test_another_hash_stops_the_boot(image: Path) -> None:
    esp, menu = f"{image}@@{disk.ESP[0]}", image.with_name("grub.cfg")
    text = shell.output(["mtype", "-i", esp, "::/grub/grub.cfg"])
    found = re.search(r"golden\.hash=([0-9a-f]{64}) ", text)
    assert found
    menu.write_text(text.replace(found[1], found[1][::-1]), encoding="utf-8")
    shell.output(["mcopy", "-o", "-i", esp, str(menu), "::/grub/grub.cfg"])
    assert (
        "golden: the root is not the one that the kernel's command line names"
        in boot(image)["error"]
    )


def test_a_changed_block_is_an_error_for_whoever_reads_it(image: Path) -> None:
    place = f"{image}?offset={disk.ROOT_OFFSET}"
    block = int(
        shell.output(["/usr/sbin/debugfs", "-R", f"blocks {damaged.UNREAD}", place]).split()[0]
    )
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + block * disk.BLOCK + 100)
        file.write(b"\xff")
    facts = boot(image)
    assert "Input/output error" in facts["read"]
    assert re.search(r"status: +corrupted", facts["status"])
    assert int(facts["other"]) > 300


def test_what_is_installed_and_written_survives_a_reboot_and_the_root_is_as_baked(
    image: Path,
) -> None:
    told = guest.facts("support.builds.installs", image.parent)
    installed.check(told, image, image.with_name("again.raw"))
