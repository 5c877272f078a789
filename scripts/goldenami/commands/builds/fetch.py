"""The part of `golden bake` that stops when every file of the lock is here."""

from __future__ import annotations

from goldenami.commands import lead_to
from goldenami.commands.builds import bake_setup
from goldenami.commands.checkout import Checkout
from goldenami.commands.lock import fetched
from goldenami.image.bake import packer_variables
from goldenami.image.builders import ec2
from goldenami.local.host import workspace
from goldenami.model.locked.lockfile import Lock


def run(checkout: Checkout, image: str, *, relock: bool, wait: bool) -> int:
    """Fetch the lock's files, and write what Packer needs beside them."""
    with workspace.image_lock(checkout.root, image, wait=wait):
        inputs = bake_setup.inputs(checkout, "bake", fetched(checkout, image, relock=relock))
        folder = packer_variables.write(inputs, _packer_account(checkout, inputs.lock))
    if folder:
        argv = f"packer build -only='*.ec2' -var-file=../{packer_variables.VARIABLES} packer"
        inputs.progress.say(f"for Packer: cd {folder} && {argv}")
    else:
        inputs.progress.say(
            "nothing for Packer: the bake compiles what the store lacks; fetch again after it"
        )
    lead_to("bake", image)
    return 0


def _packer_account(checkout: Checkout, lock: Lock) -> dict[str, str]:
    publish = checkout.definition(lock.image).publish
    if publish is None:
        return {"instance_type": ec2.instance_type(lock)}
    declared_type = publish.launch_template.instance_type
    return {
        "region": publish.regions[0],
        "instance_type": declared_type or ec2.instance_type(lock),
    }
