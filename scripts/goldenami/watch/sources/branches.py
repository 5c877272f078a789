"""NVIDIA's machine-readable list of data center driver branches: type, releases and their dates.

Its form: branch -> type, driver_info[release_version, release_date].
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goldenami.core.errors import GoldenError, Unreachable
from goldenami.model.definitions.update_policy import BranchType
from goldenami.packages import http_documents
from goldenami.watch.watch_records import SourceStatus

VARIABLE = "GOLDEN_MIRROR_NVIDIA_RELEASES"
"""Environment variable with another address, or a path, of the list."""
ADDRESS = "https://docs.nvidia.com/datacenter/tesla/drivers/releases.json"
NAME = "NVIDIA releases.json"


class _Release(BaseModel):
    """What is used of one release; the list says more."""

    model_config = ConfigDict(extra="ignore")
    release_version: str = Field(pattern=r"^\d+(\.\d+)+$")
    release_date: date


class _Branch(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: BranchType
    driver_info: list[_Release] = Field(min_length=1)


@dataclass(frozen=True)
class Branches:
    """The list as it was read: types, and release dates by version; empty where it could not be
    read."""

    statuses: tuple[SourceStatus, ...] = ()
    types: Mapping[str, BranchType] = field(default_factory=dict)
    released: Mapping[str, date] = field(default_factory=dict)

    def complaints(self, branch: str) -> list[SourceStatus]:
        """What is wrong with the list for an image whose lock has a driver of `branch`."""
        if not self.types or branch in self.types:
            return []
        return [SourceStatus(name=NAME, error=f"branch {branch}, which the lock has, vanished "
                                              "from the list")]


def look() -> Branches:
    """Read the list from its address, or from where the environment says."""
    where = os.environ.get(VARIABLE) or ADDRESS
    try:
        return parse(http_documents.read(where), where)
    except GoldenError as error:
        return Branches(statuses=(SourceStatus(name=NAME, error=error.message),))


def parse(document: http_documents.Document, where: str) -> Branches:
    """The list, or Unreachable naming `where` and what is wrong in it."""
    data = document.json(where)
    if not isinstance(data, dict) or not data:
        raise Unreachable(f"{where} is no list of driver branches", hint=f"check {VARIABLE}")
    types, released = dict[str, BranchType](), dict[str, date]()
    for name, row in data.items():
        try:
            branch = _Branch.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise Unreachable(f"{where}: {'.'.join(map(str, (name, *first['loc'])))}: "
                              f"{first['msg']}",
                              hint="the list has another form than the one that goldenami knows") from None
        types[name] = branch.type
        released |= {release.release_version: release.release_date
                     for release in branch.driver_info}
    day = document.changed or max(released.values(), default=None)
    status = SourceStatus(name=NAME, changed=day.isoformat() if day else "")
    return Branches((status,), types, released)
