"""The record of a GPU test in the account: what it has to say, who reads it; no folder of a runner
is needed.

A forger has the tester's right: he may write the parameter, and nothing else.
"""

from __future__ import annotations

import copy
import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws import tags
from goldenami.aws.channels import evidence
from goldenami.aws.channels.evidence import Evidence, GpuFinding
from goldenami.aws.channels.ledger import GpuProof, Ledger
from goldenami.core import clock, records
from goldenami.image.provenance import signers
from goldenami.model.builds import gpu_proofs
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.builds.gpu_proofs import GpuTestRecord
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import hardware
from goldenami.release.gpu_test import gpu_evidence
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from support.aws import unbound
from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, ROOT, Checkout, RegionState
from support.gpu import candidates
from support.gpu.gpu_records import (
    CHECKS,
    OPTIONAL,
    ZEROS,
    deregister,
    facts,
    keep,
    latest,
    record,
    refused,
    rewrite,
)
from support.security import signing_key

Forge = Callable[[dict[str, Any]], None]


@pytest.fixture
def published(checkout: Checkout) -> str:
    return candidates.publish(checkout)


@pytest.fixture
def candidate(checkout: Checkout, published: str) -> str:
    """A candidate in every region, made on a machine whose folder is gone."""
    shutil.rmtree(checkout.root / "build")
    return published


# --- records that somebody made ---


def sets(**changes: Any) -> Forge:
    return lambda said: said.update(changes)


def sets_machine(**changes: Any) -> Forge:
    return lambda said: said["machines"][0].update(changes)


def drop_machine(said: dict[str, Any]) -> None:
    said["machines"].pop()


def one_junit_file(said: dict[str, Any]) -> None:
    for machine in said["machines"]:
        machine["junit_sha256"] = said["machines"][0]["junit_sha256"]


def one_machine_thrice(said: dict[str, Any]) -> None:
    said["machines"] = [said["machines"][0]] * 3


NOT_WHOLE = f"of {len(CHECKS)} checks passed"


