"""The next step of a lock's build on its way to `latest`, for pipelines that run without a
person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from goldenami.aws.channels import pointers
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.channels.ledger import GpuProof, Ledger, LedgerEntry
from goldenami.aws.regions import for_each_region
from goldenami.core import clock
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.supported import hardware
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish import channel_moves


class ReleaseStep(StrEnum):
    """The steps of a release, by their commands, besides WAIT and DONE."""

    BAKE = "bake"
    PUBLISH = "publish"
    GPU_TEST = "gpu-test"
    PROMOTE = "promote"
    WAIT = "wait"
    DONE = "done"


@dataclass(frozen=True)
class NextStep:
    """The next step, and the reason for it in words."""

    step: ReleaseStep
    why: str

    def __str__(self) -> str:
        if self.step in (ReleaseStep.WAIT, ReleaseStep.DONE):
            return self.why
        return f"{self.why}: {self.step}"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A lock's build on its way to `latest`, with the ledgers of all its regions.

    `is_baked` is True if a verified build is on this machine, `is_tested` if it needs no GPU test
    or has passed it, `is_judged` if its vulnerabilities have to be looked up, which needs the
    build. `waiting` are groups that were not refreshed to `latest` yet.
    """

    build_id: str
    ledgers: Mapping[str, Ledger]
    is_baked: bool
    is_tested: bool
    soak_hours: int
    is_judged: bool = False
    waiting: Sequence[str] = ()

    def next_step(self) -> NextStep:
        """Return the next step."""
        build_id = self.build_id
        if rolled_back := self._regions_rolled_back():
            return NextStep(
                ReleaseStep.WAIT,
                f"build {build_id} was rolled back in {', '.join(rolled_back)}: a new lock "
                f"goes on, or `golden rollback IMAGE --to {build_id}`",
            )
        if self._is_latest():
            return self._after_latest()
        candidates = self._candidates()
        if len(candidates) < len(self.ledgers):
            return NextStep(self._forward, f"build {build_id} is not the candidate in every region")
        if not self.is_tested:
            return NextStep(
                ReleaseStep.GPU_TEST, f"the candidate {build_id} is not tested on a GPU"
            )
        ready = channel_moves.soaked_at([entry.since for entry in candidates], self.soak_hours)
        if clock.now() < ready:
            return NextStep(
                ReleaseStep.WAIT,
                f"the candidate {build_id} has to stand until {ready:%Y-%m-%d %H:%M} UTC",
            )
        step = ReleaseStep.PROMOTE
        # Looking vulnerabilities up takes the build's files, so it is baked again if they are not
        # on this machine.
        if self.is_judged and not self.is_baked:
            step = ReleaseStep.BAKE
        return NextStep(step, f"the candidate {build_id} may become `latest`")

    def _after_latest(self) -> NextStep:
        """The next step of a build that is `latest` in every region."""
        why = f"build {self.build_id} is `latest` in {', '.join(self.ledgers)}"
        if not self.waiting:
            return NextStep(ReleaseStep.DONE, why)
        groups = ", ".join(self.waiting)
        return NextStep(self._forward, f"{why}, and {groups} not asked to take it")

    @property
    def _forward(self) -> ReleaseStep:
        """The step that brings the build on from this machine."""
        if self.is_baked:
            return ReleaseStep.PUBLISH
        return ReleaseStep.BAKE

    def _regions_rolled_back(self) -> list[str]:
        return [
            region for region, ledger in self.ledgers.items() if self.build_id in ledger.withdrawn
        ]

    def _is_latest(self) -> bool:
        """Whether the build is `latest` in every region."""
        for ledger in self.ledgers.values():
            if ledger.latest is None or ledger.latest.build_id != self.build_id:
                return False
        return True

    def _candidates(self) -> list[LedgerEntry]:
        """The candidates of the regions in which the build is the candidate."""
        entries = []
        for ledger in self.ledgers.values():
            if ledger.candidate and ledger.candidate.build_id == self.build_id:
                entries.append(ledger.candidate)
        return entries


def next_step(image: ImageInAccount, build: BuildFolder, judge: GpuJudge) -> NextStep:
    """The next step of a lock's `build` by the ledgers and groups of its image's regions."""
    section = image.section
    needs_gpu = bool(hardware.architectures(judge.root, image.definition.hardware))
    ledgers = image.read_ledgers(section.regions).require_all()
    template = pointers.template_name(image.name)
    defaults = for_each_region(
        section.regions,
        lambda region: pointers.default_version(image.account.ec2(region), template),
    ).require_all()
    groups_waiting = image.groups_to_refresh(defaults)
    is_tested = not needs_gpu
    if needs_gpu:
        finding = channel_moves.on_gpus(image, build.build_id, section.regions, judge)
        is_tested = finding.proof is not GpuProof.UNTESTED
    release = Release(
        build_id=build.build_id,
        ledgers=ledgers,
        soak_hours=section.soak_hours,
        waiting=sorted(set().union(*groups_waiting.values())),
        is_baked=build.is_verified,
        is_judged=image.definition.security.cve is not None,
        is_tested=is_tested,
    )
    return release.next_step()
