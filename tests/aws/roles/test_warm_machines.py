"""Machines that a hub keeps warm, on the emulated account: what waits on them for a user is the
image's own jupyter-machine, as a process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.aws import hub as hubs
from support.aws.emulator import Emulator, Faults
from support.aws.hub import NOBODY, REGION, TYPES, Hub, answering, machines, of, tags_of
from support.waiting import until


class Warm:
    """A hub with warm machines of the first type, and the processes of its machines."""

    def __init__(self, folder: Path, settings: dict[str, Any], stack: ExitStack) -> None:
        self.folder, self.settings, self.stack = folder, settings, stack

    def hub(self, count: int = 1, **changed: Any) -> Hub:
        return Hub(self.folder / "hub", **self.settings, warm={TYPES[0]: count}, **changed)

    def boot(self, count: int = 1, secret: str = "") -> list[Path]:
        """Wait for so many warm machines and boot them; their files."""
        until("warm machines", lambda: len(of(NOBODY)) == count)
        return [
            self.stack.enter_context(hubs.waiting(each, self.folder / each["InstanceId"], secret))
            for each in of(NOBODY)
        ]


@pytest.fixture
def warm(aws: Emulator, tmp_path: Path) -> Iterator[Warm]:
    with ExitStack() as stack:
        yield Warm(tmp_path, hubs.network(aws), stack)


def served(hub: Hub, user: str) -> dict[str, Any]:
    """The one machine of a user, once its server is there."""
    until(f"the server of {user}", lambda: hub.is_ready(user))
    [machine] = of(user)
    return machine


def test_a_user_gets_a_warm_machine_and_the_hub_launches_the_next(
    warm: Warm, record_property: Any
) -> None:
    with warm.hub().running() as hub:
        [files] = warm.boot()
        server, idle = [json.loads(file["content"]) for file in hubs.told(of(NOBODY)[0])]
        assert idle == {"action": "none"}, "nobody's machine is idle, and shall stay"
        began = time.monotonic()
        hub.start("ann")
        machine = served(hub, "ann")
        record_property("seconds", time.monotonic() - began)
        assert machine["InstanceId"] == files.name
        assert (tags_of(machine)["goldenami:server"], tags_of(machine)["Name"]) == (
            "-",
            "notebooks ann",
        )
        assert "One more g6.xlarge ($0.80 an hour) waits for a user" in hub.log()
        [other] = until("the next", lambda: of(NOBODY))
        other_server, _ = [json.loads(file["content"]) for file in hubs.told(other)]
        assert server.keys() == other_server.keys() == {"secret"} and server != other_server
        told = json.loads((files / "jupyter-machine.json").read_text(encoding="utf-8"))
        assert told["user"] == "ann" and hubs.holder(told["home"]) == files.name
        for secret in (server["secret"], told["env"]["JUPYTERHUB_API_TOKEN"]):
            assert secret not in hub.log() + str(tags_of(machine))
        assert json.loads((files / "golden-idle.local.json").read_text(encoding="utf-8")) == {
            "action": "poweroff",
            "target": "ssm:/golden-idle/team",
            "keep": "s3://acme-keep/vision",
        }
        modes = {each.stat().st_mode & 0o777 for each in files.glob("*.json")}
        assert modes == {0o600}
        assert (files / "ran").read_text(encoding="utf-8").splitlines() == [
            "golden-keep place",
            "systemctl --no-block try-restart golden-idle.service",
        ]
        hub.ask("DELETE", "/users/ann/server")
        until("its end", lambda: not of("ann"))
    assert len(machines()) == 2


def test_users_who_start_at_once_never_share_a_machine(warm: Warm) -> None:
    """Three of them, for whom two machines wait."""
    users = ["ann", "bob", "cid"]
    with warm.hub(2).running() as hub:
        waited = {files.name for files in warm.boot(2)}
        for user in users:
            hub.ask("POST", f"/users/{user}")
        with ThreadPoolExecutor() as pool:
            list(pool.map(hub.start, users))
        launched = until(
            "a launch",
            lambda: [
                each for user in users for each in of(user) if each["InstanceId"] not in waited
            ],
        )
        warm.stack.enter_context(answering(launched[0]))
        found = [served(hub, user)["InstanceId"] for user in users]
        until("the next", lambda: len(of(NOBODY)) == 2)
    assert len(set(found)) == 3 and waited < set(found)


@pytest.mark.parametrize(
    ("changed", "reused"),
    [({}, True), ({"subnets": 1}, False), ({"count": 0}, False), ({"key": 1}, False)],
    ids=["as before", "other settings", "none wanted", "another key"],
)
def test_a_hub_that_starts_again_uses_its_warm_machines_or_ends_them(
    warm: Warm, changed: dict[str, int], reused: bool
) -> None:
    with warm.hub().running():
        [files] = warm.boot()
    if "subnets" in changed:
        warm.settings["subnets"] = warm.settings["subnets"][:1]
    if "key" in changed:
        (warm.folder / "hub/jupyterhub_cookie_secret").unlink()
    with warm.hub(changed.get("count", 1)).running() as hub:
        if reused:
            hub.start("ann")
            assert served(hub, "ann")["InstanceId"] == files.name
            until("the next", lambda: of(NOBODY))
        else:
            until("its end", lambda: files.name not in str(hubs.live()))
            until("the next", lambda: len(of(NOBODY)) == changed.get("count", 1))
    assert len(machines()) == 2 - (changed.get("count") == 0)


def test_a_machine_whose_hub_was_killed_in_a_claim_ends(warm: Warm) -> None:
    """It listens, and never answers; its user is a tag of it by then."""
    with warm.hub().running() as hub:
        [machine] = until("a warm machine", lambda: of(NOBODY))
        with hubs.deaf(machine):
            hub.start("ann")
            until("the claim", lambda: of("ann"))
    with warm.hub().running(limit_s=2) as hub:
        until("its end", lambda: not of("ann"))
        until("no server", lambda: not hub.ask("GET", "/users/ann").json()["servers"])
        until("the next", lambda: of(NOBODY))
        warm.boot()
        hub.start("ann")
        assert served(hub, "ann")["InstanceId"] != machine["InstanceId"]


@pytest.mark.parametrize(
    ("case", "kept"),
    [
        ("boots", True),
        ("type", True),
        ("zone", True),
        ("tags refused", True),
        ("secret", False),
    ],
)
def test_where_no_warm_machine_can_be_had_a_server_has_one_of_its_own(
    warm: Warm, faults: Faults, case: str, kept: bool
) -> None:
    """A machine that refuses its user ends. Any other waits on."""
    with warm.hub().running() as hub:
        [machine] = until("a warm machine", lambda: of(NOBODY))
        name = machine["InstanceId"]
        if case != "boots":
            warm.boot(secret="another" if case == "secret" else "")
        if case == "zone":
            hubs.home(f"{REGION}b", "ann")
        elif case == "tags refused":
            faults.add("ec2:CreateTags", code="UnauthorizedOperation")
        hub.start("ann", TYPES[case == "type"])
        own = until("a launch", lambda: [each for each in of("ann") if each["InstanceId"] != name])
        with answering(own[0]):
            assert served(hub, "ann")["InstanceId"] == own[0]["InstanceId"]
        assert own[0]["Placement"]["AvailabilityZone"][-1] == ("b" if case == "zone" else "a")
        if case == "tags refused":
            assert hub.log().count("ann: launches a machine: AWS refuses create_tags") == 1
        until("the next", lambda: len(of(NOBODY)) == 1)
    assert (name in str(of(NOBODY))) is kept
