"""Commands that boot a build: to check it, or to work in it."""

from __future__ import annotations

from goldenami.commands import ImageName, Wait, lead_to
from goldenami.commands.builds import bake_setup
from goldenami.commands.checkout import Checkout
from goldenami.image.builders.builder import Builder
from goldenami.image.builders.local import LocalBuilder
from goldenami.image.report import report
from goldenami.image.verify import verify
from goldenami.local.host import workspace
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.build_records import Verdict
from goldenami.model.locked.lockfile import Lock


def cmd_verify(checkout: Checkout, image: ImageName, *, wait: Wait = False) -> int:
    """Boot the newest disk of the image's lock as if on EC2 and check it; an AMI is launched."""
    lock, build = checkout.baked(image)
    with workspace.image_lock(checkout.root, image, wait=wait):
        builder: Builder = LocalBuilder(checkout.root)
        if ami := build.read_bake().ami:
            builder = bake_setup.ec2_builder(checkout, lock, ami.region)
        return run(checkout, build, lock, builder)


def run(checkout: Checkout, build: BuildFolder, lock: Lock, builder: Builder) -> int:
    """Verify the build and write its report. Raises the error of a build that is not verified."""
    progress = checkout.progress(bake_setup.timing_name("verify", builder), lock.image)
    record = verify.run(checkout.root, build, lock, progress, builder)
    progress.say(f"report: {report.written(build)}")
    if ami := build.read_bake().ami:
        progress.say(f"AMI:    {ami.id} in {ami.region}")
    else:
        progress.say(f"disk:   {build.disk}")
    progress.say(f"{record.verdict}: {verify.summary(record)}")
    if record.verdict is not Verdict.VERIFIED:
        raise verify.failure(record, build)
    return lead_to_publish(checkout, lock.image)


def lead_to_publish(checkout: Checkout, image: str) -> int:
    """Name `golden publish` as the next command if the image is published at all."""
    if checkout.definition(image).publish:
        lead_to("publish", image)
    return 0


def cmd_shell(checkout: Checkout, image: ImageName) -> int:
    """Boot the newest verified disk and open an SSH session in it; changes are thrown away."""
    return LocalBuilder(checkout.root).shell(image)
