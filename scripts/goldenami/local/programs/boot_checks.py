"""Checks of what the boots of a disk did."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from goldenami.local.tree import sealed
from goldenami.local.vm import cpu, vm
from goldenami.local.vm.second_boot import Booted
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_records import Check
from goldenami.model.builds.plans import VerifyPlan
from goldenami.model.supported import instruction_sets


def oldest_cpu(plan: VerifyPlan, machine: vm.Machine, emulated: cpu.Emulated | None) -> list[Check]:
    """Check which CPU the whole image ran on; no check if it was not emulated."""
    if emulated is None:
        return []
    flags = machine.ssh("grep -m1 ^flags /proc/cpuinfo").split()
    beyond = sorted(cpu.shown(flags, instruction_sets.KNOWN_X86) - set(plan.features))
    return [
        Check.of_boot(
            "oldest_cpu",
            "The whole image ran on what all declared CPUs have, and no more",
            not beyond,
            f"the machine also had {', '.join(beyond)}",
        )
    ]


def of_boot(firmware: str, boot: Booted) -> Iterator[Check]:
    """Yield the checks of one boot."""
    yield Check.of_boot(
        f"power_off[{firmware}]",
        "The machine powers off by itself",
        boot.powered_off,
        f"it did not within {vm.POWER_OFF_LIMIT_S:.0f} s",
    )
    if boot.drift is not None:
        yield Check.of_boot(
            f"as_baked[{firmware}]",
            "A machine that has booted is no drift",
            not boot.drift,
            "; ".join(boot.drift[: sealed.SHOWN]),
        )


def of_both(plan: VerifyPlan, identities: list[list[str]]) -> list[Check]:
    """Check what both boots did together, given the identities of each."""
    # Machine ids and host keys are long; the cloud's name and the kernel's release are not.
    first, second = ({part for part in identity if len(part) >= 32} for identity in identities)
    shared = sorted(first & second)
    requests = [
        json.loads(line)
        for line in (plan.work / "imds.log").read_text(encoding="utf-8").splitlines()
    ]
    answered = [
        request for request in requests if request["method"] == "GET" and request["status"] == 200
    ]
    without_token = sorted(
        {request["path"] for request in answered if request["token"] not in {"valid"}}
    )
    began = time.monotonic()
    untouched = disk_blocks.is_as_baked(plan.disk, plan.baked)
    hashing = round(time.monotonic() - began, 2)
    return [
        Check.of_boot(
            "new_identity",
            "Two launches share no machine-id and no SSH host key",
            not shared and len(first) >= 2,
            f"both have {', '.join(shared) or 'too few identities'}",
        ),
        Check.of_boot(
            "ec2_datasource",
            "cloud-init chose its Ec2 source on both boots",
            all("aws" in identity for identity in identities),
            f"cloud-id said {identities}",
        ),
        Check.of_boot(
            "imdsv2",
            "The metadata was read, and only with a session token",
            bool(answered) and not without_token,
            f"read without one: {', '.join(without_token) or 'nothing was read at all'}",
        ),
        Check.of_boot(
            "disk_untouched",
            "The disk is byte for byte what was baked",
            untouched,
            f"it is no longer the disk of SHA-256 {plan.baked.sha256} that the bake recorded",
            hashing,
        ),
    ]
