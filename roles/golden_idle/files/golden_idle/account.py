"""The instance and its account: identity, group, metrics, protection and notices.

boto3 is loaded at the first call. Every call has short timeouts and fails with AccountError, in one
line. Credentials are the instance profile's.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from golden_idle import metrics, settings

IMDS = "http://169.254.169.254"
CONNECT_S, READ_S, TRIES = 3, 10, 2
"""Seconds until a connection and an answer, and the attempts of a call."""
SUBJECT = 99
"""The most characters of a subject, which is one line of ASCII (SNS API reference, Publish: fewer
than 100)."""
REFUSED = frozenset(
    {"InvalidParameterValue", "InvalidParameterCombination", "MissingParameter", "InvalidParameter"}
)
"""PutMetricData's error codes for a request that will never be accepted (CloudWatch's API
reference)."""


class AccountError(Exception):
    """A call that failed, in one line. `never` says that the same request will not succeed
    later."""

    def __init__(self, text: str, *, never: bool = False) -> None:
        super().__init__(text)
        self.never = never


@dataclass(frozen=True)
class Instance:
    """This machine as EC2 describes it."""

    id: str
    type: str
    image: str
    region: str

    @property
    def dimensions(self) -> dict[str, str]:
        """Return the dimensions that CloudWatch's agent adds by `append_dimensions`."""
        return {"InstanceId": self.id, "ImageId": self.image, "InstanceType": self.type}


