"""What containers hold, read from made-up layers: in the bill of materials, and asked of lists of
vulnerabilities."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.image.cve import cve, osv, waivers
from goldenami.image.cve.cve import Subject
from goldenami.image.cve.feeds import FeedPlaces
from goldenami.image.sbom import components, sbom
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import CveRecord, Feed
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported.scales import Rating
from goldenami.packages import container_layers
from goldenami.packages.registries import Blob, LockedContainer
from goldenami.packages.store import Store
from support.security import lists, materials
from support.security.lists import ListServer

IMAGE = "debian-13-ml-cpu"
DPKG = "var/lib/dpkg/status"
DEBIAN = {
    "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\n',
    DPKG: "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\nArchitecture: amd64\n\n"
    "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\n"
    "Version: 2.36-9+b1\nArchitecture: amd64\n\n"
    "Package: old\nStatus: deinstall ok config-files\nVersion: 1\n",
}
ALPINE = {
    "etc/os-release": "ID=alpine\nVERSION_ID=3.20.3\n",
    "lib/apk/db/installed": "P:libssl3\nV:3.3.1-r0\nA:x86_64\no:openssl\n\n"
    "P:musl\nV:1.2.5-r0\nA:x86_64\n",
}
WHEELS = "usr/lib/python3/dist-packages"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def layer(store: Store, files: dict[str, str], *, whole: bool = True, zstd: bool = False) -> Blob:
    """A layer in the store."""
    path = store.folder / "layer"
    with tarfile.open(path, "w" if zstd or not whole else "w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text.encode())
            packed.addfile(entry, io.BytesIO(text.encode()))
    if not whole:
        path.write_bytes(path.read_bytes()[: 512 + entry.size])
    if zstd:
        subprocess.run(["zstd", "-q", "--rm", "-f", path], check=True)
        path = path.with_suffix(".zst")
    return Blob(sha256=store.add(path), size=path.stat().st_size)


def container(store: Store, *layers: Blob, name: str = "tool") -> LockedContainer:
    empty = Blob(sha256=store.add(Path("/dev/null")), size=0)
    return LockedContainer(
        name=f"docker.io/library/{name}:7",
        asked="",
        answer="",
        layers=[*layers],
        manifest=empty,
        config=empty,
    )


def names(found: LockedContainer, store: Store) -> list[str]:
    return [
        f"{part.vendor} {part.name} {part.version}"
        for part in container_layers.contents(found, store)
    ]


def test_packages_are_those_of_the_uppermost_layer_that_has_them(store: Store) -> None:
    newer = layer(store, {DPKG: DEBIAN[DPKG].replace("5.2-1", "5.2-2")}, zstd=True)
    found = container(store, layer(store, DEBIAN), newer)
    assert names(found, store) == ["debian bash 5.2-2", "debian libc6 2.36-9+b1"]
    (libc,) = [part for part in container_layers.contents(found, store) if part.name == "libc6"]
    assert libc.source == ("glibc", "2.36-9")
    assert libc.purl == (
        "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64&distro=debian-12&upstream=glibc%402.36-9"
    )


def test_what_an_upper_layer_hides_is_not_there(store: Store) -> None:
    below = layer(
        store,
        DEBIAN
        | {
            f"{WHEELS}/Some_Tool-2.0.dist-info/METADATA": "x",
            f"{WHEELS}/other-1.0.dist-info/METADATA": "x",
        },
    )
    assert names(container(store, below), store)[2:] == ["pypi some-tool 2.0", "pypi other 1.0"]
    one = layer(store, {f"{WHEELS}/.wh.other-1.0.dist-info": ""})
    assert names(container(store, below, one), store)[2:] == ["pypi some-tool 2.0"]
    all_of_it = layer(store, {f"{WHEELS}/.wh..wh..opq": "", "var/lib/.wh.dpkg": ""})
    assert names(container(store, below, all_of_it), store) == []


def test_alpine_and_images_without_a_package_manager(store: Store) -> None:
    assert names(container(store, layer(store, ALPINE)), store) == [
        "alpine libssl3 3.3.1-r0",
        "alpine musl 1.2.5-r0",
    ]
    stanza = "Package: tzdata\nVersion: 2024a-0+deb12u1\nArchitecture: all\n"
    small = {"var/lib/dpkg/status.d/tzdata": stanza, "etc/os-release": "ID=debian\nVERSION_ID=12\n"}
    assert names(container(store, layer(store, small)), store) == ["debian tzdata 2024a-0+deb12u1"]


def test_a_layer_without_its_end_and_one_that_is_not_there(store: Store) -> None:
    end = {DPKG: DEBIAN[DPKG]}
    assert len(names(container(store, layer(store, end, whole=False)), store)) == 2
    (store.folder / "x").write_bytes(b"\x1f\x8bno tar")
    other = Blob(sha256=store.add(store.folder / "x"), size=8)
    assert names(container(store, layer(store, end), other), store)[0] == "debian bash 5.2-1"
    with pytest.raises(BadInput, match="the store has no layer 000000000000"):
        names(container(store, Blob(sha256="0" * 64, size=1)), store)


class Bench:
    """A build whose image has containers, and lists on loopback."""

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store, self.server = root, store, ListServer()
        self.close = self.server.close

    def built(self, *containers: LockedContainer) -> tuple[BuildFolder, Lock]:
        lock = materials.committed(IMAGE).model_copy(update={"containers": [*containers]})
        materials.stock(self.store, lock)
        return materials.build(self.root, lock), lock

    def asked(self, *containers: LockedContainer) -> CveRecord:
        build, lock = self.built(*containers)
        places = dict(word.split("=", 1) for word in self.server.options[1::2])
        subject = Subject(build, lock, waivers.load(self.root, [], lists.TODAY), Rating.HIGH)
        return cve.run(
            subject,
            self.store,
            FeedPlaces({Feed(name): address for name, address in places.items()}, {}),
        )


@pytest.fixture
def bench(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(clock, "now", lambda: lists.NOON)
    (tmp_path / "packer").mkdir()
    (tmp_path / waivers.PATH).write_text("waivers: []\n", encoding="utf-8")
    made = Bench(tmp_path, store)
    yield made
    made.close()


def test_bill_has_a_container_with_what_it_holds(bench: Bench, store: Store) -> None:
    layers = layer(store, DEBIAN)
    build, lock = bench.built(container(store, layers), container(store, layers, name="twin"))
    parts = {
        part.name: part
        for part in components.of_build(build, lock, store).parts
        if "distro=debian-12" in part.purl or part.purl.startswith("pkg:oci")
    }
    assert parts["bash"].properties == (
        ("container", "docker.io/library/tool:7"),
        ("container", "docker.io/library/twin:7"),
    )
    tool = parts["docker.io/library/tool:7"]
    assert tool.purl.startswith("pkg:oci/tool@sha256:e3b0c4")
    assert {*tool.depends} == {parts["bash"].ref, parts["libc6"].ref}
    text = sbom.text(components.of_build(build, lock, store))
    assert '"value": "docker.io/library/twin:7"' in text


def test_lists_are_asked_of_what_containers_hold(bench: Bench, store: Store) -> None:
    bench.server.lists[Feed.DEBIAN] = lists.tracker(
        {"glibc": {"CVE-2026-1": lists.release("resolved", "2.36-10")}}
    )
    bench.server.lists[Feed.ALPINE] = lists.osv(
        lists.osv_entry(
            "ALPINE-1",
            "openssl",
            ("0", "3.3.2-r0"),
            ecosystem="Alpine:v3.20",
            upstream=["CVE-2026-2"],
        ),
        ecosystem="Alpine:v3.20",
    )
    record = bench.asked(
        container(store, layer(store, DEBIAN)), container(store, layer(store, ALPINE), name="small")
    )
    found = {
        (one.id, one.part, one.version, one.fix)
        for one in record.findings
        if one.version in ("2.36-9", "3.3.1-r0")
    }
    assert found == {
        ("CVE-2026-1", "glibc", "2.36-9", "2.36-10"),
        ("CVE-2026-2", "openssl", "3.3.1-r0", "3.3.2-r0"),
    }
    assert record.outcome is Outcome.INCORRECT


def test_what_no_list_knows_stops_a_build(bench: Bench, store: Store) -> None:
    """Until a waiver says that somebody has looked."""
    other = {**ALPINE, "etc/os-release": "ID=wolfi\nVERSION_ID=20230201\n"}
    record = bench.asked(
        container(store, layer(store, other)),
        container(store, layer(store, {"bin/tool": "x"}), name="static"),
        container(store, layer(store, DEBIAN), name="known"),
    )
    assert [
        (one.id, one.detail, one.stops) for one in record.findings if one.feed is Feed.NONE
    ] == [
        (
            "no-list docker.io/library/static:7",
            "no list knows what it holds: it has no record of packages",
            True,
        ),
        ("no-list docker.io/library/tool:7", "no list knows wolfi-20230201", True),
    ]


def test_versions_of_alpine_are_in_order() -> None:
    ordered = [
        "1.0_alpha1",
        "1.0_rc2",
        "1.0",
        "1.0-r1",
        "1.0_git20230101",
        "1.0_p1-r0",
        "1.0.1",
        "1.0.1a",
        "1.10",
    ]
    backwards = ordered[::-1]
    assert sorted(backwards, key=osv.apk_order) == ordered
    with pytest.raises(ValueError, match="no version of apk"):
        osv.apk_order("new")
