"""Signed provenance: right where nothing was touched, and each tampering is refused by name."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from goldenami.aws.channels.attestations import Attestation
from goldenami.aws.images import Image
from goldenami.core import records
from goldenami.core.errors import BadInput, GoldenError, NotVerified, Unreachable
from goldenami.image.provenance import dsse, provenance, signers
from goldenami.image.provenance.provenance import Attestor
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_folder import BuildFolder
from support.aws import unbound
from support.builds import builds
from support.builds.tools import complaints
from support.security import materials, signing_key

IMAGE = "debian-13-ml-frameworks"
AMI, REGION, OTHER = "ami-0123456789abcdef0", "us-east-1", "cn-north-1"
PUBLISHED = {REGION: AMI, OTHER: "ami-0fedcba9876543210"}
SCHEMA = json.loads(
    (builds.ROOT / "tests/support/security/slsa.schema.json").read_text(encoding="utf-8")
)
SSM_STANDARD = 4096
"""Characters of a standard parameter (Systems Manager endpoints and quotas)."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "another"):
        signing_key.make(folder / name)
    return folder


def ami(name: str) -> Image:
    return Image(
        {
            "ImageId": name,
            "RootDeviceName": "/dev/xvda",
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1"}}],
        }
    )


@pytest.fixture
def attestor(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Attestor:
    """One with a build that is signed as published in two regions."""
    monkeypatch.setenv(signers.KEY, str(keys / "ours"))
    build = materials.build(tmp_path / "checkout", materials.committed(IMAGE))
    build.blocks.write_bytes(b"list")
    for name in provenance.BYPRODUCTS:
        if not (build.path / name).exists():
            (build.path / name).write_text(name, encoding="utf-8")
    write_published(build, PUBLISHED)
    key = signers.of_environment(tmp_path / "checkout", unbound.account())
    assert key is not None
    made = Attestor(build, key)
    attest_all(made)
    return made


def attest_all(attestor: Attestor) -> None:
    for region, name in PUBLISHED.items():
        attestor.attest(region, ami(name))


@pytest.fixture
def build(attestor: Attestor) -> BuildFolder:
    return attestor.build


def write_published(build: BuildFolder, amis: dict[str, str]) -> None:
    build.publish.write_text(
        json.dumps(
            {
                "published_at": "2026-11-26T12:00:00Z",
                "regions": {
                    region: {"ami": name, "snapshot": "snap-1"} for region, name in amis.items()
                },
            }
        ),
        encoding="utf-8",
    )


def stated(path: Path) -> dict[str, Any]:
    envelope = json.loads(path.read_text(encoding="utf-8"))
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def forged(envelope: dict[str, Any]) -> None:
    """The payload names another AMI; the signature stays."""
    payload = base64.b64decode(envelope["payload"]).replace(AMI.encode(), b"ami-0bad")
    envelope["payload"] = base64.b64encode(payload).decode()


def spoilt(envelope: dict[str, Any]) -> None:
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[-1] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(signature)).decode()


def test_what_was_signed_is_right_and_says_all(build: BuildFolder, keys: Path) -> None:
    assert provenance.verify(build, keys / "ours.pub") == sorted(PUBLISHED)
    bake, path = build.read_bake(), provenance.copy_of(build, OTHER)
    statement, disk = stated(path), {"sha256": bake.disk_sha256}
    assert statement["subject"] == [
        {"name": f"arn:aws-cn:ec2:{OTHER}::image/{PUBLISHED[OTHER]}", "digest": disk},
        {
            "name": f"arn:aws-cn:ec2:{OTHER}::snapshot/snap-1",
            "digest": disk | {"blocksSha256": records.sha256_text("list")},
        },
    ]
    assert statement["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"name": "lock.json", "digest": {"sha256": bake.lock_sha256}},
        {"name": "checkout", "digest": {"gitCommit": bake.checkout_commit}},
    ]
    byproducts = statement["predicate"]["runDetails"]["byproducts"]
    assert {row["name"]: row["digest"]["sha256"] for row in byproducts} == {
        name: records.sha256_file(build.path / name) for name in provenance.BYPRODUCTS
    }
    assert path.stat().st_size <= SSM_STANDARD
    assert json.loads(path.read_text(encoding="utf-8"))["signatures"][0]["keyid"] == ""
    jsonschema.validate(statement, SCHEMA)
    statement["predicate"]["buildDefinition"]["buildType"] = 5
    with pytest.raises(jsonschema.ValidationError, match="5 is not of type"):
        jsonschema.validate(statement, SCHEMA)


