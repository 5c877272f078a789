"""Publishers' AMIs: the newest one that a pattern of names fits."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.aws.session import Client, translated
from goldenami.errors import Unreachable


@dataclass(frozen=True)
class BaseImage:
    """An AMI by its id and name, and when it was created (ISO 8601)."""

    image_id: str
    name: str
    created: str


def newest(ec2: Client, owner: str, pattern: str) -> BaseImage:
    """The AMI of `owner` created last among those whose name fits `pattern`; Unreachable where there is none."""
    with translated():
        pages = ec2.get_paginator("describe_images").paginate(
            Owners=[owner], Filters=[{"Name": "name", "Values": [pattern]}, {"Name": "state", "Values": ["available"]}])
        found = [image for page in pages for image in page["Images"]]
    if not found:
        raise Unreachable(f"account {owner} has no AMI named {pattern}",
                          hint="check `watch.base_image` of the definition: owner, name and region")
    last = max(found, key=lambda image: str(image["CreationDate"]))
    return BaseImage(last["ImageId"], last["Name"], last["CreationDate"])
