"""What CloudFormation makes of a template and moto does not: alarms, scaling policies, budgets; how
a group changes.

Properties are those of https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/. A
number that a template gives as text becomes one, as CloudFormation does it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from moto.autoscaling.models import FakeAutoScalingGroup, autoscaling_backends
from moto.budgets.models import budgets_backends
from moto.cloudwatch.models import (
    Dimension,
    Metric,
    MetricDataQuery,
    MetricStat,
    cloudwatch_backends,
)
from moto.core.common_models import CloudFormationModel
from moto.utilities.utils import get_partition

from ec2_emulator.errors import ApiError

Data = dict[str, Any]
_moto_group = FakeAutoScalingGroup.create_from_cloudformation_json


class NamedResource:
    """A resource that is written as a whole under its name: a change writes it again."""

    def __init__(self, name: str, properties: Data, account: str, region: str) -> None:
        self.name, self.properties, self.account, self.region = name, properties, account, region

    @property
    def physical_resource_id(self) -> str:
        """What `Ref` gives."""
        return self.name

    @abstractmethod
    def put(self) -> None:
        """Write it into moto's state."""

    @abstractmethod
    def remove(self) -> None:
        """Take it out of moto's state."""

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Data, account_id: str, region_name: str,
        **_: Any,
    ) -> NamedResource:
        """Make it."""
        made = cls(resource_name, cloudformation_json["Properties"], account_id, region_name)
        made.put()
        return made

    @classmethod
    def update_from_cloudformation_json(
        cls, original_resource: Any, new_resource_name: str, cloudformation_json: Data,
        account_id: str,
        region_name: str,
    ) -> NamedResource:
        """Write it again, under its name, where the template does not give another."""
        original_resource.remove()
        return cls.create_from_cloudformation_json(original_resource.name, cloudformation_json,
                                                   account_id, region_name)

    def delete(self, _account: str, _region: str) -> None:
        """Take it away, if a person has not done so."""
        self.remove()


class StackAlarm(NamedResource, CloudFormationModel):
    """AWS::CloudWatch::Alarm over metrics or expressions."""

    @staticmethod
    def cloudformation_name_type() -> str:
        """The property that holds its name."""
        return "AlarmName"

    @staticmethod
    def cloudformation_type() -> str:
        """Its type."""
        return "AWS::CloudWatch::Alarm"

    def put(self) -> None:
        """As PutMetricAlarm."""
        given = self.properties
        if len({"MetricName", "Metrics"} & given.keys()) != 1:
            raise ApiError("ValidationError",
                           f"{self.name}: an alarm has either MetricName or Metrics")
        cloudwatch_backends[self.account][self.region].put_metric_alarm(
            name=self.name, namespace=given.get("Namespace", ""),
            metric_name=given.get("MetricName", ""),
            comparison_operator=given["ComparisonOperator"],
            evaluation_periods=int(given["EvaluationPeriods"]),
            period=int(given.get("Period", 0)), threshold=float(given["Threshold"]),
            statistic=given.get("Statistic", ""), description=given.get("AlarmDescription", ""),
            dimensions=given.get("Dimensions", []), alarm_actions=given.get("AlarmActions", []),
            treat_missing_data=given.get("TreatMissingData"),
            metric_data_queries=list(map(_query, given["Metrics"])))

    def remove(self) -> None:
        """As DeleteAlarms."""
        cloudwatch_backends[self.account][self.region].delete_alarms([self.name])

    def get_cfn_attribute(self, _attribute: str) -> str:
        """The ARN, its only attribute."""
        return f"arn:{get_partition(self.region)}:cloudwatch:{self.region}:{self.account}:alarm:{self.name}"


def _query(given: Data) -> MetricDataQuery:
    stat, none = given.get("MetricStat"), cast("str", None)
    metric = stat and MetricStat(
        Metric(stat["Metric"]["MetricName"], stat["Metric"]["Namespace"],
               [Dimension(each["Name"], each["Value"])
                for each in stat["Metric"].get("Dimensions", [])]),
        stat["Period"], stat["Stat"], stat.get("Unit"))
    return MetricDataQuery(given["Id"], given.get("Label", none), given.get("Period", none),
                           given.get("ReturnData", True), given.get("Expression"), metric)


