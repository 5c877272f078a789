"""ECR: the login that its registries take, and the removal of images by digest."""

from __future__ import annotations

from goldenami.aws.session import Account, translated
from goldenami.core.errors import Unreachable
from goldenami.model.operation.residency import registry_region


def login(account: Account, host: str) -> str:
    """What ECR takes for twelve hours: `user:password` in base64, as Docker's configuration has
    it."""
    region = registry_region(host)
    with translated(region):
        answer = account.client("ecr", region).get_authorization_token()
    if not answer["authorizationData"]:
        raise Unreachable(f"ECR gives no login for {host}", hint="run again")
    return str(answer["authorizationData"][0]["authorizationToken"])


def remove(account: Account, host: str, repository: str, digests: list[str]) -> None:
    """Remove images by their digests, `sha256:...`, with all their tags."""
    region = registry_region(host)
    with translated(region):
        account.client("ecr", region).batch_delete_image(
            repositoryName=repository, registryId=host.partition(".")[0],
            imageIds=[{"imageDigest": digest} for digest in digests])
