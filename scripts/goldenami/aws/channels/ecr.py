"""ECR: the login that its registries take, and the removal of images, which they know by no other
means."""

from __future__ import annotations

import re

from goldenami.aws.session import Account, translated
from goldenami.core.errors import Unreachable

_HOST = re.compile(r"^\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$")
"""A private registry of an account (ECR's user guide, "Private registry concepts")."""


def region_of(host: str) -> str:
    """The region of a registry of ECR; "" of any other registry."""
    match = _HOST.match(host)
    return match[1] if match else ""


def login(account: Account, host: str) -> str:
    """What a registry of ECR takes for twelve hours: `user:password` in base64, as Docker's
    configuration has it."""
    region = region_of(host)
    with translated(region):
        answer = account.client("ecr", region).get_authorization_token()
    if not answer["authorizationData"]:
        raise Unreachable(f"ECR gives no login for {host}", hint="run again")
    return str(answer["authorizationData"][0]["authorizationToken"])


def remove(account: Account, host: str, repository: str, digests: list[str]) -> None:
    """Remove images by their digests, `sha256:...`, with all their tags."""
    region = region_of(host)
    with translated(region):
        account.client("ecr", region).batch_delete_image(
            repositoryName=repository, registryId=host.partition(".")[0],
            imageIds=[{"imageDigest": digest} for digest in digests])
