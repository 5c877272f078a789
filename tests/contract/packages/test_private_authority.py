"""Servers whose certificates an authority of the company signed: each program that `lock` fetches
with believes it by one setting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import errors
from goldenami.core.errors import GoldenError, NoFit, Unreachable
from goldenami.packages import http_documents, pypi, registries
from goldenami.packages.apt import AptRoot
from goldenami.packages.download import StoreRequest
from goldenami.packages.mirrors import Source, VendorArchive
from goldenami.packages.pypi import Index, Interpreter
from goldenami.packages.store import Store
from support.debian import debrepo, tls
from support.debian.debrepo import Archive, Package
from support.files import write
from support.loopback import Loopback, QuietHandler

DISTRUST = "this machine does not trust the server's certificate"
HINT = "name that in SSL_CERT_FILE (docs/company-sources.md)"


@pytest.fixture
def company(
    key: debrepo.Key, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Loopback]:
    """A server with an archive, an index and a file; no variable names its authority."""
    for name in os.environ:
        if "CERT" in name or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    folder = tmp_path / "served"
    Archive(folder / "apt", key, label="Agent", suites=("x",)).add([Package("agent")]).publish()
    write(folder, {"key.asc": key.public, "simple/app/index.html": '<a href="app-1.tar.gz">a</a>'})

    class Files(QuietHandler, SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

    _, context = tls.certificate(tmp_path)
    with Loopback(Files, context) as server:
        yield server


def _apt(company: Loopback, folder: Path, key: debrepo.Key) -> None:
    vendor = VendorArchive(
        name="agent",
        uri=f"{company.url}/apt",
        suites=("x",),
        components=("main",),
        key=f"{company.url}/key.asc",
        fingerprint=(key.fingerprint,),
    )
    source = Source("agent", ("x",), ("main",), "golden-agent", vendor)
    root = AptRoot(folder / "root", (source,), {"agent": vendor.uri})
    write(folder, {"root/agent.asc": key.public})
    root.configure()
    root.update()


def _pip(company: Loopback, folder: Path, key: debrepo.Key) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(pypi.VARIABLE, f"{company.url}/simple")
        with pytest.raises(NoFit, match="No matching distribution found for app"):
            Index.configured().resolve(["app"], [], Interpreter((3, 11), 36))


def _document(company: Loopback, folder: Path, key: debrepo.Key) -> None:
    http_documents.read(f"{company.url}/key.asc")


def _download(company: Loopback, folder: Path, key: debrepo.Key) -> None:
    content, store = key.public.encode(), Store(folder / "downloads")
    made = Store(folder / "elsewhere")
    (folder / "key.asc").write_bytes(content)
    digest = made.add(folder / "key.asc")
    store.fetch([StoreRequest(digest, len(content), f"{company.url}/key.asc", "key.asc")])


def _container(company: Loopback, folder: Path, key: debrepo.Key) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOLDEN_MIRROR_DOCKER_IO", company.url)
        with pytest.raises(http_documents.NotThere, match="StatusCode: 404"):
            registries.answer("docker.io/library/tool:7", None)


@pytest.mark.parametrize("fetch", [_apt, _pip, _document, _download, _container])
def test_an_authority_is_believed_where_it_is_named_and_asked_for_where_not(
    company: Loopback,
    key: debrepo.Key,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fetch: object,
) -> None:
    assert callable(fetch)
    with pytest.raises(GoldenError) as caught:
        fetch(company, tmp_path, key)
    told = errors.with_cause(caught.value)
    assert isinstance(told, Unreachable) and told.message.startswith(DISTRUST), told.message
    assert HINT in told.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    fetch(company, tmp_path, key)