FORGERIES: dict[str, tuple[Forge, str]] = {
    "a check less": (sets(checks=CHECKS[1:]), f"1 checks are not in it, {CHECKS[0]} first"),
    "an architecture less": (
        drop_machine,
        "no machine of class 89-one (sm_89, one GPU) was tested",
    ),
    "no machine": (sets(machines=[]), "it names no machine"),
    "a machine without a GPU": (sets_machine(gpu=" "), "it names no machine with a GPU"),
    "an AMI of zeros": (sets_machine(ami="ami-00000000000000000"), "is no AMI of these bytes"),
    "an AMI elsewhere": (sets_machine(region="eu-west-1"), "is no AMI of these bytes"),
    "no region of EC2": (sets_machine(region="xx-north-1"), "is no AMI of these bytes"),
    "a nonce of zeros": (sets(nonce="00"), "its nonce `00` is of no test of this build"),
    "a long nonce of zeros": (sets(nonce="0" * 32), "is of no test of this build"),
    "no nonce": (sets(nonce=""), "its nonce `` is of no test of this build"),
    "a nonce by hand": (sets(nonce="ab" * 16), "is of no test of this build"),
    "a random nonce": (sets(nonce=secrets.token_hex(16)), "is of no test of this build"),
    "a nonce of another build": (
        sets(nonce=gpu_proofs.nonce_of("0" * 12)),
        "is of no test of this build",
    ),
    "a nonce with more": (
        lambda said: said.update(nonce=said["nonce"] + "0"),
        "is of no test of this build",
    ),
    "JUnit files of zeros": (
        sets_machine(junit_sha256=ZEROS),
        "its JUnit files are not one of each machine",
    ),
    "JUnit files by hand": (
        sets_machine(junit_sha256="abcd" * 16),
        "its JUnit files are not one of each machine",
    ),
    "one JUnit file thrice": (one_junit_file, "its JUnit files are not one of each machine"),
    "one machine thrice": (
        one_machine_thrice,
        "no machine of class 86-one (sm_86, one GPU) was tested",
    ),
    "dated 2020": (
        sets(at="2020-01-01T00:00:00Z"),
        "it is of 2020-01-01T00:00:00Z, not of the time between",
    ),
    "dated 2030": (
        sets(at="2030-01-01T00:00:00Z"),
        "it is of 2030-01-01T00:00:00Z, not of the time between",
    ),
    "another disk": (
        sets(disk_sha256=ZEROS),
        "it is of disk-sha256 000000000000, the build is not",
    ),
    "no disk": (sets(disk_sha256=None), "it is of disk-sha256 None"),
    "another manifest": (sets(manifest_sha256="1" * 64), "it is of manifest-sha256 111111111111"),
    "another lock": (sets(lock_sha256=ZEROS), "it is of lock-sha256 000000000000"),
    "a type without that GPU": (
        sets_machine(instance_type="g5.xlarge"),
        "g5.xlarge has no GPU of architecture 75",
    ),
    "no type": (sets_machine(instance_type=""), "an instance without a type has no GPU"),
    "a type that is none": (
        sets_machine(instance_type="g4dn"),
        "g4dn has no GPU of architecture 75",
    ),
    "more GPUs than the type": (
        sets_machine(gpu=", ".join(["NVIDIA T4"] * 3)),
        "g4dn.xlarge has not 3 GPUs",
    ),
    "a size that is none": (
        sets_machine(instance_type="g4dn.banana"),
        "g4dn.banana has not 1 GPUs",
    ),
    "a size with more GPUs": (
        sets_machine(instance_type="g4dn.12xlarge"),
        "g4dn.12xlarge has not 1 GPUs",
    ),
    "their number before the name": (
        sets_machine(gpu="3 x NVIDIA T4"),
        "g4dn.xlarge has not 3 GPUs",
    ),
    "a number that no machine has": (sets_machine(gpu="999999999 x NVIDIA T4"), "is no T4"),
    "as many GPUs as another size": (
        sets_machine(gpu=", ".join(["Tesla T4"] * 4)),
        "g4dn.xlarge has not 4 GPUs",
    ),
    "a GPU in words": (
        sets_machine(gpu="a good one"),
        "`a good one` is no T4, which g4dn.xlarge has",
    ),
    "another type's GPU": (sets_machine(gpu="NVIDIA H100 80GB HBM3"), "is no T4"),
    "a GPU of almost that name": (sets_machine(gpu="NVIDIA T4G"), "is no T4"),
    "a GPU in a sentence": (sets_machine(gpu="it was a T4"), "is no T4"),
    "two GPUs in one": (sets_machine(gpu="NVIDIA T4 L4"), "is no T4"),
    "another maker's GPU": (sets_machine(gpu="AMD Radeon Pro V520"), "is no T4"),
    "a second GPU of another type": (
        sets_machine(instance_type="g4dn.12xlarge", gpu="Tesla T4, Tesla T4, Tesla T4, NVIDIA L4"),
        "`NVIDIA L4` is no T4",
    ),
    "the GPU's architecture changed": (sets_machine(sm="90"), "no GPU of architecture 90"),
    "fewer checks that passed": (sets_machine(checks=1), f"1 {NOT_WHOLE}"),
    "more checks than there are": (sets_machine(checks=999), f"999 {NOT_WHOLE}"),
    "all checks, and one not asked": (sets_machine(checks=len(CHECKS)), NOT_WHOLE),
    "nothing asked": (sets_machine(checks=1, not_asked=CHECKS), f"1 {NOT_WHOLE}"),
    "nearly nothing asked": (sets_machine(checks=1, not_asked=CHECKS[1:]), f"1 {NOT_WHOLE}"),
    "what every type has to answer, not asked": (
        sets_machine(not_asked=("nvidia_driver/every_gpu_computes_right",)),
        NOT_WHOLE,
    ),
    "one check not asked twice": (
        sets_machine(checks=len(CHECKS) - 2, not_asked=OPTIONAL[:1] * 2),
        NOT_WHOLE,
    ),
    "what is no check, not asked": (sets_machine(not_asked=("nvidia_driver/luck",)), NOT_WHOLE),
    "a check twice": (sets(checks=(*CHECKS, CHECKS[0])), "it names a check twice"),
    "a check under another name": (
        sets(checks=(*CHECKS[1:], "nvidia_driver/luck")),
        f"1 checks are not in it, {CHECKS[0]} first",
    ),
    "another build's AMIs": (sets_machine(ami="ami-0123456789abcdef0"), "is no AMI of these bytes"),
}


