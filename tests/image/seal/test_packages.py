"""Packages change by a bake alone: apt and dpkg refuse on an instance, in one sentence that says
what to do."""

from __future__ import annotations

from typing import Any

import pytest

REFUSED = ("This instance stays as its image was baked, so no package is changed here: add it to "
           "the image's"
           " definition, bake, and launch the new image.")
ENVIRONMENT = "python3 -m venv --system-site-packages ~/env && ~/env/bin/pip install NAME"
FOLDER = "/run/golden-try"
TRACES = "find /var/log/apt /var/log/dpkg.log /var/cache/apt -type f 2>/dev/null"
"""What apt and dpkg write down, also where they are refused: a sealed image has none of it."""
CONTROL = (
    r"Package: golden-try\nVersion: 1\nArchitecture: all\nMaintainer: golden\nDescription: try\n"
)
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
def typed(gather: Any) -> Any:
    """What somebody reads who types these, in this order."""
    return gather({
        "build": f"mkdir -p {FOLDER}/deb/DEBIAN && {TRACES} >{FOLDER}/before;"
                 f" printf '{CONTROL}' >{FOLDER}/deb/DEBIAN/control"
                 f" && dpkg-deb --build {FOLDER}/deb {FOLDER}/golden-try.deb",
        "apt": f"apt-get install --yes {FOLDER}/golden-try.deb",
        "apt alone": f"apt-get install --yes -o Dir::Bin::dpkg=/bin/true {FOLDER}/golden-try.deb",
        "unknown": "apt-get install --yes golden-no-such-package",
        "there already": "apt-get install --yes",
        "managed": "cat /usr/lib/python3*/EXTERNALLY-MANAGED",
        "dpkg": f"dpkg -i {FOLDER}/golden-try.deb",
        "configure": "dpkg --configure -a",
        "there": "dpkg-query --show golden-try",
        "ask": "dpkg --audit && dpkg -l dpkg && apt-get --simulate upgrade",
        "another root": f"mkdir -p {FOLDER}/root/var/lib/dpkg/updates {FOLDER}/root/var/lib/dpkg/info"
                        f" && touch {FOLDER}/root/var/lib/dpkg/status && dpkg --root={FOLDER}/root --configure -a",
        "tidy": "if dpkg-query --show golden-try; then dpkg --purge golden-try; fi;"
                f" {TRACES} | grep -vxFf {FOLDER}/before | xargs -r rm; rm -r {FOLDER}",
    })


@pytest.mark.parametrize("name", ["apt", "dpkg", "configure"])
def test_packages_change_only_where_the_definition_says_so(
    typed: Any, lock: dict[str, Any], name: str
) -> None:
    assert typed["build"].status == 0, typed["build"].text
    allowed = lock["seal_package_changes_enabled"]
    assert (typed[name].status == 0, REFUSED in typed[name].lines) == (allowed, not allowed), typed[
        name
    ].text
    assert (typed["there"].status == 0) == allowed


def test_apt_says_so_before_it_downloads_and_without_any_index(
    typed: Any, lock: dict[str, Any]
) -> None:
    """dpkg, which would say it, too, is put out of the way, or never reached."""
    allowed = lock["seal_package_changes_enabled"]
    for name in ("apt alone", "unknown"):
        assert (REFUSED in typed[name].lines) == (not allowed), typed[name].text
    assert typed["unknown"].status != 0
    assert typed["there already"].status == 0 and REFUSED not in typed["there already"].text


def test_pip_recommends_what_works_here(typed: Any, lock: dict[str, Any]) -> None:
    if lock["seal_package_changes_enabled"]:
        pytest.skip("not asked: this image takes packages")
    assert ENVIRONMENT in typed["managed"].text
    assert "apt" not in typed["managed"].text.lower()


def test_questions_and_other_roots_are_not_refused(typed: Any) -> None:
    assert (typed["ask"].status, typed["another root"].status) == (0, 0), (
        typed["ask"].text + typed["another root"].text
    )


def test_netplan_is_compiled_so_that_its_first_run_writes_nothing(run_program: Any) -> None:
    """Checked by the source's hash: the first run's own files would carry the source's time."""
    answer = run_program(COMPILED)
    assert answer and [path for path, compiled in answer.items() if not compiled] == []
