"""Auto Scaling groups that lag behind the default version of an image's launch template."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from goldenami.aws.channels import pointers, refresh
from goldenami.aws.session import Account, translated
from goldenami.model.definitions.definition import Definition
from goldenami.release.retire.status import ImageStatus, Problem, StatusRecord


def behind(account: Account, definition: Definition, record: StatusRecord) -> Iterator[Problem]:
    """Yield the groups that the definition wants refreshed, but that launch another version than
    the default while no refresh takes them to it."""
    if not (definition.publish and definition.publish.instance_refresh):
        return
    groups = definition.publish.instance_refresh.groups
    for region, images in record.regions.items():
        for image in images:
            if image.image == definition.image:
                yield from _behind(account, region, image, groups)


def _behind(
    account: Account, region: str, image: ImageStatus, groups: Collection[str]
) -> Iterator[Problem]:
    for group, version in image.template_groups.items():
        if group not in groups or version == str(image.template_version):
            continue
        with translated(region):
            default = pointers.default_version(
                account.ec2(region), pointers.template_name(image.image)
            )
            refresh_status = default and refresh.refresh_status(
                account.autoscaling(region), group, default
            )
        if refresh_status not in refresh.UNDER_WAY:
            yield Problem(
                image=image.image,
                region=region,
                what=(
                    f"the group {group} launches version {version}, and the default is "
                    f"{image.template_version}; its refresh is {refresh_status or 'not begun'}"
                ),
            )
