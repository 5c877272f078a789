"""The record of a GPU test in the account: what it has to say, who reads it; no folder of a runner is needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from goldenami.aws.channels import evidence
from goldenami.aws.session import Account
from goldenami.model import gpu_proofs, hardware
from goldenami.model.gpu_proofs import GpuTestRecord
from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, ROOT, Checkout, RegionState
from support.gpu import candidates

CHECKS = tuple(gpu_proofs.required(ROOT, ["nvidia_driver", "frameworks", "container_runtime"]))
"""Of all roles; the candidate here has the driver alone, whose are the first."""


def machine(sm: str, **changes: Any) -> gpu_proofs.TestedGpu:
    facts = {"sm": sm, "gpu": f"NVIDIA sm_{sm}", "instance_type": "g5.xlarge", "region": REGIONS[0],
             "ami": "ami-0123456789abcdef0", "checks": 25, "junit_sha256": "0" * 64}
    return gpu_proofs.TestedGpu.model_validate(facts | changes)


def record(build_id: str, *, sm: tuple[str, ...] = ("75", "86", "89"), **changes: Any) -> GpuTestRecord:
    facts = {"image": GPU_IMAGE, "build_id": build_id, "nonce": "0" * 32, "at": "2026-11-26T03:00:00Z",
             "by": "ci@runner:1", "checks": CHECKS, "machines": tuple(map(machine, sm))}
    return GpuTestRecord.model_validate(facts | changes)


def keep(made: GpuTestRecord) -> None:
    evidence.write(Account().ssm(REGIONS[1]), made)


@pytest.fixture
def candidate(checkout: Checkout) -> str:
    """A candidate in every region, made on a machine whose folder is gone."""
    build_id = candidates.publish(checkout)
    shutil.rmtree(checkout.root / "build")
    return build_id


def test_a_record_promotes_a_build_whose_folder_is_gone(checkout: Checkout, candidate: str) -> None:
    assert checkout.golden("promote", GPU_IMAGE).code == 6
    keep(record(candidate))
    ran = checkout.golden("promote", GPU_IMAGE)
    assert ran.code == 0, ran.text
    latest = RegionState(REGIONS[0], GPU_IMAGE).ledger().latest
    assert latest is not None and (latest.build_id, latest.gpu) == (candidate, "tested on a GPU")


@pytest.mark.parametrize(("changes", "cause"), [
    ({"checks": CHECKS[1:]}, f"1 checks are not in it, {CHECKS[0]} first"),
    ({"sm": ("75", "86")}, "no GPU of architecture 89 was tested"),
])
def test_a_record_that_says_less_promotes_nothing(
    checkout: Checkout, candidate: str, changes: dict[str, Any], cause: str,
) -> None:
    keep(record(candidate, **changes))
    ran = checkout.golden("promote", GPU_IMAGE)
    assert (ran.code, cause in ran.text) == (6, True), ran.text
    assert RegionState(REGIONS[0], GPU_IMAGE).parameter("latest") is None
    assert checkout.golden("promote", GPU_IMAGE, "--accept-untested-gpu", "--dry-run").code == 0


def test_a_parameter_of_another_build_is_refused(checkout: Checkout, candidate: str) -> None:
    ssm = Account().ssm(REGIONS[0])
    ssm.put_parameter(Name=evidence.parameter(GPU_IMAGE, candidate), Type="String",
                      Value=record("0" * 12).model_dump_json())
    ran = checkout.golden("promote", GPU_IMAGE)
    assert (ran.code, f"it is of {GPU_IMAGE} 000000000000" in ran.text) == (2, True), ran.text


def test_a_vouch_is_in_the_account_and_shown(checkout: Checkout, tmp_path: Path) -> None:
    """By `status` and in the report, and by `promote` of a machine that has no folder."""
    build_id = candidates.publish(checkout)
    builds.write_junit(tmp_path / "gpu.xml", build_id)
    ran = checkout.golden("attest", GPU_IMAGE, "--gpu-test", str(tmp_path / "gpu.xml"), "--by", "Ada")
    assert ran.code == 0, ran.text
    said = "tested on NVIDIA A10G, Ada vouches for it"
    assert f"{GPU_IMAGE} {build_id}: {said}" in checkout.golden("status", GPU_IMAGE).text
    assert checkout.golden("report", GPU_IMAGE).code == 0
    page = (checkout.root / f"build/{GPU_IMAGE}/{build_id}/report.html").read_text(encoding="utf-8")
    assert said in page
    shutil.rmtree(checkout.root / "build")
    ran = checkout.golden("promote", GPU_IMAGE)
    assert ran.code == 0, ran.text
    latest = RegionState(REGIONS[0], GPU_IMAGE).ledger().latest
    assert latest is not None and latest.gpu == "tested on a GPU, by a person's word"


def test_a_damaged_record_is_said_by_status(checkout: Checkout, candidate: str) -> None:
    Account().ssm(REGIONS[0]).put_parameter(Name=evidence.parameter(GPU_IMAGE, candidate), Type="String", Value="{}")
    ran = checkout.golden("status", GPU_IMAGE)
    assert (ran.code, "is not what gpu-test writes" in ran.text) == (0, True), ran.text


def test_a_record_of_all_architectures_fits_a_parameter() -> None:
    """8 KiB, of which 4 are free ("Managing parameter tiers"); three architectures stay below."""
    every = sorted({sm for family in hardware.load(ROOT).values() if (sm := family.sm)}, key=int)
    long = {"gpu": ", ".join(["NVIDIA RTX PRO 6000 Blackwell Server Edition"] * 2), "not_asked": CHECKS[:3]}

    def size(sm: list[str]) -> int:
        return len(record("0" * 12, machines=tuple(machine(each, **long) for each in sm)).model_dump_json())

    assert len(every) >= 8 and size(every) <= 8192
    assert size(["75", "86", "89"]) <= 4096
