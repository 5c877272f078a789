"""Who refers to an AMI: whatever does keeps it, and is named as the reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from goldenami.aws.inventory import inventory, removal
from goldenami.release.retire.retention import RetireStep
from support.aws import references
from support.aws.emulator import Emulator
from support.aws.retirement import plan, reasons, steps
from support.aws.seeded_account import IMAGE, PARTNER, SeededAccount

pytestmark = pytest.mark.usefixtures("later")

USES: dict[Callable[[SeededAccount, str], None], str] = {
    references.by_parameter: "used by SSM parameter /team/base",
    references.by_parameter_of_json: "used by SSM parameter flat-name",
    references.by_latest: f"used by SSM parameter /golden-ami/{IMAGE}/latest",
    references.by_old_version_of_a_template: "used by launch template theirs version 1",
    references.by_pinned_parameter: "used by launch template theirs version 1",
    references.by_own_template: f"used by launch template golden-{IMAGE} version 1",
    references.by_group_of_own_template: "used by Auto Scaling group workers",
    references.by_mixed_overrides: "used by Auto Scaling group mixed",
    references.by_fleet: "used by EC2 Fleet fleet-",
    references.by_override_of_a_fleet: "used by EC2 Fleet fleet-",
    references.by_pinned_parameter_in_an_override_of_a_fleet: "used by EC2 Fleet fleet-",
    references.by_spot_fleet: "used by Spot fleet request sfr-",
    references.by_template_of_a_spot_fleet: "used by Spot fleet request sfr-",
    references.by_spot_request: "used by Spot instance request sir-",
    references.by_stopped_spot_instance: "used by Spot instance request sir-",
    references.by_launch_configuration: "used by launch configuration old",
    references.by_instance: "(running)",
    references.by_stopped_instance: "(stopped)",
    references.by_volume: "used by volume vol-",
    references.by_template_of_a_volume: "used by launch template theirs version 1",
    references.by_launch_configuration_of_a_volume: "used by launch configuration data",
    references.by_spot_fleet_of_a_volume: "used by Spot fleet request sfr-",
    references.by_real_spot_fleet_of_a_volume: "used by Spot fleet request sfr-",
    references.by_override_of_a_fleet_of_a_volume: "used by EC2 Fleet fleet-",
    references.by_spot_request_of_a_volume: "used by Spot instance request sir-",
    references.by_share_of_a_snapshot: f"used by createVolumePermission of {PARTNER}",
    references.by_upload: "used by unfinished upload snap-",
    references.by_protection: "deregistration protection is on",
    references.by_share: f"shared with {PARTNER}",
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_what_is_used_stays(
    account: SeededAccount, use: Callable[[SeededAccount, str], None]
) -> None:
    """The same AMI is due without the use, and stays with it, which names the user."""
    used = account.ami(1)
    account.ami(2)
    assert (RetireStep.DEPRECATE, used) in steps(plan(account))
    use(account, used)
    planned = plan(account)
    assert used not in {target for _, target in steps(planned)}
    assert any(USES[use] in reason for reason in reasons(planned)[used]), reasons(planned)[used]


def test_what_launches_no_more_is_no_use(account: SeededAccount) -> None:
    """Fleets and requests that were ended stay listed for hours or days."""
    old = account.ami(1)
    account.ami(2)
    theirs = account.template("theirs", ["ami-00000000000000000"])
    for state in inventory.FLEET_ENDED:
        account.fleet(theirs, "1", state, ImageId=old)
    for state in inventory.SPOT_FLEET_ENDED:
        account.spot_fleet(state, LaunchSpecifications=[{"ImageId": old}])
    for state in inventory.SPOT_REQUEST_ENDED:
        account.spot_request(old, state)
    assert (RetireStep.DEPRECATE, old) in steps(plan(account))


def test_every_page_is_read(account: SeededAccount, aws: Emulator) -> None:
    old, newest = account.ami(1), account.ami(2)
    theirs = account.template("theirs", [newest])
    for ami in (newest, old):
        account.fleet(theirs, "1", ImageId=ami)
        account.spot_fleet(LaunchSpecifications=[{"ImageId": ami, "InstanceType": "c7i.large"}])
        account.spot_request(ami)
    aws.set(page_most=1)
    kinds = sorted(reason.rpartition(" ")[0] for reason in reasons(plan(account))[old])
    assert kinds == [
        "used by EC2 Fleet",
        "used by Spot fleet request",
        "used by Spot instance request",
    ]


def test_the_record_of_a_gpu_test_keeps_nothing_and_goes_with_the_builds(
    account: SeededAccount,
) -> None:
    """It names the AMI that was tested; a build that a GPU has seen could never be retired."""
    used = account.ami(1)
    account.ami(2)
    record = f"/golden-ami/{IMAGE}/{'0' * 12}"
    account.point(f"{record}/gpu-test", f'{{"machines":[{{"ami":"{used}"}}]}}')
    account.point(f"{record}/provenance", "{}")
    assert (RetireStep.DEPRECATE, used) in steps(plan(account))
    account.point(record, "ami-00000000000000000")
    assert removal.delete_records(account.ec2, account.ssm, [record]) == {}
    assert not [name for name in account.parameters() if name.startswith(record)]


def test_a_record_whose_ami_exists_after_all_stays(account: SeededAccount) -> None:
    """Among twelve, which takes two calls, the others go."""
    there, kept = account.ami(1), account.record(1)
    others = [f"/golden-ami/{IMAGE}/{number:012x}" for number in range(100, 111)]
    for name in others:
        account.point(name, "ami-00000000000000000")
    failed = removal.delete_records(account.ec2, account.ssm, [*others, kept])
    assert {name: error.message for name, error in failed.items()} == {
        kept: f"{there} exists after all, so its record {kept} stays"
    }
    assert list(account.parameters()) == [kept]
