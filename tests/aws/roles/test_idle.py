"""golden-idle as a process: metrics, protection, notices and actions, in the emulated account and
without any."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from golden_idle import owner
from golden_idle.account import Account, Instance
from support import files
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.builds.tools import granted
from support.gpu import gpu_machine
from support.idle import machine
from support.idle.machine import REGION, IdleMachine
from support.idle.topic import Topic
from support.waiting import until

GROUP = "workstations"
DIMENSIONS = {"InstanceId", "ImageId", "InstanceType"}


@pytest.fixture
def topic(aws: Emulator) -> Topic:
    return Topic("golden-idle")


@pytest.fixture
def instance(aws: Emulator, account: SeededAccount) -> str:
    return account.launch(account.ami(1))


@pytest.fixture
def imds(instance: str) -> Iterator[str]:
    with machine.metadata_service(instance, {"Owner": "ann@example.org"}) as address:
        yield address


@pytest.fixture
def joined(instance: str) -> str:
    machine.join(instance, GROUP)
    return instance


def member(instance: str) -> dict[str, Any] | None:
    found = boto3.client("autoscaling", REGION).describe_auto_scaling_instances(
        InstanceIds=[instance]
    )
    return next(iter(found["AutoScalingInstances"]), None)


def metrics() -> dict[str, dict[str, str]]:
    """Names of what was published, with the dimensions of each."""
    listed = boto3.client("cloudwatch", REGION).list_metrics(Namespace="CWAgent")["Metrics"]
    return {
        each["MetricName"]: {pair["Name"]: pair["Value"] for pair in each["Dimensions"]}
        for each in listed
    }


@pytest.mark.long
def test_notice_hold_grace_and_power_off(
    instance: str, imds: str, topic: Topic, tmp_path: Path
) -> None:
    # 30 s: time to hold it.
    here = IdleMachine(tmp_path, action="poweroff", target=topic.arn, grace_minutes=60)
    with here.agent(imds) as agent:
        state = agent.wait(lambda state: state["idle"])
        agent.wait(lambda state: state["stage"] == "notified")
        login = here.root / "run/motd.d/50-golden-idle"
        assert "powers off in 60" in login.read_text(encoding="utf-8")
        assert "powers off in 60" in (here.root / "dev/pts/0").read_text(encoding="utf-8")
        message, *_ = topic.messages()  # a starved agent counts as busy, and announces it again
        assert message["Subject"] == (
            f"{instance} (g6.xlarge, {REGION}) is idle: poweroff (ann@example.org)"
        )
        assert "Its owner: ann@example.org." in message["Message"]
        assert "powers off in 60 minutes" in message["Message"] and state["quiet_s"] >= 15 * 60
        held = here.golden_idle("hold", "30m", "the", "demo")
        assert held.returncode == 0 and "held until" in held.stdout
        agent.wait(lambda state: state["stage"] == "busy" and "held for" in state["reason"])
        assert "the demo" in here.golden_idle("why").stdout and not here.stopped.exists()
        assert not login.exists(), "nobody who logs in now is told of it"
        assert here.golden_idle("release").returncode == 0
        agent.wait(lambda state: state["stage"] == "notified")
        assert "acts in" in here.golden_idle("status").stdout
        agent.wait(lambda state: state["stage"] == "done")
        assert here.stopped.exists() and topic.messages()
        here.work()
        agent.wait(lambda state: state["stage"] == "busy" and "CPU" in state["reason"])


@pytest.mark.long
def test_busy_is_protected_at_once_and_again_and_idle_leaves_its_group(
    aws: Emulator,
    joined: str,
    imds: str,
    topic: Topic,
    tmp_path: Path,
) -> None:
    groups = boto3.client("autoscaling", REGION)
    here = IdleMachine(tmp_path, action="leave_group", target=topic.arn)
    with here.agent(imds) as agent:
        agent.wait(lambda state: state["protected"])
        groups.set_instance_protection(
            AutoScalingGroupName=GROUP, InstanceIds=[joined], ProtectedFromScaleIn=False
        )

        def protected_again() -> bool:
            here.work()  # or it would become idle meanwhile
            found = member(joined)
            return bool(found and found["ProtectedFromScaleIn"])

        until("protection that is set again", protected_again)
        agent.wait(lambda state: state["stage"] == "done")
    assert "is terminated" in topic.messages()[0]["Message"]
    assert member(joined) is None
    assert (
        groups.describe_auto_scaling_groups(AutoScalingGroupNames=[GROUP])["AutoScalingGroups"][0][
            "DesiredCapacity"
        ]
        == 0
    )
    published = metrics()
    assert {
        "cpu_usage_active",
        "mem_used_percent",
        "disk_used_percent",
        "golden_idle",
    } <= published.keys()
    assert published["disk_used_percent"].keys() == DIMENSIONS | {
        "path",
        "device",
        "fstype",
        "AutoScalingGroupName",
    }
    assert published["golden_idle"]["InstanceId"] == joined


@pytest.mark.long
def test_what_a_calendar_wants_stays_until_the_evening(
    joined: str, imds: str, topic: Topic, tmp_path: Path
) -> None:
    """Nobody is told of an end that does not come, and the group may take the machine later."""
    groups = boto3.client("autoscaling", REGION)
    groups.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=1)  # as at eight o'clock
    here = IdleMachine(tmp_path, action="leave_group", target=topic.arn)
    with here.agent(imds, speed=30) as agent:
        state = agent.wait(lambda state: state["failure"] and not state["protected"])
        assert state["failure"] == f"stays, though idle: the group {GROUP} keeps 1 machines now"
        found = member(joined)
        assert found and found["ProtectedFromScaleIn"] is False and not topic.messages()
        groups.update_auto_scaling_group(AutoScalingGroupName=GROUP, MinSize=0)  # the day ends
        agent.wait(lambda state: state["stage"] == "done")
    assert member(joined) is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("action", "place", "refusal"),
    [
        (
            "poweroff",
            "joined",
            f"the group {GROUP} would replace the instance; set the action leave_group",
        ),
        ("leave_group", "instance", "the instance is in no group; set the action poweroff"),
    ],
)
def test_what_does_not_fit_the_group_is_refused_and_announced_so(
    request: pytest.FixtureRequest,
    action: str,
    place: str,
    refusal: str,
    imds: str,
    topic: Topic,
    tmp_path: Path,
) -> None:
    before = member(request.getfixturevalue(place))
    here = IdleMachine(tmp_path, action=action, target=topic.arn)
    with here.agent(imds) as agent:
        state = agent.wait(lambda state: state["failure"])
    assert state["failure"] == f"{action} is refused: {refusal}"
    assert f"That will not happen: {action} is refused: {refusal}." in topic.texts()[0]
    assert not here.stopped.exists()
    assert (member(request.getfixturevalue(place)) is None) == (before is None)


@pytest.mark.long
def test_who_cannot_be_told_is_not_stopped(
    aws: Emulator, imds: str, topic: Topic, tmp_path: Path
) -> None:
    aws.set(denied={"*": ["sns:Publish", "cloudwatch:PutMetricData"]})
    here = IdleMachine(tmp_path, action="poweroff", target=topic.arn)
    with here.agent(imds) as agent:
        state = agent.wait(lambda state: state["failure"])
        assert state["stage"] == "busy" and "sns:Publish" in state["failure"]
        assert "trouble: notice: " in here.golden_idle("status").stdout
        waiting = agent.wait(lambda state: state["waiting_minutes"] > 1)
        assert any("cloudwatch:PutMetricData" in text for text in waiting["trouble"])
        aws.set(denied={})
        agent.wait(lambda state: state["waiting_minutes"] == 0 and not state["trouble"])
        agent.wait(lambda state: state["stage"] == "done")


def test_the_policy_of_an_instance_is_what_the_agent_needs(aws: Emulator, instance: str) -> None:
    agent, topic = machine.member(instance, GROUP)
    machine.state_ends(aws)
    before = len(aws.asked())
    aws.set(allowed={"*": granted("instance")})
    machine.ask_all(agent, GROUP, topic)
    aws.set(allowed={})
    assert sorted({action for actions in aws.asked()[before:] for action in actions}) == sorted(
        granted("instance")
    )


def test_a_subscription_gets_the_notices_of_the_owner_that_it_asks_for(
    instance: str, topic: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sns = boto3.client("sns", REGION)
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=topic.arn)["Subscriptions"]
    sns.set_subscription_attributes(
        SubscriptionArn=subscription["SubscriptionArn"],
        AttributeName="FilterPolicy",
        AttributeValue='{"owner": ["ann"]}',
    )
    files.write(tmp_path / "etc", {"jupyter-machine.json": '{"user": "ann"}'})
    with machine.metadata_service(instance, {"Owner": "ML & <!channel>"}) as address:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        owners = owner.of_machine(tmp_path)
    assert owners == ["ML  !channel", "ann"]
    agent = Account(Instance(instance, "g6.xlarge", "ami-0", REGION))
    for name, told in (("anns", ["ann, bob"]), ("nobody", []), ("both", owners)):
        agent.notify(topic.arn, name, "text", told)
    assert [message["Subject"] for message in topic.messages()] == ["both"]


def test_a_lost_gpu_is_a_metric_and_busy(
    imds: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    gpus = gpu_machine.GpuMachine(
        tmp_path, gpu_machine.compile_libraries(tmp_path_factory.mktemp("nvidia"))
    )
    gpus.set(
        {"count": 1, "name": "NVIDIA L4", "memory_mib": 23034, "used_mib": 500, "utilization": 40}
    )
    here = IdleMachine(tmp_path)
    here.gpu()
    with here.agent(
        imds, LD_LIBRARY_PATH=str(gpus.libraries), FAKE_GPU=gpus.environment["FAKE_GPU"]
    ) as agent:
        agent.wait(lambda state: "GPU seconds" in state["reason"])
        until("a metric of the GPU", lambda: "nvidia_smi_utilization_gpu" in metrics())
        gpus.set({"lost.0": 15})
        agent.wait(lambda state: "a GPU cannot be asked: it fell off the bus" in state["reason"])
    own = metrics()["nvidia_smi_memory_used"]
    assert own == {
        "index": "0",
        "name": "NVIDIA L4",
        "arch": "Turing",
        "ImageId": "ami-0",
        "InstanceType": "g6.xlarge",
        "InstanceId": own["InstanceId"],
    }


def test_without_network_and_without_metadata_nothing_stops(tmp_path: Path) -> None:
    """The last hour of metrics waits, and no more."""
    here = IdleMachine(tmp_path)
    with here.agent(speed=2400) as agent:
        state = agent.wait(lambda state: state["waiting_minutes"] == 60)
        assert any("the metadata service does not say" in text for text in state["trouble"])
        time.sleep(0.1)
        assert agent.state()["waiting_minutes"] == 60


def test_wrong_settings_end_the_agent_with_one_line(tmp_path: Path) -> None:
    here = IdleMachine(tmp_path, window_minutes=5)
    ran = here.golden_idle("run")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "golden-idle: error: window_minutes is 5: it has to be a whole number from 15 on\n"
    )
