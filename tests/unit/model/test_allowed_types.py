"""The types that EC2 launches an AMI on, by the families of a lock and what a test covers."""

from __future__ import annotations

from pathlib import Path

import botocore.session
import pytest
from goldenami.model.builds import gpu_proofs
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import allowed_types, gpu_classes, hardware, instruction_sets
from goldenami.model.supported.allowed_types import AllowedTypes, TypeRule
from support.ec2.instance_types import described

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = hardware.load(ROOT)
NAMES = ["g5", "p5", "c7i"]
DECLARED = allowed_types.of_families(TypeRule.DECLARED, FAMILIES, NAMES)
PROVED = allowed_types.of_families(TypeRule.PROVED, FAMILIES, NAMES)


@pytest.mark.parametrize(
    ("instance_type", "declared", "proved"),
    [
        ("g5.xlarge", True, True),
        ("g5.16xlarge", True, True),
        ("g5.48xlarge", True, False),  # eight GPUs, where a machine with one was tested
        ("p5.4xlarge", True, True),
        ("p5.48xlarge", True, False),  # NVSwitches
        ("p5.96xlarge", True, False),  # a size that nobody knows
        ("c7i.large", True, True),
        ("c7i.metal-24xl", False, False),
        ("g5g.xlarge", False, False),
        ("g6.xlarge", False, False),
        ("c7i-flex.large", False, False),
    ],
)
def test_a_type_is_allowed_by_what_is_declared_or_proved(
    instance_type: str, declared: bool, proved: bool
) -> None:
    assert DECLARED.allows(instance_type) is declared
    assert PROVED.allows(instance_type) is proved


def test_any_has_no_list() -> None:
    anything = allowed_types.of_families(TypeRule.ANY, FAMILIES, ["g5"])
    assert anything == AllowedTypes()
    assert anything.allows("x1.32xlarge")
    assert str(anything) == "any"


def test_unsupported_alone_allows_the_rest() -> None:
    rest = AllowedTypes(unsupported=("t3.*",))
    assert rest.allows("t4g.large")
    assert not rest.allows("t3.large")


def test_a_test_takes_a_machine_of_each_class_that_is_promised() -> None:
    classes = ["86-one", "86-several", "90-one", "90-nvswitch"]
    for rule in (TypeRule.ANY, TypeRule.DECLARED):
        assert allowed_types.tested_classes(rule, FAMILIES, NAMES) == classes
    assert allowed_types.tested_classes(TypeRule.PROVED, FAMILIES, NAMES) == ["86-one", "90-one"]
    assert allowed_types.untested(FAMILIES, NAMES) == {
        "86-several": ["g5.12xlarge", "g5.24xlarge", "g5.48xlarge"],
        "90-nvswitch": ["p5.48xlarge"],
    }


def test_a_family_without_one_gpu_is_proved_on_what_it_has() -> None:
    """p4d has eight GPUs with NVSwitches and nothing else."""
    assert allowed_types.tested_classes(TypeRule.PROVED, FAMILIES, ["p4d"]) == ["80-nvswitch"]
    assert allowed_types.of_families(TypeRule.PROVED, FAMILIES, ["p4d"]).allows("p4d.24xlarge")


def test_each_type_of_a_gpu_family_is_in_one_class_of_its_gpus() -> None:
    """Every type that EC2 describes, against the classes of its family: the counts are EC2's."""
    names = [name for name, family in FAMILIES.items() if family.sm]
    classes = gpu_classes.declared(FAMILIES, names)
    compared = 0
    for row in described():
        family = FAMILIES.get(row["InstanceType"].partition(".")[0])
        if family is None or not family.sm or row.get("BareMetal"):
            continue
        count = sum(gpu.get("Count") or 0 for gpu in row["GpuInfo"]["Gpus"])
        own = [name for name, types in classes.items() if row["InstanceType"] in types]
        if count and family.machines:
            assert own == [gpu_classes.class_of(family, count)], row["InstanceType"]
            compared += 1
        else:
            assert own == [], row["InstanceType"]
    assert compared > 50


LOCKS = sorted((ROOT / "packer/locks").glob("*.lock.json"))


def _why_not(name: str, lock: Lock) -> str:
    """Why code for the lock's hardware does not run on a family, by the facts about it, or ""."""
    family = FAMILIES.get(name)
    if family is None:
        return "unknown"
    if family.cpu.architecture != lock.base.architecture:
        return "architecture"
    if not {*lock.hardware.features} <= instruction_sets.features(family.cpu.name):
        return "instructions"
    if lock.driver and family.sm not in lock.hardware.sm:
        return "GPU"
    return ""


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name.partition(".")[0])
def test_no_family_that_ec2_has_is_allowed_unless_the_image_runs_there(path: Path) -> None:
    """Every family that the pinned model of EC2 names, against what the lock was compiled for."""
    lock, _ = lockfile.read_copy(path)
    names = botocore.session.get_session().get_service_model("ec2").shape_for("InstanceType").enum
    assert len(names) > 1000, len(names)
    for rule in (TypeRule.DECLARED, TypeRule.PROVED):
        allowed = allowed_types.of_families(rule, FAMILIES, lock.hardware.families)
        verdicts = {name: allowed.allows(name) for name in names}
        allowed_families = {name.partition(".")[0] for name, is_ok in verdicts.items() if is_ok}
        assert {name: _why_not(name, lock) for name in allowed_families} == dict.fromkeys(
            lock.hardware.families, ""
        )
        assert not [name for name, is_ok in verdicts.items() if is_ok and ".metal" in name]
        assert not allowed.allows("g6f.large")  # a fraction of a GPU


@pytest.mark.parametrize(
    ("instance_type", "gpu", "count", "covered"),
    [
        ("p5.4xlarge", "NVIDIA H100 80GB HBM3", 1, "90-one"),
        ("p5.48xlarge", "NVIDIA H100 80GB HBM3", 8, "90-nvswitch"),
        ("g5.12xlarge", "NVIDIA A10G", 4, "86-several"),
    ],
)
def test_a_machine_covers_its_own_class_alone(
    instance_type: str, gpu: str, count: int, covered: str
) -> None:
    sm = covered.partition("-")[0]
    machine = gpu_proofs.TestedGpu(
        sm=sm,
        gpu=", ".join([gpu] * count),
        instance_type=instance_type,
        region="us-east-1",
        ami="ami-0123456789abcdef0",
        checks=1,
        junit_sha256="0123456789abcdef" * 4,
    )
    shorter = machine.model_copy(update={"gpu": gpu_proofs.counted(machine.gpu)})
    assert shorter.gpu == (gpu if count == 1 else f"{count} x {gpu}")
    for written in (machine, shorter):  # earlier versions repeated the name
        assert written.covered(FAMILIES) == {sm, covered}  # `sm` is what earlier versions ask for
