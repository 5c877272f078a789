"""The container image of the CPU image's committed lock: twice the same, and it trains without a
network."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import container_image
from goldenami.local import other_machine
from goldenami.local.oci_layout import OciLayout
from goldenami.local.tree import owners
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.container_records import ContainerRecord
from goldenami.packages import store
from support.builds.checkout import ROOT
from support.builds.tools import need

pytestmark = pytest.mark.slow
IMAGE = "debian-13-ml-cpu"
STEP = """
import json, lightgbm, numpy, os, sklearn.linear_model, xgboost
x = numpy.random.default_rng(0).normal(size=(200, 4))
y = (x[:, 0] > 0).astype(int)
kinds = sklearn.linear_model.SGDClassifier(), lightgbm.LGBMClassifier(), xgboost.XGBClassifier()
print(json.dumps([min(kind.fit(x, y).score(x, y) for kind in kinds), os.environ["OMP_NUM_THREADS"]]))
"""


def make(folder: Path) -> BuildFolder:
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    cache = CachePaths.default()
    build = ImageFolder.of(folder, IMAGE).build(digest[:lockfile.ID_LENGTH])
    build.image.path.mkdir(parents=True)
    progress = Progress.of("container", IMAGE, cache)
    container_image.run(ROOT, lock, digest, store.Store(cache.root), progress, build, None)
    return build


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    """The image, once."""
    need("umoci", "oras")
    return make(tmp_path_factory.mktemp("once"))


def test_from_another_folder_on_another_day_it_is_the_same(
    build: BuildFolder, tmp_path: Path
) -> None:
    with other_machine.another_machine():
        again = make(tmp_path / "elsewhere")
    first, second = (records.read(each.container, ContainerRecord) for each in (build, again))
    assert (first.digest, first.layers) == (second.digest, second.layers)
    assert [layer.name for layer in first.layers] == ["base", "frameworks", "rest"]


def test_it_trains_without_a_network(build: BuildFolder, tmp_path: Path) -> None:
    """Unpacked as an engine does. Nothing of a machine is in it, and the bill says what is."""
    shell.output(["umoci", "unpack", "--image", f"{build.layout}:{build.build_id}", str(tmp_path)])
    root = tmp_path / "rootfs"
    ran = subprocess.run(
        ["unshare", "--net", "chroot", str(root), "/opt/ml/bin/ml-run", "ml", "python3", "-W",
         "ignore", "-c", STEP], check=True, capture_output=True, text=True)
    worst, threads = json.loads(ran.stdout.splitlines()[-1])
    assert worst > 0.9 and int(threads) > 0
    there = owners.installed(f"/var/lib/dpkg/info/{path.name}"
                             for path in (root / "var/lib/dpkg/info").glob("*.list"))
    assert not there & {"systemd", "openssh-server", "cloud-init", "udev", "initramfs-tools"}
    assert not list((root / "boot").iterdir())
    layout = OciLayout(build.layout, build.build_id)
    kinds = {}
    for row in json.loads((build.layout / "index.json").read_text(encoding="utf-8"))["manifests"]:
        if kind := row.get("artifactType"):
            manifest = json.loads(layout.path_of(row["digest"]).read_text(encoding="utf-8"))
            blob = layout.path_of(manifest["layers"][0]["digest"])
            kinds[kind] = json.loads(blob.read_text(encoding="utf-8"))
    named = {one["name"] for one in kinds["application/vnd.cyclonedx+json"]["components"]}
    assert there <= named and {"lightgbm", "xgboost-cpu"} <= named
    subject = kinds["application/vnd.in-toto+json"]["subject"]
    assert subject == [{"name": IMAGE, "digest": {"sha256": layout.digest}}]
