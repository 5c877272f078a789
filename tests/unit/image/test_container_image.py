"""The container image of a lock: what shapes its layers, and how files are dealt out to them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.errors import NoFit
from goldenami.image.bake import bake_plan, container_image
from goldenami.local.host import workspace
from goldenami.local.tree import image_layers
from goldenami.local.tree import tree as trees
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.local.tree.rootfs import BASE_EPOCH
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from support.aws.registry import CREATED
from support.builds.tools import need
from support.files import write

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def lock() -> Lock:
    """The image with driver, CUDA, PyTorch and Docker."""
    return lockfile.read(lockfile.path_of(ROOT, "debian-13-ml"))[0]


def keys(lock: Lock) -> dict[str, str]:
    """The keys of the layers that a container of `lock` is made of."""
    part, found = container_image.part(lock), {"base": bake_plan.base_key(lock)}
    for step in part.steps:
        if step.roles:
            key = bake_plan.step_key(part, step, [*found.values()][-1], "tools")
            found["+".join(step.roles)] = key
    return found


# --- what shapes it ---


def test_a_container_has_nothing_of_kernel_driver_and_services(lock: Lock) -> None:
    part = container_image.part(lock)
    assert part.roles == ["os_updates", "cuda", "frameworks", "trim", "tools"]
    driver = {
        name
        for step in lock.steps
        if {"kernel", "nvidia_driver"} & {*step.roles}
        for name in step.packages
    }
    assert driver and not driver & part.packages.keys()
    assert "os_updates" in keys(lock) and lock.kernel.package not in part.packages


def test_tools_of_people_may_be_left_out(lock: Lock) -> None:
    """With what only they need; the layers below stay as they are."""
    tools = next(step for step in lock.steps if "tools" in step.roles)
    lean = lock.model_copy(
        update={"variables": lock.variables | {"tools_container_enabled": False}}
    )
    part = container_image.part(lean)
    assert "tools" not in part.roles and not {*tools.packages} & part.packages.keys()
    assert "awscli" in container_image.part(lock).packages
    assert [*keys(lean).items()] == [*keys(lock).items()][:-1]


def test_a_driver_release_changes_no_layer(lock: Lock) -> None:
    """Nor does a kernel; the layers below the tools are the disk's own."""
    assert lock.driver is not None
    late = {
        name
        for step in lock.steps
        if {"kernel", "nvidia_driver"} & {*step.roles}
        for name in step.packages
    }
    packages = {
        name: package.model_copy(update={"sha256": "0" * 64, "version": "9"})
        if name in late
        else package
        for name, package in lock.packages.items()
    }
    newer = lock.model_copy(
        update={
            "driver": lock.driver.model_copy(update={"version": "999.1"}),
            "packages": packages,
            "kernel": lock.kernel.model_copy(update={"release": "9.9"}),
            "source_date_epoch": lock.source_date_epoch + 1,
        }
    )
    assert keys(newer) == keys(lock)


def test_a_release_of_a_framework_leaves_what_is_below(lock: Lock) -> None:
    variables = dict(lock.variables)
    variables["frameworks_installed"] = variables["frameworks_installed"][1:]
    before, after = keys(lock), keys(lock.model_copy(update={"variables": variables}))
    assert [name for name in before if before[name] == after[name]] == [
        "base",
        "os_updates",
        "cuda",
    ]


def test_a_cuda_that_asks_for_a_newer_driver_is_refused(lock: Lock) -> None:
    assert lock.cuda is not None
    assert container_image.least_driver(ROOT, lock) == "525.60.13"
    container_image.check(ROOT, lock)
    newer = lock.model_copy(update={"cuda": lock.cuda.model_copy(update={"version": "13.0"})})
    with pytest.raises(NoFit, match=r"asks for driver 580\.65\.06, and its AMI has"):
        container_image.check(ROOT, newer)


# --- how files are dealt out ---


def tree(folder: Path) -> list[trees.Entry]:
    """A tree of two layers, as an overlay of them shows it."""
    write(folder / "low", {"etc/a": "a", "etc/two": "1", "usr/lib/x": "x", "usr/lib/gone": ""})
    write(folder / "high", {"etc/b": "b", "opt/one": "1", "usr/lib/x": "y"})
    write(folder / "root", {"etc/a": "a", "etc/b": "b", "usr/lib/x": "y", "opt/one": "1"})
    (folder / "root/empty").mkdir()
    os.link(folder / "root/opt/one", folder / "root/etc/two")
    return trees.scan(folder / "root")


