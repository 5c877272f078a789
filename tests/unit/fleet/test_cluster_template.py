"""The template of a cluster: linted, for every image, with a dashboard that is JSON and what an
image's groups need."""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml
from ec2_emulator.state import USD_HOUR
from goldenami.aws import tags
from goldenami.aws.channels import launch_data
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.services import metrics
from goldenami.aws.services.stacks import StackTemplate
from goldenami.core.errors import BadInput
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import (
    ClusterSection,
    GroupedBy,
    MachinesAhead,
    Monitoring,
)
from goldenami.model.operation.publish_section import Publish
from goldenami.model.supported import hardware
from goldenami.model.supported.allowed_types import TypeRule
from goldenami_fleet.cluster import cluster_template
from support import trees
from support.builds.tools import ROOT, complaints

IMAGES = sorted(path.stem for path in trees.scanned(7, ROOT, "packer/images/*.yml"))
GPU_IMAGE, CPU_IMAGE = "debian-13-ml", "debian-13-ml-cpu"
SIZES = [
    *(f"{count}xlarge" for count in ("", 2, 4, 8, 12, 16, 24, 32, 48)),
    "metal-24xl",
    "metal-48xl",
    "large",
]
"""More sizes than a family has that images declare."""


AHEAD = ClusterSection(
    hours=["Mon-Fri 08:00-19:00 Europe/Berlin"],
    holidays=[date(2099, 12, 25)],
    machines={
        "g5": MachinesAhead(working_hours=2, spare=1),
        "g6": MachinesAhead(stopped=3),
        "g4dn": MachinesAhead(working_hours=1),
    },
)

BY_TYPE = ClusterSection(
    by=GroupedBy.TYPE,
    machines={"g5.xlarge": MachinesAhead(spare=1), "g5.2xlarge": MachinesAhead()},
)


@cache
def definition(image: str) -> Definition:
    return definition_file.load(ROOT, definition_file.path_of(ROOT, image))


def prices(image: str) -> RegionPrices:
    every = {f"{family}.{size}": 1.5 for family in definition(image).hardware for size in SIZES}
    return RegionPrices("us-east-1", "2024-12-02", every | USD_HOUR, 0.05)


def rendered(
    image: str, known: RegionPrices | None = None, section: ClusterSection | None = None
) -> StackTemplate:
    known, own = known or prices(image), definition(image).model_copy(update={"cluster": section})
    present = {*own.hardware, *known.machine_hour}
    groups = cluster_template.groups_of(own, hardware.load(ROOT), present, known)
    return cluster_template.render(own, groups, known)


