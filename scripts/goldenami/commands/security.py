"""Commands on what is in a build and what is known against it."""

from __future__ import annotations

from typing import Annotated

import typer

from goldenami.commands import ImageName
from goldenami.commands.checkout import Checkout
from goldenami.security import components, sbom
from goldenami.security.sbom import Spec


def cmd_sbom(
    checkout: Checkout, image: ImageName, *,
    spec: Annotated[Spec | None, typer.Option(
        "--spec", metavar="SPEC", help="print the bill in this one instead: cyclonedx-1.6, cyclonedx-1.5, spdx-2.3",
    )] = None,
) -> int:
    """Write the bill of materials of the image's newest build, and print where it is."""
    lock, build = checkout.baked(image)
    if spec:
        print(sbom.text(components.of_build(build, lock, checkout.store), spec), end="")
    else:
        for path in sbom.write(build, lock, checkout.store):
            print(path)
    return 0
