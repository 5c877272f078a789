"""From candidate to `latest`: what refuses, and what a region that was added gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.errors import ExitCode
from goldenami.model.builds.figures import FIGURES_FILE, Figure, FiguresRecord
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

SOAK = (
    "publish: {regions: [us-east-1, us-west-2], soak_hours: 1, "
    "launch_template: {instance_type: c7i.large}}\n"
)


@pytest.fixture
def soaking(checkout: Checkout) -> list[Path]:
    """Folders of two builds: the first is `latest`, the second its candidate."""
    checkout.define(SOAK)
    folders = [builds.build(checkout.root, 1)]
    publish(checkout)
    promote(checkout, "--now")
    folders.append(builds.build(checkout.root, 2))
    publish(checkout)
    return folders


def publish(checkout: Checkout, *args: str) -> None:
    checkout.run("publish", IMAGE, *args, code=ExitCode.HELD_BACK)


def promote(checkout: Checkout, *args: str, code: int = 0) -> str:
    return checkout.run("promote", IMAGE, *args, code=code)


# --- candidates that are none ---


def test_candidates_that_are_none(checkout: Checkout, soaking: list[Path]) -> None:
    """One region's is another, was withdrawn there, or its AMI is gone."""
    build, state = soaking[1].name, RegionState("us-west-2")
    own = state.ledger()
    state.write_ledger(own.withdraw(build))
    said = f"the candidate {build} was rolled back in us-west-2"
    assert said in promote(checkout, "--now", code=2)
    state.write_ledger(own)
    ami = state.parameter("candidate")
    state.ec2.deregister_image(ImageId=ami)
    text = promote(checkout, "--now", code=2)
    assert f"the candidate's AMI {ami} is gone or not available in us-west-2" in text
    assert f"`scripts/golden publish {IMAGE} --build {build}` makes it again" in text
    checkout.define(SOAK.replace(", us-west-2", ""))
    third = builds.build(checkout.root, 3).name
    publish(checkout)
    checkout.define(SOAK)
    differ = f"candidates of {IMAGE} differ: us-east-1 has {third}, us-west-2 has {build}"
    assert differ in promote(checkout, "--now", code=2)
    assert [RegionState(region).agree() for region in REGIONS[:1]] == [soaking[0].name]


def test_a_region_that_was_added_gets_what_is_latest_elsewhere(checkout: Checkout) -> None:
    """The build was released once; a second soak would leave the regions apart."""
    checkout.define("publish: {regions: [us-east-1], soak_hours: 0}\n")
    build = checkout.publish(1)
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 1}\n")
    said = checkout.run("publish", IMAGE)
    assert "stays" not in said
    for region in REGIONS:
        RegionState(region).check([build], build)


def test_a_candidate_that_is_slower_is_refused_until_somebody_says_why(
    checkout: Checkout, soaking: list[Path]
) -> None:
    for folder, seconds in zip(soaking, (1.0, 1.2), strict=True):
        values = [seconds + 0.001 * number for number in range(5)]
        figure = Figure(name="import of torch", unit="s", machine="c7i.large", values=values)
        record = FiguresRecord(build_id=folder.name, figures=[figure])
        records.write(folder / FIGURES_FILE, record)
    said = promote(checkout, "--now", code=ExitCode.NOT_VERIFIED)
    assert f"build {soaking[1].name} is slower: import of torch" in said
    assert RegionState("us-east-1").agree() == soaking[0].name
    said = promote(checkout, "--now", "--accept-slower", "a fix costs that")
    assert "slower, accepted (a fix costs that): import of torch: 1 s before, 1.2 s now" in said
    assert RegionState("us-east-1").agree() == soaking[1].name
