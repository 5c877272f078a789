"""Decides whether `latest` moves with a publish or stays: by the build's GPU proof, and by the soak
that the definition asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from goldenami.aws.channels.channels import ImageInAccount, RegionBuild
from goldenami.aws.channels.evidence import GpuFinding
from goldenami.aws.channels.ledger import GpuProof
from goldenami.aws.images import ImageSpec
from goldenami.model.operation.publish_section import Publish
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish import channel_moves
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.release_gate import VerifiedBuild


@dataclass(frozen=True)
class HoldBack:
    """The build's GPU proof, and why `latest` stays, or "" if it moves."""

    gpu: GpuProof
    why: str


def decide(
    image: ImageInAccount,
    build: VerifiedBuild,
    states: Collection[RegionBuild],
    spec: ImageSpec,
    criteria: Criteria,
) -> HoldBack:
    """Decide by the states of all regions. `spec` is that of the build's AMIs."""
    # A build that is `latest` in one region was released: a region that was added gets it, too,
    # without a second soak or test.
    released = _released(states, build)
    finding = _on_gpus(build, states, spec, criteria.judge)
    gpu = finding.proof
    if gpu is GpuProof.UNTESTED and released:
        gpu = released
    elif gpu is GpuProof.UNTESTED and criteria.accept_untested_gpu:
        gpu = GpuProof.ACCEPTED
    if released:
        return HoldBack(gpu, "")
    return HoldBack(gpu, _why(image.name, image.section, gpu, finding.problem))


def _released(states: Iterable[RegionBuild], build: VerifiedBuild) -> GpuProof | None:
    """The build's GPU proof in the ledger of a region in which its AMI is `latest`, or None if it
    is `latest` in none."""
    for state in states:
        entry, ami = state.ledger.latest, state.image
        # Only if that AMI still exists: otherwise nobody knows which bytes it had.
        if state.is_abandoned or entry is None or ami is None:
            continue
        if entry.build_id == build.bake.build_id and entry.ami == ami.ami:
            return entry.gpu
    return None


def _on_gpus(
    build: VerifiedBuild, states: Iterable[RegionBuild], spec: ImageSpec, judge: GpuJudge
) -> GpuFinding:
    if not build.asked.classes:
        return GpuFinding(GpuProof.NONE)
    evidence = channel_moves.evidence_of(build.bake.image, build.bake.build_id, states)
    # By the specification's tags, since no region may have an AMI yet.
    return judge(replace(evidence, tags=spec.tags))


def _why(image: str, section: Publish, gpu: GpuProof, problem: str) -> str:
    """Why `latest` stays, or "" if it moves. `problem` is why a GPU test does not count."""
    if gpu is GpuProof.UNTESTED:
        cause = "not tested on a GPU"
        if problem:
            cause += f" ({problem})"
        return (
            f"{cause}: `golden gpu-test {image}` tests it, `--accept-untested-gpu` goes on without"
        )
    if not section.soak_hours:
        return ""
    return f"a candidate stands {section.soak_hours} h: then `golden promote {image}`"
