"""Two processes publish one image at the same moment, from two checkouts, as two pipelines do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillProxy
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, RegionState

DONE, BAD_INPUT, BUSY = 0, 2, 7
OLDER, NEWER = 1, 2


@pytest.fixture(scope="module")
def publishers(emulator: Emulator) -> Iterator[list[KillProxy]]:
    """Each forks processes of its own and kills none of them."""
    kill_proxies = [KillProxy(emulator.url), KillProxy(emulator.url)]
    yield kill_proxies
    for one in kill_proxies:
        one.close()


@pytest.fixture
def roots(aws: Emulator, tmp_path: Path) -> list[Path]:
    """Two checkouts; the account is empty and its AMIs are available soon."""
    aws.set(pending_s=0.01)
    return [builds.copy_definitions(tmp_path / name) for name in ("one", "other")]


def at_once(publishers: list[KillProxy], roots: list[Path]) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda one, root: one.run(root, "publish", IMAGE), publishers, roots))


def test_one_build_by_both(publishers: list[KillProxy], roots: list[Path]) -> None:
    """There is one AMI of it a region; who came too late says so, and has nothing left to do."""
    (name,) = {builds.build(root, 1).name for root in roots}
    ran = at_once(publishers, roots)
    codes = [code for code, _ in ran]
    assert DONE in codes, ran
    assert set(codes) <= {DONE, BUSY}, ran
    for publisher, root in zip(publishers, roots, strict=True):
        code, text = publisher.run(root, "publish", IMAGE)
        assert code == DONE, text
    for region in REGIONS:
        RegionState(region).check([name], name)


def test_two_builds(publishers: list[KillProxy], roots: list[Path]) -> None:
    """However it goes, the newer one is `latest` in the end, and a whole AMI of the older one is
    there or nothing."""
    names = [builds.build(root, number).name
             for root, number in zip(roots, (OLDER, NEWER), strict=True)]
    (older, said), (newer, text) = at_once(publishers, roots)
    assert DONE in (older, newer), said + text
    assert older in (DONE, BUSY, BAD_INPUT), said
    assert newer in (DONE, BUSY), text
    assert older != BAD_INPUT or "which is newer than" in said, said
    code, text = publishers[1].run(roots[1], "publish", IMAGE)
    assert code == DONE, text
    made = all(f"{IMAGE}-{names[0]}" in RegionState(region).amis() for region in REGIONS)
    assert made or older != DONE
    for region in REGIONS:
        RegionState(region).check(names if made else names[1:], names[1])
