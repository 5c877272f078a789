"""What root reads where something may differ has to be what cloud-init and an engine write, whoever
wrote it."""

from __future__ import annotations

import dataclasses
import gzip

import pytest
from goldenami.fleet.drift.disk import comparison
from goldenami.fleet.drift.disk.neighbours import UNKNOWN, LaunchedWith, Neighbours
from goldenami.fleet.drift.disk.policy import Policy
from goldenami.local.reader.path_state import PathState
from support.drift import plants, small_image
from support.drift.plants import INSTANCE, LINK, Plant

IMAGE = {f"/{name}" for name in plants.ENGINE}


def folder(path: str, mode: str) -> PathState:
    return PathState(path=path.rstrip("/"), kind="directory", mode=int(mode, 8), uid=0, gid=0)


def state(path: str, text: str, mode: int = 0o600) -> PathState:
    kind, size = ("symlink", 0) if text.startswith(LINK) else ("file", len(text))
    owner = 1000 if path.startswith("/home/debian") else 0
    return PathState(path=path, kind=kind, mode=mode, uid=owner, gid=owner, size=size, text=text,
                     target=text.removeprefix(LINK) if kind == "symlink" else "")


def verdict(plant: Plant, launch: LaunchedWith = UNKNOWN, image: set[str] = IMAGE) -> list[str]:
    """What is said of a path, or of those beside it, that was not baked."""
    found: dict[str, PathState] = {"/var/lib/docker": folder("/var/lib/docker", "0710")}
    found |= {path.rstrip("/"): folder(path, text) if path.endswith("/") else state(path, text)
              for path, text in plant.beside}
    found[plant.path] = state(plant.path, plant.text, plant.mode)
    near, policy = Neighbours(small_image.USER, launch, {}, found,
                              ()), Policy(image)
    return [line for path, each in found.items()
            for line in comparison.broken(None, each, policy.rule(path), near)]


@pytest.mark.parametrize("plant", plants.PLANTS, ids=lambda plant: f"{plant.path} {plant.text[:30]!r}")
def test_a_way_to_root_is_named(plant: Plant) -> None:
    assert verdict(plant) != []


@pytest.mark.parametrize("plant", plants.WRITTEN, ids=lambda plant: f"{plant.path} {plant.text[:30]!r}")
def test_what_a_launch_writes_is_as_baked(plant: Plant) -> None:
    assert verdict(plant) == []


@pytest.mark.parametrize("path", [
    "/var/lib/docker/image/x", "/var/lib/containerd/x", "/etc/cni/net.d", "/opt/containerd/bin", "/var/lib/docker",
    "/var/lib/apt/lists/x", "/var/cache/apt/pkgcache.bin", "/var/cache/apt/archives/x.deb"])
def test_what_only_some_images_have_is_free_in_them_alone(path: str) -> None:
    assert verdict(Plant(path, "x"), image=set()) != []


SCRIPT = b"#!/bin/sh\r\necho launched\r\n"
MIXED = b"""Content-Type: multipart/mixed; boundary="b"
MIME-Version: 1.0

--b
Content-Type: text/x-shellscript

#!/bin/sh
echo launched
--b
Content-Type: text/cloud-config

#cloud-config
runcmd:
- [touch, "it's"]
- echo two
--b--
"""
SHOWN = {
    SCRIPT: {"scripts/part-001": "#!/bin/sh\necho launched\n", "user-data.txt": SCRIPT.decode()},
    gzip.compress(SCRIPT, mtime=0): {"scripts/part-001": "#!/bin/sh\necho launched\n"},
    MIXED: {"scripts/part-001": "#!/bin/sh\necho launched",
            "scripts/runcmd": "#!/bin/sh\n'touch' 'it'\\''s'\necho two\n",
            "cloud-config.txt": "#cloud-config\n\n# from 1 files\n# part-002\n\n---\nruncmd:\n-   - touch\n    - it's\n"
                                "- echo two\n...\n"},
    b"#cloud-boothook\n#!/bin/sh\nid\n": {"boothooks/part-001": "#!/bin/sh\nid\n"},
}


@pytest.mark.parametrize("data", SHOWN, ids=lambda data: repr(data[:20]))
def test_user_data_is_held_to_the_launch(data: bytes) -> None:
    for name, text in SHOWN[data].items():
        plant = Plant(f"{INSTANCE}/{name}", text, 0o700 if "/" in name else 0o600)
        assert verdict(plant, LaunchedWith(data)) == [], name
        assert "not known here" in verdict(plant)[0], name
        assert "not of the launch's user data" in verdict(plant, LaunchedWith(b""))[0], name
        longer = Plant(plant.path, f"{text}#\nid\n", plant.mode)
        assert "not of the launch's" in verdict(longer, LaunchedWith(data))[0], name


def test_a_data_source_is_held_to_the_launch() -> None:
    plant = Plant(f"{INSTANCE}/obj.pkl", plants.data_source(userdata_raw=SCRIPT), 0o400)
    assert verdict(plant, LaunchedWith(SCRIPT)) == []
    assert "user data that is not the launch's" in verdict(plant, LaunchedWith(b"other"))[0]


