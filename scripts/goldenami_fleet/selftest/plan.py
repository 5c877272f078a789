"""The steps of `golden selftest`: how long each takes, what it costs at most, which policies of
goldenami it needs, and which rules of the contract it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from goldenami.aws.contract import CONTRACT
from goldenami.aws.pricing.price_list import RegionPrices

SMALL, GPU, LOCAL_DISK = "t3.micro", "g4dn.xlarge", "c6id.large"
"""The instance types that the steps launch: the last is the smallest of its family, which has one
local NVMe disk."""
GIB_COPIED_USD = 0.02
"""US dollars for a GiB of a snapshot that is copied to another region
(https://aws.amazon.com/ebs/pricing/, 2026-11)."""
THOUSAND_BLOCKS_USD = 0.006
"""US dollars for 1,000 PutSnapshotBlock (same page)."""
BLOCKS_OF_GIB = 2048
EXPLORER_USD = 0.01
"""US dollars for a request to Cost Explorer (https://aws.amazon.com/aws-cost-management/pricing/,
2026-11)."""


@dataclass(frozen=True)
class Step:
    """A step. It usually takes `minutes`, and is given up after `most_minutes`. `machines` are of
    type SMALL, and run at most that long; `gpus` of type GPU, `local_disks` of type LOCAL_DISK;
    `sent_gib` goes to EBS and once to the other region; `requests` go to Cost Explorer. `policies`
    are files of goldenami/aws/policies whose rights it needs, `needs` steps without which it cannot
    be."""

    name: str
    does: str
    minutes: float
    most_minutes: float
    machines: int = 0
    gpus: int = 0
    local_disks: int = 0
    sent_gib: float = 0
    requests: int = 0
    policies: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def rules(self) -> list[str]:
        """The contract's rules of this step."""
        return [name for name, row in CONTRACT.items() if row.step == self.name]

    @property
    def launches(self) -> dict[str, int]:
        """How many machines of each instance type it launches."""
        counts = {SMALL: self.machines, GPU: self.gpus, LOCAL_DISK: self.local_disks}
        return {kind: count for kind, count in counts.items() if count}

    def usd(self, prices: RegionPrices, gib: float, minutes: float) -> float:
        """US dollars that the step costs at most in so many minutes, for a disk of `gib`; infinite
        if it launches a type whose price is not known."""
        usd = self.sent_gib * gib * (GIB_COPIED_USD + BLOCKS_OF_GIB / 1000 * THOUSAND_BLOCKS_USD)
        for kind, count in self.launches.items():
            # EC2 bills the seconds of a machine, and a volume beside it for a few cents a day.
            usd += count * prices.machine_hour.get(kind, math.inf) * minutes / 60
        return usd + self.requests * EXPLORER_USD


_PUBLISH = ("publish.json",)
STEPS: Mapping[str, Step] = {
    step.name: step
    for step in (
        Step("upload", "blocks go into snapshots by EBS direct", 2, 15, policies=_PUBLISH),
        Step("register", "snapshots become AMIs, and AMIs are copied", 4, 30, policies=_PUBLISH),
        Step(
            "publish",
            "a build goes to two regions, and launch templates and parameters name it",
            12,
            120,
            sent_gib=1,
            policies=_PUBLISH,
        ),
        Step(
            "boot",
            "the AMI boots under UEFI and BIOS, and all checks of the image run over SSH",
            8,
            40,
            machines=2,
            policies=("gpu-test.json",),
            needs=("publish",),
        ),
        Step(
            "local-disk",
            "a machine with a local NVMe disk mounts it",
            4,
            20,
            local_disks=1,
            policies=("gpu-test.json",),
            needs=("publish",),
        ),
        Step(
            "gpu-test",
            "the checks of a GPU run on one Spot machine",
            15,
            60,
            gpus=1,
            policies=("gpu-test.json",),
            needs=("publish",),
        ),
        Step(
            "launch",
            "machines start by the template and by the parameter, and refused types do not",
            4,
            20,
            machines=3,
            needs=("publish",),
        ),
        Step(
            "refresh",
            "a group takes the second build, and goes back with the rollback",
            20,
            60,
            machines=3,
            sent_gib=1,
            policies=("publish.json", "promote.json"),
            needs=("publish",),
        ),
        Step(
            "drift",
            "what somebody changed by hand is named, and mended",
            2,
            20,
            policies=("drift.json",),
            needs=("publish",),
        ),
        Step("costs", "bills and prices are read", 1, 10, requests=12, policies=("costs.json",)),
        Step("site", "the page over all images is written", 1, 10, needs=("publish",)),
        Step("account", "the account's stack is planned, and nothing of it made", 1, 10),
        Step("cluster", "the image's groups are made by a stack, empty", 5, 40, needs=("publish",)),
        Step(
            "retire",
            "what somebody may still need stays, and each step of a removal is asked for",
            2,
            30,
            policies=("retire.json",),
            needs=("publish",),
        ),
    )
}
"""The steps in their order. `sweep` follows in any case."""


def asked(*, gpu: bool) -> list[Step]:
    """The steps of a run, with or without that on a GPU."""
    return [step for step in STEPS.values() if gpu or not step.gpus]


def lines(steps: Sequence[Step], prices: RegionPrices, gib: float) -> Iterator[str]:
    """The plan in lines for a person: minutes, dollars, rights, and what each step shows."""
    minutes, usd = 0.0, 0.0
    yield f"  {'step':<10} {'minutes':>7} {'at most $':>9}  {'rules':>5}  what it shows"
    for step in steps:
        most = step.usd(prices, gib, step.most_minutes)
        minutes, usd = minutes + step.minutes, usd + most
        rights = f" ({', '.join(step.policies)})" if step.policies else ""
        yield (
            f"  {step.name:<10} {step.minutes:>7.0f} {most:>9.3f}  {len(step.rules):>5}  "
            f"{step.does}{rights}"
        )
    yield f"  {'in all':<10} {minutes:>7.0f} {usd:>9.3f}         prices: {prices.source}"
