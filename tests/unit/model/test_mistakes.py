"""Mistakes that people make in a company's definition: `check` refuses each with file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.builds.definitions import IMAGE, edited, load, refused
from support.builds.tools import need
from support.files import write
from support.security.certificates import certificate

FILES = "roles/customize/files"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"
URL = "https://vendor.example/agent"
SHA = "a" * 64
UNIT = "[Service]\nExecStart=/usr/bin/agent\n"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, lockable: Callable[[Path], Path]) -> Path:
    """One checkout for all cases, which each leaves as it was."""
    need("visudo")
    root = lockable(tmp_path_factory.mktemp("company") / "checkout")
    write(
        root / FILES,
        {
            "a.conf": "colour = blue\n",
            "a.list": "# ours\ndeb [signed-by=/usr/share/k.asc] https://v.example/ stable main\n",
            "no.list": "deb stable main\n",
            "a.sources": "Types: deb\nURIs: https://v.example/apt\nSuites: stable\nComponents: a\n",
            "no.sources": "Types: deb\nSuites: stable\n",
            "a.json": '{"a": 1}\n',
            "no.json": '{"a": 1,}\n',
            "no.yaml": "a: [1\n",
            "no.toml": "a = b\n",
            "sudoers": "ann ALL=(ALL) NOPASSWD: ALL\n",
            "no-sudoers": "# ours\nann ALL=(ALL\n",
            "key.pem": f"-----BEGIN PRIVATE KEY-----\n{SHA}\n",
            "ca.pem": certificate(30),
            "leaf.pem": certificate(30, authority=False),
            "dos.sh": "#!/bin/sh\r\ntrue\r\n",
            "a.service": f"{UNIT}[Install]\nWantedBy=multi-user.target\n",
            "plain.service": UNIT,
            "no.service": "ExecStart=/usr/bin/agent\n",
        },
    )
    return root


def file(source: str, path: str, more: str = "") -> str:
    return f"files: [{{source: {source}, path: {path}{more}}}]"


def two(first: str, second: str) -> str:
    return f"files: [{{source: a.conf, path: {first}}}, {{source: a.conf, path: {second}}}]"


def download(end: str, sha: str = SHA, place: str = "install: deb") -> str:
    return f"downloads: [{{url: '{URL}{end}', sha256: '{sha}', {place}}}]\n"


SUDOERS, APT = "/etc/sudoers.d/ann", "/etc/apt/sources.list.d"
UNITS = "/etc/systemd/system"
MISTAKES = {
    # What lies in the folder of files.
    "a broken sudoers": (file("no-sudoers", SUDOERS), "files.1.source: `{}/no-sudoers` line 2: "),
    "a private key": (file("key.pem", "/etc/a/key.pem"), "files.1.source: `key.pem` holds a priv"),
    "a leaf": ("ca_certificates: [leaf.pem]", "ca_certificates.1: `leaf.pem` is no authority's"),
    "an authority twice": (
        "ca_certificates: [ca.pem, ca.pem]",
        "ca_certificates.2: `ca.pem` is given twice",
    ),
    "a program's CRLF": (
        file("dos.sh", "/usr/local/bin/x", ", mode: '0755'"),
        "files.1.source: `{}/dos.sh` has the line ends of Windows",
    ),
    "a list of apt": (
        file("no.list", f"{APT}/a.list"),
        "files.1.source: `{}/no.list` line 1 is no `deb ",
    ),
    "sources of apt": (
        file("no.sources", f"{APT}/a.sources"),
        "files.1.source: `{}/no.sources` has",
    ),
    "JSON": (file("no.json", "/etc/docker/daemon.json"), "files.1.source: `{}/no.json` is no JSON"),
    "YAML": (file("no.yaml", "/etc/a/a.yaml"), "files.1.source: `{}/no.yaml` is no YAML"),
    "TOML": (file("no.toml", "/etc/a/a.toml"), "files.1.source: `{}/no.toml` is no TOML"),
    "a unit without section": (
        file("no.service", f"{UNITS}/a.service"),
        "files.1.source: `{}/no.service` has no section [Service]",
    ),
    # Where it goes.
    "a path twice": (two("/etc/a/b", "/etc/a/b"), "files.2.path: `/etc/a/b` is given twice"),
    "a file below a file": (two("/etc/a/b", "/etc/a/b/c"), "files.2.path: `/etc/a/b/c` lies below"),
    "no plain path": (file("a.conf", "/etc/a/../b"), "files.1.path: `/etc/a/../b` is no pl"),
    "an emptied folder": (
        file("a.conf", "/run/a/b"),
        "files.1.path: `/run/a/b` has no effect there: it is empty",
    ),
    "a name with a dot": (
        file("sudoers", "/etc/sudoers.d/a.b"),
        "files.1.path: `/etc/sudoers.d/a.b` is skipped",
    ),
    # Whose it is, and who may do what.
    "an unknown owner": (
        file("a.conf", "/etc/a/b", ", owner: rooot"),
        "files.1.owner: unknown val",
    ),
    "another's sudoers": (
        file("sudoers", SUDOERS, ", owner: www-data"),
        "files.1.owner: `/etc/sudoers.d/ann` has to",
    ),
    "set-uid text": (
        file("a.conf", "/opt/a/b", ", mode: '4755'"),
        "files.1.mode: `/opt/a/b` is text",
    ),
    "everybody's file": (
        file("a.conf", "/etc/a/b", ", mode: '0666'"),
        "files.1.mode: `/etc/a/b` is every",
    ),
    "a group's sudoers": (
        file("sudoers", SUDOERS, ", mode: '0660'"),
        "files.1.mode: `/etc/sudoers.d/ann` is its",
    ),
    "a group's unit": (
        file("plain.service", f"{UNITS}/a.service", ", mode: '0664'"),
        "files.1.mode: `/etc/systemd/system/a.service` is its group's to write",
    ),
    "a job nobody runs": (
        file("a.conf", "/etc/cron.daily/a"),
        "files.1.mode: `/etc/cron.daily/a` is",
    ),
    # Units.
    "a unit that nothing turns on": (
        file("a.service", f"{UNITS}/a.service"),
        "files.1.path: `a.service` is turned on by nothing",
    ),
    "a unit that nothing can turn on": (
        f"{file('plain.service', f'{UNITS}/a.service')}\n    customize_units_enabled: [a.service]",
        "files.1.path: `a.service` has no section [Install]",
    ),
    "a unit twice": (
        "units_enabled: [a.timer, a.timer]",
        "units_enabled.2: `a.timer` is given twice",
    ),
    "a unit on and off": (
        "units_disabled: [a.timer]\n    customize_units_enabled: [a.timer]",
        "units_disabled.1: `a.timer` is in customize_units_enabled, too",
    ),
    "no kind of unit": ("units_enabled: [a.servcie]", "units_enabled.1: `a.servcie` is no kind of"),
    # Accounts.
    "a group twice": ("groups: [data, data]", "groups.2: `data` is given twice"),
    "an unknown group": (
        "users: [{name: ann, groups: [admm]}]",
        "users.1.groups.1: unknown value `",
    ),
    "an account of the distribution": (
        "users: [{name: daemon}]",
        "users.1.name: `daemon` is an acc",
    ),
    "the table of accounts": (
        file("a.conf", "/etc/passwd"),
        "files.1.path: `/etc/passwd` has no effect",
    ),
    "a key twice": (
        f"users: [{{name: ann, ssh_keys: ['{KEY}', '{KEY}']}}]",
        "users.1.ssh_keys.2: `ssh-ed25519",
    ),
    "a damaged key": (
        f"users: [{{name: ann, ssh_keys: ['{KEY.replace('dh2l', '')}']}}]",
        "users.1.ssh_keys.1: is damaged",
    ),
    "a key of DSA": (
        "users: [{name: ann, ssh_keys: ['ssh-dss AAAAB3NzaC1kc3M= ann']}]",
        "users.1.ssh_keys.1: `ssh-dss",
    ),
    # Names and addresses.
    "an unknown zone": (
        "timezone: Europe/Berln",
        "timezone: unknown value `Europe/Berln`; did you",
    ),
    "an unknown locale": ("locale: xx_YY.UTF-8", "locale: unknown value `xx_YY.UTF-8`; "),
    "no package": ("packages: [nginx jq]", "packages.1: is no package such as htop"),
    "a port of a proxy": (
        "proxy: http://proxy:99999",
        "proxy: `http://proxy:99999` has a port that",
    ),
    "no port of a mirror": (
        "apt_mirror: https://m.example:0/d",
        "apt_mirror: `https://m.example:0/d",
    ),
    "an address past the proxy": (
        "no_proxy: [http://a.example]\n    customize_proxy: http://proxy:3128",
        "no_proxy.1: `http://a.example` is an address",
    ),
}
ROLES, KERNEL = "roles:\n", "  kernel:\n"
CUSTOMIZED = f"{ROLES}  customize:\n"
WITH_FILE = f"{CUSTOMIZED}    customize_{file('a.conf', '/etc/a/b')}\n"
SECTIONS = {
    "a kernel's root": (
        KERNEL,
        f"{KERNEL}    kernel_cmdline: [quiet root=/dev/sda1]\n",
        "roles.kernel.kernel_cmdline: has to have plain words",
    ),
    "a quote without its other one": (
        KERNEL,
        f"{KERNEL}    kernel_cmdline: ['dyndbg=\"file a']\n",
        "roles.kernel.kernel_cmdline: has to have plain words",
    ),
    "a family twice": (
        "hardware: [c7i,",
        "hardware: [c7i, c7i,",
        "hardware.2: `c7i` is given twice",
    ),
    "a package that is none": (
        ROLES,
        f"{download('.rpm')}{CUSTOMIZED}",
        "downloads.1.install: `agent.rpm` is no .deb",
    ),
    "zeros as digest": (
        ROLES,
        f"{download('.deb', '0' * 64)}{CUSTOMIZED}",
        f"downloads.1.sha256: `{'0' * 64}` is the digest of no file",
    ),
    "a module's zeros": (
        ROLES,
        f"kernel_modules: [{{name: a1, source: {{url: '{URL}', sha256: '{'0' * 64}'}}}}]\n{ROLES}",
        f"kernel_modules.1.source.sha256: `{'0' * 64}` is the digest of no file",
    ),
    "a path of two kinds": (
        ROLES,
        f"{download('', place='path: /etc/a/b')}{WITH_FILE}",
        "roles.customize.customize_files.1.path: `/etc/a/b` is given twice",
    ),
    "below a download": (
        ROLES,
        f"{download('', place='path: /etc/a')}{WITH_FILE}",
        "roles.customize.customize_files.1.path: `/etc/a/b` lies below `/etc/a`",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_a_company_brings_is_refused_at_its_line(company: Path, name: str) -> None:
    line, complaint = MISTAKES[name]
    with edited(company, "roles:\n", f"{CUSTOMIZED}    customize_{line}\n"):
        said = refused(company)
    assert said.startswith(
        f"{IMAGE}.yml:11: roles.customize.customize_{complaint}".format(FILES)
    ), said


@pytest.mark.parametrize("name", SECTIONS)
def test_what_a_definition_says_is_refused_at_its_line(company: Path, name: str) -> None:
    old, new, complaint = SECTIONS[name]
    with edited(company, old, new):
        said = refused(company)
    assert said.startswith(f"{IMAGE}.yml:") and f": {complaint}" in said, said


def test_what_is_right_passes(company: Path) -> None:
    rows = [
        f"{{source: sudoers, path: {SUDOERS}, mode: '0440'}}",
        f"{{source: a.list, path: {APT}/a.list}}",
        f"{{source: a.sources, path: {APT}/a.sources}}",
        "{source: a.json, path: /etc/docker/daemon.json}",
        f"{{source: a.service, path: {UNITS}/a.service}}",
        f"{{source: plain.service, path: {UNITS}/b.service}}",
        "{source: a.conf, path: /etc/a/b, owner: ann}",
        "{source: a.conf, path: /etc/a/c, owner: www-data}",
    ]
    said = [
        f"files: [{', '.join(rows)}]",
        f"users: [{{name: ann, groups: [adm, docker, data], ssh_keys: ['{KEY}']}}]",
        "groups: [data]",
        "units_enabled: [a, php8.4-fpm]",
        "timezone: Europe/Berlin",
        "locale: de_DE.UTF-8",
        "proxy: http://proxy:3128",
        "no_proxy: [.company.example, 10.0.0.0/8]",
        "apt_mirror: https://m.example:65535/debian",
    ]
    lines = "".join(f"    customize_{line}\n" for line in said)
    with edited(company, "roles:\n", f"{CUSTOMIZED}{lines}"):
        assert load(company).variables("customize")["customize_locale"] == "de_DE.UTF-8"
