"""Ends of a machine, played by the metadata service: jobs end, files are copied, people know."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from golden_idle import jobs
from support.aws.emulator import Emulator
from support.aws.seeded_account import SeededAccount
from support.idle import ends, machine
from support.idle.ends import EndingMachine
from support.idle.machine import REGION
from support.idle.topic import Topic
from support.keep.machine import BUCKET, UID
from support.keep.proxy import Proxy
from support.waiting import until

SAFE = "All that lies in ~/keep is safe."
Announced = Callable[[], list[dict[str, str]]]


@pytest.fixture
def place(aws: Emulator) -> Iterator[Path]:
    """A folder that ann may enter, too; pytest's own are root's."""
    boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
    boto3.client("s3", REGION).put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
    )
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("announced", "kind", "text"),
    [
        pytest.param(lambda: [ends.spot(100)], "spot", "EC2 takes", id="spot, early"),
        pytest.param(lambda: [ends.spot(15)], "spot", "EC2 takes", id="spot, late"),
        pytest.param(lambda: [ends.spot(-300)], "spot", "EC2 takes", id="spot, a wrong clock"),
        pytest.param(lambda: [ends.spot(9e6)], "spot", "EC2 takes", id="spot, another wrong clock"),
        pytest.param(
            lambda: [{"spot/instance-action": "soon"}], "spot", "EC2 takes", id="spot, no form"
        ),
        pytest.param(
            lambda: [ends.REBALANCE, ends.spot(100)], "spot", "EC2 takes", id="spot and rebalance"
        ),
        pytest.param(
            lambda: [ends.event(3000), ends.spot(100)], "spot", "EC2 takes", id="spot and event"
        ),
        pytest.param(
            lambda: [ends.event(300)], "event", "EC2 announces instance-retirement", id="event"
        ),
        pytest.param(lambda: [ends.SCALE_IN], "scale_in", "The group", id="scale-in, no hook"),
    ],
)
def test_an_end_ends_the_job_and_what_it_saves_is_copied(
    announced: Announced, kind: str, text: str, place: Path
) -> None:
    here = EndingMachine(place)
    with here.watched(), here.job() as job:
        here.save("notes", "a thought")
        here.play(*announced())
        assert job.wait() == 3, "its own status"
        until("a last word", lambda: SAFE in here.terminal())
        assert ends.kept() == {"notes": b"a thought", "checkpoint": b"step 17", "started": b""}
        assert here.end()["kind"] == kind
        until("a line for logins", lambda: here.login().splitlines()[1:] == [SAFE])
        assert here.login().startswith(text)


@pytest.mark.parametrize(
    ("announced", "kind", "text"),
    [
        pytest.param(lambda: [ends.REBALANCE], "rebalance", "EC2 may soon", id="rebalance"),
        pytest.param(lambda: [ends.event(3000)], "event", "EC2 announces", id="event, an hour"),
        pytest.param(lambda: [ends.event(9e6)], None, "EC2 announces", id="event, far"),
    ],
)
def test_a_far_end_is_told_and_no_job_ends(
    announced: Announced, kind: str | None, text: str, place: Path
) -> None:
    here = EndingMachine(place)
    with here.watched(), here.job() as job:
        here.save("notes", "a thought")
        here.play(*announced())
        until("people to be told", lambda: text in here.terminal())
        until("a copy", lambda: "notes" in ends.kept())
        here.looks(3)
        assert here.end().get("kind") == kind and job.poll() is None
        # It is taken back.
        here.play()
        until("the end to be gone", lambda: not here.end() and here.login() == f"{SAFE}\n")
        here.looks(3)
        assert job.poll() is None


@pytest.mark.parametrize("state", ["completed", "canceled"])
def test_an_event_that_is_over_ends_nothing(state: str, place: Path) -> None:
    here = EndingMachine(place)
    with here.watched(), here.job() as job:
        here.play(ends.event(300, state))
        here.looks(3)
        assert not here.end() and here.terminal() == "" and job.poll() is None


@pytest.mark.parametrize("minutes", [35, 300])
def test_a_capacity_block_ends_half_an_hour_early(
    minutes: int, place: Path, aws: Emulator, account: SeededAccount
) -> None:
    instance = account.launch(account.ami(1))
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    block = {"CapacityReservationId": "cr-1", "EndDate": end.isoformat()}
    member = {"InstanceId": instance, "CapacityReservationId": "cr-1"}
    aws.answer("ec2:DescribeInstances", Reservations=[{"Instances": [member]}])
    aws.answer("ec2:DescribeCapacityReservations", CapacityReservations=[block])
    here = EndingMachine(place, instance)
    with here.watched(), here.job() as job:
        here.play({"instance-life-cycle": "capacity-block"})
        until("people to be told", lambda: "EC2 ends this capacity block" in here.terminal())
        if minutes == 35:
            assert job.wait() == 3 and here.end()["kind"] == "capacity_block"
        else:
            here.looks(3)
            assert job.poll() is None and not here.end()


def test_who_is_told_twice_ends_once(place: Path) -> None:
    """A second notice names another time; a third is never followed by an end."""
    here = EndingMachine(place)
    with here.watched(), here.job("stays") as job:
        here.play(ends.spot(100))
        until("the first", lambda: here.terminal().count("EC2 takes") == 1)
        first = here.end()["until"]
        here.play(ends.spot(40))
        until("the second", lambda: here.end().get("until", first) < first - 30)
        here.play()
        until("no end", lambda: not here.end())
        until("a line for logins", lambda: here.login() == f"{SAFE}\n")
        assert job.poll() is None


def test_a_job_that_ignores_the_end_is_named_and_files_are_copied(place: Path) -> None:
    here = EndingMachine(place)
    with here.watched(), here.job("stays"):
        here.save("notes", "a thought")
        here.play(ends.spot(12))
        until("a last word", lambda: "Jobs that have not ended: 1." in here.terminal())
        assert "notes" in ends.kept()


def test_what_was_announced_stays_while_nobody_answers(place: Path) -> None:
    here = EndingMachine(place)
    with here.watched(), here.job() as job:
        here.play(ends.spot(100))
        assert job.wait() == 3
        here.service.is_deaf = True
        here.play()
        here.looks(3, "api/token")
        assert here.end()["kind"] == "spot"
        here.service.is_deaf = False
        until("no end", lambda: not here.end())


def test_a_notice_during_a_copy_loses_nothing(place: Path, aws: Emulator) -> None:
    here = EndingMachine(place)
    large = os.urandom(48 << 20)
    # So slow that the agent sees the copy while it lasts.
    with Proxy(aws.url, rate=3_000_000) as way, here.watched(AWS_ENDPOINT_URL=way.url):
        here.save("large", large)
        until("a copy", lambda: "files that wait" in here.login())
        here.save("small", "a thought")
        here.play(ends.spot(100))
        until("a last word", lambda: SAFE in here.terminal())
        assert ends.kept() == {"large": large, "small": b"a thought"}


def test_what_runs_in_the_slice_is_told(place: Path) -> None:
    """Units and containers are not registered."""
    here = EndingMachine(place)
    with here.watched(), here.job(registers=False) as job:
        procs = place / "sys/fs/cgroup/keep.slice/train.service/cgroup.procs"
        procs.parent.mkdir(parents=True)
        procs.write_text(f"{job.pid}\n", encoding="ascii")
        here.play(ends.spot(100))
        assert job.wait() == 3


def test_nobody_registers_what_another_runs(place: Path) -> None:
    """A file of another user names it, a link, and one of a number that is used again."""
    folder = place / jobs.FOLDER
    folder.mkdir(parents=True)
    jobs.register(place)
    [mine] = jobs.running(place)
    (folder / "1-1").touch()
    (folder / "a-b").touch()
    assert jobs.running(place) == {mine}
    assert [path.name for path in folder.iterdir()] == [mine], "the others are removed"
    if os.getuid() == 0:
        os.chown(folder / mine, UID, -1)
    else:
        (folder / mine).rename(folder / f"1-{Path('/proc/1/stat').read_text().split()[21]}")
    assert not jobs.running(place)


def test_an_end_that_did_not_come_is_over(place: Path) -> None:
    """Also for an agent that was started again: no job of later days is ended for it."""
    here = EndingMachine(place)
    notice = ends.spot(-80)
    boottime = time.clock_gettime(time.CLOCK_BOOTTIME)
    [when] = [json.loads(text)["time"] for text in notice.values()]
    at = datetime.datetime.fromisoformat(when).timestamp()
    known = {f"spot {at}": {"seen": boottime - 200, "until": boottime - 80}}
    (place / "run/golden-idle").mkdir(parents=True)
    (place / "run/golden-idle/endings.json").write_text(json.dumps(known), encoding="utf-8")
    (place / "run/golden-idle/end.json").write_text('{"kind": "spot"}', encoding="utf-8")
    here.play(notice)
    with here.watched(), here.job() as job:
        until("the end to be gone", lambda: not here.end())
        here.looks(3)
        assert job.poll() is None and here.terminal() == ""


def test_what_could_not_be_copied_is_named_and_saved_once_it_can_be(
    place: Path, aws: Emulator
) -> None:
    topic = Topic("golden-idle")
    here = EndingMachine(place, target=topic.arn)
    aws.set(denied={"*": ["s3:PutObject"]})
    with here.watched():
        until("a login's line", lambda: "~/keep of" in here.login())
        here.save("notes", "a thought")
        here.play(ends.spot(15))
        until("a last word", lambda: "AccessDenied" in here.terminal())
        until("a notice", lambda: any("AccessDenied" in text for text in topic.texts()))
        assert "golden-keep why" in here.login() and not ends.kept()
        aws.set(denied={})
        until("a copy", lambda: "notes" in ends.kept())


def test_a_group_waits_for_the_copies(place: Path, aws: Emulator, account: SeededAccount) -> None:
    instance = account.launch(account.ami(1))
    machine.join(instance, "trainers")
    boto3.client("autoscaling", REGION).put_lifecycle_hook(
        AutoScalingGroupName="trainers",
        LifecycleHookName="keep",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=300,
    )
    aws.answer("autoscaling:CompleteLifecycleAction")
    aws.set(denied={"*": ["s3:PutObject"]})
    done = ("autoscaling:CompleteLifecycleAction", REGION)
    here = EndingMachine(place, instance)
    with here.watched(), here.job() as job:
        here.save("notes", "a thought")
        here.play(ends.SCALE_IN)
        assert job.wait() == 3
        until("trouble", lambda: "AccessDenied" in here.login())
        here.looks(3)
        assert done not in aws.calls() and here.end()["until"] > time.clock_gettime(
            time.CLOCK_BOOTTIME
        )
        aws.set(denied={})
        until("the group to go on", lambda: done in aws.calls())
        here.looks(3)
        assert aws.calls().count(done) == 1, "once"
        assert ends.kept()["checkpoint"] == b"step 17"


@pytest.mark.long
def test_an_idle_machine_is_not_stopped_before_its_files_are_safe(
    place: Path, aws: Emulator
) -> None:
    topic = Topic("golden-idle")
    here = EndingMachine(place, action="poweroff", target=topic.arn)
    here.save("notes", "a thought")
    aws.set(denied={"*": ["s3:PutObject"]})
    # A starved agent counts as busy: slower than other rehearsals.
    with here.watched(40) as agent:
        state = agent.wait(lambda state: "AccessDenied" in state["failure"])
        here.looks(3)
        assert state["stage"] == "notified" and not here.stopped.exists()
        aws.set(denied={})
        agent.wait(lambda state: state["stage"] == "done")
        assert here.stopped.exists() and ends.kept() == {"notes": b"a thought"}


@pytest.mark.parametrize(
    "call",
    [
        "api/token",
        "spot/instance-action",
        "events/recommendations/rebalance",
        "autoscaling/target-lifecycle-state",
        "events/maintenance/scheduled",
        "instance-life-cycle",
        "systemctl start golden-keep@",
    ],
)
def test_an_agent_that_is_killed_leaves_the_end_to_the_next(call: str, place: Path) -> None:
    here = EndingMachine(place)
    here.ends_with = -signal.SIGKILL
    with here.watched() as first, here.job() as job:
        here.looks(1)
        here.save("notes", "a thought")
        if call.startswith("systemctl"):
            (place / "kill").touch()
        here.play(ends.spot(100))
        here.service.kill = (call, lambda: first.process.pid)
        assert first.process.wait() == -signal.SIGKILL
        here.ends_with = 0
        with here.watched():
            until("a last word", lambda: SAFE in here.terminal())
            assert job.wait() == 3 and ends.kept()["checkpoint"] == b"step 17"


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_shutdown_runs_the_last_copy_as_the_owner(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = EndingMachine(place)
    program = place / "bin/golden-keep"
    program.write_text('#!/bin/sh\necho "$(id -u) $*" > "$2/home/ann/keep/ran"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")
    done = here.golden_idle("end")
    assert done.returncode == 0, done.stderr
    ran = (here.keep / "ran").read_text(encoding="utf-8")
    assert ran == f"{UID} --root {place} copy\n" and here.end()["kind"] == "shutdown"
    assert 80 < here.end()["until"] - time.clock_gettime(time.CLOCK_BOOTTIME) <= 90