def cosign(path: Path, key: Path, blob: Path, *options: str) -> str:
    """What cosign has against the envelope at `path`, or an empty string; the flags are those of
    docs/security.md."""
    if shutil.which("cosign") is None:
        pytest.skip("this release's archive has no cosign")
    return complaints(
        "cosign",
        "verify-blob-attestation",
        "--key",
        str(key),
        "--type",
        stated(path)["predicateType"],
        "--signature",
        str(path),
        "--new-bundle-format=false",
        "--insecure-ignore-tlog",
        *options,
        str(blob),
    )


def test_cosign_takes_what_is_signed_and_nothing_else(
    attestor: Attestor,
    keys: Path,
    tmp_path: Path,
) -> None:
    build, disk, other = attestor.build, tmp_path / "disk", tmp_path / "another"
    disk.write_bytes(b"a disk")
    other.write_bytes(b"another disk")
    change(build.bake, lambda bake: bake["disk"].update(sha256=records.sha256_file(disk)))
    attestor.attest(REGION, ami(AMI))
    path = provenance.copy_of(build, REGION)
    assert cosign(path, keys / "ours.pub", disk) == ""
    assert "no matching subject digest" in cosign(path, keys / "ours.pub", other)
    assert cosign(path, keys / "ours.pub", other, "--check-claims=false") == ""
    assert "accepted signatures do not match" in cosign(path, keys / "another.pub", disk)
    change(path, forged)
    assert "accepted signatures do not match" in cosign(path, keys / "ours.pub", disk)


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (forged, NotVerified, "is not signed by the key"),
        (spoilt, NotVerified, "is not signed by the key"),
        (lambda envelope: envelope["signatures"].clear(), NotVerified, "is not signed by the key"),
        (
            lambda envelope: envelope.update(payloadType="text/plain"),
            NotVerified,
            "is not signed by the key",
        ),
        (lambda envelope: envelope.update(payload="%"), Unreachable, "is no DSSE envelope"),
        (lambda envelope: envelope.update(payload=5), Unreachable, "is no DSSE envelope"),
        (lambda envelope: envelope.pop("signatures"), Unreachable, "is no DSSE envelope"),
        (lambda envelope: envelope.update(signatures=["x"]), Unreachable, "is no DSSE envelope"),
    ],
)
def test_an_envelope_that_was_changed_is_refused(
    build: BuildFolder,
    keys: Path,
    edit: Callable[[dict[str, Any]], object],
    kind: type[GoldenError],
    said: str,
) -> None:
    change(provenance.copy_of(build, REGION), edit)
    with pytest.raises(kind, match=said):
        provenance.verify(build, keys / "ours.pub")


def test_an_envelope_in_the_place_of_another_is_refused(attestor: Attestor) -> None:
    made = attestor.attest(REGION, ami(AMI))
    assert attestor.is_right(REGION, ami(AMI), made)
    assert not attestor.is_right(REGION, ami(AMI), Attestation("{}"))
    with pytest.raises(NotVerified, match="snapshot/snap-2 is not what was signed"):
        provenance.hold(made, attestor.key.public_key, REGION, AMI, "snap-2")
    other = Attestation(dsse.sealed(dsse.statement("https://x.example", [], {}), attestor.key))
    with pytest.raises(NotVerified, match="holds no statement of"):
        provenance.hold(other, attestor.key.public_key, REGION, AMI, "snap-1")


