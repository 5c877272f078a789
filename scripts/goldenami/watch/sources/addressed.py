"""Files that a lock has by their address: whether the same bytes are still there."""

from __future__ import annotations

from goldenami.core.errors import GoldenError
from goldenami.model.builds.locked_downloads import LockedDownload
from goldenami.packages import http_documents, mirrors
from goldenami.packages.http_documents import NotThere
from goldenami.watch.watch_records import SourceStatus


def look(file: LockedDownload) -> SourceStatus:
    """Read the file anew, where its length is still that of the lock: no other sign is sure."""
    try:
        address = mirrors.logged_in(file.url, file.name, file.login)
        found = http_documents.look(address, size=file.size)
    except NotThere:
        return SourceStatus(name=file.url, error="the file is gone: write where it is now, and "
                                                 "its SHA-256")
    except GoldenError as error:
        return SourceStatus(name=file.url, error=error.message)
    if found.sha256 == file.sha256:
        return SourceStatus(name=file.url)
    now = f"{found.size} bytes" + (f" with SHA-256 {found.sha256[:12]}" if found.sha256 else "")
    return SourceStatus(name=file.url, error=f"has other bytes: {now}, locked {file.size} with "
                                             f"{file.sha256[:12]}; find out why")
