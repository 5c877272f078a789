"""pip as resolver and the index's files, against a real index on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from goldenami.core.errors import NoFit, Unreachable, Vanished
from goldenami.packages.mirrors import Refused
from goldenami.packages.pypi import VARIABLE, Index, Interpreter, PythonIndex
from goldenami.packages.store import Store
from goldenami.watch.sources import index_versions as watched
from support.debian import pyindex
from support.debian.pyindex import PyIndex

PYTHON = Interpreter((3, 11), 36)


@pytest.fixture
def served() -> Iterator[PyIndex]:
    with pyindex.serve() as index:
        yield index


@pytest.fixture
def index(served: PyIndex, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setenv(VARIABLE, f"{served.url}/")
    return Index.configured()


@pytest.mark.parametrize(("version", "wanted"), [((3, 13), "newer"), ((3, 9), "older")])
def test_a_closure_for_another_python(
    served: PyIndex,
    index: Index,
    version: tuple[int, int],
    wanted: str,
) -> None:
    """Platform, markers and constraints count, and not the interpreter that runs this."""
    served.wheel("newer", "1.0")
    served.wheel("older", "1.0")
    served.wheel(
        "app",
        "1.0",
        ("lib>=1", 'newer; python_version >= "3.10"', 'older; python_full_version < "3.10"'),
    )
    python, other = f"cp3{version[1]}", "cp310"
    for number in ("1.0", "1.1", "2.0"):
        for tag in (python, other):
            served.wheel("lib", number, tag=f"{tag}-{tag}-manylinux_2_28_x86_64")
    served.wheel("lib", "1.5", tag=f"{python}-{python}-manylinux_2_37_x86_64")
    found = index.resolve(["app"], ["lib<2"], Interpreter(version, 36))
    assert [file.filename for file in found] == [
        "app-1.0-py3-none-any.whl",
        f"lib-1.1-{python}-{python}-manylinux_2_28_x86_64.whl",
        f"{wanted}-1.0-py3-none-any.whl",
    ]


def test_what_this_machine_sets_for_pip_does_not_count(
    served: PyIndex,
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served.wheel("lib", "2.0")
    (tmp_path / "limits").write_text("lib<2\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "limits"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert index.resolve(["lib"], [], PYTHON)[0].version == "2.0"


def test_an_sdist_is_found_and_fetched(served: PyIndex, index: Index, tmp_path: Path) -> None:
    served.sdist("some-app", "1.0", {"setup.py": ""})
    file = index.sdist("some_app", "1.0")
    store = Store(tmp_path)
    index.fetch([file], store)
    assert store.check(file.sha256)


def test_a_refusal_names_what_is_missing(served: PyIndex, index: Index) -> None:
    served.wheel("app", "1.0", ("nosuch",))
    with pytest.raises(NoFit) as caught:
        index.resolve(["app"], [], PYTHON)
    said = "pip finds no wheels for app: No matching distribution found for nosuch"
    assert caught.value.message.startswith(said)
    with pytest.raises(Vanished, match=r"the package index has no sdist of app 1\.0"):
        index.sdist("app", "1.0")


@pytest.mark.parametrize("digests", [True, False])
def test_an_index_that_speaks_html_alone(
    served: PyIndex,
    index: Index,
    tmp_path: Path,
    digests: bool,
) -> None:
    """Its server says the size; where it states no digest, what pip read is what the lock names.
    Its files want the login of its pages, which do not repeat it."""
    served.html, served.login = True, "ann:pw"
    index = replace(index, url=index.url.replace("://", "://ann:pw@"))
    name = served.wheel("app", "1.0+company")
    served.wheel("app", "0.9")
    if not digests:
        served.wrong.add(name)
    [file] = index.resolve(["app"], [], PYTHON)
    content = served.files["app"][name]
    assert (file.filename, file.size) == (name, len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert index.versions("app") == ["0.9", "1.0+company"]
    store = Store(tmp_path)
    index.fetch([file], store)
    assert store.check(file.sha256)
    source, offers = watched.read_versions("app", lambda: index)
    assert (source.error, [offer.version for offer in offers]) == ("", ["1.0+company", "0.9"])
    if digests:
        other = file.model_copy(update={"sha256": "1" * 64})
        with pytest.raises(Unreachable, match="the lock names 111111111111"):
            index.store_requests([other])


def test_content_with_another_digest_than_its_index_states_is_refused(
    served: PyIndex,
    index: Index,
    tmp_path: Path,
) -> None:
    served.sdist("app", "1.0", {"setup.py": ""})
    served.wrong.add("app-1.0.tar.gz")
    with pytest.raises(Unreachable, match=r"expected \d+ with 000000000000"):
        index.fetch([index.sdist("app", "1.0")], Store(tmp_path))


def test_an_index_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1/simple")
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1/simple/app/"):
        Index.configured().sdist("app", "1.0")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (
            b"<!DOCTYPE html><title>Links for app</title>",
            "/app/ is no project page: it links to no",
        ),
        (b"Not found", "/app/ is not JSON"),
        (b"[]", "/app/ is no project page in JSON"),
        (b'{"files": [1]}', "/app/ is no project page in JSON"),
        (b'{"files": [{"filename": "app-1.0.tar.gz"}]}', "/app/ is no project page in JSON"),
        (
            json.dumps(
                {
                    "files": [
                        {
                            "filename": "app-1.0.tar.gz",
                            "url": "/files/x/x",
                            "hashes": {"sha256": "0" * 64},
                        }
                    ]
                }
            ).encode(),
            "states no size of app-1.0.tar.gz",
        ),
    ],
)
def test_an_index_that_answers_nonsense_is_unreachable(
    served: PyIndex,
    index: Index,
    page: bytes,
    said: str,
) -> None:
    served.page = page
    with pytest.raises(Unreachable, match=said):
        index.sdist("app", "1.0")


def test_a_private_index_is_reached_past_the_proxy_of_the_other(
    served: PyIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "apt.conf").write_text(
        f'Acquire::http::Proxy "{served.url.removesuffix("/simple")}/";\n'
        'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv(VARIABLE, "http://127.0.0.2:9/simple")
    served.wheel("lib", "1.0")
    with pyindex.serve() as company:
        company.wheel("company-model", "1.0", ("lib",))
        index = Index.configured(PythonIndex(url=company.url, packages=("company-*",)))
        found = index.resolve(["company-model"], [], PYTHON)
    assert [file.project for file in found] == ["company-model", "lib"]
    assert all(path.startswith("/") for path in company.asked), company.asked
    assert all(path.startswith("http://127.0.0.2:9/") for path in served.asked), served.asked


@pytest.mark.parametrize("login", ["", "ann:other@"])
def test_an_index_that_wants_a_login_is_no_index_without_files(
    served: PyIndex, index: Index, login: str
) -> None:
    """pip itself says that there is no such package."""
    served.wheel("app", "1.0")
    served.login = "ann:pw"
    index = replace(index, url=index.url.replace("://", f"://{login}"))
    with pytest.raises(Refused, match="/simple/app/ answered 401") as caught:
        index.resolve(["app"], [], PYTHON)
    assert f"its login is {'wrong' if login else 'missing'}" in caught.value.hint
    assert "other" not in str(vars(caught.value))
