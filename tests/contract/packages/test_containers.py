"""Third parties' images of containers: locked and fetched from a registry on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.locked import lockfile
from goldenami.packages.registries import LEAST_DRIVER_LABEL
from goldenami.packages.store import Store
from goldenami.watch.watch_records import WatchRecord
from support.builds import sample_inputs
from support.debian.lock_commands import IMAGE, edit, golden, lock_path, locked, refused
from support.debian.registry import LOGIN, VARIABLE, Registry
from support.loopback import Loopback, QuietHandler

pytestmark = pytest.mark.usefixtures("debian")
NAME = "docker.io/library/tool:7"
LAYERS = ({"etc/tool.conf": "colour = blue\n"}, {"bin/tool": "#!/bin/sh\n"})


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    made = Registry(tmp_path / "registry")
    monkeypatch.setenv("GOLDEN_MIRROR_DOCKER_IO", made.mirror)
    yield made
    made.close()


def ask_for(root: Path, *entries: str) -> None:
    """Have `containers` of a definition, and an engine."""
    rows = "".join(f"  - {entry}\n" for entry in entries)
    edit(
        root,
        "roles:\n",
        f"containers:\n{rows}roles:\n  container_runtime:\n"
        "    container_runtime_packages: [python3]\n",
    )


def test_a_tag_of_several_architectures_is_locked_blob_by_blob(
    root: Path, registry: Registry, tmp_path: Path
) -> None:
    digest = registry.push("library/tool:amd64", *LAYERS, label=f"{LEAST_DRIVER_LABEL}=525.60.13")
    other = registry.push("library/tool:arm64", *LAYERS, architecture="arm64")
    answer = registry.list("library/tool:7", arm64=other, amd64=digest)
    ask_for(root, f'{{image: "{NAME}", called: golden-tool}}')
    lock = locked(root)
    (one,) = lock.containers
    assert lock.variables["containers_images"][0]["name"] == "golden-tool:latest"
    assert (one.name, one.asked, one.answer, one.manifest.sha256) == (NAME, NAME, answer, digest)
    assert (len(one.layers), one.least_driver) == (2, "525.60.13")
    assert {registry.blob(sha256).stat().st_size for sha256 in one.blobs} == {*one.blobs.values()}
    assert "containers" in lock.roles and one.blobs.items() <= lock.objects().items()
    given = sample_inputs.of_lock(lock, Store(tmp_path / "cache")).repository() / "containers"
    assert {path.name for path in given.iterdir()} == one.blobs.keys()
    assert golden(root, "check", IMAGE).returncode == 0


def test_another_machine_fetches_the_locked_blobs_though_the_tag_moved(
    root: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a manifest of Docker's own form, too."""
    digest = registry.push("library/tool:7", *LAYERS, form="v2s2")
    ask_for(root, f"{NAME}@sha256:{digest}")
    (one,) = locked(root).containers
    assert (one.name, one.answer) == (NAME, digest)
    registry.push("library/tool:7", {"etc/tool.conf": "colour = red\n"})
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "other"))
    done = golden(root, "bake", IMAGE, "--fetch-only")
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "other")
    assert all(store.has(sha256, size) for sha256, size in one.blobs.items())


def test_what_a_registry_has_not(root: Path, registry: Registry, tmp_path: Path) -> None:
    registry.push("library/tool:arm", *LAYERS, architecture="arm64")
    other = registry.push("library/tool:other", *LAYERS, architecture="arm64")
    registry.list("library/tool:list", arm64=other)
    lost = "1" * 64
    cases = {
        "docker.io/library/tool:8": "docker.io/library/tool:8: reading manifest 8 in ",
        f"docker.io/library/tool@sha256:{lost}": f"docker.io/library/tool@sha256:{lost}: reading ",
        "docker.io/library/tool:arm": "docker.io/library/tool:arm is for linux/arm64, the image "
        "for linux/amd64",
        "docker.io/library/tool:list": "docker.io/library/tool:list is not for linux/amd64, but "
        "for linux/arm64",
    }
    before = "docker.io/library/tool:7"
    ask_for(root, before)
    for name, complaint in cases.items():
        edit(root, f"- {before}", f"- {name}")
        before = name
        code, told = refused(root)
        assert (code, told.startswith(f"10: containers.1: {complaint}")) == (2, True), told


