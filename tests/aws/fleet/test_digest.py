"""`golden digest`: each event of half a year is told once, in the digest of its week, and nothing
else is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import boto3
import pytest
from goldenami.aws import tags
from goldenami.aws.services import metrics, notify
from goldenami.core import clock, records
from goldenami.model.builds.build_records import Outcome
from goldenami.model.builds.security_records import (
    CVE_FILE,
    CveRecord,
    Feed,
    FeedStatus,
    Vulnerability,
)
from goldenami.model.supported import support
from goldenami.model.supported.scales import Rating
from goldenami_fleet.digest.memory import ITEM
from support.aws.digest_weeks import EC2, REGION, S3, Webhook, Weeks, send, told
from support.aws.emulator import Emulator
from support.aws.fleet import TEMPLATE, Fleet
from support.aws.kill_proxy import KillProxy
from support.aws.seeded_account import Calendar, SeededAccount
from support.builds.builds import IMAGE, Checkout
from support.idle.topic import Topic

DAY = timedelta(days=1)


@pytest.fixture
def weeks(aws: Emulator, checkout: Checkout, calendar: Calendar) -> Weeks:
    return Weeks(aws, checkout, calendar)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Webhook(monkeypatch)
    yield made
    made.server.close()


@pytest.fixture
def topic(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic()
    monkeypatch.setenv(notify.TOPIC, made.arn)
    return made


def know(weeks: Weeks, build_id: str, *found: Vulnerability) -> None:
    """What the last `golden cve` says of a build."""
    folder = weeks.checkout.root / "build" / IMAGE / build_id
    records.write(
        folder / CVE_FILE,
        CveRecord(
            image=IMAGE,
            build_id=build_id,
            lock_sha256="0" * 64,
            checked_at=clock.stamp(),
            fail_on=Rating.CRITICAL,
            feeds=[FeedStatus(feed=Feed.DEBIAN, address="x")],
            findings=list(found),
            warnings=[],
            outcome=Outcome.CORRECT,
        ),
    )


def launch(ami: str, owner: str = "", gib: int = 8) -> str:
    marks = tags.specifications({tags.PERSON: owner}, "instance") if owner else []
    made: dict[str, Any] = boto3.client("ec2", REGION).run_instances(
        ImageId=ami,
        MinCount=1,
        MaxCount=1,
        InstanceType="c7i.large",
        TagSpecifications=marks,
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": gib}}],
    )
    return str(made["Instances"][0]["InstanceId"])


BUG = Vulnerability(
    id="CVE-1", feed=Feed.DEBIAN, part="expat", version="1", fix="2", rating=Rating.HIGH
)
MINOR = BUG.model_copy(update={"id": "CVE-2", "rating": Rating.MEDIUM})
ANOMALY = {
    "AnomalyId": "anomaly-1",
    "AnomalyStartDate": "2026-01-01T00:00:00Z",
    "RootCauses": [{"Service": EC2, "Region": REGION}],
    "MonitorArn": "m",
    "Impact": {"MaxImpact": 9.0, "TotalImpact": 70.5},
    "AnomalyScore": {"MaxScore": 1.0, "CurrentScore": 1.0},
}


class HalfYear:
    """26 weeks with a change of clocks, holidays in which nobody works, and a week, the 24th, in
    which the digest did not run. Kernel 6.1 ends on day 150 after the first week, a reservation on
    day 130; a savings plan begins on day 20."""

    def __init__(self, weeks: Weeks) -> None:
        self.weeks = weeks
        self.fleet = Fleet.publish(SeededAccount(weeks.aws), weeks.checkout)
        weeks.define()
        self.stale = self.fleet.by_version(1)
        self.idler, self.busy, self.holder = (
            launch(self.fleet.ami(2), owner) for owner in ("ann", "bob", "")
        )
        self.begin, self.alien = weeks.go_to(0), ""

    def expected(self) -> dict[int, list[str]]:
        """What each digest tells, by arithmetic of one's own."""
        bug, kernel = f"known vulnerabilities: {IMAGE} expat", f"{IMAGE} Kernel 6.1"
        idle, ends = f"idle machines: {REGION} {self.idler}", "commitments that end: r-1"
        told = {
            0: [f"drift: {REGION} {IMAGE}"],  # a machine of the build before
            2: [idle],
            3: [bug],
            6: [ends],
            7: ["commitments to review: sp-1", "spending: the account"],
            8: [idle],  # again, after weeks at work
            9: [f"ended support: {kernel}", bug],  # ends in 90 days; now used in attacks
            10: ["unusual costs: anomaly-1"],
            12: [f"holds without an end: {REGION} {self.holder}"],
            13: [f"drift: {REGION} {self.alien}"],
            15: [ends, f"machines that are too large: {REGION} {self.busy}"],
            18: [ends],
            19: ["commitments that are not used: savings plans"],
            22: [f"ended support: {kernel}"],
            23: [f"builds that nobody runs: {IMAGE} {self.fleet.builds[0]}"],
            25: ["spending: the account"],
        }  # of the week that had no digest
        return {number: told.get(number, []) for number in range(26) if number != 24}

    def live(self, number: int) -> None:
        """What happens in a week, up to its digest's morning."""
        week, account = self.weeks.go_to(number), self.fleet.account
        holidays = number in (4, 5)
        self.weeks.spend(
            week,
            {EC2: 30.0} if holidays else {EC2: {7: 150.0, 24: 210.0}.get(number, 100.0), S3: 5.0},
        )
        if number in (2, 3, 8):
            send(metrics.IDLE, self.idler, week.begin, 60, 1.0)
        send(metrics.IDLE, self.busy, week.begin, 8, 1.0)
        if not holidays:
            send(
                metrics.CPU_PERCENT,
                self.busy,
                week.begin,
                40,
                80.0 if number < 14 else 5.0,
                "c7i.large",
                cpu="cpu-total",
            )
        if number in (11, 12):
            send(metrics.HELD, self.holder, week.begin, 100 if number == 11 else 168, 1.0)
        if number == 13:
            self.alien = account.launch(
                account.ami(99, tagged=False, recorded=False),
                LaunchTemplate={**TEMPLATE, "Version": "$Default"},
            )
        if number == 23:
            account.ec2.terminate_instances(InstanceIds=[self.stale])
        bug = BUG.model_copy(update={"exploited": number >= 9})
        know(self.weeks, self.fleet.builds[1], *([bug] if number >= 3 else []), MINOR)
        self._state(number)

    def _state(self, number: int) -> None:
        since = self.begin.end
        plan = {
            "savingsPlanId": "sp-1",
            "savingsPlanType": "Compute",
            "commitment": "2.5",
            "currency": "USD",
            "start": clock.stamp(since + 20 * DAY),
            "end": clock.stamp(since + 385 * DAY),
        }
        left = (since + 130 * DAY - clock.now()) / DAY
        self.weeks.state(
            ce__GetAnomalies={"Anomalies": [ANOMALY] if 10 <= number <= 13 else []},
            savingsplans__DescribeSavingsPlans={"savingsPlans": [plan] if number > 2 else []},
            ec2__DescribeReservedInstances=reservation(left),
            ce__GetSavingsPlansUtilization={
                "Total": {"Utilization": {"UtilizationPercentage": "60" if number >= 19 else "97"}}
            },
        )


