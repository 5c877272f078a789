"""The container's tags go with the AMIs' pointers; registries that fail, and people who move
tags."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.core import records
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import Busy, ExitCode, GoldenError
from goldenami.core.terminal.progress import Progress
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.container_records import ContainerRecord
from goldenami.model.definitions import definition_file
from goldenami.release.publish import container_tags, registry_pushes
from support.aws import unbound
from support.aws.registry import CREATED, containerize
from support.aws.seeded_account import Calendar
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState
from support.builds.tools import ROOT
from support.debian.registry import Registry
from support.loopback import Loopback, QuietHandler
from support.waiting import until


def region() -> RegionState:
    return RegionState("us-east-1")


@pytest.fixture
def registry(checkout: Checkout, tmp_path: Path) -> Iterator[Registry]:
    """A registry that the image is published to, beside one region."""
    made = Registry(tmp_path / "registry")
    define(checkout, made.name)
    yield made
    made.close()


def define(checkout: Checkout, name: str, more: str = "") -> None:
    checkout.define(f"publish: {{regions: [us-east-1], registries: [{name!r}]{more}}}\n")


def baked(checkout: Checkout, number: int, **how: object) -> tuple[str, str]:
    """The id of a new build, and the digest of its container image."""
    folder = builds.build(checkout.root, number)
    return folder.name, containerize(folder, **how)  # type: ignore[arg-type]


def test_latest_goes_forward_and_back_with_the_ami(checkout: Checkout, registry: Registry) -> None:
    first, before = baked(checkout, 1)
    dry = checkout.run("publish", IMAGE, "--dry-run")
    assert f"{registry.name}: latest nothing -> {first}" in dry
    assert registry.digest(first) == ""
    checkout.run("publish", IMAGE)
    assert (registry.digest(first), registry.digest("latest")) == (before, before)
    define(checkout, registry.name, ", soak_hours: 1")
    second, after = baked(checkout, 2)
    checkout.run("publish", IMAGE, code=ExitCode.HELD_BACK)
    assert (registry.digest(second), registry.digest("latest")) == (after, before)
    checkout.run("promote", IMAGE, "--now")
    assert (registry.digest("latest"), region().agree()) == (after, second)
    assert f"{registry.name} latest {second}" in checkout.run("status", IMAGE)
    checkout.run("rollback", IMAGE)
    assert (registry.digest("latest"), region().agree()) == (before, first)


def test_a_build_without_a_container_is_not_published(
    checkout: Checkout, registry: Registry
) -> None:
    builds.build(checkout.root, 1)
    text = checkout.run("publish", IMAGE, code=ExitCode.BAD_INPUT)
    assert f"`scripts/golden container {IMAGE}` makes it" in text
    assert region().amis() == {}


def test_a_tag_that_somebody_else_moves_stays(checkout: Checkout, registry: Registry) -> None:
    """After the plan; and before it, to what is no build of ours."""
    first, _ = baked(checkout, 1)
    checkout.run("publish", IMAGE)
    second, after = baked(checkout, 2)
    definition = definition_file.load(checkout.root, definition_file.path_of(checkout.root, IMAGE))
    folder = ImageFolder.of(checkout.root, IMAGE).build(second)
    progress = Progress.of("publish", IMAGE, CachePaths(checkout.root / "cache"))
    image = ImageInAccount(unbound.account(), definition)
    with container_tags.planned(image, second, progress, build=folder) as tags:
        alien, theirs = foreign(checkout, registry), tags.registries[registry.name]
        theirs.tag(alien, second)
        with pytest.raises(Busy, match=f"{second} was moved to {alien}"):
            tags.push(folder)
        theirs.tag(after, second)
        tags.push(folder)
        theirs.tag(alien, "latest")
        with pytest.raises(Busy, match="was moved to"):
            tags.move([first])
    assert registry.digest("latest") == alien
    text = checkout.run("publish", IMAGE, code=ExitCode.BAD_INPUT)
    assert f"latest is no build of goldenami: {alien}" in text
    theirs.remove(alien)
    checkout.run("publish", IMAGE)
    assert registry.digest("latest") == after


def foreign(checkout: Checkout, registry: Registry) -> str:
    layout = OciLayout(checkout.root / "foreign", "x")
    layout.begin()
    layout.configure(
        architecture="amd64", environment={}, entrypoint=[], labels={"a": "b"}, created=CREATED
    )
    pushed = registry_pushes.Registry(registry.name, unbound.account())
    pushed.push(layout)
    pushed.tag(f"sha256:{layout.digest}", "x")
    return f"sha256:{layout.digest}"


def test_an_image_that_asks_for_a_newer_driver_than_the_ami_has(
    checkout: Checkout, registry: Registry
) -> None:
    _, before = baked(checkout, 1)
    checkout.run("publish", IMAGE)
    build, digest = baked(checkout, 2, least="580.65.06")
    text = checkout.run("publish", IMAGE, code=ExitCode.NOT_VERIFIED)
    assert f"580.65.06 or newer, and the AMI of `latest`, build {build}, has 550.163.01" in text
    assert (registry.digest(build), registry.digest("latest")) == (digest, before)


def test_a_push_goes_on_after_a_kill(checkout: Checkout, registry: Registry) -> None:
    """What was there stays as it is."""
    build, digest = baked(checkout, 1, layers=4, size=20_000_000)
    layout = ImageFolder.of(checkout.root, IMAGE).build(build)
    layers = records.read(layout.container, ContainerRecord).layers
    process = subprocess.Popen(
        [sys.executable, "-m", "goldenami.cli", "--root", checkout.root, "publish", IMAGE],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        start_new_session=True,
    )
    blobs = [registry.blob(layer.digest) for layer in layers]
    until("a blob", lambda: blobs[0].exists())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert registry.digest(build) == ""
    there = {blob: blob.stat().st_mtime_ns for blob in blobs if blob.exists()}
    checkout.run("publish", IMAGE)
    assert registry.digest("latest") == digest
    assert all(blob.stat().st_mtime_ns == when for blob, when in there.items())
    assert all(blob.exists() for blob in blobs)


def test_a_blob_that_the_registry_lost_is_sent_again(
    checkout: Checkout, registry: Registry
) -> None:
    build, _ = baked(checkout, 1)
    checkout.run("publish", IMAGE)
    folder = ImageFolder.of(checkout.root, IMAGE).build(build)
    lost = registry.blob(records.read(folder.container, ContainerRecord).layers[0].digest)
    lost.unlink()
    checkout.run("publish", IMAGE)
    assert lost.exists()


def test_a_blob_that_is_not_what_its_digest_says_is_not_pushed(
    checkout: Checkout, registry: Registry
) -> None:
    build, _ = baked(checkout, 1)
    folder = ImageFolder.of(checkout.root, IMAGE).build(build)
    layer = records.read(folder.container, ContainerRecord).layers[0]
    blob = folder.layout / "blobs/sha256" / layer.digest
    blob.chmod(0o600)
    blob.write_bytes(bytes(layer.bytes))
    text = checkout.run("publish", IMAGE, code=ExitCode.STAGE_FAILED)
    assert "a blob is not what its digest says" in text
    assert (registry.digest(build), region().amis()) == ("", {})


class _Throttles(QuietHandler):
    def do_HEAD(self) -> None:
        self.answer(429)

    do_GET = do_HEAD


def test_registries_that_do_not_serve(
    checkout: Checkout,
    registry: Registry,
) -> None:
    """Nothing is published; but AMIs go back also without their containers' registry."""
    first, _ = baked(checkout, 1)
    checkout.run("publish", IMAGE)
    second, after = baked(checkout, 2)
    checkout.run("publish", IMAGE)
    registry.stop()
    text = checkout.run("rollback", IMAGE, code=ExitCode.UNREACHABLE)
    assert "the AMIs are back, and the container's `latest` is not" in text
    assert (region().agree(), registry.digest("latest")) == (first, after)
    baked(checkout, 3)
    assert "does not answer" in checkout.run("publish", IMAGE, code=ExitCode.UNREACHABLE)
    with Loopback(_Throttles) as throttling:
        define(checkout, f"localhost:{throttling.port}/team/ml")
        text = checkout.run("publish", IMAGE, code=ExitCode.UNREACHABLE)
        assert "it throttles or fails" in text
    registry.start(login=True)
    define(checkout, registry.name)
    text = checkout.run("publish", IMAGE, code=ExitCode.HOST)
    assert "it refuses the login" in text and "docker login localhost" in text
    assert region().agree() == first and second


