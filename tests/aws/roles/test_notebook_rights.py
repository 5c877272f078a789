"""The policy of a hub is what its spawner needs, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.aws import hub as hubs
from support.aws.account_template import BOUNDARY, RAW, document
from support.aws.emulator import Emulator, running
from support.aws.hub import REGION, Hub, answering, machines
from support.aws.iam_policies import allows
from support.builds.tools import granted
from support.waiting import until


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The emulator that notes which resources and tags IAM is asked about."""
    with running("support.aws.asked") as found:
        yield found


def test_the_policy_of_a_hub_is_what_its_spawner_needs(aws: Emulator, tmp_path: Path) -> None:
    """A first start, which also finds a home that one without capacity left, and a second one."""
    settings = hubs.network(aws)
    hubs.home(f"{REGION}b", "ann", new="yes")
    before, noted = len(aws.asked()), len(aws.noted())
    aws.set(allowed={"*": granted("hub")})
    with Hub(tmp_path, **settings).running() as hub:
        hub.form("ann")
        hub.start("ann")
        with answering(until("a machine", machines)[0]):
            until("ann's server", lambda: hub.is_ready("ann"))
            hub.ask("DELETE", "/users/ann/server")
            until("its end", lambda: "ec2:TerminateInstances" in str(aws.asked()))
    aws.set(allowed={})
    asked = {action for actions in aws.asked()[before:] for action in actions}
    # The template of this test names no profile, which the launch would pass.
    assert asked == {*granted("hub")} - {"iam:PassRole"}
    role = {"aws:PrincipalTag/goldenami:hub": RAW["Hub"]["Properties"]["Tags"][0]["Value"]}
    questions = [replace(each, context={**each.context, **role}) for each in aws.noted()[noted:]]
    assert [each for each in questions if not allows([document("HubPolicy")], BOUNDARY, each)] == []
