"""The options of `golden drift`, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from goldenami.commands import AsJson, BuildId, Regions
from goldenami.core.errors import GoldenError, NotVerified

FOLDER = "build/drift"
"""Folder of the records in the checkout."""


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """The arguments and options of `golden drift`: for the fleet, one instance or one disk."""

    image: Annotated[
        str | None,
        typer.Argument(metavar="IMAGE", help="name of packer/images/IMAGE.yml, else all"),
    ] = None
    as_json: AsJson = False
    region: Regions = field(default_factory=list)
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance",
            metavar="ID",
            help="compare this instance's disk with its bake, by a temporary snapshot",
        ),
    ] = None
    disk: Annotated[
        Path | None,
        typer.Option(
            "--disk",
            metavar="FILE",
            help="compare this disk (raw, or an overlay of qcow2) with the newest build here",
            exists=True,
            dir_okay=False,
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="with --instance: its AMI and manifest have to be signed, by this public key",
        ),
    ] = None
    build: BuildId = None
    user_data: Annotated[
        Path | None,
        typer.Option(
            "--user-data",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="of --disk: what its machine was launched with; EC2 says it of --instance",
        ),
    ] = None


def raise_outcome(drift: str, notice_errors: list[GoldenError], hint: str) -> None:
    """End with an error for the drift, or else for a notice that could not be sent."""
    if drift:
        raise NotVerified(
            f"drift: {drift}", tail="\n".join(error.message for error in notice_errors), hint=hint
        )
    if notice_errors:
        raise notice_errors[0]
