"""Records of tests on GPUs: a right one of a candidate, its parts to forge, and how a command
refuses it."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from goldenami.aws import tags
from goldenami.aws.channels import evidence
from goldenami.core import clock
from goldenami.image.provenance import signers
from goldenami.model.builds import gpu_proofs
from goldenami.model.builds.gpu_proofs import GpuTestRecord
from goldenami.release.gpu_test import gpu_evidence

from support.aws import unbound
from support.builds import builds
from support.builds.builds import GPU_IMAGE, REGIONS, ROOT, Checkout, RegionState
from support.security import signing_key

REQUIRED = gpu_proofs.required(ROOT, builds.GPU_ROLES)
CHECKS = tuple(REQUIRED)
OPTIONAL = tuple(name for name, is_optional in REQUIRED.items() if is_optional)
TYPES = {
    "75": ("g4dn.xlarge", "Tesla T4"),
    "86": ("g5.xlarge", "NVIDIA A10G"),
    "89": ("g6.xlarge", "NVIDIA L4"),
}
ZEROS = "0" * 64


def facts(build_id: str, region: str = REGIONS[0]) -> dict[str, Any]:
    """What `gpu-test` writes when all three architectures were tested in a region."""
    ami = RegionState(region, GPU_IMAGE).amis()[f"{GPU_IMAGE}-{build_id}"]
    own = tags.from_list(ami["Tags"])
    machines = [
        {
            "sm": sm,
            "gpu": gpu,
            "instance_type": kind,
            "region": region,
            "ami": ami["ImageId"],
            "checks": len(CHECKS) - 1,
            "junit_sha256": secrets.token_hex(32),
            "not_asked": OPTIONAL[:1],
        }
        for sm, (kind, gpu) in TYPES.items()
    ]
    return {
        "image": GPU_IMAGE,
        "build_id": build_id,
        "nonce": gpu_proofs.nonce_of(build_id),
        "at": clock.stamp(),
        "by": "ci@runner:1",
        "lock_sha256": own[tags.LOCK_SHA256],
        "disk_sha256": own[tags.DISK_SHA256],
        "manifest_sha256": own[tags.MANIFEST_SHA256],
        "checks": CHECKS,
        "machines": machines,
    }


def record(said: dict[str, Any]) -> GpuTestRecord:
    machines = tuple(gpu_proofs.TestedGpu.model_validate(machine) for machine in said["machines"])
    return GpuTestRecord.model_validate(said | {"machines": machines})


def keep_signed(said: dict[str, Any]) -> None:
    """Write it to a region, signed by the environment's key."""
    evidence.write(
        unbound.account().ssm(REGIONS[1]),
        gpu_evidence.signed(record(said), signers.of_environment(ROOT, unbound.account())),
    )


def keep(said: dict[str, Any], key: Path | None = None, region: str = REGIONS[1]) -> GpuTestRecord:
    """Write it to a region, signed where there is a key."""
    made = record(said)
    if key is not None:
        with signing_key.used(key):
            made = gpu_evidence.signed(made, signers.of_environment(ROOT, unbound.account()))
    evidence.write(unbound.account().ssm(region), made)
    return made


def refused(checkout: Checkout, cause: str, *args: str, command: str = "promote") -> None:
    ran = checkout.golden(command, GPU_IMAGE, *args)
    assert (ran.code, cause in ran.text) == (6, True), ran.text
    assert f"golden gpu-test {GPU_IMAGE}`" in ran.text
    assert {RegionState(region, GPU_IMAGE).parameter("latest") for region in REGIONS} == {None}


def latest() -> tuple[str, str]:
    """The build that `latest` is everywhere, and what the ledger says of it on a GPU."""
    entries = {RegionState(region, GPU_IMAGE).ledger().latest for region in REGIONS}
    ((build_id, gpu),) = {(entry.build_id, str(entry.gpu)) for entry in entries if entry}
    return build_id, gpu


def rewrite(checkout: Checkout, build_id: str) -> None:
    """Bake the lock again, to other bytes."""
    folder = checkout.root / "build" / GPU_IMAGE / build_id
    builds.bake_again(folder, 99, told=True)
    builds.write_verify(folder)


def deregister(build_id: str, *regions: str) -> None:
    for region in regions:
        state = RegionState(region, GPU_IMAGE)
        state.ec2.deregister_image(ImageId=state.ami(build_id))