def metadata(path: str) -> str:
    """Return what the metadata service (IMDSv2) says. Raises OSError if it does not."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", IMDS).rstrip("/")
    token_request = urllib.request.Request(  # noqa: S310 - http, to IMDS
        f"{base}/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
    )
    headers = {"X-aws-ec2-metadata-token": _answer(token_request)}
    return _answer(
        urllib.request.Request(f"{base}/latest/{path}", headers=headers)  # noqa: S310 - as above
    )


def this_instance() -> Instance:
    """Return this machine's identity from the metadata service."""
    try:
        document = json.loads(metadata("dynamic/instance-identity/document"))
        return Instance(
            document["instanceId"],
            document["instanceType"],
            document["imageId"],
            document["region"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise AccountError(
            f"the metadata service does not say which instance this is: {error}"
        ) from None


def _answer(request: urllib.request.Request) -> str:
    with _opener().open(request, timeout=CONNECT_S) as answer:
        return str(answer.read(1 << 16).decode())


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener without proxies: the metadata service is never behind one."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Account:
    """Calls to AWS for one instance. Two threads use it: boto3's clients allow that, sessions do
    not."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        import boto3  # noqa: PLC0415 - 60 MB, which a machine without any account need not load
        from botocore.config import Config  # noqa: PLC0415 - as above

        config = Config(
            connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": TRIES}
        )
        session = boto3.session.Session(region_name=instance.region)
        # Made here, by one thread: making a client uses the session.
        self._clients: dict[str, Any] = {
            name: session.client(name, config=config)
            for name in ("cloudwatch", "autoscaling", "ssm")
        }
        self._topics = functools.partial(session.client, "sns", config=config)
        self._instances = functools.partial(session.client, "ec2", config=config)

    @contextmanager
    def _calling(self, action: str) -> Iterator[None]:
        """Turn boto3's errors into AccountError."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise AccountError(
                f"{action}: {' '.join(str(error).split())}", never=code in REFUSED
            ) from None
        except BotoCoreError as error:
            raise AccountError(f"{action}: {' '.join(str(error).split())}") from None

    def group(self) -> str:
        """Return the name of the instance's Auto Scaling group, or "" if it is in none."""
        with self._calling("which group"):
            answer = self._clients["autoscaling"].describe_auto_scaling_instances(
                InstanceIds=[self.instance.id]
            )
        # A machine in a warm pool does no work yet, and cannot be protected.
        return next(
            (
                str(row["AutoScalingGroupName"])
                for row in answer["AutoScalingInstances"]
                if not row["LifecycleState"].startswith("Warmed")
            ),
            "",
        )

    def kept(self, group: str) -> int:
        """Return the group's least size if it is no larger, or 0 if a machine may leave it."""
        with self._calling("how many the group keeps"):
            [row] = self._clients["autoscaling"].describe_auto_scaling_groups(
                AutoScalingGroupNames=[group]
            )["AutoScalingGroups"]
        return int(row["MinSize"]) if row["DesiredCapacity"] <= row["MinSize"] else 0

    def put(self, data: list[dict[str, Any]]) -> None:
        """Publish a minute's metrics."""
        with self._calling("metrics"):
            self._clients["cloudwatch"].put_metric_data(
                Namespace=metrics.NAMESPACE, MetricData=data
            )

    def protect(self, group: str, protected: bool) -> None:
        """Protect the instance from its group's scale-in, or end the protection."""
        with self._calling("scale-in protection"):
            self._clients["autoscaling"].set_instance_protection(
                AutoScalingGroupName=group,
                InstanceIds=[self.instance.id],
                ProtectedFromScaleIn=protected,
            )

    def leave_group(self) -> None:
        """Terminate the instance and make its group smaller by one, so that nothing replaces it."""
        with self._calling("leave_group"):
            self._clients["autoscaling"].terminate_instance_in_auto_scaling_group(
                InstanceId=self.instance.id, ShouldDecrementDesiredCapacity=True
            )

    def hooks(self, group: str) -> dict[str, float]:
        """Return the group's hooks for an instance that ends, and the seconds that each waits."""
        with self._calling("lifecycle hooks"):
            answer = self._clients["autoscaling"].describe_lifecycle_hooks(
                AutoScalingGroupName=group
            )
        return {
            hook["LifecycleHookName"]: float(hook["HeartbeatTimeout"])
            for hook in answer["LifecycleHooks"]
            if hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
        }

    def answer_hook(self, group: str, hook: str, *, done: bool) -> None:
        """Let the group go on, or have its hook wait once more as long."""
        about = {
            "AutoScalingGroupName": group,
            "LifecycleHookName": hook,
            "InstanceId": self.instance.id,
        }
        with self._calling(f"lifecycle hook {hook}"):
            if done:
                self._clients["autoscaling"].complete_lifecycle_action(
                    **about, LifecycleActionResult="CONTINUE"
                )
            else:
                self._clients["autoscaling"].record_lifecycle_action_heartbeat(**about)

    def block_end(self) -> str:
        """Return when EC2 ends the instance of a capacity block, or "": half an hour before the
        block's end ("Use Capacity Blocks for machine learning workloads", Auto Scaling User
        Guide)."""
        with self._calling("the capacity block"):
            ec2 = self._instances()
            [found] = ec2.describe_instances(InstanceIds=[self.instance.id])["Reservations"]
            block = found["Instances"][0].get("CapacityReservationId", "")
            [row] = ec2.describe_capacity_reservations(CapacityReservationIds=[block])[
                "CapacityReservations"
            ]
        return (row["EndDate"] - timedelta(minutes=30)).isoformat() if "EndDate" in row else ""

    def tag(self, key: str, value: str) -> None:
        """Give the instance a tag. Characters that EC2 forbids in a value become spaces."""
        with self._calling("tag"):
            self._instances().create_tags(
                Resources=[self.instance.id],
                Tags=[{"Key": key, "Value": re.sub(r"[^\w +=.:/@-]", " ", value, flags=re.ASCII)}],
            )

    def fail(self) -> None:
        """Have the instance's group replace it, also within the grace period after a launch."""
        with self._calling("replace"):
            self._clients["autoscaling"].set_instance_health(
                InstanceId=self.instance.id,
                HealthStatus="Unhealthy",
                ShouldRespectGracePeriod=False,
            )

    def notify(self, target: str, subject: str, text: str, owners: Sequence[str]) -> None:
        """Send a notice to an SNS topic, a webhook (in Slack's format), or the webhook whose
        address is in an SSM parameter. A topic's subscription may ask for an owner's notices."""
        if settings.is_topic(target):
            names = {"DataType": "String.Array", "StringValue": json.dumps(list(owners))}
            attributes = {"owner": names} if owners else {}
            with self._calling("notice"):
                # A topic may be in another region; its ARN names it.
                self._topics(region_name=target.split(":")[3]).publish(
                    TopicArn=target,
                    Subject=subject[:SUBJECT],
                    Message=text,
                    MessageAttributes=attributes,
                )
            return
        address = target
        if target.startswith("ssm:"):
            with self._calling("notice"):
                address = (
                    self._clients["ssm"]
                    .get_parameter(Name=target.removeprefix("ssm:"), WithDecryption=True)[
                        "Parameter"
                    ]["Value"]
                    .strip()
                )
        post(address, {"text": f"{subject}\n{text}"})


@functools.cache
def connect() -> Account:
    """Return the account of this instance. Raises AccountError until the metadata service says
    which instance it is."""
    instance = this_instance()
    try:
        return Account(instance)
    except ImportError as error:
        raise AccountError(f"boto3 cannot be loaded: {error}: install python3-boto3") from None


def post(address: str, message: Mapping[str, str]) -> None:
    """Send JSON to a webhook. Raises AccountError if it fails, without the address, which is a
    secret."""
    if not settings.is_webhook(address):
        raise AccountError("notice: the webhook's address does not begin with https://")
    request = urllib.request.Request(  # noqa: S310 - https, as checked above
        address,
        json.dumps(message).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=READ_S):  # noqa: S310 - https
            pass
    except urllib.error.HTTPError as error:
        raise AccountError(f"notice: the webhook answers {error.code} {error.reason}") from None
    except OSError as error:
        raise AccountError(
            f"notice: the webhook cannot be reached: {getattr(error, 'reason', error)}"
        ) from None
    except (http.client.HTTPException, ValueError) as error:  # their texts contain the address
        raise AccountError(
            f"notice: the webhook's address or answer is none ({type(error).__name__})"
        ) from None
