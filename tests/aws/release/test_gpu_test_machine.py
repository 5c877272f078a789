"""`golden gpu-test` from end to end: launch, checks over SSH on made-up GPUs, power-off, the
record, promote.

support/ec2/gpu_instances.py says what of an instance is real.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.builds.gpu_proofs import GpuTestRecord, required
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Driver, Lock
from support.builds import builds, checkout
from support.builds.builds import GPU_IMAGE
from support.builds.tools import granted
from support.ec2 import cloud, gpu_instances
from support.ec2.cloud import REGIONS
from support.gpu.gpu_machine import DRIVER

SIGNING = {"kms:GetPublicKey", "kms:Sign"}
"""What test_policies.py sees asked for."""
OTHER_ACCOUNTS = {"ec2:DescribeSubnets", "iam:CreateServiceLinkedRole"}
"""Where the definition names subnets; and what EC2 asks for at an account's first Spot request."""
TREE = "debian-13-ml-cpu"
"""The image whose packages an instance has."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLDEN_GPU_ROOT", gpu_instances.ROOT)
    copy = checkout.copy(tmp_path / "checkout")
    builds.define(copy, f"publish: {{regions: [{', '.join(REGIONS)}]}}\n", GPU_IMAGE)
    driver = Driver(
        version=DRIVER, branch="580", flavour="open", source="nvidia", cuda="13.0", modules=None
    )
    folder = builds.build(
        copy,
        1,
        image=GPU_IMAGE,
        sm=("75", "86", "89"),
        driver=driver,
        variables={"nvidia_driver_version": DRIVER, "nvidia_driver_persistenced_enabled": True},
    )
    lockfile.write(lockfile.path_of(copy, GPU_IMAGE), records.read(folder / LOCK_FILE, Lock))
    return copy


@pytest.mark.long
def test_a_candidate_becomes_latest_without_a_person(root: Path, tmp_path: Path) -> None:
    rights = ["publish", "gpu-test", "promote"]
    lock_file = lockfile.path_of(checkout.ROOT, TREE)
    with cloud.running_account(
        root, tmp_path / "account", lock_file, rights, gpu_instances
    ) as account:
        try:
            build_id = next((root / "build" / GPU_IMAGE).glob("[0-9a-f]*")).name
            published = account.golden("publish", GPU_IMAGE, code=ExitCode.HELD_BACK)
            (root / "fault").write_text("uncorrected.0 3\n", encoding="utf-8")
            refused = account.golden("gpu-test", GPU_IMAGE, code=6)
            (root / "fault").unlink()
            calls = len(account.account()["calls"])
            said = account.golden("gpu-test", GPU_IMAGE)
            tested = account.account()
            shutil.rmtree(root / "build")  # the runner of the next job has none
            promoted = account.golden("promote", GPU_IMAGE)
            after = account.account()
        finally:
            print((tmp_path / "account/instances.log").read_text(encoding="utf-8"))
    assert "next: scripts/golden gpu-test" in published
    assert "nvidia_driver/no_memory_error_was_left_uncorrected" in refused
    assert "uncorrected memory errors since boot: ['GPU 0" in refused
    assert "26 checks passed on NVIDIA T4 (g4dn.xlarge, us-east-1)" in said
    assert "next: scripts/golden promote" in said
    assert "`latest` is build" in promoted
    for region in REGIONS:
        record = GpuTestRecord.model_validate_json(
            tested[region]["parameters"][f"/golden-ami/{GPU_IMAGE}/{build_id}/gpu-test"]
        )
        assert [machine.sm for machine in record.machines] == ["75", "86", "89"]
        assert list(record.checks) == list(required(checkout.ROOT, ["nvidia_driver"]))
        assert {machine.not_asked for machine in record.machines} == {
            (
                "nvidia_driver/gpus_reach_each_other",
                "nvidia_driver/no_gpu_is_slower_than_the_others",
            )
        }
        assert {raw["State"]["Name"] for raw in tested[region]["instances"]} <= {"terminated"}
        assert (tested[region]["volumes"], tested[region]["keys"]) == ([], [])
        (image,) = after[region]["images"]
        assert after[region]["parameters"][f"/golden-ami/{GPU_IMAGE}/latest"] == image["ImageId"]
    asked = {action for call in tested["calls"][calls:] for action in call["actions"]}
    assert asked == set(granted("gpu-test")) - SIGNING - OTHER_ACCOUNTS, json.dumps(sorted(asked))
