"""Questions to a real account: one or more for each rule of the contract that a call can show."""

from __future__ import annotations

from datetime import timedelta

from goldenami.aws.calls import refused
from goldenami.aws.contract import CONTRACT
from goldenami.core import clock

from goldenami_fleet.selftest.probes import probes_images, probes_launches, probes_upload
from goldenami_fleet.selftest.probes.ground import Ground, Probe


def _costs(ground: Ground) -> str:
    """Ask for yesterday's costs, for a cent. A new account has none."""
    today, explorer = clock.now().date(), ground.client("ce")
    asked = {
        "TimePeriod": {"Start": str(today - timedelta(days=1)), "End": str(today)},
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
    }
    code, _ = refused(lambda: explorer.get_cost_and_usage(**asked)["ResultsByTime"])
    return "answered" if code in ("", "DataUnavailableException") else code


_STEPS = list(dict.fromkeys(row.step for row in CONTRACT.values()))
PROBES = tuple(
    sorted(
        (
            *probes_upload.UPLOAD,
            *probes_images.REGISTER,
            *probes_launches.PUBLISH,
            *probes_launches.LAUNCH,
            *probes_launches.REFRESH,
            *probes_upload.DRIFT,
            *probes_launches.CLUSTER,
            *probes_images.RETIRE,
            *probes_launches.LISTS,
            Probe("stated", "answered", _costs),
        ),
        key=lambda probe: _STEPS.index(CONTRACT[probe.rule].step),
    )
)
"""In the order of the contract's steps."""

LIFE = {
    "copies_wait": "publish",
    "lease_is_taken_once": "publish",
    "dynamic_reference": "cluster",
    "create_change_set": "account",
    "execute_change_set": "account",
    "stack_hands_tags_on": "cluster",
    "boots_under_uefi": "selftest",
    "boots_under_bios": "selftest",
    "metadata_has_the_key": "selftest",
    "metadata_wants_a_token": "selftest",
    "checks_over_ssh": "selftest",
    "local_disk_has_its_model": "selftest",
}
"""Rules that no probe asks for, with the command that shows them by its end: `selftest` itself by
its machines."""

NOT_ASKED = {
    **dict.fromkeys(
        (
            "direct_calls_use_keys_through_ec2",
            "start_tags_a_snapshot",
            "start_wants_the_key",
            "tags_want_a_right",
            "copy_wants_the_key",
            "image_parameter_wants_a_right",
            "launch_wants_the_key",
            "profile_is_passed",
            "refresh_launches",
            "key_opens_blocks",
        ),
        "an administrator has every right, so nothing is refused",
    ),
    **dict.fromkeys(
        (rule for rule, row in CONTRACT.items() if row.step == "by chance"),
        "it happens by chance",
    ),
    **dict.fromkeys(
        ("tags_are_short", "description_is_ascii", "told_tags"),
        "`golden check` refuses it before AWS could",
    ),
    **dict.fromkeys(
        ("describe_parameters", "long_lists_come_in_time"),
        "an account with thousands of them shows it",
    ),
    "failed_copy_holds_its_name": "nobody can make a copy fail",
    "spot_role_is_made": "an account's first request alone makes it",
    "taken_back_says_so": "EC2 decides when it takes a machine back",
    "unsealed_ends_in_error": "the shortest timeout of a snapshot is ten minutes",
    "default_network": "the account would lose its default network",
    "request_spot_fleet": "a fleet needs a role of its own",
    "request_spot_instances": "a request may launch a machine, and makes a role in a new account",
}
"""Why nobody asks for a rule."""
