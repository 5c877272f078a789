"""Reads packer/base_images.json, with the distributions' AMIs from which a bake on EC2 begins, by
release."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import yaml_lines
from goldenami.core.records import Record
from goldenami.core.yaml_lines import nearest
from goldenami.model import program_files

PATH = "packer/base_images.json"


class BaseImage(Record):
    """The newest AMI of the account `owner` whose name matches `name`. `user` is its default user,
    `device` its root volume, which has at least `gib` GiB."""

    owner: str
    name: str
    user: str
    device: str
    gib: int = 8


def of_release(root: Path, release: str) -> BaseImage:
    """Return the AMI for a release, by the repository's row or else goldenami's. Raises BadInput if
    there is none."""
    source = program_files.table(root, PATH)
    if release not in source.data:
        raise source.error((release,), f"no such row; {nearest(release, source.data)}")
    return yaml_lines.validate(source, BaseImage, source.data[release], at=(release,))
