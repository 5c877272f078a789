"""Drivers of this machine's own archives: a release is taken over by `watch --update`; what can't
compile never is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.image.lock.compilation import driver_fit
from goldenami.model.builds import lockfile
from goldenami.model.definitions import definition_file
from goldenami.model.supported import driver_requests
from goldenami.watch.sources import archive_indexes
from support.builds import checkout
from support.debian import older_archives

pytestmark = pytest.mark.long
LIMIT_S = 3600


class ReleaseCheckout:
    """A copy of the checkout with a cache of its own: what is compiled here was not compiled
    before."""

    def __init__(self, folder: Path, image: str, **changes: str) -> None:
        self.root, self.image = checkout.copy(folder / "checkout"), image
        self.env = {"GOLDEN_CACHE": str(checkout.cache(folder / "cache", built=()))}
        path = definition_file.path_of(self.root, image)
        text = path.read_text(encoding="utf-8").partition("\nwatch:")[0].rstrip() + "\n"
        for key, value in changes.items():
            text, count = re.subn(rf"{key}: .*", f"{key}: {value}", text)
            assert count == 1, key
        path.write_text(text, encoding="utf-8")
        self.definition = definition_file.load(self.root, path)

    def golden(self, *args: str, code: int, **env: str) -> str:
        process = checkout.golden(self.root, *args, **self.env, **env)
        said, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == code, said
        return said

    def driver(self) -> str:
        driver = lockfile.read(lockfile.path_of(self.root, self.image))[0].driver
        assert driver is not None
        return driver.version


def test_a_release_is_noticed_locked_and_told(tmp_path: Path) -> None:
    copy = ReleaseCheckout(tmp_path, "debian-13-ml")
    seen = archive_indexes.look(copy.definition.base, CachePaths(tmp_path / "indexes"))
    given = copy.definition.variables("nvidia_driver")
    found = driver_fit.candidates(seen.apt,
                                  driver_requests.requests(copy.root, copy.definition, given))
    newest = found[0]
    if len({candidate.version for candidate in found}) < 2:
        pytest.skip(f"the archive has one driver of this branch only, {newest.version}")
    drop = older_archives.of_driver(newest.version, newest.request.pinned_sources)
    older_archives.forget_today(copy.root, copy.image)
    with older_archives.environment(seen, tmp_path, drop) as env:
        copy.golden("lock", copy.image, code=0, **env)
    before = copy.driver()
    assert before != newest.version
    copy.golden("watch", copy.image, code=10)
    assert copy.driver() == before, "a watch that was not asked to update locks nothing"
    copy.golden("watch", copy.image, "--update", code=0)
    assert copy.driver() == newest.version
    change = json.loads((copy.root / "build/watch/watch.json").read_text(encoding="utf-8"))[
        "changes"
    ][0]
    assert change["driver"] == [before, newest.version]
    summary = (copy.root / "build/watch/summary.md").read_text(encoding="utf-8")
    assert before in summary and newest.version in summary
    copy.golden("watch", copy.image, code=0)


def test_drivers_that_compile_on_no_kernel_are_refused_with_what_each_compiler_said(
    tmp_path: Path,
) -> None:
    """Open 550.163.01 on Debian 13's kernels; true until Debian mends one of them."""
    copy = ReleaseCheckout(tmp_path, "debian-13-ml", nvidia_driver_branch='"550"',
                           nvidia_driver_flavour="open")
    before = lockfile.path_of(copy.root, copy.image).read_bytes()
    said = copy.golden("lock", copy.image, code=3)
    tried = re.findall(r"trying driver (\S+) \(open\) on kernel (\S+)", said)
    assert len(tried) > 1
    for version, kernel in tried:
        assert re.search(
            rf"driver {re.escape(version)} \(open\) on kernel {re.escape(kernel)}: .*error", said
        ), kernel
    assert lockfile.path_of(copy.root, copy.image).read_bytes() == before