@pytest.mark.slow
def test_half_a_year(
    weeks: Weeks, webhook: Webhook, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event is told in its digest and in no other, to both channels alike."""
    life, got = HalfYear(weeks), dict[int, list[str]]()
    monkeypatch.setattr(support, "KERNELS", {"6.1": (life.begin.end + 150 * DAY).date()})
    for number in range(26):
        life.live(number)
        if number == 24:
            continue
        said = weeks.digest()
        if number % 6 == 1:
            said = weeks.digest()
            assert "sent: nothing, for all of it was told before" in said
        settled = f"Settled: idle machines: {REGION} {life.idler}"
        assert (settled in said) is (number in (4, 9))
        [by_topic], by_webhook = topic.texts(), webhook.texts[len(got) :]
        assert len(by_webhook) == 1 and by_topic in by_webhook[0], (number, by_webhook)
        got[number] = told(by_topic)
    assert got == {number: sorted(lines) for number, lines in life.expected().items()}


def test_thousands_of_vulnerabilities_are_told(weeks: Weeks, webhook: Webhook) -> None:
    """More than an item of the table could note in plain text: each is told once all the same."""
    weeks.go_to(0)
    weeks.checkout.publish(1)
    [folder] = (weeks.checkout.root / "build" / IMAGE).glob("[0-9a-f]*")
    many = [
        BUG.model_copy(update={"id": f"CVE-{number}", "part": f"package-{number:0100}"})
        for number in range(4000)
    ]
    know(weeks, folder.name, *many)
    weeks.digest()
    weeks.go_to(1)
    know(weeks, folder.name, *many, BUG)
    said = weeks.digest()
    assert len(webhook.texts) == 2 and "and 3960 more new ones" in webhook.texts[0]
    assert "1 new; 4000 stand" in said and f"known vulnerabilities: {IMAGE} expat" in said
    assert "sent: nothing" in weeks.digest()


def reservation(days: float) -> dict[str, Any]:
    """What EC2 says of one that ends so many days from now, or has ended. A message says whole
    days, so that it says the same a moment later only of a part of a day more."""
    return {
        "ReservedInstances": []
        if days <= 0
        else [
            {
                "ReservedInstancesId": "r-1",
                "InstanceType": "g5.xlarge",
                "InstanceCount": 1,
                "OfferingClass": "convertible",
                "Start": "2020-01-01T00:00:00Z",
                "End": clock.stamp(clock.now() + days * DAY),
            }
        ]
    }


LARGE = (
    (metrics.GPU_PERCENT, 5.0),
    (metrics.GPU_MEMORY_MIB, 2e3),
    (metrics.GPU_MEMORY_TOTAL_MIB, 24e3),
    (metrics.CPU_PERCENT, 55.0),
    (metrics.DISK_PERCENT, 12.0),
)
"""What a machine sends that has too much of all but processors."""


def test_figures(weeks: Weeks, aws: Emulator) -> None:
    """Dollars and percents against arithmetic of one's own; what one digest asks Cost Explorer."""
    weeks.checkout.publish(1)
    [ami] = [
        row["ImageId"]
        for row in boto3.client("ec2", REGION).describe_images(Owners=["self"])["Images"]
    ]
    idle, large = launch(ami), launch(ami, "ann <!channel>", gib=200)
    for number in range(5):
        week = weeks.go_to(number)
        weeks.spend(week, {EC2: 100.0 + 10 * number, S3: 5.0})
    send(metrics.IDLE, idle, week.begin, 60, 0.5)
    for name, value in LARGE:
        send(name, large, week.begin, 100, value, "g5.2xlarge", path="/")
    weeks.state(
        ec2__DescribeReservedInstances=reservation(400),
        ce__GetReservationUtilization={
            "Total": {"UtilizationPercentage": "70"},
            "UtilizationsByTime": [],
        },
        ce__GetReservationCoverage={
            "Total": {"CoverageHours": {"CoverageHoursPercentage": "40"}},
            "CoveragesByTime": [],
        },
    )
    before = len(aws.calls())
    found = json.loads(weeks.digest("--json").partition("{")[2].join(["{", ""]))
    usd = {one["kind"]: one["usd_week"] for one in found["findings"]}
    what = {one["kind"]: one["what"] for one in found["findings"]}
    assert usd["idle machines"] == pytest.approx(30 * 1.006, abs=0.01)
    assert usd["machines that are too large"] == pytest.approx(100 / 2 * 1.212, abs=0.01)
    assert what["machines that are too large"].endswith("above 5 % of GPU, 8 % of GPU memory")
    assert what["disks that are too large"].endswith("fuller than 12 %, of 200 GiB in all")
    assert usd["disks that are too large"] == pytest.approx(
        200 * 0.88 * 0.08 * 12 / 365 * 7, abs=0.01
    )
    assert what["commitments that are not used"] == (
        "used to 70 % in the last 30 days; they cover 40 % of the need; what they saved is unknown"
    )
    assert [sum(each["services"].values()) for each in found["spent"]] == [
        7 * (105.0 + 10 * number) for number in range(5)
    ]
    asked = [call for call, _ in aws.calls()[before:] if call.startswith("ce:")]
    quarter = (weeks.checkout.root / "build/site/costs").exists()  # a fourth of all months
    assert len(asked) == (13 if quarter else 9), "cents that a digest costs"
    page = (weeks.checkout.root / "build/site/index.html").read_text("utf-8")
    assert f"Digest of {week.name}" in page
    assert "$1,015.00 spent, +38 % on" in page and "<!channel>" not in page
    for lock in (weeks.checkout.root / "build" / IMAGE).glob("*/lock.json"):
        lock.unlink()
    said = weeks.digest()
    assert f"Could not look at support of {IMAGE}" in said, "unknown is not supported"


def test_what_cannot_be_looked_at_is_named_and_stays_told(
    weeks: Weeks, aws: Emulator, webhook: Webhook
) -> None:
    """An account without any history, without the rights of one part, and with them again."""
    weeks.go_to(0)
    weeks.state()
    weeks.digest()
    weeks.go_to(1)
    weeks.state(ec2__DescribeReservedInstances=reservation(20))
    aws.set(denied={"*": ["ce:GetCostAndUsage", "cloudwatch:*"]})
    said = weeks.digest(code=4)
    assert "the digest lacks" in said
    aws.set(denied={"*": ["ec2:DescribeReservedInstances"]})
    weeks.go_to(2)
    weeks.digest(code=4)
    aws.set(denied={})
    weeks.go_to(3)
    weeks.state(ec2__DescribeReservedInstances=reservation(20))
    weeks.digest()
    first, lacking, blind, last = webhook.texts
    assert "nothing new; 0 stand" in first and "No bill" not in first
    for part in ("spending", f"machines in {REGION}"):
        assert f"Could not look at {part}: the AWS credentials may not call" in lacking
    assert told(lacking) == ["commitments that end: r-1"]
    assert told(blind) == told(last) == [], "what was told before is not told again"


def test_a_channel_that_refuses_gets_it_later_and_the_other_gets_it_again(
    weeks: Weeks, webhook: Webhook, topic: Topic
) -> None:
    weeks.go_to(0)
    weeks.state(ec2__DescribeReservedInstances=reservation(20.5))
    webhook.status = 404
    assert "the webhook of GOLDEN_WEBHOOK answered 404" in weeks.digest(code=4)
    webhook.status = 200
    weeks.digest()
    weeks.digest()
    [by_topic, again], [by_webhook] = topic.texts(), webhook.texts
    assert by_topic == again and by_topic in by_webhook
    assert told(by_topic) == ["commitments that end: r-1"]


def test_a_channel_that_does_not_answer_is_told_again(weeks: Weeks, webhook: Webhook) -> None:
    weeks.go_to(0)
    weeks.state(ec2__DescribeReservedInstances=reservation(20.5))
    webhook.status = 0
    assert "took the message and did not answer" in weeks.digest(code=4)
    webhook.status = 200
    weeks.digest()
    first, second = webhook.texts
    assert second == first


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (notify.WEBHOOK, "nonsense"),
        (notify.WEBHOOK, "https:///x"),
        (notify.WEBHOOK, "ftp://a/b"),
        (notify.TOPIC, "arn:aws:sqs:us-east-1:123456789012:x"),
    ],
)
def test_an_address_that_is_none_is_refused_before_there_is_news(
    weeks: Weeks, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    before = weeks.aws.calls()
    for command in ("digest", "drift", "watch"):
        said = weeks.checkout.run(command, code=2)
        assert f"{variable} is no " in said and value not in said
    assert weeks.aws.calls() == before


def test_what_strangers_wrote_mentions_nobody(webhook: Webhook) -> None:
    notify.to_webhook(f"{webhook.server.url}/x", "of <!channel>", "a & b")
    assert webhook.texts == ["*of &lt;!channel&gt;*\na &amp; b"]


def test_a_topic_is_told_no_more_than_it_takes(topic: Topic) -> None:
    subject, text = "golden images: nouveau für\nalle " + "x" * 200, "body\n" * 100_000
    notify.publish(boto3.client("sns"), topic.arn, subject, text)
    [message] = topic.messages()
    assert message["Subject"].startswith("golden images: nouveau f?r alle xxx")
    assert len(message["Subject"]) == notify.SUBJECT_LIMIT
    assert len(message["Message"].encode()) <= notify.MESSAGE_LIMIT
    assert message["Message"].endswith("(shortened)")


def test_who_only_looks_tells_nobody(
    weeks: Weeks, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    weeks.go_to(0)
    weeks.state(ec2__DescribeReservedInstances=reservation(20))
    for _ in range(2):
        assert told(weeks.digest("--dry-run")) == ["commitments that end: r-1"]
    with monkeypatch.context() as patch:
        patch.delenv(notify.WEBHOOK)
        weeks.digest()
    assert webhook.texts == []
    weeks.digest()
    assert len(webhook.texts) == 1


def test_a_digest_that_is_killed_is_told_again(
    weeks: Weeks, webhook: Webhook, topic: Topic, kill_proxy: KillProxy
) -> None:
    """Before and after each write; a message comes twice only if the run was killed between its
    answer and the note."""
    weeks.go_to(0)
    weeks.state(ec2__DescribeReservedInstances=reservation(20))
    root, days = weeks.checkout.root, weeks.calendar.days
    assert kill_proxy.run(root, "digest", days=days)[0] == 0
    points = [
        point
        for point in kill_proxy.points()
        if point.action in ("dynamodb:UpdateItem", "sns:Publish")
    ]
    got = list[tuple[int, int]]()
    for point in points:
        boto3.client("dynamodb", REGION).delete_item(
            TableName="golden-ami", Key={"image": {"S": ITEM}}
        )
        topic.texts()
        webhook.texts.clear()
        assert kill_proxy.run(root, "digest", days=days, point=point)[0] == -9
        code, said = kill_proxy.run(root, "digest", days=days)
        assert code == 0, said
        by_topic, by_webhook = topic.texts(), webhook.texts
        assert all(told(text) == ["commitments that end: r-1"] for text in by_topic + by_webhook)
        got.append((len(by_topic), len(by_webhook)))
    # The topic is told first, then the webhook, and then the note is written.
    assert got == [(1, 1), (2, 1), (2, 2), (1, 1)], points
