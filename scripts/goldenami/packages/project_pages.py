"""A project's page on a package index: JSON, or HTML, which is all that many companies' indexes
speak. https://packaging.python.org/en/latest/specifications/simple-repository-api/"""

from __future__ import annotations

import html.parser
from typing import Any
from urllib.parse import unquote

from goldenami.core.errors import Unreachable
from goldenami.packages import http_documents

ACCEPTED = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1"
)
"""What an index is asked for: it answers with the best of these that it has."""


class _Links(html.parser.HTMLParser):
    """The files of a page in HTML, as JSON would have them; no size, and no day."""

    def __init__(self) -> None:
        super().__init__()
        self.files = list[dict[str, Any]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A file is a link; its digest is the fragment, `sha256=...`."""
        given = dict(attrs)
        address, _, digest = (given.get("href") or "").partition("#")
        if tag != "a" or not address:
            return
        name, _, value = digest.partition("=")
        self.files.append(
            {
                "filename": unquote(address.partition("?")[0].rpartition("/")[2]),
                "url": address,
                "hashes": {name: value} if value else {},
                "yanked": "data-yanked" in given,
            }
        )


def listed(document: http_documents.Document, where: str) -> list[Any]:
    """Unreachable where it is no project page."""
    if document.data.lstrip().startswith(b"<"):
        page = _Links()
        page.feed(document.data.decode(errors="replace"))
        if not page.files:
            raise Unreachable(
                f"{where} is no project page: it links to no file",
                hint="is this the address of a simple API (PEP 503)?",
            )
        return page.files
    data = document.json(where)
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, list):
        raise _no_page(where)
    return files


def entries(document: http_documents.Document, where: str) -> list[dict[str, Any]]:
    """Each with `filename`, `url` and `hashes`; Unreachable where it is no project page."""
    files = listed(document, where)
    if not all(map(_is_entry, files)):
        raise _no_page(where)
    return files


def _no_page(where: str) -> Unreachable:
    return Unreachable(f"{where} is no project page in JSON", hint="does the index speak PEP 691?")


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and [
        type(entry.get(key)) for key in ("filename", "url", "hashes")
    ] == [str, str, dict]
