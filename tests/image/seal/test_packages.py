"""Packages change by a bake alone: apt and dpkg refuse on an instance, in one sentence that says
what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

REFUSED = (
    "This instance stays as its image was baked, so no package is changed here: add it to "
    "the image's"
    " definition, bake, and launch the new image."
)
ENVIRONMENT = "python3 -m venv ~/env && ~/env/bin/pip install NAME"
FOLDER = "/run/golden-try"
TRACES = "find /var/log/apt /var/log/dpkg.log /var/cache/apt -type f 2>/dev/null"
"""What apt and dpkg write down, also where they are refused: a sealed image has none of it."""
CONTROL = (
    r"Package: golden-try\nVersion: 1\nArchitecture: all\nMaintainer: golden\nDescription: try\n"
)
CHANGES = {
    "apt": f"apt-get install --yes {FOLDER}/golden-try.deb",
    "dpkg": f"dpkg -i {FOLDER}/golden-try.deb",
    "configure": "dpkg --configure -a",
}
TYPED = {
    **CHANGES,
    "apt alone": f"apt-get install --yes -o Dir::Bin::dpkg=/bin/true {FOLDER}/golden-try.deb",
    "unknown": "apt-get install --yes golden-no-such-package",
    "there already": "apt-get install --yes",
    "managed": "cat /usr/lib/python3*/EXTERNALLY-MANAGED",
    "ask": "dpkg --audit && dpkg -l dpkg && apt-get --simulate upgrade",
    "another root": f"dpkg --root={FOLDER}/root --configure -a",
}
"""What somebody types who has a package, or wants one."""
COMPILED = """
import importlib.util, json, pathlib
answer = {}
for source in pathlib.Path("/usr/share/netplan").rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    by_hash = (3).to_bytes(4, "little") + importlib.util.source_hash(source.read_bytes())
    answer[str(source)] = compiled.is_file() and compiled.read_bytes()[4:16] == by_hash
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def tried(host: Any) -> Iterator[Callable[[str], Any]]:
    """A function that runs one of TYPED, and returns how it ended and what was said."""
    host.check_output(
        f"mkdir -p {FOLDER}/deb/DEBIAN {FOLDER}/root/var/lib/dpkg/updates"
        f" {FOLDER}/root/var/lib/dpkg/info; touch {FOLDER}/root/var/lib/dpkg/status;"
        f" {TRACES} >{FOLDER}/before; printf '{CONTROL}' >{FOLDER}/deb/DEBIAN/control"
        f" && dpkg-deb --build {FOLDER}/deb {FOLDER}/golden-try.deb"
    )
    yield lambda name: host.run(f"{{ {TYPED[name]}; }} 2>&1")
    host.check_output(
        "if dpkg-query --show golden-try; then dpkg --purge golden-try; fi;"
        f" {TRACES} | grep -vxFf {FOLDER}/before | xargs -r rm; rm -r {FOLDER}"
    )


@pytest.mark.parametrize("name", CHANGES)
def test_packages_change_only_where_the_definition_says_so(
    host: Any, tried: Any, lock: dict[str, Any], name: str
) -> None:
    said, allowed = tried(name), lock["seal_package_changes_enabled"]
    refused = REFUSED in said.stdout.splitlines()
    assert (said.succeeded, refused) == (allowed, not allowed), said.stdout
    if name != "configure":
        assert host.package("golden-try").is_installed == allowed


def test_apt_says_so_before_it_downloads_and_without_any_index(
    tried: Any, lock: dict[str, Any]
) -> None:
    """dpkg, which would say it, too, is put out of the way, or never reached."""
    allowed = lock["seal_package_changes_enabled"]
    for name in ("apt alone", "unknown"):
        said = tried(name)
        assert (REFUSED in said.stdout.splitlines()) == (not allowed), said.stdout
    assert said.failed
    nothing = tried("there already")
    assert nothing.succeeded and REFUSED not in nothing.stdout


def test_pip_recommends_what_works_here(tried: Any, lock: dict[str, Any]) -> None:
    if lock["seal_package_changes_enabled"]:
        pytest.skip("not asked: this image takes packages")
    managed = tried("managed").stdout
    assert ENVIRONMENT in managed
    assert "apt" not in managed.lower()


def test_questions_and_other_roots_are_not_refused(tried: Any) -> None:
    for name in ("ask", "another root"):
        said = tried(name)
        assert said.succeeded, said.stdout


def test_netplan_is_compiled_so_that_its_first_run_writes_nothing(run_program: Any) -> None:
    """Checked by the source's hash: the first run's own files would carry the source's time."""
    answer = run_program(COMPILED)
    assert answer and [path for path, compiled in answer.items() if not compiled] == []
