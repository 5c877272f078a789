"""What is signed of a build in the account: written by `publish`, and held to AMI, snapshot, tags
and blocks."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from goldenami.core import records
from goldenami.image.provenance import signers
from goldenami.image.provenance.signers import KEY
from goldenami.model.builds.build_records import BakeRecord
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, Ran, RegionState
from support.security import signing_key

HERE, THERE = REGIONS
TAG = "goldenami:provenance-sha256"


@pytest.fixture
def build(checkout: Checkout, aws: Emulator) -> Path:
    aws.set(pending_s=0)
    return builds.build(checkout.root, 1)


@pytest.fixture
def public(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY, str(tmp_path / "key"))
    return signing_key.make(tmp_path / "key")


def publish(checkout: Checkout, code: int = 0) -> str:
    return checkout.run("publish", IMAGE, code=code)


class Signed:
    """A build in a region, and what holds it to its signature."""

    def __init__(self, checkout: Checkout, build: Path, public: Path, region: str = HERE) -> None:
        self.checkout, self.build, self.public, self.state = (
            checkout,
            build,
            public,
            RegionState(region),
        )
        self.raw = self.state.amis()[f"{IMAGE}-{build.name}"]
        self.ami, self.snapshot = (
            self.raw["ImageId"],
            self.raw["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"],
        )

    def look(self, *more: str, ami: str = "", key: Path | None = None) -> Ran:
        return self.checkout.golden(
            "verify-provenance",
            ami or self.ami,
            "--region",
            self.state.region,
            "--key",
            str(key or self.public),
            *more,
        )

    def expect(self, code: int, said: str, *more: str, ami: str = "") -> None:
        ran = self.look(*more, ami=ami)
        assert (ran.code, said in ran.text) == (code, True), ran.text
        assert code == 0 or len(ran.text.splitlines()) <= 3, ran.text

    def tags(self) -> list[str | None]:
        found = [
            self.state.amis()[self.raw["Name"]],
            *self.state.ec2.describe_snapshots(SnapshotIds=[self.snapshot])["Snapshots"],
        ]
        return [{tag["Key"]: tag["Value"] for tag in each["Tags"]}.get(TAG) for each in found]

    def envelope(self) -> str:
        return self.state.parameter(f"{self.build.name}/provenance") or ""

    def put(self, text: str) -> None:
        self.state.ssm.put_parameter(
            Name=f"/golden-ami/{IMAGE}/{self.build.name}/provenance",
            Value=text,
            Type="String",
            Overwrite=True,
        )

    def twin(self, snapshot: str) -> str:
        """Another AMI with the same tags."""
        made = self.state.ec2.register_image(
            Name="twin",
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
        )["ImageId"]
        self.state.ec2.create_tags(
            Resources=[made], Tags=self.state.amis()[self.raw["Name"]]["Tags"]
        )
        return str(made)


def test_a_publish_signs_in_each_region_and_says_so(
    checkout: Checkout,
    build: Path,
    public: Path,
    tmp_path: Path,
) -> None:
    said = publish(checkout)
    assert "sign where the new AMI comes from" in said and "provenance: signed by " in said
    for region in REGIONS:
        signed = Signed(checkout, build, public, region)
        copy = build / f"provenance/{region}.provenance.dsse.json"
        assert signed.envelope() == copy.read_text(encoding="utf-8")
        assert len({*signed.tags()}) == 1 and signed.tags()[0] is not None
        signed.expect(
            0,
            f"{signed.ami} in {region}: what is signed of it, its tags and those of "
            f"{signed.snapshot} are",
        )
    signed.expect(0, f"so are the {builds.BLOCKS} blocks of {signed.snapshot}", "--blocks")
    said = checkout.run("verify-provenance", signed.ami, "--key", str(public))
    assert f"{signed.ami} in {THERE}: " in said, "any region of a definition"
    of_build = ("verify-provenance", IMAGE, "--build", build.name, "--key", str(public))
    said = checkout.run(*of_build)
    right = f"{IMAGE} {build.name}: what is signed of it in {HERE}, {THERE} is right"
    assert said.splitlines()[-1] == right
    assert "provenance: reads lock, records and disk" in said
    (build / "disk.raw").rename(build / "away")
    last = checkout.run(*of_build).splitlines()[-1]
    assert last == f"{right}; its disk is not here, and was not read"
    (build / "away").rename(build / "disk.raw")
    key = signers.read_public(public).keyid
    assert f"{IMAGE} {build.name}: signed by key {key}\n" in checkout.golden("status").text
    assert signed.look(key=signing_key.make(tmp_path / "other")).code == 6
    assert signed.look(key=tmp_path / "none").code == 2
    checkout.run("verify-provenance", signed.ami, code=2)
    assert f"nothing to do: build {build.name} is published" in publish(checkout)


@pytest.mark.parametrize("commit", [f"{'1' * 40}+lock-0123456789ab", "uncommitted"])
def test_a_lock_that_no_commit_has_yet(
    checkout: Checkout,
    build: Path,
    public: Path,
    commit: str,
) -> None:
    """As `watch` makes one: the statement names its commit, or none, the tag says the rest."""
    bake = records.read(build / "bake.json", BakeRecord)
    records.write(build / "bake.json", bake.model_copy(update={"git_commit": commit}))
    publish(checkout)
    signed = Signed(checkout, build, public)
    signed.expect(0, "are right")
    signed.state.ec2.create_tags(
        Resources=[signed.ami], Tags=[{"Key": "goldenami:git-commit", "Value": "2" * 40}]
    )
    signed.expect(6, f"the tag goldenami:git-commit of {signed.ami} in {HERE} is 2222")


def test_what_was_changed_in_the_account_is_named_and_put_right(
    checkout: Checkout, build: Path, public: Path
) -> None:
    publish(checkout)
    signed, other = Signed(checkout, build, public), Signed(checkout, build, public, THERE)
    ec2 = signed.state.ec2

    def untagged(resource: str, tag: str = TAG) -> None:
        ec2.delete_tags(Resources=[resource], Tags=[{"Key": tag}])
        signed.expect(6, f"the tag {tag} of {resource} in {HERE} is gone, signed is")
        assert "correct" in (said := publish(checkout)) or "sign where" in said
        signed.expect(0, "are right")

    ec2.delete_tags(Resources=[signed.ami], Tags=[{"Key": TAG}])
    said = checkout.golden("status").text
    assert f"{IMAGE} {build.name}: unsigned in {HERE}\n" in said and f"in {THERE}\n" in said, said
    untagged(signed.ami)
    untagged(signed.snapshot)
    untagged(signed.ami, "goldenami:lock-sha256")
    signed.put(other.envelope())
    signed.expect(6, f"image/{signed.ami} is not what was signed")
    signed.put('{"payload": ')
    signed.expect(4, "is no DSSE envelope")
    publish(checkout)
    signed.state.ssm.delete_parameter(Name=f"/golden-ami/{IMAGE}/{build.name}/provenance")
    signed.expect(6, "has lost what was signed of it")
    publish(checkout)
    signed.expect(0, "are right")


def test_a_snapshot_or_a_block_that_was_swapped_is_named(
    checkout: Checkout,
    build: Path,
    public: Path,
    aws: Emulator,
) -> None:
    checkout.define(f"publish: {{regions: [{HERE}]}}\n")
    publish(checkout)
    signed = Signed(checkout, build, public)
    swapped = signed.twin(
        signed.state.ec2.copy_snapshot(SourceRegion=HERE, SourceSnapshotId=signed.snapshot)[
            "SnapshotId"
        ]
    )
    signed.expect(6, f"image/{swapped} is not what was signed", ami=swapped)
    aws.damage(region=HERE, snapshot=signed.snapshot, block=0)
    signed.expect(0, "are right")
    signed.expect(
        6, f"the blocks of {signed.snapshot} in {HERE} are not those that were signed", "--blocks"
    )
    signed.expect(2, "there is no AMI ami-0123456789abcdef0", ami="ami-0123456789abcdef0")
    aws.set(denied={"*": ["ssm:GetParameters"]})
    signed.expect(8, "may not call ssm:GetParameters")


def test_an_unsigned_build_says_so_until_it_is_signed(
    checkout: Checkout,
    build: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout.define(f"publish: {{regions: [{HERE}]}}\n")
    assert "provenance: unsigned" in publish(checkout)
    public = signing_key.make(tmp_path / "key")
    signed = Signed(checkout, build, public)
    signed.expect(6, f"{signed.ami} in {HERE} was published unsigned")
    monkeypatch.setenv(KEY, str(tmp_path / "key"))
    assert f"sign where {signed.ami} comes from" in publish(checkout)
    signed.expect(0, "are right")
    monkeypatch.setenv(KEY, str(signing_key.make(tmp_path / "next").with_suffix("")))
    assert "sign where" in publish(checkout), "another key"
    signed.expect(6, "is not signed by the key")


def test_a_key_of_kms_signs_and_one_that_may_not_stops_the_publish(
    checkout: Checkout,
    build: Path,
    tmp_path: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kms, arn = boto3.client("kms", HERE), signing_key.in_kms(HERE)
    kms.create_alias(AliasName="alias/signs", TargetKeyId=arn)
    monkeypatch.setenv(KEY, arn.partition("key/")[0] + "alias/signs")
    aws.set(denied={"*": ["kms:Sign"]})
    assert (
        "no pointer has moved" in (said := publish(checkout, code=8))
        and "may not call kms:Sign" in said
    )
    assert not any(RegionState(region).parameter("latest") for region in REGIONS)
    assert not list(build.glob("provenance/*"))
    aws.set(denied={})
    publish(checkout)
    public = serialization.load_der_public_key(kms.get_public_key(KeyId=arn)["PublicKey"])
    (tmp_path / "kms.pub").write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    for region in REGIONS:
        Signed(checkout, build, tmp_path / "kms.pub", region).expect(0, "are right")
    gone = f"{arn.partition('key/')[0]}key/12345678-1234-1234-1234-123456789012"
    for other, said in (
        (gone, "KMS has no key"),
        (signing_key.in_kms(HERE, "ECC_SECG_P256K1"), "no ECDSA key on P-256"),
        (signing_key.in_kms(HERE, "RSA_2048", "ENCRYPT_DECRYPT"), "does not sign by ECDSA_SHA_256"),
    ):
        monkeypatch.setenv(KEY, other)
        assert said in publish(checkout, code=2)


def test_a_definition_that_wants_it_signed_holds_an_unsigned_candidate(
    checkout: Checkout,
    build: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = f"publish: {{regions: [{HERE}], soak_hours: 1}}\n"
    checkout.define(held)
    publish(checkout, code=11)
    checkout.define(held + "security: {signed: true}\n")
    said = checkout.run("promote", IMAGE, "--now", code=6)
    assert f"the candidate of {IMAGE} is not signed in {HERE}" in said
    assert "names no key" in publish(checkout, code=2)
    monkeypatch.setenv(KEY, str(signing_key.make(tmp_path / "key").with_suffix("")))
    publish(checkout, code=11)
    checkout.run("promote", IMAGE, "--now")


def test_a_publish_that_was_killed_while_it_signed_is_continued(
    checkout: Checkout,
    build: Path,
    public: Path,
    kill_proxy: KillProxy,
) -> None:
    """The copy is here before the account has it; the first parameter that is written is an
    envelope."""
    point = KillPoint("ssm:PutParameter", HERE, 1, When.BEFORE)
    code, text = kill_proxy.run(checkout.root, "publish", IMAGE, point=point)
    assert (code, kill_proxy.struck) == (-9, True), text
    assert list(build.glob(f"provenance/{point.region}.*"))
    signed = Signed(checkout, build, public, point.region)
    assert signed.state.parameter("latest") is None
    assert signed.look().code == 6
    publish(checkout)
    for region in REGIONS:
        Signed(checkout, build, public, region).expect(0, "are right")
