"""packer/base_images.json: the publishers' AMIs that a bake on EC2 begins from, by release."""

from __future__ import annotations

from pathlib import Path

from goldenami.core import yaml_lines
from goldenami.core.records import Record
from goldenami.core.yaml_lines import nearest
from goldenami.model import program_files

PATH = "packer/base_images.json"


class BaseImage(Record):
    """The newest AMI of the account `owner` whose name fits. `user` is its default user, `device`
    its root volume, of `gib` at least."""

    owner: str
    name: str
    user: str
    device: str
    gib: int = 8


def of_release(root: Path, release: str) -> BaseImage:
    """The repository's row, else goldenami's."""
    source = program_files.table(root, PATH)
    if release not in source.data:
        raise source.error((release,), f"no such row; {nearest(release, source.data)}")
    return yaml_lines.validate(source, BaseImage, source.data[release], at=(release,))
