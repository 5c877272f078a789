"""Reads a project's page on a package index. It is JSON, or HTML, since many companies' indexes
have nothing else.
https://packaging.python.org/en/latest/specifications/simple-repository-api/"""

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
"""The Accept header for an index, which answers with the best of these that it has."""


class _Links(html.parser.HTMLParser):
    """Collects the files of an HTML page in the form of JSON, but without size and date."""

    def __init__(self) -> None:
        super().__init__()
        self.files = list[dict[str, Any]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # Each file is a link, with its digest as the fragment: `sha256=...`.
        attributes = dict(attrs)
        address, _, digest = (attributes.get("href") or "").partition("#")
        if tag != "a" or not address:
            return
        algorithm, _, value = digest.partition("=")
        self.files.append(
            {
                "filename": unquote(address.partition("?")[0].rpartition("/")[2]),
                "url": address,
                "hashes": {algorithm: value} if value else {},
                "yanked": "data-yanked" in attributes,
            }
        )


def listed(document: http_documents.Document, where: str) -> list[Any]:
    """Return the files on a page, unchecked. Raises Unreachable if it is no project page."""
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
    """Return the files on a page, each with `filename`, `url` and `hashes`. Raises Unreachable if
    it is no project page."""
    files = listed(document, where)
    if not all(map(_is_entry, files)):
        raise _no_page(where)
    return files


def _no_page(where: str) -> Unreachable:
    return Unreachable(f"{where} is no project page in JSON", hint="does the index speak PEP 691?")


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    kinds = [type(entry.get(key)) for key in ("filename", "url", "hashes")]
    return kinds == [str, str, dict]