@pytest.mark.parametrize("lock_here", ["another", "none"])
def test_a_record_that_somebody_made_moves_nothing(
    checkout: Checkout,
    candidate: str,
    lock_here: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever lock the checkout has. The first is refused by a command, all by the judge that it
    asked. A person may go on without, and that is what the ledger says then."""
    lock = lockfile.path_of(checkout.root, GPU_IMAGE)
    if lock_here == "none":
        lock.unlink()
    else:
        other = builds.build(checkout.root, 2, image=GPU_IMAGE, sm=("75",))
        lockfile.write(lock, records.read(other / LOCK_FILE, Lock))
    judge, asked = GpuJudge.__call__, list[tuple[GpuJudge, Evidence]]()

    def noted(own: GpuJudge, given: Evidence) -> GpuFinding:
        asked.append((own, given))
        return judge(own, given)

    right = facts(candidate)
    keep(right | {"checks": ()})
    with monkeypatch.context() as patch:
        patch.setattr(GpuJudge, "__call__", noted)
        refused(checkout, f"{len(CHECKS)} checks are not in it")
    own, given = asked[0]
    assert len(FORGERIES) >= 50
    for name, (forge, cause) in FORGERIES.items():
        said = copy.deepcopy(right)
        forge(said)
        text = record(said).model_dump_json()
        found = judge(own, replace(given, records=dict.fromkeys(given.records, text)))
        assert (found.proof, cause in found.problem) == (GpuProof.UNTESTED, True), (name, found)
    checkout.run("promote", GPU_IMAGE, "--accept-untested-gpu")
    assert latest() == (candidate, "not tested on a GPU, accepted")


def test_two_records_of_one_test_do_not_count(checkout: Checkout, candidate: str) -> None:
    """One of them was changed: a test writes the same record to every region."""
    said = facts(candidate)
    keep(said | {"checks": ()}, region=REGIONS[0])
    keep(said)
    refused(checkout, f"{len(CHECKS)} checks are not in it")
    keep(facts(candidate))
    checkout.run("promote", GPU_IMAGE)


def test_a_right_record_counts_whatever_lock_is_here(checkout: Checkout, candidate: str) -> None:
    """Without the build's folder, and by a clock that is two minutes ahead."""
    refused(checkout, f"build {candidate} is not tested on a GPU")
    other = builds.build(checkout.root, 2, image=GPU_IMAGE, sm=("75",))
    lock = records.read(other / LOCK_FILE, Lock)
    lockfile.write(lockfile.path_of(checkout.root, GPU_IMAGE), lock)
    keep(facts(candidate) | {"at": clock.stamp(clock.now() + timedelta(minutes=2))})
    checkout.run("rollback", GPU_IMAGE, "--to", candidate, "--dry-run")
    checkout.run("promote", GPU_IMAGE)
    assert latest() == (candidate, "tested on a GPU")


def test_amis_that_do_not_say_what_they_ask_prove_nothing(
    checkout: Checkout,
    candidate: str,
) -> None:
    """Somebody took the tag away."""
    for region in REGIONS:
        state = RegionState(region, GPU_IMAGE)
        ami = state.ami(candidate)
        state.ec2.delete_tags(Resources=[ami], Tags=[{"Key": tags.GPU_TEST}])
    keep(facts(candidate))
    refused(checkout, "what a test has to show is not known")


def test_a_parameter_of_another_build_is_refused(checkout: Checkout, candidate: str) -> None:
    keep(facts(candidate), region=REGIONS[0])
    name = evidence.parameter(GPU_IMAGE, candidate)
    text = RegionState(REGIONS[0], GPU_IMAGE).parameter(f"{candidate}/gpu-test")
    assert text is not None
    unbound.account().ssm(REGIONS[0]).put_parameter(
        Name=name, Type="String", Overwrite=True, Value=text.replace(candidate, "0" * 12)
    )
    assert f" is of {GPU_IMAGE} 000000000000" in checkout.run("promote", GPU_IMAGE, code=2)


# --- one disk, whose bytes were tested ---


def test_a_test_of_other_bytes_of_the_same_lock_does_not_count(
    checkout: Checkout, published: str
) -> None:
    """Not for `promote`, `rollback --to`, `release`, nor for a publish."""
    keep(facts(published))
    deregister(published, *REGIONS)
    rewrite(checkout, published)
    cause = "the build is not"
    said = checkout.run("publish", GPU_IMAGE, code=11)
    assert "`latest` stays" in said and cause in said
    refused(checkout, cause)
    refused(checkout, cause, "--to", published, command="rollback")
    assert (
        f"the candidate {published} is not tested on a GPU"
        in checkout.golden("release", GPU_IMAGE, "--dry-run").text
    )
    keep(facts(published))
    checkout.run("promote", GPU_IMAGE)


def test_one_region_of_other_bytes_keeps_all(checkout: Checkout, published: str) -> None:
    """Its AMI was made anew; the regions are not alike."""
    keep(facts(published))
    state = RegionState(REGIONS[1], GPU_IMAGE)
    ami = state.ami(published)
    state.ec2.create_tags(Resources=[ami], Tags=[{"Key": tags.DISK_SHA256, "Value": ZEROS}])
    refused(checkout, f", {ami} is not")
    said = checkout.run("gpu-test", GPU_IMAGE, "--dry-run", code=2)
    assert f"AMI {ami} in {REGIONS[1]} is of other bytes" in said


def test_bytes_that_latest_named_are_not_those_of_a_new_ami(
    checkout: Checkout, published: str
) -> None:
    """`latest` moves on, the first build's AMIs go, and the same lock is baked again: nothing was
    tested of that."""
    keep(facts(published))
    checkout.run("promote", GPU_IMAGE)
    second = candidates.build(checkout, 2)
    checkout.run("publish", GPU_IMAGE, "--accept-untested-gpu")
    deregister(published, *REGIONS)
    rewrite(checkout, published)
    for region in REGIONS:  # by another one, whose definition has one region
        checkout.define(f"publish: {{regions: [{region}]}}\n", GPU_IMAGE)
        assert "is newer than" in checkout.run("publish", GPU_IMAGE, "--build", published, code=2)
        state = RegionState(region, GPU_IMAGE)
        second_ami = state.amis()[f"{GPU_IMAGE}-{second}"]
        own = tags.from_list(second_ami["Tags"]) | {tags.BUILD_ID: published}
        state.ec2.register_image(
            Name=f"{GPU_IMAGE}-{published}",
            Architecture="x86_64",
            RootDeviceName="/dev/xvda",
            EnaSupport=True,
            VirtualizationType="hvm",
            TagSpecifications=tags.specifications(own, "image"),
            BlockDeviceMappings=[
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {
                        "SnapshotId": second_ami["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
                    },
                }
            ],
        )
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}]}}\n", GPU_IMAGE)
    said = checkout.run("rollback", GPU_IMAGE, "--to", published, code=6)
    assert f"build {published} is not tested on a GPU" in said
    assert latest()[0] == second


