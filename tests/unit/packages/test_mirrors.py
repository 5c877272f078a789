from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from goldenami.core.errors import ExitCode, HostNotReady, Unreachable
from goldenami.packages import mirrors
from support.debian import debrepo

NVIDIA = mirrors.VendorArchive(
    name="nvidia",
    uri="https://vendor.example/debian13/x86_64",
    key="key.pub",
    fingerprint=("A" * 40,),
)


def test_what_an_image_is_resolved_from() -> None:
    debian = mirrors.sources("debian", "trixie", backports=False)
    assert [(source.archive, source.suites) for source in debian] == [
        ("debian", ("trixie", "trixie-updates")),
        ("debian-security", ("trixie-security",)),
    ]
    assert "trixie-backports" in mirrors.sources("debian", "trixie", backports=True)[0].suites
    ubuntu = mirrors.sources("ubuntu", "noble", backports=False, vendors=[NVIDIA])
    assert [(source.archive, source.flat) for source in ubuntu] == [
        ("ubuntu", False),
        ("nvidia", True),
    ]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("archives", "variable"),
    [
        (["ubuntu", "nvidia"], "GOLDEN_MIRROR_UBUNTU"),
        (["debian-security"], "GOLDEN_MIRROR_DEBIAN_SECURITY"),
    ],
)
def test_an_archive_that_no_mirror_is_known_of(archives: list[str], variable: str) -> None:
    with pytest.raises(Unreachable) as caught:
        mirrors.locate(archives)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert f"no mirror of the archive `{archives[0]}` is known" in caught.value.message
    assert f"set {variable} " in caught.value.hint


@pytest.mark.usefixtures("offline")
def test_a_vendors_archive_is_at_its_address_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mirrors.locate(["nvidia"], [NVIDIA]) == {"nvidia": NVIDIA.uri}
    monkeypatch.setenv("GOLDEN_MIRROR_NVIDIA", "http://mirror.example/nvidia/")
    assert mirrors.locate(["nvidia"], [NVIDIA]) == {"nvidia": "http://mirror.example/nvidia"}


def test_the_machines_own_apt_says_where(
    mirror_of_apt: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mirrors.locate(["debian", "debian-security"]) == {
        "debian": f"{mirror_of_apt}/debian",
        "debian-security": f"{mirror_of_apt}/security",
    }
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", "http://other.example")
    assert mirrors.locate(["debian"]) == {"debian": "http://other.example"}


@pytest.fixture
def mirror_of_apt(
    distribution: Path,
    key: debrepo.Key,
    offline: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An apt configuration whose sources are the synthetic archives, updated; the address of their
    mirror."""
    served = debrepo.Mirror(distribution)
    for folder in ("etc", "state/lists/partial", "cache/archives/partial"):
        (tmp_path / "machine" / folder).mkdir(parents=True)
    machine = tmp_path / "machine"
    (machine / "status").touch()
    (machine / "test.sources").write_text(
        "\n".join(
            f"Types: deb\nURIs: {served.uri}/{name}/\nSuites: {suite}\nComponents: main\n"
            f"Signed-By: {key.keyring}\n"
            for name, suite in (("debian", "trixie"), ("security", "trixie-security"))
        ),
        encoding="utf-8",
    )
    (machine / "apt.conf").write_text(
        f'Dir::Etc "{machine}/etc/"; Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts '
        f'"{machine}/";\n'
        f'Dir::State "{machine}/state/"; Dir::State::status "{machine}/status"; Dir::Cache '
        f'"{machine}/cache/";\n'
        'Acquire::Languages "none"; APT::Sandbox::User "root"; APT::Architecture "amd64";\n'
        'APT::Architectures {"amd64";};\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(machine / "apt.conf"))
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
    served.close()
    return served.uri


def test_keyrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "KEYRINGS", tmp_path)
    with pytest.raises(HostNotReady, match="the keyring some-keyring is not installed") as caught:
        mirrors.keyring("some-keyring")
    assert "GOLDEN_KEYRING_SOME_KEYRING" in caught.value.hint
    (tmp_path / "some-keyring.gpg").touch()
    assert mirrors.keyring("some-keyring") == tmp_path / "some-keyring.gpg"
    monkeypatch.setenv("GOLDEN_KEYRING_SOME_KEYRING", str(tmp_path / "gone"))
    with pytest.raises(HostNotReady, match="gone"):
        mirrors.keyring("some-keyring")


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({}, "http://a.example/x", None),
        ({"Acquire::http::Proxy": "http://p:1"}, "https://a.example/x", "http://p:1"),
        (
            {"Acquire::http::Proxy": "http://p:1", "Acquire::https::Proxy": "http://q:2"},
            "https://a.example",
            "http://q:2",
        ),
        (
            {"Acquire::http::Proxy": "http://p:1", "Acquire::http::Proxy::a.example": "DIRECT"},
            "http://a.example/x",
            None,
        ),
        (
            {"Acquire::http::Proxy": "http://p:1", "Acquire::http::Proxy::a.example": "DIRECT"},
            "http://b.example/x",
            "http://p:1",
        ),
        ({"Acquire::http::Proxy-Auto-Detect": "DETECT"}, "http://a.example/x", "http://found:3"),
        ({"http_proxy": "http://env:4"}, "http://a.example/x", "http://env:4"),
        (
            {"http_proxy": "http://env:4", "Acquire::http::Proxy": "DIRECT"},
            "http://a.example/x",
            None,
        ),
        (
            {"http_proxy": "http://env:4", "no_proxy": "b.example,a.example"},
            "http://a.example/x",
            None,
        ),
    ],
)
@pytest.mark.usefixtures("offline")
def test_the_proxy_is_the_one_that_apt_would_take(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    url: str,
    expected: str | None,
) -> None:
    program = tmp_path / "detect"
    program.write_text(
        '#!/bin/sh\n[ "$1" = http://a.example/ ] && echo http://found:3\n', encoding="utf-8"
    )
    program.chmod(0o755)
    lines = []
    for name, value in settings.items():
        if name.startswith("Acquire"):
            lines.append(f'{name} "{value.replace("DETECT", str(program))}";\n')
        else:
            monkeypatch.setenv(name, value)
    config = tmp_path / "proxy.conf"
    config.write_text("".join(['Dir "/nonexistent";\n', *lines]), encoding="utf-8")
    monkeypatch.setenv("APT_CONFIG", str(config))
    assert mirrors.proxy(url) == expected
