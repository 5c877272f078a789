"""A vendor's key is believed by its fingerprint only, wherever it came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core.errors import ExitCode, Unreachable
from goldenami.packages import mirrors, signing_keys
from goldenami.packages.mirrors import Source, VendorArchive
from support.debian import debrepo

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def vendor(key: debrepo.Key, tmp_path: Path) -> Iterator[debrepo.Mirror]:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor/key.pub").write_text(key.public, encoding="utf-8")
    made = debrepo.Mirror(tmp_path / "vendor")
    yield made
    made.close()


def source(*fingerprint: str, key: str = "key.pub") -> Source:
    return Source(
        "nvidia",
        ("./",),
        (),
        "golden-nvidia",
        VendorArchive(name="nvidia", uri="http://127.0.0.1:9", key=key, fingerprint=fingerprint),
    )


def test_the_key_beside_the_index_is_fetched_once(
    key: debrepo.Key, vendor: debrepo.Mirror, tmp_path: Path
) -> None:
    for _ in range(2):
        found = signing_keys.keyring(source(key.fingerprint), vendor.uri, tmp_path)
        assert found.read_text(encoding="utf-8") == key.public
    assert vendor.requests == ["/key.pub"]


def test_a_key_elsewhere_has_a_whole_address(
    key: debrepo.Key, vendor: debrepo.Mirror, tmp_path: Path
) -> None:
    found = signing_keys.keyring(
        source(key.fingerprint, key=f"{vendor.uri}/key.pub"), "http://127.0.0.1:9", tmp_path
    )
    assert found.read_text(encoding="utf-8") == key.public


def test_another_key_is_refused_and_not_kept(
    key: debrepo.Key, vendor: debrepo.Mirror, tmp_path: Path
) -> None:
    with pytest.raises(Unreachable) as caught:
        signing_keys.keyring(source("A" * 40), vendor.uri, tmp_path)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert (
        f"the key of the archive `nvidia` is {key.fingerprint}, not {'A' * 40}"
        in caught.value.message
    )
    assert "do not trust this source: check GOLDEN_MIRROR_NVIDIA" in caught.value.hint
    assert not list(tmp_path.glob("*.asc"))


@pytest.mark.parametrize(
    ("text", "said"), [("{key}{other}", "{key_id} and {other_id}"), ("<html>", "no key at all")]
)
def test_one_key_too_many_is_as_bad_as_none(
    key: debrepo.Key,
    vendor: debrepo.Mirror,
    tmp_path: Path,
    text: str,
    said: str,
) -> None:
    """apt would trust both."""
    other = debrepo.Key()
    try:
        names = {
            "key": key.public,
            "other": other.public,
            "key_id": key.fingerprint,
            "other_id": other.fingerprint,
        }
    finally:
        other.close()
    (vendor.folder / "key.pub").write_text(text.format(**names), encoding="utf-8")
    with pytest.raises(Unreachable, match=said.format(**names)):
        signing_keys.keyring(source(key.fingerprint), vendor.uri, tmp_path)


def test_of_two_stated_keys_either_is_believed_and_a_file_with_both(
    key: debrepo.Key, vendor: debrepo.Mirror, tmp_path: Path
) -> None:
    other = debrepo.Key()
    other.close()
    rotating = source(other.fingerprint, key.fingerprint)
    for text in (key.public, other.public, key.public + other.public):
        (vendor.folder / "key.pub").write_text(text, encoding="utf-8")
        signing_keys.forget([rotating], tmp_path)
        found = signing_keys.keyring(rotating, vendor.uri, tmp_path)
        assert found.read_text(encoding="utf-8") == text
    signing_keys.forget([rotating], tmp_path)
    with pytest.raises(Unreachable, match=f"not {'A' * 40} or {'B' * 40}"):
        signing_keys.keyring(source("A" * 40, "B" * 40), vendor.uri, tmp_path)


def test_a_key_on_this_machine_needs_the_fingerprint_too(
    key: debrepo.Key,
    vendor: debrepo.Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOLDEN_KEYRING_GOLDEN_NVIDIA", str(key.keyring))
    assert signing_keys.keyring(source(key.fingerprint), vendor.uri, tmp_path) == key.keyring
    with pytest.raises(Unreachable) as caught:
        signing_keys.keyring(source("A" * 40), vendor.uri, tmp_path)
    assert "check GOLDEN_KEYRING_GOLDEN_NVIDIA" in caught.value.hint
    assert vendor.requests == []


def test_a_key_as_text_is_the_same_key(key: debrepo.Key) -> None:
    binary = signing_keys.armored(key.keyring.read_bytes())
    assert binary != key.public
    assert signing_keys.armored(key.public.encode()) == key.public
    assert signing_keys.fingerprints(binary.encode()) == [key.fingerprint]


def test_a_distributions_keyring_is_this_machines(
    key: debrepo.Key,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOLDEN_KEYRING_TEST", str(key.keyring))
    debian = Source("debian", ("stable",), ("main",), "test")
    assert (
        signing_keys.keyring(debian, "unused", tmp_path) == mirrors.keyring("test") == key.keyring
    )
