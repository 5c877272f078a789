"""apt's sources of a container, from cloud-init's own configuration and template."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.local.tree import apt_sources
from support.files import write

TEMPLATE = """\
## template:jinja
# Written at the first boot.
Types: deb
URIs: {{mirror}}
Suites: {{codename}}

Types: deb
URIs: {{security}}
Suites: {{codename}}{% if codename in ('buster',) %}/updates{% else %}-security{% endif +%}
Components: main
"""
SETTINGS = """\
system_info:
  package_mirrors:
    - arches: [i386, amd64]
      failsafe: {primary: http://a.example/x, security: http://s.example/x}
"""
PRIMARY = "  primary: [{arches: [default], uri: http://m.example/x}]\n"
SECURITY = "  security: [{arches: [default], uri: http://n.example/x}]\n"


@pytest.mark.parametrize(
    ("own", "hosts"),
    [
        ("", ["http://a.example/x", "http://s.example/x"]),
        (PRIMARY, ["http://m.example/x"] * 2),
        (PRIMARY + SECURITY, ["http://m.example/x", "http://n.example/x"]),
    ],
    ids=["the distribution's", "one mirror", "two mirrors"],
)
@pytest.mark.parametrize(("suite", "name"), [("trixie", "debian"), ("noble", "ubuntu")])
def test_sources_are_those_of_a_first_boot(
    tmp_path: Path, own: str, hosts: list[str], suite: str, name: str
) -> None:
    settings = f"apt:\n  preserve_sources_list: false\n{own}"
    customized = {"cloud.cfg.d/62_customize.cfg": settings} if own else {}
    write(
        tmp_path / "etc/cloud",
        {
            "cloud.cfg": SETTINGS,
            f"templates/sources.list.{name}.deb822.tmpl": TEMPLATE,
            **customized,
        },
    )
    assert apt_sources.of_cloud_init(tmp_path, suite) == (
        f"Types: deb\nURIs: {hosts[0]}\nSuites: {suite}\n\n"
        f"Types: deb\nURIs: {hosts[1]}\nSuites: {suite}-security\nComponents: main\n"
    )