def test_a_ledger_that_says_tested_is_no_proof(checkout: Checkout, candidate: str) -> None:
    """The publisher writes the ledger."""
    for region in REGIONS:
        state = RegionState(region, GPU_IMAGE)
        for said in ("tested on a GPU", "the image has no GPU"):
            text = state.ledger().model_dump_json().replace("not tested on a GPU", said)
            state.write_ledger(Ledger.model_validate_json(text))
    refused(checkout, f"build {candidate} is not tested on a GPU")


def test_a_file_beside_the_build_is_no_proof(checkout: Checkout, published: str) -> None:
    """Neither for a publish nor for a promotion: the account's record counts, which the publisher
    may not write."""
    made = keep(facts(published))
    records.write(checkout.root / f"build/{GPU_IMAGE}/{published}/attest.json", made)
    unbound.account().ssm(REGIONS[1]).delete_parameter(
        Name=evidence.parameter(GPU_IMAGE, published)
    )
    refused(checkout, f"build {published} is not tested on a GPU")
    assert "`latest` stays" in checkout.run("publish", GPU_IMAGE, code=11)


# --- signed ---


def test_where_a_key_is_set_the_record_is_signed_by_it(
    checkout: Checkout,
    candidate: str,
    tmp_path: Path,
) -> None:
    own, other = tmp_path / "own.pem", tmp_path / "other.pem"
    for key in (own, other):
        signing_key.make(key)
    said = facts(candidate)
    with signing_key.used(own):
        keep(said)
        refused(checkout, "it is not signed")
        keep(said, other)
        refused(checkout, "it is not signed by the key")
        made = keep(said, own)
        evidence.write(unbound.account().ssm(REGIONS[1]), made.model_copy(update={"by": "another"}))
        refused(checkout, "it was changed after it was signed")
        evidence.write(
            unbound.account().ssm(REGIONS[1]), made.model_copy(update={"signature": "{}"})
        )
        refused(checkout, "is no DSSE envelope")
        made = keep(said | {"disk_sha256": ZEROS}, own)
        refused(checkout, "it is of disk-sha256 000000000000")
        keep(said, own)
        checkout.run("promote", GPU_IMAGE)
    assert latest() == (candidate, "tested on a GPU")


