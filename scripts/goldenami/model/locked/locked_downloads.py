"""A lock's records of files that a definition names by their address."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from goldenami.core.records import Record
from goldenami.packages import mirrors
from goldenami.packages.download import StoreRequest

FOLDER = "downloads"
"""Folder of a bake's repository in which the role finds the files."""


class LockedDownload(Record):
    """The file at `url`, with its size in bytes and hex SHA-256. `login` names an environment
    variable, `signed_by` is the fingerprint of the key that signed it, `package` the package's name
    in a .deb."""

    url: str
    name: str
    version: str
    sha256: str
    size: int
    login: str | None = None
    signed_by: str | None = None
    package: str | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def file(self) -> str:
        return f"{self.sha256[:12]}-{self.name}"


def store_requests(files: Iterable[LockedDownload]) -> list[StoreRequest]:
    """Return requests for the files. Raises BadInput if a login is missing."""
    requests = list[StoreRequest]()
    for file in files:
        address = mirrors.logged_in(file.url, file.name, file.login)
        requests.append(StoreRequest(file.sha256, file.size, address, file.name))
    return requests
