"""An instance of an AMI that another account shares: which build it is, the publish records of this
machine say.

EC2 shows an AMI's tags to its owner alone, and its snapshot cannot be listed by whoever only
launches it.
"""

from __future__ import annotations

import dataclasses

from goldenami.core.errors import Unreachable
from goldenami.fleet.drift.running_instance import RunningInstance
from goldenami.model.builds.build_folder import ImageFolder


def identified(target: RunningInstance, builds: ImageFolder) -> RunningInstance:
    """The instance with its build, of which the AMI's snapshot is not asked; Unreachable where no
    record names the AMI.
    """
    for build in builds.builds:
        published = build.read_published().get(target.region)
        if published and published.ami == target.ami:
            return dataclasses.replace(target, image=builds.image, build_id=build.build_id,
                                       baked="",
                                       disk_sha256=build.read_bake().disk_sha256 or "")
    raise Unreachable(
        f"{target.ami} is shared by account {target.owner}, and no publish record here says which "
        "build it is",
        hint="bring the build's folder with its publish.json from where it was published, below "
             f"{builds.path}")
