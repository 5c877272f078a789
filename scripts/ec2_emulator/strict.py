"""Puts the strict handlers in the place of moto's, in this process."""

from __future__ import annotations

import moto.autoscaling.models
import moto.autoscaling.urls
import moto.ebs.urls
import moto.ec2.models
import moto.ec2.models.elastic_block_store
import moto.ec2.models.launch_templates
import moto.ec2.models.spot_requests
import moto.ec2.urls
import moto.ssm.urls
from moto.ec2.responses import EC2Response

from ec2_emulator import launches, shots
from ec2_emulator.direct import Direct
from ec2_emulator.fleets import Fleets, SpotRequest
from ec2_emulator.lifecycle import Lifecycle, Snapshots
from ec2_emulator.parameters import Parameters
from ec2_emulator.refresh import Member, Refreshes
from ec2_emulator.register import Register
from ec2_emulator.shots import Shot
from ec2_emulator.templates import Template, Templates


class StrictEC2(Register, Lifecycle, Snapshots, Templates, Fleets, launches.Launches, EC2Response):
    """EC2: what is strict, then moto."""


def install() -> None:
    """Replace moto's handlers and models; an application that is made afterwards has them."""
    vars(moto.ec2.models.elastic_block_store)["Snapshot"] = Shot
    vars(moto.ec2.models.launch_templates)["LaunchTemplate"] = Template
    vars(moto.ec2.models.spot_requests)["SpotInstanceRequest"] = SpotRequest
    vars(moto.autoscaling.models)["InstanceState"] = Member
    moto.ec2.models.EC2Backend.get_snapshot = shots.get_snapshot  # type: ignore[method-assign]
    moto.ec2.models.EC2Backend.run_instances = launches.run_instances  # type: ignore[method-assign, assignment]
    for urls, handler in ((moto.ec2.urls, StrictEC2), (moto.ebs.urls, Direct), (moto.ssm.urls, Parameters),
                          (moto.autoscaling.urls, Refreshes)):
        vars(urls)["url_paths"] = dict.fromkeys(vars(urls)["url_paths"], handler.dispatch)
