"""What is known against the boot loader: it is of the machine that bakes, not of the image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from goldenami.core import clock
from goldenami.model.builds.security_records import Feed
from goldenami.packages.store import Store
from support.builds import builds
from support.security import lists, materials

IMAGE = "debian-13-immutable"


@pytest.mark.parametrize(("host", "code"), [("debian-12", 6), ("debian-13", 0), ("ubuntu-24.04", 0)])
def test_the_loader_is_looked_up_in_the_release_of_the_machine_that_baked(
    host: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, lock = builds.copy_definitions(tmp_path), materials.committed(IMAGE)
    monkeypatch.setenv("GOLDEN_CACHE", str(root / "cache"))
    monkeypatch.setattr(clock, "now", lambda: lists.NOON)
    materials.stock(Store(root / "cache"), lock)
    baked = materials.build(root, lock).bake
    baked.write_text(baked.read_text(encoding="utf-8").replace("ubuntu-24.04", host),
                     encoding="utf-8")
    known = lists.release("open", urgency="high")
    tracker = json.loads(lists.tracker({"grub2": {"CVE-2026-0003": known}}))
    del tracker["grub2"]["CVE-2026-0003"]["releases"]["trixie"]
    server = lists.ListServer()
    server.lists[Feed.DEBIAN] = json.dumps(tracker).encode()
    ran = builds.golden(root, "cve", IMAGE, *server.options)
    server.close()
    assert (ran.code, "CVE-2026-0003  grub2" in ran.text) == (code, bool(code)), ran.text