@pytest.fixture(scope="module")
def linted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The resources of the template of each image.

    cfn-lint has nothing to say against one with GPUs, one without, and one without prices.
    """
    folder = tmp_path_factory.mktemp("clusters")
    for image in IMAGES:
        (folder / f"{image}.yml").write_text(rendered(image).body, encoding="utf-8")
    unknown = rendered(
        GPU_IMAGE, RegionPrices("us-east-1", unknown='AWS did not answer: "timeout"')
    )
    (folder / "unknown.yml").write_text(unknown.body, encoding="utf-8")
    (folder / "ahead.yml").write_text(rendered(GPU_IMAGE, section=AHEAD).body, encoding="utf-8")
    (folder / "by_type.yml").write_text(rendered(GPU_IMAGE, section=BY_TYPE).body, encoding="utf-8")
    names = (GPU_IMAGE, CPU_IMAGE, "unknown", "ahead", "by_type")
    shapes = [str(folder / f"{name}.yml") for name in names]
    assert complaints("cfn-lint", *shapes) == ""
    return {path.stem: cfn_yaml.load(str(path))["Resources"] for path in folder.glob("*.yml")}


def test_cfn_lint_complains(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text(
        rendered(GPU_IMAGE).body.replace("TopicName:", "TopicNme:"), encoding="utf-8"
    )
    assert "'TopicNme' was unexpected" in complaints("cfn-lint", str(tmp_path / "bad.yml"))


def test_every_image_has_a_group_for_each_family(linted: dict[str, dict[str, Any]]) -> None:
    for image in IMAGES:
        found = [
            body["Properties"]
            for body in linted[image].values()
            if body["Type"] == "AWS::AutoScaling::AutoScalingGroup"
        ]
        assert [each["AutoScalingGroupName"] for each in found] == [
            f"golden-{image}-{family}" for family in definition(image).hardware
        ]
        assert {each["NewInstancesProtectedFromScaleIn"] for each in found} == {True}


@pytest.mark.parametrize(
    ("rule", "types"),
    [
        (
            TypeRule.PROVED,
            ("g5.16xlarge", "g5.2xlarge", "g5.4xlarge", "g5.8xlarge", "g5.xlarge"),
        ),
        (TypeRule.DECLARED, ("g5.*",)),
        (TypeRule.ANY, ("g5.*",)),
    ],
)
def test_a_group_takes_the_types_that_ec2_launches_the_image_on(
    rule: TypeRule, types: tuple[str, ...]
) -> None:
    section = Publish(regions=["us-east-1"], share_with=[], instance_types=rule)
    own = definition(GPU_IMAGE).model_copy(update={"publish": section})
    known = prices(GPU_IMAGE)
    groups = cluster_template.groups_of(own, hardware.load(ROOT), own.hardware, known)
    assert {group.kind: group.types for group in groups}["g5"] == types
    body = cluster_template.render(own, groups, known).body
    listed = "', '".join(types)
    assert f"AllowedInstanceTypes: ['{listed}']" in body


def test_machines_ahead_of_their_users(linted: dict[str, dict[str, Any]]) -> None:
    """The least changes by the clock, the number by what is free and unused, and neither ends what
    is busy."""
    made = linted["ahead"]
    assert made["G5Group"]["UpdatePolicy"] == {
        "AutoScalingScheduledAction": {"IgnoreUnmodifiedGroupSizeProperties": True}
    }
    assert "UpdatePolicy" not in made["G6Group"]
    assert made["G5Closes1"]["Properties"]["MinSize"] == {"Ref": "MinInstances"}
    for family, name, change, metric, compared, threshold in (
        ("G5", "Spare", 1, "golden_free", "LessThanThreshold", 0.5),
        ("G5", "Surplus", -1, "golden_unused", "GreaterThanThreshold", 1.5),
        ("G4dn", "Surplus", -1, "golden_unused", "GreaterThanThreshold", 0.5),
    ):
        alarm = made[f"{family}{name}"]["Properties"]
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == (compared, threshold)
        assert alarm["Metrics"][1]["MetricStat"]["Metric"]["MetricName"] == metric
        assert alarm["AlarmActions"] == [{"Ref": f"{family}{name}Policy"}]
        assert made[f"{family}{name}Policy"]["Properties"]["ScalingAdjustment"] == change
    assert made["G5Spare"]["Properties"]["TreatMissingData"] == "breaching"  # from none at all
    assert "G4dnSpare" not in made and "G6Surplus" not in made
    # An idle spare machine is no reason for an alarm.
    assert "G6Idle" in made and "G5Idle" not in made and "G5Idle" not in str(made["Dashboard"])


def test_a_warm_pool_has_one_type(linted: dict[str, dict[str, Any]]) -> None:
    made, group = linted["ahead"], linted["ahead"]["G6Group"]["Properties"]
    pool = made["G6Warm"]["Properties"]
    assert (pool["PoolState"], pool["MinSize"], pool["MaxGroupPreparedCapacity"]) == (
        "Stopped",
        3,
        3,
    )
    assert "MixedInstancesPolicy" not in group
    assert group["LaunchTemplate"]["LaunchTemplateName"] == f"golden-{GPU_IMAGE}"


def test_each_named_type_has_a_group_with_its_own_alarms(
    linted: dict[str, dict[str, Any]],
) -> None:
    made = linted["by_type"]
    groups = {
        body["Properties"]["AutoScalingGroupName"]: body["Properties"]["MixedInstancesPolicy"]
        for body in made.values()
        if body["Type"] == "AWS::AutoScaling::AutoScalingGroup"
    }
    assert {name: policy["LaunchTemplate"]["Overrides"] for name, policy in groups.items()} == {
        f"golden-{GPU_IMAGE}-{name}": [{"InstanceType": name}]
        for name in ("g5.xlarge", "g5.2xlarge")
    }
    assert made["G5XlargeSpare"]["Properties"]["AlarmActions"] == [{"Ref": "G5XlargeSparePolicy"}]
    assert made["G52xlargeDisk"]["Properties"]["AlarmName"] == f"golden-{GPU_IMAGE}-g5.2xlarge-disk"
    dashboard = str(made["Dashboard"])
    assert f"golden-{GPU_IMAGE}-g5.2xlarge" in dashboard and "g6.xlarge" not in dashboard


def test_the_names_are_those_that_machines_send() -> None:
    body = rendered(GPU_IMAGE).body
    sent = {metrics.GPU_PERCENT, metrics.GPU_MEMORY_MIB, metrics.DISK_PERCENT, metrics.IDLE}
    assert set(re.findall(r'(?:MetricName=\\"|MetricName: |AVG\(|MAX\()([a-z]\w+)', body)) == sent


def test_more_families_than_a_template_holds() -> None:
    many = definition(GPU_IMAGE).model_copy(update={"hardware": sorted(hardware.load(ROOT))[:40]})
    groups = cluster_template.groups_of(many, hardware.load(ROOT), many.hardware, prices(GPU_IMAGE))
    with pytest.raises(BadInput, match="bytes, and CloudFormation takes 51,200"):
        cluster_template.render(many, groups, prices(GPU_IMAGE))


@pytest.mark.parametrize(
    ("section", "stated", "enabled"),
    [
        (None, None, None),
        (AHEAD, None, True),
        (AHEAD, Monitoring.BASIC, False),
        (None, Monitoring.DETAILED, True),
    ],
)
def test_detailed_monitoring_is_a_cluster_s_default(
    section: ClusterSection | None, stated: Monitoring | None, enabled: bool | None
) -> None:
    """A template of before says nothing of it, and still fits."""
    publish = definition(GPU_IMAGE).publish
    assert publish is not None
    template = publish.launch_template.model_copy(update={"monitoring": stated})
    own = definition(GPU_IMAGE).model_copy(
        update={
            "cluster": section,
            "publish": publish.model_copy(update={"launch_template": template}),
        }
    )
    data = launch_data.of_image(own, "ami-1", ())
    assert data.get("Monitoring") == (None if enabled is None else {"Enabled": enabled})


@pytest.mark.parametrize(
    ("regions", "profile", "keep", "is_made"),
    [
        (["us-east-1", "us-west-2"], f"golden-ami-cluster-{GPU_IMAGE}", "", True),
        (["us-west-2", "us-east-1"], f"golden-ami-cluster-{GPU_IMAGE}", "", False),
        (["us-east-1"], f"golden-ami-cluster-{GPU_IMAGE}", "s3://acme-keep/vision", True),
        (["us-east-1"], "golden-ami-instance", "s3://acme-keep/vision", False),
    ],
)
def test_the_first_region_makes_the_role_of_the_machines(
    tmp_path: Path, regions: list[str], profile: str, keep: str, is_made: bool
) -> None:
    publish = definition(GPU_IMAGE).publish
    assert publish is not None
    template = publish.launch_template.model_copy(update={"instance_profile": profile})
    own = definition(GPU_IMAGE).model_copy(
        update={
            "publish": publish.model_copy(update={"launch_template": template, "regions": regions}),
            "roles": {"golden_idle": {"golden_idle_keep": keep}},
        }
    )
    groups = cluster_template.groups_of(
        own, hardware.load(ROOT), own.hardware[:1], prices(GPU_IMAGE)
    )
    body = cluster_template.render(own, groups, prices(GPU_IMAGE)).body
    (tmp_path / "role.yml").write_text(body, encoding="utf-8")
    assert complaints("cfn-lint", str(tmp_path / "role.yml")) == ""
    made = cfn_yaml.load(str(tmp_path / "role.yml"))["Resources"]
    assert ("Machine" in made) is is_made
    if is_made:
        assert made["MachineProfile"]["Properties"]["InstanceProfileName"] == profile
        role = made["Machine"]["Properties"]
        expected_tags = {tags.CLUSTER: GPU_IMAGE}
        policies = ["golden-ami-boundary", "golden-ami-instance"]
        if keep:
            expected_tags[tags.TEAM] = "vision"
            policies.append("golden-ami-instance-keep")
        assert role["Tags"] == tags.to_list(expected_tags)
        named = str([role["PermissionsBoundary"], *role["ManagedPolicyArns"]])
        assert re.findall(r"policy/([a-z-]+)", named) == policies
    hooks = [body for body in made.values() if body["Type"] == "AWS::AutoScaling::LifecycleHook"]
    assert len(hooks) == bool(keep)


def test_what_pages_and_hints_say_of_subnets_is_taken() -> None:
    template = rendered(CPU_IMAGE)
    source = ROOT / "scripts/goldenami_fleet/cluster/cluster_plan.py"
    for text in (
        template.body,
        source.read_text("utf-8"),
        (ROOT / "docs/operate/cluster.md").read_text("utf-8"),
    ):
        examples = re.findall(r"Subnets=([a-z0-9,-]+)", text)
        assert examples
        for subnets in examples:
            template.check({"Subnets": subnets})
