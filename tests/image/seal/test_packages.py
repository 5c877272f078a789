"""Packages change by a bake alone: apt and dpkg refuse on an instance, in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

REFUSED = ("This instance stays as its image was baked, so no package is changed here: add it to the image's"
           " definition, bake, and launch the new image.")
FOLDER = "/run/golden-try"
TRACES = "find /var/log/apt /var/log/dpkg.log /var/cache/apt -type f 2>/dev/null"
"""What apt and dpkg write down, also where they are refused: a sealed image has none of it."""
CONTROL = r"Package: golden-try\nVersion: 1\nArchitecture: all\nMaintainer: golden\nDescription: try\n"
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
        "dpkg": f"dpkg -i {FOLDER}/golden-try.deb",
        "configure": "dpkg --configure -a",
        "there": "dpkg-query --show golden-try", "ask": "dpkg --audit && dpkg -l dpkg && apt-get --simulate upgrade",
        "another root": f"mkdir -p {FOLDER}/root/var/lib/dpkg/updates {FOLDER}/root/var/lib/dpkg/info"
                        f" && touch {FOLDER}/root/var/lib/dpkg/status && dpkg --root={FOLDER}/root --configure -a",
        "tidy": "if dpkg-query --show golden-try; then dpkg --purge golden-try; fi;"
                f" {TRACES} | grep -vxFf {FOLDER}/before | xargs -r rm; rm -r {FOLDER}",
    })


@pytest.mark.parametrize("name", ["apt", "dpkg", "configure"])
def test_packages_change_only_where_the_definition_says_so(typed: Any, lock: dict[str, Any], name: str) -> None:
    assert typed["build"].status == 0, typed["build"].text
    allowed = lock["seal_package_changes_enabled"]
    assert (typed[name].status == 0, REFUSED in typed[name].lines) == (allowed, not allowed), typed[name].text
    assert (typed["there"].status == 0) == allowed


def test_questions_and_other_roots_are_not_refused(typed: Any) -> None:
    assert (typed["ask"].status, typed["another root"].status) == (0, 0), typed["ask"].text + typed["another root"].text


def test_netplan_is_compiled_so_that_its_first_run_writes_nothing(run_program: Any) -> None:
    """Checked by the source's hash: the first run's own files would carry the source's time."""
    answer = run_program(COMPILED)
    assert answer and [path for path, compiled in answer.items() if not compiled] == []