def test_tags_go_with_the_last_ami_of_a_build(
    checkout: Checkout, registry: Registry, calendar: Calendar
) -> None:
    """And no sooner: one that is disabled may come back."""
    found = [baked(checkout, number) for number in (1,)]
    checkout.run("publish", IMAGE)
    found.append(baked(checkout, 2))
    checkout.run("publish", IMAGE)
    foreign(checkout, registry)
    (old, digest), (new, _) = found
    limits = [
        f"--set={name}=0"
        for name in ("max_age_days", "disable_after_days", "deregister_after_days")
    ]
    for _ in range(4):
        assert registry.digest(old) == digest
        calendar.days += 1
        text = checkout.run("retire", IMAGE, "--set=keep_last=1", *limits)
        if f"{registry.name}: removed {old}" in text:
            break
    assert (registry.digest(old), registry.digest(new)) == ("", registry.digest("latest"))
    assert registry.digest("x")
    assert f"{IMAGE}-{old}" not in region().amis()


def test_ecr_gives_a_login_that_stays_with_the_run(checkout: Checkout) -> None:
    """A file of this user's alone has it, for that registry alone; Docker's logins are others'."""
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    boto3.client("ecr", "us-east-1").create_repository(repositoryName="ml")
    with registry_pushes.opened(unbound.account(), [f"{host}/ml", "localhost:1/ml"]) as found:
        path = found[f"{host}/ml"].logins
        assert path is not None and found["localhost:1/ml"].logins is None
        auths = json.loads(path.read_text(encoding="utf-8"))["auths"]
        assert (list(auths), path.parent.stat().st_mode & 0o077) == ([host], 0)
        assert base64.b64decode(auths[host]["auth"]).decode().startswith("AWS:")
        with pytest.raises(GoldenError, match="none"):
            registry_pushes.Registry(f"{host}/none", unbound.account()).remove(f"sha256:{'0' * 64}")
    assert not path.exists()
