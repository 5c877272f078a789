"""What `watch` asks EC2 and tells SNS, against the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami import cli
from goldenami.aws import notify
from goldenami.core import records
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_records import BAKE_FILE, Ami, BakeRecord, BuilderKind, Host
from goldenami.model.definitions import definition_file
from goldenami.watch.watch_records import WatchRecord
from support.aws.emulator import Emulator
from support.builds.sample_lock import IMAGE, sample
from support.debian import debrepo

REGION = "us-east-1"


@pytest.fixture
def ec2(aws: Emulator) -> Any:
    return boto3.client("ec2")


def _register(ec2: Any, name: str) -> str:
    volume = ec2.create_volume(Size=1, AvailabilityZone=f"{REGION}a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}]
    image = str(ec2.register_image(Name=name, RootDeviceName="/dev/xvda",
                                   BlockDeviceMappings=mapping,
                                   Architecture="x86_64", VirtualizationType="hvm")["ImageId"])
    ec2.get_waiter("image_available").wait(ImageIds=[image], WaiterConfig={"Delay": 1})
    return image


def _baked(root: Path, number: int, base: str) -> None:
    """The record of a build on EC2 that began from `base`, in the `number`th hour of the year."""
    folder = root / "build" / IMAGE / f"{number:012x}"
    folder.mkdir(parents=True)
    records.write(folder / BAKE_FILE, BakeRecord(
        builder=BuilderKind.EC2, image=IMAGE, build_id=folder.name,
        lock_sha256=f"{number:012x}{'0' * 52}",
        git_commit="0" * 40, started_at=f"2026-01-01T{number:02}:00:00Z",
        host=Host(cpus=2, python="3", packer="1"),
        phases=[], roles=[], components=[], packages_count=0, layers=[],
        ami=Ami(id="ami-1", region=REGION, snapshot="snap-1", base=base, volume_gib=1)))


def test_watch_compares_base_images_with_what_the_newest_build_began_from(
    ec2: Any, debian: debrepo.Mirror, root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However old its packages are, and whatever older builds began from."""
    monkeypatch.chdir(root)
    path = definition_file.path_of(root, IMAGE)
    path.write_text(f"{path.read_text(encoding='utf-8')}watch:\n  base_image: "
                    f"{{owner: self, name: 'debian-13-amd64-*', region: {REGION}}}\n",
                    encoding="utf-8")
    lockfile.write(lockfile.path_of(root, IMAGE), sample(packages={}))

    def row() -> tuple[int, str, str]:
        code = cli.main(["watch", IMAGE])
        last = records.read(root / "build/watch/watch.json", WatchRecord).rows[-1]
        return code, last.verdict.value, last.locked

    first = _register(ec2, "debian-13-amd64-1")
    assert row() == (10, "update", "lock of 1970-01-01")
    _baked(root, 1, first)
    _baked(root, 0, "ami-before")
    assert row() == (0, "current", f"{first} of 2026-01-01")
    _register(ec2, "debian-13-amd64-2")
    assert row() == (10, "update", f"{first} of 2026-01-01")
    capsys.readouterr()
    assert cli.main(["watch", IMAGE, "--json"]) == 10
    said = WatchRecord.model_validate_json(capsys.readouterr().out)
    assert said == records.read(root / "build/watch/watch.json",
                                WatchRecord), "JSON alone is on standard output"


def test_a_topic_is_told(aws: Emulator) -> None:
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name="golden")["TopicArn"]
    queue = sqs.create_queue(QueueName="golden")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    notify.publish(sns, topic, "golden images: nouveau für\nalle " + "x" * 200, "body\n" * 100_000)
    message = json.loads(sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"])
    assert message["Subject"].startswith("golden images: nouveau f?r alle xxx")
    assert len(message["Subject"]) == notify.SUBJECT_LIMIT
    assert len(message["Message"].encode()) <= notify.MESSAGE_LIMIT
    assert message["Message"].endswith("(shortened)")


def test_a_message_is_cut_between_characters() -> None:
    assert notify.shortened("ä" * 50, 60) == "ä" * 23 + "\n\n(shortened)"
    assert notify.shortened("short", 60) == "short"
