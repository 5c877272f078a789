"""Publishers' AMIs: the newest one that a pattern of names fits."""

from __future__ import annotations

from dataclasses import dataclass

from goldenami.aws.calls import pages
from goldenami.aws.images import Image
from goldenami.aws.session import Client, translated
from goldenami.core.errors import Unreachable


@dataclass(frozen=True)
class BaseImage:
    """An AMI by its id and name, when it was created (ISO 8601), and its root volume's size in
    GiB."""

    image_id: str
    name: str
    created: str
    root_gib: int = 0


def newest(ec2: Client, owner: str, pattern: str) -> BaseImage:
    """The AMI of `owner` created last among those whose name fits `pattern`; Unreachable where
    there is none."""
    with translated():
        images = list(pages(ec2, "describe_images", "Images", Owners=[owner], Filters=[
            {"Name": "name", "Values": [pattern]}, {"Name": "state", "Values": ["available"]}]))
    if not images:
        raise Unreachable(f"account {owner} has no AMI named {pattern}",
                          hint="check owner and name in packer/base_images.json")
    latest = max(images, key=lambda image: str(image["CreationDate"]))
    return BaseImage(latest["ImageId"], latest["Name"], latest["CreationDate"],
                     int(Image(latest).root.get("VolumeSize", 0)))
