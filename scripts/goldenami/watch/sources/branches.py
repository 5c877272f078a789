"""NVIDIA's machine-readable list of data center driver branches: type, releases and their dates.

Its form: branch -> type, driver_info[release_version, release_date, architectures]. It has no end
of life; where a list states one as `end_of_life`, it is held against the table of compatibility.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goldenami.core.errors import GoldenError, Unreachable
from goldenami.model.definitions.update_policy import BranchType
from goldenami.model.supported import compatibility
from goldenami.packages import http_documents
from goldenami.watch.watch_records import SourceStatus

VARIABLE = "GOLDEN_MIRROR_NVIDIA_RELEASES"
"""Environment variable with another address, or a path, of the list."""
ADDRESS = "https://docs.nvidia.com/datacenter/tesla/drivers/releases.json"
NAME = "NVIDIA releases.json"
ARCHITECTURE = "x86_64"


class _Release(BaseModel):
    """What is used of one release; the list says more."""

    model_config = ConfigDict(extra="ignore")
    release_version: str = Field(pattern=r"^\d+(\.\d+)+$")
    release_date: date
    architectures: list[str] = []


class _Branch(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: BranchType
    driver_info: list[_Release] = Field(min_length=1)
    end_of_life: date | None = None


@dataclass(frozen=True)
class Branches:
    """The list as it was read: types, release dates by version, ends of life; empty where it could
    not be."""

    statuses: tuple[SourceStatus, ...] = ()
    types: Mapping[str, BranchType] | None = None
    released: Mapping[str, date] | None = None
    ends: Mapping[str, date] | None = None

    @property
    def listed(self) -> bool:
        """Whether the list was read."""
        return self.types is not None

    def end(self, branch: str) -> date | None:
        """The last day of `branch`, the earlier one where the list and the table differ."""
        known = [day for day in ((self.ends or {}).get(branch), compatibility.branch_end(branch))
                 if day is not None]
        return min(known, default=None)


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
    types, released, ends = dict[str, BranchType](), dict[str, date](), dict[str, date]()
    for name, row in data.items():
        try:
            branch = _Branch.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise Unreachable(f"{where}: {'.'.join(map(str, (name, *first['loc'])))}: "
                              f"{first['msg']}",
                              hint="the list has another form than the one that goldenami knows") from None
        types[name] = branch.type
        released |= {release.release_version: release.release_date for release in branch.driver_info
                     if ARCHITECTURE in release.architectures or not release.architectures}
        if branch.end_of_life is not None:
            ends[name] = branch.end_of_life
    newest = max(released.values(), default=None)
    day = document.changed or newest
    statuses = [SourceStatus(name=NAME, changed=day.isoformat() if day else "")]
    statuses += [SourceStatus(name=NAME,
                              error=f"says that branch {name} ends on {end}, the table of "
                                    "compatibility.py "
                                               f"{known}")
                 for name, end in sorted(ends.items())
                 if (known := compatibility.branch_end(name)) not in (None, end)]
    return Branches(tuple(statuses), types, released, ends)


def complaints(branches: Branches, version: str, archive: str) -> list[SourceStatus]:
    """What is wrong with the list for an image whose lock has driver `version`, taken from
    `archive`.

    A distribution's own packages may be newer or older than the data center list; NVIDIA's
    repository may not.
    """
    branch = version.partition(".")[0]
    if branches.types is None:
        return []
    if branch not in branches.types:
        return [SourceStatus(name=NAME,
                             error=f"branch {branch}, which the lock has, vanished from the list")]
    versions = [version for version in branches.released or {} if version.partition(".")[0]
                == branch]
    newest = max(versions, key=compatibility.version_tuple, default="")
    if (
        archive == "nvidia"
        and newest
        and compatibility.version_tuple(newest) < compatibility.version_tuple(version)
    ):
        return [SourceStatus(name=NAME,
                             error="goes backwards or disagrees with NVIDIA's repository: its "
                                   "newest driver of "
                                              f"branch {branch} is {newest}, locked is {version}")]
    return []
