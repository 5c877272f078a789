"""A package index of the simple API on loopback, with wheels and sdists that a test makes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import ssl
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from support.loopback import Loopback, QuietHandler

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class PyIndex:
    """Projects and their files; `url` is its simple API. `wrong` names files whose digest it states
    wrongly."""

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    page: bytes | None = None
    """What every listing is instead."""
    login: str = ""
    """`user:password` without which it gives nothing."""
    html: bool = False
    """Whether it speaks PEP 503 alone, as many companies' indexes: whole addresses, no size,
    and the digest of those files alone that are not in `wrong`."""
    asked: list[str] = field(default_factory=list)

    def wheel(
        self, name: str, version: str, requires: tuple[str, ...] = (), tag: str = "py3-none-any"
    ) -> str:
        """Offer a wheel that holds one module; returns its file name."""
        stem, sink = f"{name.replace('-', '_')}-{version}", io.BytesIO()
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr(f"{name.replace('-', '_')}.py", "")
            archive.writestr(
                f"{stem}.dist-info/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            )
            archive.writestr(
                f"{stem}.dist-info/WHEEL",
                f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
            )
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        return self._offer(name, f"{stem}-{tag}.whl", sink.getvalue())

    def sdist(self, name: str, version: str, files: dict[str, str]) -> str:
        """Offer a source archive; returns its file name."""
        stem, sink = f"{name.replace('-', '_')}-{version}", io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{stem}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        return self._offer(name, f"{stem}.tar.gz", sink.getvalue())

    def _offer(self, name: str, filename: str, content: bytes) -> str:
        self.files.setdefault(name, {})[filename] = content
        return filename

    def listing(self, project: str) -> bytes | None:
        if self.page is not None:
            return self.page
        if project not in self.files:
            return None
        entries: list[dict[str, Any]] = [
            {
                "filename": filename,
                "url": f"/files/{project}/{filename}",
                "size": len(content),
                "hashes": {
                    "sha256": "0" * 64
                    if filename in self.wrong
                    else hashlib.sha256(content).hexdigest()
                },
            }
            for filename, content in self.files[project].items()
        ]
        if self.html:
            links = [
                f'<a href="{self.url.removesuffix("simple")}{quote(entry["url"][1:])}'
                f'{"" if entry["filename"] in self.wrong else "#sha256=" + digest}">x</a>'
                for entry in entries
                if (digest := entry["hashes"]["sha256"])
            ]
            return f"<!DOCTYPE html><body>{''.join(links)}</body>".encode()
        return json.dumps(
            {"meta": {"api-version": "1.1"}, "name": project, "files": entries}
        ).encode()


def _handler(index: PyIndex) -> type[QuietHandler]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            login = f"Basic {base64.b64encode(index.login.encode()).decode()}"
            if index.login and self.headers.get("Authorization") != login:
                self.answer(401, WWW_Authenticate="Basic realm=index")
                return
            kind, project, *rest = urlsplit(self.path).path.strip("/").split("/")
            content = (
                index.listing(project)
                if kind == "simple"
                else index.files.get(project, {}).get(unquote(rest[0]))
            )
            page = "text/html" if index.html else JSON
            form = page if kind == "simple" else "application/octet-stream"
            self.answer(404 if content is None else 200, content or b"", Content_Type=form)

        do_HEAD = do_GET

    return Handler


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[PyIndex]:
    index = PyIndex()
    with Loopback(_handler(index), tls) as server:
        index.url = f"{server.url}/simple"
        yield index
