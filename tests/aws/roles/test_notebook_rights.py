"""The policy of a hub is what its spawner needs, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.aws import hub as hubs
from support.aws.account_template import BOUNDARY, RAW, document
from support.aws.emulator import Emulator, running
from support.aws.hub import NOBODY, REGION, TYPES, Hub, answering, of
from support.aws.iam_policies import Asked, allows
from support.builds.tools import granted
from support.waiting import until


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The emulator that notes which resources and tags IAM is asked about."""
    with running("support.aws.asked") as found:
        yield found


def test_the_policy_of_a_hub_is_what_its_spawner_needs(aws: Emulator, tmp_path: Path) -> None:
    """A first start, which also finds a home that one without capacity left, and a second one, of a
    machine that waits."""
    settings = hubs.network(aws)
    hubs.home(f"{REGION}b", "ann", new="yes")
    before, noted = len(aws.asked()), len(aws.noted())
    aws.set(allowed={"*": granted("hub")})
    with Hub(tmp_path / "hub", **settings, warm={TYPES[0]: 1}).running() as hub:
        hub.form("ann")
        hub.start("ann")
        with answering(until("a machine", lambda: of("ann"))[0]):
            until("ann's server", lambda: hub.is_ready("ann"))
            hub.ask("DELETE", "/users/ann/server")
            until("its end", lambda: "ec2:TerminateInstances" in str(aws.asked()))
        [warm] = until("a warm machine", lambda: of(NOBODY))
        with answering(warm):
            hub.start("bob")
            until("bob's server", lambda: hub.is_ready("bob"))
        assert [each["InstanceId"] for each in of("bob")] == [warm["InstanceId"]]
    aws.set(allowed={})
    asked = {action for actions in aws.asked()[before:] for action in actions}
    # The template of this test names no profile, which the launch would pass.
    assert asked == {*granted("hub")} - {"iam:PassRole"}
    role = {"aws:PrincipalTag/goldenami:hub": RAW["Hub"]["Properties"]["Tags"][0]["Value"]}
    questions = [replace(each, context={**each.context, **role}) for each in aws.noted()[noted:]]
    assert [each for each in questions if not allows([document("HubPolicy")], BOUNDARY, each)] == []


WAITS = {"hub": "notebooks", "user": NOBODY, "warm": "stamp"}
USER = ["goldenami:user", "goldenami:server", "Name"]


@pytest.mark.parametrize(
    ("tags", "keys", "allowed"),
    [
        (WAITS, USER, True),
        (WAITS | {"hub": "physics"}, USER, False),
        (WAITS | {"user": "ann"}, USER, False),
        ({"hub": "notebooks"}, USER, False),
        ({}, USER, False),
        (WAITS, [*USER, "goldenami:hub"], False),
        (WAITS, ["goldenami:warm"], False),
        (WAITS, [], False),
    ],
)
def test_a_hub_gives_its_own_machines_once_to_a_user(
    tags: dict[str, str], keys: list[str], allowed: bool
) -> None:
    context = {
        **{f"aws:ResourceTag/goldenami:{key}": value for key, value in tags.items()},
        "aws:PrincipalTag/goldenami:hub": "notebooks",
        **({"aws:TagKeys": keys} if keys else {}),
    }
    machine = f"arn:aws:ec2:{REGION}:123456789012:instance/i-0123456789abcdef0"
    asked = Asked("ec2:CreateTags", machine, context)
    assert allows([document("HubPolicy")], BOUNDARY, asked) is allowed
