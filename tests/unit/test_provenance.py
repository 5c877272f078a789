"""Signed provenance: right where nothing was touched, and each tampering is refused by name."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from goldenami.core.errors import BadInput, NotVerified
from goldenami.model import definition_file
from goldenami.model.build_folder import BuildFolder
from goldenami.security import provenance
from support.builds import builds
from support.builds.tools import find
from support.security import materials, signing_key

IMAGE = "debian-12-ml-frameworks"
AMI = "ami-0123456789abcdef0"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "another"):
        signing_key.make(folder / name)
    return folder


@pytest.fixture
def build(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> BuildFolder:
    monkeypatch.setenv(provenance.KEY, str(keys / "ours"))
    made = materials.build(tmp_path / "checkout", materials.committed(IMAGE))
    write_published(made, {"us-east-1": AMI, "eu-west-1": "ami-0fedcba9876543210"})
    key = provenance.signing_key(tmp_path / "checkout")
    assert key is not None
    provenance.write(made, key)
    return made


def write_published(build: BuildFolder, amis: dict[str, str]) -> None:
    build.publish.write_text(json.dumps({"published_at": "2026-11-26T12:00:00Z", "regions": {
        region: {"ami": ami, "snapshot": "snap-1"} for region, ami in amis.items()}}), encoding="utf-8")


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def forged(envelope: dict[str, Any]) -> None:
    """The payload names another AMI; the signature stays."""
    payload = base64.b64decode(envelope["payload"]).replace(AMI.encode(), b"ami-0bad")
    envelope["payload"] = base64.b64encode(payload).decode()


def test_what_was_signed_is_right_and_says_all(build: BuildFolder, keys: Path) -> None:
    statement = provenance.verify(build, keys / "ours.pub")
    bake = build.read_bake()
    assert [subject["name"] for subject in statement["subject"]] == [
        "arn:aws:ec2:eu-west-1::image/ami-0fedcba9876543210", f"arn:aws:ec2:us-east-1::image/{AMI}"]
    assert {subject["digest"]["sha256"] for subject in statement["subject"]} == {bake.disk_sha256}
    definition = statement["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"][0] == {"name": "lock.json", "digest": {"sha256": bake.lock_sha256}}
    names = {row["name"] for row in statement["predicate"]["runDetails"]["byproducts"]}
    assert names == {"bake.json", "manifest.json"}


def test_openssl_agrees_on_what_is_signed(build: BuildFolder, keys: Path, tmp_path: Path) -> None:
    envelope = json.loads((build.path / provenance.FILE).read_text(encoding="utf-8"))
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    (tmp_path / "signed").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    subprocess.run([find("openssl"), "dgst", "-sha256", "-verify", str(keys / "ours.pub"), "-signature",
                    str(tmp_path / "signature"), str(tmp_path / "signed")], check=True, capture_output=True)


@pytest.mark.parametrize(("edit", "said"), [
    (forged, "is not signed by the key"),
    (lambda envelope: envelope["signatures"].clear(), "is not signed by the key"),
    (lambda envelope: envelope.update(payloadType="text/plain"), "is not signed by the key"),
    (lambda envelope: envelope.update(payload="%"), "is no DSSE envelope"),
    (lambda envelope: envelope.pop("signatures"), "is no DSSE envelope"),
])
def test_an_envelope_that_was_changed_is_refused(
    build: BuildFolder, keys: Path, edit: Callable[[dict[str, Any]], object], said: str,
) -> None:
    change(build.path / provenance.FILE, edit)
    with pytest.raises(NotVerified, match=said):
        provenance.verify(build, keys / "ours.pub")


def test_another_key_and_no_envelope_are_refused(build: BuildFolder, keys: Path) -> None:
    with pytest.raises(NotVerified, match="is not signed by the key"):
        provenance.verify(build, keys / "another.pub")
    (build.path / provenance.FILE).unlink()
    with pytest.raises(NotVerified, match="was published unsigned"):
        provenance.verify(build, keys / "ours.pub")
    with pytest.raises(BadInput, match="is no public key"):
        provenance.verify(build, keys / "nothing.pub")


def test_records_that_were_changed_afterwards_are_named(build: BuildFolder, keys: Path) -> None:
    write_published(build, {"us-east-1": "ami-0bad", "eu-west-1": "ami-0fedcba9876543210"})
    with pytest.raises(NotVerified, match="the AMIs differs"):
        provenance.verify(build, keys / "ours.pub")
    write_published(build, {"us-east-1": AMI, "eu-west-1": "ami-0fedcba9876543210"})
    provenance.verify(build, keys / "ours.pub")
    with build.manifest.open("a", encoding="utf-8") as manifest:
        manifest.write("\n")
    with pytest.raises(NotVerified, match=r"manifest\.json differs"):
        provenance.verify(build, keys / "ours.pub")


def test_an_envelope_of_another_build_is_refused(build: BuildFolder, keys: Path, tmp_path: Path) -> None:
    lock = materials.committed(IMAGE).model_copy(update={"source_date_epoch": 7})
    other = materials.build(tmp_path / "other", lock)
    write_published(other, {"us-east-1": AMI, "eu-west-1": "ami-0fedcba9876543210"})
    shutil.copyfile(build.path / provenance.FILE, other.path / provenance.FILE)
    with pytest.raises(NotVerified, match="the lock differs"):
        provenance.verify(other, keys / "ours.pub")


def test_keys_that_cannot_sign_are_refused(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copyfile(keys / "ours", root / "key")
    signing_key.make(tmp_path / "p384", "secp384r1")
    for path, said in ((root / "key", "is inside the checkout"), (tmp_path / "gone", "is no private key"),
                       (keys / "ours.pub", "is no private key"), (tmp_path / "p384", "is no ECDSA key on P-256")):
        monkeypatch.setenv(provenance.KEY, str(path))
        with pytest.raises(BadInput, match=said):
            provenance.signing_key(root)


def test_a_definition_may_demand_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(provenance.KEY, raising=False)
    root = builds.copy_definitions(tmp_path)
    path = definition_file.path_of(root, IMAGE)
    assert provenance.demanded(root, definition_file.load(root, path)) is None
    path.write_text(path.read_text(encoding="utf-8") + "security: {signed: true}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="GOLDEN_SIGNING_KEY names no key"):
        provenance.demanded(root, definition_file.load(root, path))
    assert os.environ.get(provenance.KEY) is None
