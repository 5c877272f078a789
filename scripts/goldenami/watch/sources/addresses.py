"""Downloads and container images at their addresses: whether they still are what was locked."""

from __future__ import annotations

from goldenami.core import records
from goldenami.core.errors import GoldenError
from goldenami.model.definitions.update_policy import Judgement, UpdateVerdict
from goldenami.model.locked.locked_downloads import LockedDownload
from goldenami.packages import http_documents, mirrors, registries
from goldenami.packages.http_documents import NotThere
from goldenami.packages.registries import LockedContainer
from goldenami.watch.sources.source_records import SourceStatus


def file_status(file: LockedDownload) -> SourceStatus:
    """Check that a locked file is unchanged at its address."""
    # A file of the locked length is read in full: no header proves that its bytes are the same.
    try:
        address = mirrors.logged_in(file.url, file.name, file.login)
        served = http_documents.remote_file(address, size=file.size)
    except NotThere:
        return SourceStatus(
            name=file.url, error="the file is gone: write where it is now, and its SHA-256"
        )
    except GoldenError as error:
        return SourceStatus(name=file.url, error=error.message)
    if served.sha256 == file.sha256:
        return SourceStatus(name=file.url)
    description = f"{served.size} bytes"
    if served.sha256:
        description += f" with SHA-256 {served.sha256[:12]}"
    return SourceStatus(
        name=file.url,
        error=f"has other bytes: {description}, locked {file.size} with {file.sha256[:12]}; "
        "find out why",
    )


def container_status(container: LockedContainer) -> tuple[SourceStatus, Judgement]:
    """Judge whether a tag still names the locked image."""
    try:
        digest = records.sha256_text(registries.answer(container.asked, container.login))[:12]
    except GoldenError as error:
        return (
            SourceStatus(name=container.asked, error=error.message),
            Judgement("?", UpdateVerdict.UNREACHABLE, error.message),
        )
    verdict = UpdateVerdict.CURRENT
    if digest != container.answer[:12]:
        verdict = UpdateVerdict.UPDATE
    return SourceStatus(name=container.asked), Judgement(digest, verdict)
