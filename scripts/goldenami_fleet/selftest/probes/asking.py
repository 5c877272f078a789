"""Calls to AWS for a probe. What they make is noted, and removed at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

from goldenami.aws import images, tags
from goldenami.aws.calls import NOT_YET, refused, tolerate, wait_for
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.aws.services import selftest_leftovers
from goldenami.aws.session import Account, Client, asked_once
from goldenami.core.errors import StageFailed

Asked = dict[str, Any]
"""The parameters of a call."""
GRANTED = "granted"
LIFETIME = timedelta(hours=2)
POLLS_S, LATE_S, LIMIT_S = (0.05, 0.5, 1, 2, 4, 8), 15.0, 900.0
"""Pauses between looks in seconds; how long EC2 may not know what was just made; and how long a
copy or a machine may take."""


_MADE: dict[str, Callable[[Asked, Any], str]] = {
    "start_snapshot": lambda _, made: str(made["SnapshotId"]),
    "copy_image": lambda _, made: str(made["ImageId"]),
    "register_image": lambda _, made: str(made["ImageId"]),
    "create_launch_template": lambda _, made: str(made["LaunchTemplate"]["LaunchTemplateId"]),
    "run_instances": lambda _, made: str(made["Instances"][0]["InstanceId"]),
    "create_auto_scaling_group": lambda asked, _: str(asked["AutoScalingGroupName"]),
    "put_parameter": lambda asked, _: str(asked["Name"]),
}
"""What each call makes that makes something, the last removed first."""


class Asking:
    """Calls in a region of an account. All that they make has tags, and a name of its own."""

    def __init__(self, account: Account, region: str, name: str) -> None:
        self.account, self.region, self.name = account, region, name
        self.tags = {**tags.temporary(LIFETIME), **tags.of_selftest(LIFETIME)}
        self.path = f"{selftest_leftovers.PATH}/{name}"
        self.ec2, self.ssm = account.ec2(region), account.ssm(region)
        self.autoscaling, self.ebs = account.autoscaling(region), account.ebs(region)
        self.made = defaultdict[str, set[str]](set)
        """By call, what it made."""

    def client(self, service: str) -> Client:
        # Cost Explorer has one endpoint.
        return self.account.client(service, "us-east-1" if service == "ce" else self.region)

    def ask(self, call: str, /, **asked: Any) -> Any:
        """Make a call such as `ec2.run_instances`, and note what it made."""
        service, _, operation = call.partition(".")
        answer = getattr(self.client(service), operation)(**asked)
        if operation in _MADE:
            self.made[operation].add(_MADE[operation](asked, answer))
        return answer

    def make(self, call: str, /, **asked: Any) -> str:
        """Make a call, and return the name of what it made."""
        return _MADE[call.partition(".")[2]](asked, self.ask(call, **asked))

    def answer(self, call: str, asked: Asked, expected: str) -> str:
        """Make a call once, and return the code with which AWS refuses, or GRANTED. Only while EC2
        does not know what was just made it is made again."""

        def once() -> str:
            with asked_once():
                return refused(partial(self.ask, call, **asked))[0] or GRANTED

        return self.seen(once, expected, NOT_YET)

    def seen(self, look: Callable[[], str], expected: str, late: tuple[str, ...] = ("",)) -> str:
        """Return what `look` says. While it says something else that ends in one of `late`, it is
        asked again for LATE_S seconds: EC2 shows a change a little later."""
        seen = ""

        def settled() -> bool | None:
            nonlocal seen
            seen = look()
            return seen == expected or not seen.endswith(late) or None

        wait_for(settled, limit_s=LATE_S, pauses=POLLS_S)
        return seen

    def wait(self, what: str, look: Callable[[], object]) -> Any:
        """Return the first true answer of `look`. Raises StageFailed if there is none in time."""
        found = wait_for(lambda: look() or None, *NOT_YET, limit_s=LIMIT_S, pauses=POLLS_S)
        if not found:
            raise StageFailed(
                f"{what} in {self.region} after {LIMIT_S:.0f} s",
                hint="run again; status.aws.amazon.com says whether EC2 is ill",
            )
        return found

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """TagSpecifications for what a call makes."""
        return tags.specifications(self.tags, *kinds)

    def described_group(self, name: str) -> list[dict[str, Any]]:
        """A group, or nothing if it is gone."""
        answer = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        return list(answer["AutoScalingGroups"])

    def close(self) -> None:
        """Remove all that was made, whatever happens, also what AWS gave no tags, by which a sweep
        would find it. Raises the last error."""
        removers: dict[str, Callable[[str], object]] = {
            "start_snapshot": partial(leftovers.remove, self.ec2, LeftoverKind.SNAPSHOT),
            "copy_image": self._remove_copy,
            "register_image": partial(leftovers.remove, self.ec2, LeftoverKind.IMAGE),
            "create_launch_template": self._remove_template,
            "run_instances": partial(leftovers.remove, self.ec2, LeftoverKind.INSTANCE),
            "create_auto_scaling_group": self._remove_group,
            "put_parameter": lambda name: self.ssm.delete_parameters(Names=[name]),
        }
        with ExitStack() as stack:  # from the last one up
            for call, remove in removers.items():
                for name in self.made[call]:
                    stack.callback(remove, name)

    def _remove_template(self, name: str) -> None:
        with tolerate(".NotFound"):
            self.ec2.delete_launch_template(LaunchTemplateId=name)

    def _remove_copy(self, ami: str) -> None:
        """Remove an AMI with its snapshots, which no answer named."""
        for image in images.get(self.ec2, [ami]).values():
            leftovers.remove(self.ec2, LeftoverKind.IMAGE, ami)
            if image.snapshot:
                leftovers.remove(self.ec2, LeftoverKind.SNAPSHOT, image.snapshot)

    def _remove_group(self, name: str) -> None:
        with tolerate("ValidationError"):  # it is gone
            self.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        self.wait(f"{name} is there", lambda: not self.described_group(name))