class StackScalingPolicy(NamedResource, CloudFormationModel):
    """AWS::AutoScaling::ScalingPolicy that tracks a target."""

    @staticmethod
    def cloudformation_name_type() -> str:
        """It has a name that CloudFormation makes."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """Its type."""
        return "AWS::AutoScaling::ScalingPolicy"

    def put(self) -> None:
        """As PutScalingPolicy."""
        given = self.properties
        tracking = {**given["TargetTrackingConfiguration"],
                    "TargetValue": float(given["TargetTrackingConfiguration"]["TargetValue"])}
        autoscaling_backends[self.account][self.region].put_scaling_policy(
            name=self.name, policy_type=given["PolicyType"], as_name=given["AutoScalingGroupName"],
            target_tracking_config=tracking, scaling_adjustment=None, cooldown=None,
            **dict.fromkeys((
                "metric_aggregation_type", "adjustment_type", "min_adjustment_magnitude",
                "step_adjustments",
                "estimated_instance_warmup", "predictive_scaling_configuration"),
                            cast("Any", None)))

    def remove(self) -> None:
        """As DeletePolicy; with a group its policies go, too."""
        autoscaling_backends[self.account][self.region].policies.pop(self.name, None)


class StackBudget(NamedResource, CloudFormationModel):
    """AWS::Budgets::Budget."""

    @staticmethod
    def cloudformation_name_type() -> str:
        """Its name is within `Budget`."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """Its type."""
        return "AWS::Budgets::Budget"

    def __init__(self, name: str, properties: Data, account: str, region: str) -> None:
        super().__init__(properties["Budget"].get("BudgetName", name), properties, account, region)

    def put(self) -> None:
        """As CreateBudget."""
        budget = self.properties["Budget"]
        limit = {"Amount": str(budget["BudgetLimit"]["Amount"]),
                 "Unit": budget["BudgetLimit"]["Unit"]}
        told = self.properties.get("NotificationsWithSubscribers", [])
        if "FilterExpression" in budget and not budget.get("Metrics"):
            raise ApiError("ValidationException", "FilterExpression requires Metrics")
        if len(told) > 10:
            raise ApiError("CreationLimitExceededException",
                           "a budget has at most 10 notifications")
        budgets_backends[self.account][get_partition(self.region)].create_budget(
            self.account, {**budget, "BudgetName": self.name, "BudgetLimit": limit}, told)

    def remove(self) -> None:
        """As DeleteBudget."""
        budgets_backends[self.account][get_partition(self.region)].budgets[self.account].pop(
            self.name, None
        )


def _numbers(cloudformation_json: Data) -> Data:
    """A group's description with numbers that are numbers."""
    given = dict(cloudformation_json["Properties"])
    for name in ("MinSize", "MaxSize", "DesiredCapacity", "HealthCheckGracePeriod"):
        if name in given:
            given[name] = int(given[name])
    return {**cloudformation_json, "Properties": given}


def create_group(
    resource_name: str, cloudformation_json: Data, account_id: str, region_name: str, **others: Any,
) -> FakeAutoScalingGroup:
    """AWS::AutoScaling::AutoScalingGroup, made."""
    return _moto_group(resource_name, _numbers(cloudformation_json), account_id, region_name,
                       **others)


def update_group(
    original_resource: FakeAutoScalingGroup, new_resource_name: str, cloudformation_json: Data,
    account_id: str,
    region_name: str,
) -> FakeAutoScalingGroup:
    """The same group changed: its machines stay (moto would make another one)."""
    given = _numbers(cloudformation_json)["Properties"]
    return autoscaling_backends[account_id][region_name].update_auto_scaling_group(
        name=original_resource.name, availability_zones=given.get("AvailabilityZones", []),
        desired_capacity=given.get("DesiredCapacity"), max_size=given["MaxSize"],
        min_size=given["MinSize"],
        launch_config_name="", launch_template={},
        vpc_zone_identifier=",".join(given.get("VPCZoneIdentifier", [])),
        health_check_period=given.get("HealthCheckGracePeriod", 0),
        health_check_type=given.get("HealthCheckType", ""),
        new_instances_protected_from_scale_in=given.get("NewInstancesProtectedFromScaleIn"),
        mixed_instances_policy=given["MixedInstancesPolicy"])


def delete_group(group: FakeAutoScalingGroup, account_id: str, region_name: str) -> None:
    """Delete a group, if nobody has."""
    backend = autoscaling_backends[account_id][region_name]
    if backend.autoscaling_groups.get(group.name) is group:
        backend.delete_auto_scaling_group(group.name)


def protects(group: Any) -> bool:
    """Whether the resource is a group that cannot go: it would have to be scaled in, and has a
    protected machine.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-instance-protection.html
    """
    return (
        isinstance(group, FakeAutoScalingGroup)
        and group.autoscaling_backend.autoscaling_groups.get(group.name) is group
        and any(each.protected_from_scale_in for each in group.instance_states)
    )


def install() -> None:
    """Replace what moto does with a group; the classes above are found by themselves."""
    group: Any = FakeAutoScalingGroup
    group.create_from_cloudformation_json = staticmethod(create_group)
    group.update_from_cloudformation_json = staticmethod(update_group)
    group.delete = delete_group
