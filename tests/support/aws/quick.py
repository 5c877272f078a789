"""What makes a command of a test quick, in this process and in those that it forks: botocore reads
AWS's descriptions once, and looks at what is pending follow each other as the emulator's states
do."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import boto3
import botocore.loaders
import pytest
from botocore.client import ClientCreator
from goldenami.aws import images, refusals, session
from goldenami.aws.channels import pointers
from goldenami.aws.snapshots import ebs
from goldenami_fleet.selftest import life

PENDING_S = 0.02
"""Seconds that an AMI, a snapshot or a parameter stays pending: not at once, so that each wait is
walked."""


def apply(patch: pytest.MonkeyPatch) -> None:
    """Keep descriptions and the methods made of them, and shorten the pauses.

    Without it each session of each command reads them: 40 s of processor time in a run.
    """
    methods: dict[str, dict[str, Any]] = {}
    make = ClientCreator._create_methods

    def made_once(creator: ClientCreator, service: Any) -> dict[str, Any]:
        name = service.service_name
        if name not in methods:
            methods[name] = make(creator, service)
        return dict(methods[name])  # a service's own customizations add to it

    patch.setattr("botocore.session.create_loader", functools.cache(botocore.loaders.create_loader))
    patch.setattr(ClientCreator, "_create_methods", made_once)
    patch.setattr(pointers, "POLL_S", PENDING_S)
    patch.setattr(life, "POLL_S", PENDING_S)
    patch.setattr(images, "POLLS_S", (PENDING_S, *images.POLLS_S))
    patch.setattr(ebs, "POLLS_S", (PENDING_S, *ebs.POLLS_S[1:]))
    patch.setattr(session, "FIRST_AGAIN_S", PENDING_S)
    # A right that a test takes away does not come back by itself.
    patch.setattr(
        refusals,
        "TABLE",
        tuple(
            replace(row, limit_s=10 * PENDING_S) if "AccessDenied" in row.codes else row
            for row in refusals.TABLE
        ),
    )


def read_ahead() -> None:
    """Read what each fork would read."""
    for service in ("dynamodb", "ebs", "ec2", "ssm", "sts"):
        boto3.client(service, "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