def test_a_pickle_that_never_ends_ends() -> None:
    """A tuple within tuples, as a key: its hash takes longer than anybody lives."""
    nested = b"\x80\x04)\x94" + b"".join(b"h" + bytes([at]) + b"h" + bytes([at]) + b"\x86\x94"
                                         for at in range(60))
    text = (b"\x80\x04}" + nested[2:] + b"K\x01s.").decode("utf-8", "surrogateescape")
    assert "not what cloud-init writes" in verdict(Plant(f"{INSTANCE}/obj.pkl", text, 0o400))[0]


def test_nothing_of_a_pickle_is_run() -> None:
    plant = next(plant for plant in plants.PLANTS if "system" in plant.text)
    assert verdict(plant) == ["content: not what cloud-init writes: it runs posix.system"]


def test_the_key_of_the_launch() -> None:
    mine = Plant("/home/debian/.ssh/authorized_keys", "ssh-ed25519 AAAAmine x\n", 0o600)
    assert verdict(mine) == verdict(mine, LaunchedWith(b"", "ssh-ed25519 AAAAmine")) == []
    assert verdict(mine, LaunchedWith(b"ssh_authorized_keys: []", "ssh-ed25519 AAAAother")) == []
    assert "not the launch's" in verdict(mine, LaunchedWith(b"", "ssh-ed25519 AAAAother"))[0]


def broken(before: PathState | None, now: PathState) -> list[str]:
    none: dict[str, PathState] = {}
    return comparison.broken(before, now, Policy(IMAGE).rule(now.path),
                             Neighbours(small_image.USER, UNKNOWN, none, none, ()))


def accounts(path: str, baked: str, found: str) -> list[str]:
    before, now = (PathState(path, "file", 0o644, 0, 0, size=len(text), text=text)
                   for text in (baked, found))
    return broken(before, now)


@pytest.mark.parametrize(("path", "baked", "line"), [
    ("/etc/subuid", "", "debian:000000:65536"), ("/etc/subuid", "", "debian:165536:65536"),
    ("/etc/subgid", "", "debian:100000:4294967295"), ("/etc/subuid", "x:100000:65536\n", "debian:100000:65536"),
    ("/etc/passwd", "", "debian:x:1000:1000::/root:/bin/bash"),
    ("/etc/passwd", "", "debian:x:1000:42::/home/debian:/bin/sh"),
    ("/etc/passwd", "x:x:1000:1000::/x:/bin/sh\n", "debian:x:1000:1000::/home/debian:/bin/bash"),
    ("/etc/passwd", "", "debian:x:1000:1000::/srv/other:/bin/bash"),
    ("/etc/passwd", "", "debian::1000:1000::/home/debian:/bin/sh"),
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:0:root:/root:/bin/sh\r"),
    ("/etc/passwd", "", "debian:x:1000:1000::/home/debian:/bin/sh\x0broot:x:0:0::/:/bin/sh"),
    ("/etc/group", "", "debian:x:1000:other"), ("/etc/group", "disk:x:6:\n", "disk:x:6:debian"),
    ("/etc/group", "shadow:x:42:\n", "shadow:x:42:debian"), ("/etc/shadow", "", "debian::20418:0:99999:7:::")])
def test_a_user_that_is_more_than_the_default_one(path: str, baked: str, line: str) -> None:
    is_new = line.split(":")[0] not in baked
    assert accounts(path, baked, f"{baked if is_new else ''}{line}\n") != []


@pytest.mark.parametrize(("path", "baked", "line"), [
    ("/etc/subuid", "", "debian:100000:65536"), ("/etc/subuid", "x:100000:65536\n", "debian:165536:65536"),
    ("/etc/passwd", "x:x:1000:1000::/x:/bin/sh\n", "debian:x:1001:1001:Debian:/home/debian:/bin/bash"),
    ("/etc/group", "x:x:1000:\n", "debian:x:1001:"), ("/etc/shadow", "", "debian:!:20418:0:99999:7:::")])
def test_the_default_user(path: str, baked: str, line: str) -> None:
    assert accounts(path, baked, f"{baked}{line}\n") == []


def test_a_free_folder_keeps_owner_and_mode() -> None:
    baked = {"/var/lib/chrony/x": "0750", "/var/log/journal": "2755", "/home": "0755",
             "/tmp/x": "1777"}
    for path, mode in baked.items():
        assert broken(folder(path, mode), folder(path, "0777")) == [f"mode: {mode}, now 0777"]


@pytest.mark.parametrize(("path", "mode", "is_drift"), [
    ("/var/lib/docker", "0710", False), ("/var/lib/docker", "0755", True), ("/var/lib/docker", "0777", True),
    ("/var/lib/cloud/scripts/per-boot", "0755", False), ("/var/lib/cloud/scripts/per-boot", "0777", True),
    ("/var/lib/containerd/opt/bin", "0711", False), ("/var/lib/containerd/opt/bin", "0777", True),
    ("/var/lib/containerd/x", "0711", False), ("/var/lib/containerd/x", "0777", True), ("/root/.ssh", "0777", True),
    ("/etc/cni/net.d", "0700", False), ("/etc/cni/net.d", "0777", True)])
def test_a_new_folder_is_closed_to_writers(path: str, mode: str, is_drift: bool) -> None:
    found = folder(path, mode)
    assert bool(broken(None, found)) is is_drift
    assert broken(None, dataclasses.replace(found, uid=1000)) != []
