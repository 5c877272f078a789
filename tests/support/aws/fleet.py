"""An account in which two builds of an image were published, for tests of what runs there."""

from __future__ import annotations

from dataclasses import dataclass

from support.aws.seeded_account import REGION, SeededAccount
from support.builds.builds import IMAGE, Checkout

TYPE = "launch_template: {instance_type: c7i.large}"
TEMPLATE = {"LaunchTemplateName": f"golden-{IMAGE}"}


@dataclass(frozen=True)
class Fleet:
    """The account; each build has a version of the launch template, and the second one is
    `latest`."""

    account: SeededAccount
    checkout: Checkout
    builds: tuple[str, str]

    @classmethod
    def publish(cls, account: SeededAccount, checkout: Checkout) -> Fleet:
        checkout.define(f"publish: {{regions: [{REGION}], {TYPE}}}\n")
        return cls(account, checkout, (checkout.publish(1), checkout.publish(2)))

    def ami(self, number: int) -> str:
        (found,) = (
            ami.id
            for ami in self.account.amis().values()
            if ami.build_id == self.builds[number - 1]
        )
        return found

    def by_version(self, version: int) -> str:
        return self.account.launch(
            self.ami(version), LaunchTemplate={**TEMPLATE, "Version": str(version)}
        )

    def group(self, name: str, version: str) -> str:
        """An Auto Scaling group of the launch template with one instance; returns the instance."""
        self.account.group(name, LaunchTemplate={**TEMPLATE, "Version": version})
        self.account.groups.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=1)
        return self.members(name)[0]

    def members(self, name: str) -> list[str]:
        (found,) = self.account.groups.describe_auto_scaling_groups(AutoScalingGroupNames=[name])[
            "AutoScalingGroups"
        ]
        return [each["InstanceId"] for each in found["Instances"]]
