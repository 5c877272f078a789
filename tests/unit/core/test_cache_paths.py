"""Folders of the cache: their names are on users' disks and in CI's cache settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import BadInput


def test_default_is_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    for name in ("GOLDEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert CachePaths.default().folder == Path("/root/.cache/goldenami")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert CachePaths.default().folder == Path("/var/cache/goldenami")
    monkeypatch.setenv("GOLDEN_CACHE", "/srv/golden")
    assert CachePaths.default().folder == Path("/srv/golden")


@pytest.mark.parametrize("name", ["my cache", 'a"b', "a'b", "a,b", "a:b", "a\\b", "a\nb"])
def test_a_path_that_apt_or_an_overlay_would_misread(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOLDEN_CACHE", f"/srv/{name}")
    with pytest.raises(BadInput, match=r"^the cache's folder /srv/"):
        CachePaths.default()
