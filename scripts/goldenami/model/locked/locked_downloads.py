"""Files that a definition names by their address, as a lock has them."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from goldenami.core.records import Record
from goldenami.packages import mirrors
from goldenami.packages.download import StoreRequest

FOLDER = "downloads"
"""Of a bake's repository: where the role finds them."""


class LockedDownload(Record):
    """One file: bytes and hex SHA-256 of what is at `url`. `login` names an environment variable,
    `signed_by` is the fingerprint of the key whose signature was good, `package` the name of what a
    .deb holds."""

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
    """BadInput where a login is missing."""
    return [
        StoreRequest(
            file.sha256, file.size, mirrors.logged_in(file.url, file.name, file.login), file.name
        )
        for file in files
    ]