def test_each_file_is_once_in_the_layer_that_wrote_it_last(tmp_path: Path) -> None:
    entries = tree(tmp_path)
    found = image_layers.split(entries, [tmp_path / "low", tmp_path / "high"], ["base", "rest"])
    names = {name: [entry.path for entry in of_layer] for name, of_layer in found.items()}
    assert names == {
        "base": [".", "./etc", "./etc/a"],
        # both names of one file are where the later one is, and the first of them comes first
        "rest": [
            ".",
            "./empty",
            "./etc",
            "./etc/b",
            "./etc/two",
            "./opt",
            "./opt/one",
            "./usr",
            "./usr/lib",
            "./usr/lib/x",
        ],
    }
    for of_layer in found.values():
        archive = io.BytesIO()
        trees.stream_tar(tmp_path / "root", of_layer, archive, epoch=1)
        with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as tar:
            assert len(tar.getmembers()) == len(of_layer)


def test_dates_are_packages_own_or_one_for_all(tmp_path: Path) -> None:
    """The day of a bake, and that of a lock, are in no layer."""
    write(
        tmp_path,
        {
            "usr/bin/own": "",
            "usr/bin/late": "",
            "etc/own": "",
            "opt/ml/x": "",
            "var/lib/dpkg/info/p.list": "/usr/bin/own\n/usr/bin/late\n/etc/own\n",
        },
    )
    for name, when in (
        ("usr/bin/own", 10),
        ("usr/bin/late", 30),
        ("etc/own", 10),
        ("opt/ml/x", 10),
    ):
        os.utime(tmp_path / name, (when, when))
    dates = {
        entry.path: entry.mtime for entry in image_layers.dated(trees.scan(tmp_path), tmp_path, 20)
    }
    assert {path for path, date in dates.items() if date != BASE_EPOCH} == {"./usr/bin/own"}
    assert dates["./usr/bin/own"] == 10


def test_an_image_is_the_same_from_two_folders(tmp_path: Path) -> None:
    """With what refers to it, and on another day."""
    need("umoci", "oras")
    tar, bill = tmp_path / "layer.tar", write(tmp_path, {"sbom.json": "{}"}) / "sbom.json"
    with tarfile.open(tar, "w") as sink:
        sink.addfile(tarfile.TarInfo("./file"))
    found = []
    for name in ("one", "another/folder"):
        layout = OciLayout(tmp_path / name, "0" * 12)
        layout.folder.parent.mkdir(exist_ok=True)
        layout.begin()
        layout.add(tar, "base", CREATED)
        layout.configure(
            architecture="arm64",
            environment={"PATH": "/bin"},
            entrypoint=["/bin/run"],
            labels={"goldenami.cuda": "12.8"},
            created=CREATED,
        )
        layout.attach(bill, "application/vnd.cyclonedx+json", CREATED)
        found.append((layout.digest, (layout.folder / "index.json").read_bytes()))
    assert found[0] == found[1]
    config = json.loads(layout.path_of(layout.blobs()[0][0]).read_bytes())
    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert config["config"] == {
        "Env": ["PATH=/bin"],
        "Entrypoint": ["/bin/run"],
        "Cmd": ["bash"],
        "WorkingDir": "/scratch",
        "Labels": {"goldenami.cuda": "12.8"},
    }
    kinds = [row.get("artifactType") for row in json.loads(found[0][1])["manifests"]]
    assert kinds == [None, "application/vnd.cyclonedx+json"]


def test_a_bake_keeps_the_container_that_was_made_before(tmp_path: Path) -> None:
    build = ImageFolder(tmp_path).build("0" * 12)
    write(build.path, {"container.json": "{}", "container/blobs/sha256/a": "blob"})
    out = write(tmp_path / ".work/out", {"bake.json": "{}"})
    workspace.keep(out, build)
    assert build.bake.exists() and build.container.exists()
    assert (build.layout / "blobs/sha256/a").read_text(encoding="utf-8") == "blob"
    assert records.sha256_file(build.bake) == records.sha256_text("{}")
