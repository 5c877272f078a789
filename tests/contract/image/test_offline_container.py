"""The container image of the CPU image's committed lock: twice the same, it trains without a
network, and it is what people make of it and how others' services start it."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.terminal.progress import Progress
from goldenami.image.bake import container_image
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.local.host import other_machine
from goldenami.local.tree import owners
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.container_records import ContainerRecord
from goldenami.model.locked import lockfile
from goldenami.packages import store
from support.builds.checkout import ROOT
from support.builds.podman import Podman
from support.builds.tools import need
from support.debian import debrepo
from support.debian.debrepo import Package
from support.files import write

pytestmark = pytest.mark.slow
IMAGE = "debian-13-ml-cpu"
STEP = """
import json, lightgbm, numpy, os, sklearn.linear_model, xgboost
x = numpy.random.default_rng(0).normal(size=(200, 4))
y = (x[:, 0] > 0).astype(int)
kinds = sklearn.linear_model.SGDClassifier(), lightgbm.LGBMClassifier(), xgboost.XGBClassifier()
worst = min(kind.fit(x, y).score(x, y) for kind in kinds)
print(json.dumps([worst, os.environ["OMP_NUM_THREADS"]]))
"""

WHEEL = "demo-1.0-py3-none-any.whl"
DEMO = {
    "demo.py": "answer = 42\n",
    "demo-1.0.dist-info/RECORD": "",
    "demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n",
    "demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
DERIVED = f"""\
FROM golden
COPY {WHEEL} own.deb /opt/
RUN apt-get install --yes /opt/own.deb && pip install --no-index /opt/{WHEEL}
RUN useradd --create-home --home-dir /job job
USER job
RUN ml env mine
ENV VIRTUAL_ENV=/job/envs/mine PATH=/job/envs/mine/bin:$PATH
CMD ["python3", "-c", "import demo, numpy, sys; print(demo.answer, sys.prefix)"]
"""
TRAIN = """\
#!/usr/bin/env python3
import pathlib, numpy
text = pathlib.Path("/opt/ml/input/config").read_text()
pathlib.Path("/opt/ml/model/made").write_text(f"{text} {numpy.ones(2).sum()}")
"""
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""Of a build, which would set limits that this machine may not."""
THREADS = ["python3", "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]


def make(folder: Path) -> BuildFolder:
    lock, digest = lockfile.read(lockfile.path_of(ROOT, IMAGE))
    cache = CachePaths.default()
    build = ImageFolder.of(folder, IMAGE).build(digest[: lockfile.ID_LENGTH])
    build.image.path.mkdir(parents=True)
    progress = Progress.of("container", IMAGE, cache)
    inputs = BakeInputs(ROOT, lock, digest, store.Store(cache.folder), progress)
    container_image.run(inputs, build, None)
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
        [
            "unshare",
            "--net",
            "chroot",
            str(root),
            "/opt/ml/bin/ml-run",
            "ml",
            "python3",
            "-W",
            "ignore",
            "-c",
            STEP,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    worst, threads = json.loads(ran.stdout.splitlines()[-1])
    assert worst > 0.9 and int(threads) > 0
    there = owners.installed(
        f"/var/lib/dpkg/info/{path.name}" for path in (root / "var/lib/dpkg/info").glob("*.list")
    )
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
    parts = kinds["application/vnd.cyclonedx+json"]["components"]
    licences = {one["name"]: one["licenses"] for one in parts if "licenses" in one}
    assert len(licences) > 0.8 * len(parts) and {"apt", "numpy"} <= licences.keys()
    subject = kinds["application/vnd.in-toto+json"]["subject"]
    assert subject == [{"name": IMAGE, "digest": {"sha256": layout.digest}}]


@pytest.fixture(scope="module")
def engine(build: BuildFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """An engine that has the image, called golden."""
    made = Podman(tmp_path_factory.mktemp("engine"))
    pulled = made.podman("pull", "--quiet", f"oci:{build.layout}:{build.build_id}")
    made.podman("tag", pulled.strip(), "golden")
    yield made
    made.close()


def test_a_dockerfile_adds_packages_and_a_user_with_an_environment(
    engine: Podman, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        for name, text in DEMO.items():
            wheel.writestr(name, text)
    debrepo.build(Package("own"), tmp_path / "own.deb")
    write(tmp_path, {"Dockerfile": DERIVED})
    engine.podman("build", "--quiet", "--tag", "derived", *LIMITS, str(tmp_path))
    assert engine.podman("run", "--rm", "derived") == "42 /job/envs/mine\n"
    engine.podman("run", "--rm", "derived", "ls", "/usr/share/tiny/own")


def test_apt_asks_the_archives_of_a_machine(engine: Podman) -> None:
    """Signed by keys that are there; the packages that stayed need none that went."""
    said = engine.podman(
        "run",
        "--rm",
        "golden",
        "sh",
        "-ec",
        "apt-get check; ls $(sed -n "
        "'s/^Signed-By: //p' /etc/apt/sources.list.d/*); apt-get update --print-uris",
    )
    for suite in (
        "debian/dists/trixie",
        "debian/dists/trixie-updates",
        "debian-security/dists/trixie-security",
    ):
        assert f"/{suite}/InRelease'" in said


def test_a_user_without_an_account_works_in_scratch(engine: Podman) -> None:
    code = (
        "import getpass, pathlib; pathlib.Path('x').touch(); "
        "print(getpass.getuser(), pathlib.Path.home())"
    )
    run = ("run", "--rm", "--user", "4321", "golden")
    assert engine.podman(*run, "python3", "-c", code) == "4321 /scratch\n"
    assert "ml: /scratch/envs/own is ready" in engine.ended(*run, "ml", "env", "own").stderr
    refused = engine.ended(*run, "pip", "install", "demo")
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "/opt/ml/ml stays as it was tested, but for a container's root" in refused.stderr


def test_programs_have_the_threads_of_the_quota_by_any_entrypoint(engine: Podman) -> None:
    """Kubernetes' `command:` replaces it."""
    quota = ("run", "--rm", "--cpus", "1")
    assert engine.podman(*quota, "golden", *THREADS) == "1\n"
    assert engine.podman(*quota, "golden", "sh", "-c", "echo $OMP_NUM_THREADS") == "1\n"
    assert engine.podman(*quota, "--entrypoint", json.dumps(THREADS), "golden") == "1\n"


def test_sagemaker_mounts_below_the_frameworks_folder(engine: Podman, tmp_path: Path) -> None:
    write(tmp_path, {"input/config": "2 +", "model/.keep": "", "train": TRAIN})
    (tmp_path / "train").chmod(0o755)
    mounts = [f"--volume={tmp_path / name}:/opt/ml/{name}" for name in ("input", "model")]
    train = f"--volume={tmp_path / 'train'}:/usr/local/bin/train"
    engine.podman("run", "--rm", *mounts, train, "golden", "train")
    assert (tmp_path / "model/made").read_text(encoding="utf-8") == "2 + 2.0"
    refused = engine.ended("run", "--rm", f"--volume={tmp_path}:/opt/ml", train, "golden", "train")
    assert (refused.returncode, refused.stderr) == (
        1,
        "golden: a mount hides /opt/ml: mount folders below it\n",
    )
