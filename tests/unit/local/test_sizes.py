"""Bytes by package and by wheel of a tree, and the components that a report draws of them."""

from __future__ import annotations

import json
from pathlib import Path

from goldenami.image.bake import bake
from goldenami.local.tree import owners
from goldenami.packages.registries import Blob, LockedContainer
from support.builds import sample_lock

SITE = "/opt/ml/ml/lib/python3.13/site-packages"


def test_a_wheel_is_counted_by_its_record(tmp_path: Path) -> None:
    files = {
        f"{SITE}/nvidia/nccl/lib/libnccl.so.2": 300,
        f"{SITE}/torch/a,b.py": 40,
        "/opt/ml/ml/bin/torchrun": 2,
        "/usr/bin/bash": 7,
        "/etc/motd": 1,
    }
    records = {
        "nvidia_nccl_cu12-2.27.5": "nvidia/nccl/lib/libnccl.so.2,sha256=x,300\nnot/there,,\n",
        "torch-2.10.0": '"torch/a,b.py",,40\n../../../bin/torchrun,,2\n',
    }
    for name, text in records.items():
        folder = tmp_path / f"{SITE[1:]}/{name}.dist-info"
        folder.mkdir(parents=True)
        (folder / "RECORD").write_text(text, encoding="utf-8")
    (tmp_path / "var/lib/dpkg/info").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/info/bash.list").write_text("/bin/bash\n", encoding="utf-8")
    manifest = tmp_path / "manifest.json"
    entries: list[dict[str, object]] = [
        {"path": path, "size": size} for path, size in files.items()
    ]
    entries[0] |= {"size": 900, "stored": 300}  # NCCL with zeros in it
    manifest.write_text(json.dumps({"entries": entries}), encoding="utf-8")
    found = owners.sizes(tmp_path, manifest)
    assert found == {"bash": 7, "wheel:nvidia-nccl-cu12": 300, "wheel:torch": 42, "": 1}
    drawn = {part.name: part.bytes for part in bake.components(sample_lock.sample(), found)}
    assert drawn == {"cuda": 300, "frameworks": 42, "base system": 7, "in no package": 1}
    one, two = (Blob(sha256=digit * 64, size=size) for digit, size in (("1", 40), ("2", 2)))
    redis = LockedContainer(
        name="redis", asked="", answer="", manifest=two, config=two, layers=[one, one]
    )
    drawn = {
        part.name: part.bytes
        for part in bake.components(sample_lock.sample(containers=[redis]), {"bash": 7, "": 50})
    }
    assert drawn == {"containers": 42, "base system": 7, "in no package": 8}


def test_packages_are_counted_that_the_tree_has(tmp_path: Path) -> None:
    """One without a file of its own counts, one that a role purged does not: its list is gone."""
    (tmp_path / "var/lib/dpkg/info").mkdir(parents=True)
    paths = [
        "/var/lib/dpkg/info/bash.list",
        "/var/lib/dpkg/info/libc6:amd64.list",
        "/var/lib/dpkg/info/bash.md5sums",
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        json.dumps({"entries": [{"path": path} for path in paths]}), encoding="utf-8"
    )
    found = owners.sizes(tmp_path, manifest)
    assert found == {"bash": 0, "libc6": 0, "": 0}
    assert bake.packages_count(found | {"wheel:torch": 1}, sample_lock.sample()) == 2
    assert bake.packages_count({}, sample_lock.sample()) == len(sample_lock.sample().packages)