def test_records_that_were_changed_afterwards_are_named(build: BuildFolder, keys: Path) -> None:
    def refused(said: str, kind: type[GoldenError] = NotVerified, key: str = "ours.pub") -> None:
        with pytest.raises(kind, match=said):
            provenance.verify(build, keys / key)

    refused("is not signed by the key", key="another.pub")
    refused("is no public key", BadInput, key="nothing.pub")
    write_published(build, {**PUBLISHED, REGION: "ami-0bad"})
    refused("image/ami-0bad is not what was signed")
    build.publish.write_text('{"regions": {"us-east-1": {"ami": "ami-1"}}}', encoding="utf-8")
    refused(r"publish\.json: ", BadInput)
    write_published(build, PUBLISHED)
    for name in provenance.BYPRODUCTS:
        path, whole = build.path / name, (build.path / name).read_bytes()
        for changed in (b"", whole + b"\n", b"made again"):
            path.write_bytes(changed)
            if name != "bake.json":  # which says what else there is
                refused(rf"{re.escape(name)} differs: signed is .*, here is")
        path.unlink()
        if name not in ("bake.json", "manifest.json"):
            refused(rf"{re.escape(name)} differs: signed is .*, here is none")
        path.write_bytes(whole)
    (build.path / "verify.json").write_text("made again", encoding="utf-8")
    provenance.verify(build, keys / "ours.pub", provenance.LASTING)
    with build.manifest.open("a", encoding="utf-8") as manifest:
        manifest.write("\n")
    refused(r"manifest\.json differs")
    provenance.copy_of(build, OTHER).unlink()
    refused("was published unsigned")


def test_a_record_that_came_later_is_no_signed_one_until_publish_signs_anew(
    attestor: Attestor, keys: Path
) -> None:
    cve = attestor.build.path / "cve.json"
    scanned = cve.read_bytes()
    cve.unlink()
    earlier = attestor.attest(REGION, ami(AMI))
    attest_all(attestor)
    assert attestor.is_right(REGION, ami(AMI), earlier)
    cve.write_bytes(scanned)
    with pytest.raises(NotVerified, match=r"cve\.json differs: signed is none, here is"):
        provenance.verify(attestor.build, keys / "ours.pub")
    assert not attestor.is_right(REGION, ami(AMI), earlier)
    attest_all(attestor)
    assert provenance.verify(attestor.build, keys / "ours.pub") == sorted(PUBLISHED)


def test_the_lock_is_held_to_its_own_bytes(build: BuildFolder, keys: Path) -> None:
    """Whatever bake.json says of it: each changed byte is refused."""
    text = build.lock.read_bytes()
    for changed in (text + b"\n", text[:-2] + b" " + text[-1:], b""):
        build.lock.write_bytes(changed)
        with pytest.raises(
            NotVerified, match=r"lock\.json differs: signed is [0-9a-f]{64}, here is"
        ):
            provenance.verify(build, keys / "ours.pub")
    build.lock.unlink()
    with pytest.raises(NotVerified, match=r"lock\.json differs: .* here is none"):
        provenance.verify(build, keys / "ours.pub")


def test_the_disk_is_held_to_its_own_bytes(attestor: Attestor, keys: Path) -> None:
    build, size = attestor.build, 1 << 30
    with build.disk.open("wb") as disk:
        disk.truncate(size)
        os.pwrite(disk.fileno(), b"boot", 0)
        os.pwrite(disk.fileno(), b"root", size - (300 << 10))
    found = {
        "sha256": records.sha256_sparse(build.disk),
        "bytes_apparent": size,
        "blocks_sha256": disk_blocks.digest_of(build.disk),
    }
    change(build.bake, lambda bake: bake["disk"].update(found))
    attest_all(attestor)
    assert provenance.verify(build, keys / "ours.pub") == sorted(PUBLISHED)
    for at in (3, (700 << 20) + 1, 5 << 20, size - 1, size):
        with build.disk.open("r+b") as disk:
            byte = os.pread(disk.fileno(), 1, at)
            os.pwrite(disk.fileno(), b"!", at)
            with pytest.raises(
                NotVerified, match=r"disk\.raw differs from the one that was signed"
            ):
                provenance.verify(build, keys / "ours.pub")
            os.pwrite(disk.fileno(), byte, at)
            disk.truncate(size)
    assert provenance.verify(build, keys / "ours.pub") == sorted(PUBLISHED)


def test_keys_that_cannot_sign_are_refused(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copyfile(keys / "ours", root / "key")
    signing_key.make(tmp_path / "p384", "secp384r1")
    for path, said in (
        (root / "key", "is inside the checkout"),
        (tmp_path / "gone", "is no private key"),
        (keys / "ours.pub", "is no private key"),
        (tmp_path / "p384", "is no ECDSA key on P-256"),
    ):
        monkeypatch.setenv(signers.KEY, str(path))
        with pytest.raises(BadInput, match=said):
            signers.of_environment(root, unbound.account())
