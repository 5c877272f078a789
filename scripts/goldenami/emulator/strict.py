"""Puts the strict handlers in the place of moto's, in this process."""

from __future__ import annotations

import moto.ebs.urls
import moto.ec2.models.elastic_block_store
import moto.ec2.urls
from moto.ec2.responses import EC2Response

from goldenami.emulator.direct import Direct
from goldenami.emulator.lifecycle import Lifecycle, Snapshots
from goldenami.emulator.register import Register
from goldenami.emulator.shots import Shot


class StrictEC2(Register, Lifecycle, Snapshots, EC2Response):
    """EC2: what is strict, then moto."""


def install() -> None:
    """Replace moto's handlers; an application that is made afterwards has them."""
    moto.ec2.models.elastic_block_store.Snapshot = Shot  # type: ignore[misc]
    for urls, handler in ((moto.ec2.urls, StrictEC2), (moto.ebs.urls, Direct)):
        vars(urls)["url_paths"] = dict.fromkeys(vars(urls)["url_paths"], handler.dispatch)
