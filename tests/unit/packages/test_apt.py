from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from goldenami.core.errors import ExitCode, NoFit, Unreachable
from goldenami.core.records import sha256_file
from goldenami.packages import apt
from support.debian import debrepo
from support.debian.debrepo import Package
from support.debian.resolver import Resolver

ESSENTIAL = {"Essential": "yes", "Priority": "required"}


def test_the_closure_is_exact(resolver: Resolver) -> None:
    root = resolver.root(
        [
            Package("base", fields=ESSENTIAL, depends="libc6"),
            Package("libc6"),
            Package(
                "tool",
                "1:2.0+x~1-3",
                depends="libc6, lib (>= 1)",
                fields={"Recommends": "extra", "Source": "tool-src (9)"},
            ),
            Package("lib", "1.5"),
            Package("extra"),
            Package("unrelated"),
        ]
    )
    found = {deb.name: deb for deb in root.solve(["?essential", "tool"])}
    assert sorted(found) == ["base", "lib", "libc6", "tool"]
    tool = found["tool"]
    assert (tool.version, tool.architecture, tool.source, tool.archive) == (
        "1:2.0+x~1-3",
        "amd64",
        "tool-src",
        "debian",
    )
    assert tool.path == "pool/main/t/tool/tool_2.0+x~1-3_amd64.deb"
    file = resolver.mirrors[0].folder / tool.path
    assert (tool.sha256, tool.size, tool.installed_size) == (
        sha256_file(file),
        file.stat().st_size,
        16 * 1024,
    )
    assert not any(
        "127.0.0.1" in str(value) for deb in found.values() for value in dataclasses.astuple(deb)
    )
    assert root.file("tool", tool.version) == tool
    assert root.stanza("tool", tool.version)["Recommends"] == "extra"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("nosuch", "Unable to locate package nosuch"),
        ("picky", "picky : Depends: lib (>= 3)"),
    ],
)
def test_no_solution_is_told_in_apts_words(resolver: Resolver, wanted: str, reason: str) -> None:
    root = resolver.root([Package("lib"), Package("picky", depends="lib (>= 3)")])
    with pytest.raises(NoFit) as caught:
        root.solve([wanted])
    assert caught.value.message.startswith("apt finds no solution: ")
    assert reason in caught.value.message
    assert caught.value.exit_code is ExitCode.NO_FIT


def test_the_reason_of_apts_newer_solver() -> None:
    output = (
        "E: Unable to satisfy dependencies. Reached two conflicting decisions:\n"
        "   1. picky:amd64=1.0-1 is selected for install\n   2. picky:amd64 Depends lib (>= "
        "3)\n"
        "      but none of the choices are installable:\n      [no choices]\n"
    )
    assert apt._reason(output) == "apt finds no solution: picky:amd64 Depends lib (>= 3)"
    assert apt._reason("") == "apt finds no solution: no reason given"


def test_a_pin_by_source_takes_all_of_it_down(resolver: Resolver) -> None:
    source = {"Source": "nvidia-graphics-drivers"}
    packages = [
        Package(name, version, depends=depends.format(version), fields=source)
        for version in ("535.261.03-1", "535.309.01-1")
        for name, depends in (("nvidia-smi", "libcuda1 (= {})"), ("libcuda1", ""))
    ]
    root = resolver.root([*packages, Package("other", "1"), Package("other", "2")])
    wanted = ["nvidia-smi", "other"]

    def versions() -> dict[str, str]:
        return {deb.name: deb.version for deb in root.solve(wanted)}

    assert versions() == {"libcuda1": "535.309.01-1", "nvidia-smi": "535.309.01-1", "other": "2"}
    root.pin({"src:nvidia-graphics-drivers:any": "535.261.03-*"})
    assert versions() == {"libcuda1": "535.261.03-1", "nvidia-smi": "535.261.03-1", "other": "2"}
    root.pin({})
    assert versions()["libcuda1"] == "535.309.01-1"


def test_names_are_matched_whole(resolver: Resolver) -> None:
    root = resolver.root(
        [Package("linux-a"), Package("linux-ab"), Package("x-linux-a", depends="linux-a-headers")]
    )
    assert root.names("linux-a") == ["linux-a"]
    # Not linux-a-headers, which is only mentioned.
    assert root.names("linux-a.*") == ["linux-a", "linux-ab"]


def test_no_mirror_decides_the_order_of_releases(
    key: debrepo.Key, resolver: Resolver, tmp_path: Path
) -> None:
    source = resolver.root([Package("x")]).sources[0]
    folder = tmp_path / "archives"
    for name, label, suite in (
        ("a", "Debian", "stable"),
        ("z", "Debian-Security", "stable-security"),
    ):
        debrepo.Archive(folder / name, key, label=label, suites=(suite,)).add(
            [Package("x")]
        ).publish()
    (tmp_path / "swapped").mkdir()
    for name, other in (("a", "z"), ("z", "a")):
        (tmp_path / "swapped" / other).symlink_to(folder / name)
    seen: list[list[dict[str, str]]] = []
    for place, first, second in ((folder, "a", "z"), (tmp_path / "swapped", "z", "a")):
        mirror = debrepo.Mirror(place)
        security = dataclasses.replace(
            source, archive="debian-security", suites=("stable-security",)
        )
        root = apt.AptRoot(
            folder=tmp_path / f"root{len(seen)}",
            sources=(source, security),
            uris={"debian": f"{mirror.uri}/{first}", "debian-security": f"{mirror.uri}/{second}"},
        )
        root.configure()
        root.update()
        mirror.close()
        seen.append(root.releases())
    assert seen[0] == seen[1]
    assert [entry["suite"] for entry in seen[0]] == ["stable", "stable-security"]
    assert seen[0][0]["date"] == "Sun, 15 Jun 2025 15:06:40 GMT"


def test_an_entry_without_a_sha256_does_not_fall_out_unseen() -> None:
    with pytest.raises(Unreachable, match=r"no SHA-256 of 'http://x/a\.deb'"):
        apt._uri_line("'http://x/a.deb' a_1_amd64.deb 12 MD5Sum:0123456789abcdef0123456789abcdef")