# --- who reads it ---


def test_a_signed_record_is_shown(checkout: Checkout, tmp_path: Path) -> None:
    """By `status`, and by `promote` of a machine that has no folder."""
    key = tmp_path / "own.pem"
    signing_key.make(key)
    with signing_key.used(key):
        build_id = candidates.publish(checkout)
    keep(facts(build_id), key)
    refused(checkout, "the build is signed, and GOLDEN_SIGNING_KEY names no key to hold it to")
    with signing_key.used(key):
        said = f"{GPU_IMAGE} {build_id}: tested on Tesla T4, NVIDIA A10G, NVIDIA L4"
        assert said in checkout.golden("status", GPU_IMAGE).text
        shutil.rmtree(checkout.root / "build")
        checkout.run("promote", GPU_IMAGE)


def test_a_damaged_record_is_said_by_status(checkout: Checkout, candidate: str) -> None:
    unbound.account().ssm(REGIONS[0]).put_parameter(
        Name=evidence.parameter(GPU_IMAGE, candidate), Type="String", Value="{}"
    )
    assert "cannot be read: image: Field required" in checkout.run("status", GPU_IMAGE)


def test_a_record_of_a_newer_gpu_test_counts_as_far_as_it_is_known(
    checkout: Checkout, candidate: str
) -> None:
    made = keep(facts(candidate)).model_dump(mode="json")
    made["machines"] = [{**machine, "driver": "1"} for machine in made["machines"]]
    name = evidence.parameter(GPU_IMAGE, candidate)
    for region in REGIONS:
        unbound.account().ssm(region).put_parameter(
            Name=name,
            Type="String",
            Overwrite=True,
            Tier="Intelligent-Tiering",
            Value=json.dumps({**made, "schema_version": 3, "heat": {"of": 2}}),
        )
    assert f"the parameter {name} is of a newer goldenami: its schema version is 3" in checkout.run(
        "promote", GPU_IMAGE
    )


def test_a_signed_record_of_all_architectures_fits_a_parameter(tmp_path: Path) -> None:
    """8 KiB, of which 4 are free ("Managing parameter tiers")."""
    every = sorted({sm for family in hardware.load(ROOT).values() if (sm := family.sm)}, key=int)
    checks = tuple(gpu_proofs.required(ROOT, ["nvidia_driver", "frameworks", "container_runtime"]))
    gpus = ", ".join(["NVIDIA RTX PRO 6000 Blackwell Server Edition"] * 2)
    machines = tuple(
        gpu_proofs.TestedGpu(
            sm=sm,
            gpu=gpus,
            instance_type="g7e.12xlarge",
            region="ap-southeast-1",
            ami="ami-0123456789abcdef0",
            checks=25,
            junit_sha256=ZEROS,
            not_asked=checks[:3],
        )
        for sm in every
    )
    signing_key.make(tmp_path / "own.pem")
    made = GpuTestRecord(
        image=GPU_IMAGE,
        build_id="0" * 12,
        nonce="0" * 32,
        at=clock.stamp(),
        by="ci@runner:1",
        lock_sha256=ZEROS,
        disk_sha256=ZEROS,
        manifest_sha256=ZEROS,
        checks=checks,
        machines=machines,
    )
    with signing_key.used(tmp_path / "own.pem"):
        made = gpu_evidence.signed(made, signers.of_environment(ROOT, unbound.account()))
    assert len(every) >= 8 and made.signature and len(made.model_dump_json()) <= 8192