def test_a_layer_that_is_another_or_lost(root: Path, registry: Registry) -> None:
    registry.push("library/tool:7", *LAYERS)
    ask_for(root, NAME)
    lost, changed = locked(root).containers[0].layers
    shutil.rmtree(root.parent / "cache/store")
    kept = registry.blob(lost.sha256).read_bytes()
    registry.blob(lost.sha256).unlink()
    code, told = refused(root)
    assert (code, "blob unknown to registry" in told) == (2, True), told
    registry.blob(lost.sha256).write_bytes(kept)
    shutil.rmtree(root.parent / "cache/work")
    registry.blob(changed.sha256).write_bytes(b"x" * changed.size)
    code, told = refused(root)
    assert (code, "Digest did not match, expected sha256:" in told) == (2, True), told
    done = golden(root, "bake", IMAGE, "--fetch-only")
    assert (done.returncode, "Digest did not match" in done.stderr) == (4, True), done.stderr


def test_a_login_that_is_missing_or_wrong(
    root: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("library/tool:7", *LAYERS)
    registry.stop()
    registry.start(login=True)
    ask_for(root, NAME)
    code, told = refused(root)
    assert (
        code,
        told.startswith(f"10: containers.1: {NAME}: unable to retrieve auth token: "),
    ) == (
        2,
        True,
    ), told
    assert "its login is missing: write `login: NAME`" in golden(root, "lock", IMAGE).stderr
    edit(root, f"- {NAME}", f'- {{image: "{NAME}", login: {VARIABLE}}}')
    assert refused(root) == (
        2,
        f"10: containers.1: the login of `{NAME}` is missing: {VARIABLE} "
        "does not hold `user:password`",
    )
    monkeypatch.setenv(VARIABLE, "ann:other")
    done = golden(root, "lock", IMAGE)
    assert (done.returncode, "to do: its login is wrong, or may not" in done.stderr) == (2, True), (
        done.stderr
    )
    monkeypatch.setenv(VARIABLE, LOGIN)
    assert locked(root).containers[0].login == VARIABLE
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cr3t" in path.read_bytes()]


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "no JSON",
        '{"schemaVersion": 1, "fsLayers": []}',
        '{"manifests": [1]}',
        '{"config": {"digest": "sha256:../../../x", "size": 1}, "layers": []}',
    ],
)
def test_a_registry_that_says_what_is_no_image(
    root: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.answer(
                200, body.encode(), Content_Type="application/vnd.oci.image.manifest.v1+json"
            )

    with Loopback(Handler) as server:
        monkeypatch.setenv("GOLDEN_MIRROR_DOCKER_IO", server.url)
        ask_for(root, NAME)
        code, told = refused(root)
    assert (code, "what its registry has is no image of a container" in told) == (2, True), told


def test_a_registry_that_throttles_is_asked_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [200, 429, 404]  # to a ping, and twice of the manifest

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.answer(said.pop(0), Retry_After="1")

    with Loopback(Handler) as server:
        monkeypatch.setenv("GOLDEN_MIRROR_DOCKER_IO", server.url)
        ask_for(root, NAME)
        code, told = refused(root)
    assert (code, said, "reading manifest 7 in" in told) == (2, [], True), told


def test_watch_sees_a_tag_that_moved_and_makes_a_lock(root: Path, registry: Registry) -> None:
    registry.push("library/tool:7", *LAYERS)
    pinned = registry.push("library/fixed:1", *LAYERS)
    ask_for(root, NAME, f"docker.io/library/fixed:1@sha256:{pinned}")
    before = locked(root).containers
    assert watched(root) == (0, {NAME: "current", "docker.io/library/fixed:1": "current"})
    registry.push("library/fixed:1", {"etc/fixed.conf": "moved too\n"})
    registry.push("library/tool:7", {"etc/tool.conf": "colour = red\n"})
    assert watched(root, "--update")[0] == 0
    after = lockfile.read(lock_path(root))[0].containers
    assert after[0].answer != before[0].answer and after[1] == before[1]
    registry.stop()
    assert watched(root) == (4, {NAME: "unreachable", "docker.io/library/fixed:1": "unreachable"})
    registry.start()


def watched(root: Path, *options: str) -> tuple[int, dict[str, str]]:
    """The exit code of `watch`, and the verdict on each image of a container."""
    done = golden(root, "watch", IMAGE, *options)
    record = records.read(root / "build/watch/watch.json", WatchRecord)
    assert "Traceback" not in done.stderr
    return done.returncode, {
        row.component: row.verdict.value
        for row in record.rows
        if row.component.startswith("docker.io/")
    }
