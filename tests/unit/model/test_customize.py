"""What `check` says of a company's files, certificates and accounts, before anything is baked."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.model.locked import lockfile
from goldenami.model.roles import role_files
from support.builds.definitions import IMAGE, edit, load, refused
from support.files import write
from support.security.certificates import certificate

FILES = "roles/customize/files"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"
OPTIONS = r'from="10.0.0.0/8,!10.9.0.1",command="/bin/a \"b\""'


@pytest.fixture
def checkout(root: Path) -> Path:
    good = certificate(30)
    write(
        root / FILES,
        {
            "company.conf": "colour = blue\n",
            "ca/good.pem": good,
            "old.pem": certificate(-1),
            "both.pem": good + good,
            "key.pem": f"{good}-----BEGIN EC PRIVATE KEY-----\n",
            "no.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        },
    )
    (root / FILES / "program").write_bytes(b"\x7fELF\0")
    return root


def say(root: Path, *lines: str) -> None:
    said = "".join(f"    customize_{line}\n" for line in lines)
    edit(root, "  limits:\n", f"  customize:\n{said}  limits:\n")


def test_what_everybody_asks_for(checkout: Path) -> None:
    say(
        checkout,
        "packages: [htop]",
        "timezone: Europe/Berlin",
        "locale: de_DE.UTF-8",
        "files: [{source: company.conf, path: /etc/company/agent.conf, mode: '0640'}]",
        "ca_certificates: [ca/good.pem]",
        "units_disabled: [e2scrub_all.timer]",
        f"users: [{{name: ann, groups: [adm], ssh_keys: ['{KEY}'], sudo: [ALL]}}, {{name: bob}}, "
        "{name: eve, uid: 5000, shell: /bin/sh, sudo: [/usr/bin/systemctl restart agent], "
        f"ssh_keys: ['restrict,pty {KEY}', '{OPTIONS} {KEY}']}}]",
    )
    found = load(checkout)
    assert found.steps[-2] == ["customize"]
    brought = role_files.brought(checkout, "customize", found.variables("customize"))
    assert {
        "/etc/company/agent.conf",
        "/etc/ssh/keys.d/ann",
        "/etc/ssh/keys.d/bob",
        "/etc/sudoers.d/70-customize",
        "/usr/local/share/ca-certificates/good.crt",
    } <= set(brought)
    before = lockfile.digests(checkout, found)[f"{FILES}/company.conf"]
    (checkout / FILES / "company.conf").write_text("colour = red\n", encoding="utf-8")
    assert lockfile.digests(checkout, found)[f"{FILES}/company.conf"] != before


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("ca_certificates: [old.pem]", "ca_certificates.1: `old.pem` expired on 20"),
        ("ca_certificates: [no.pem]", "ca_certificates.1: `no.pem` is no certificate in PEM"),
        (
            "ca_certificates: [company.conf]",
            "ca_certificates.1: `company.conf` is no certificate in",
        ),
        ("ca_certificates: [both.pem]", "ca_certificates.1: `both.pem` holds 2 certificates"),
        ("ca_certificates: [key.pem]", "ca_certificates.1: `key.pem` holds a private key"),
        (
            "ca_certificates: [odl.pem]",
            f"ca_certificates.1: `odl.pem` is no file of {FILES}; did you",
        ),
        (
            "files: [{source: ../tasks/main.yml, path: /etc/a/b}]",
            f"files.1.source: `../tasks/main.yml` leads out of {FILES}",
        ),
        ("files: [{source: program, path: /opt/a/b}]", "files.1.source: `program` is no text"),
        ("files: [{source: company.conf}]", "files.1.path: is required and missing"),
        (
            "files: [{source: company.conf, path: /etc/a/b, mod: '0640'}]",
            "files.1.mod: unknown key; did you mean `mode`?",
        ),
        (
            "files: [{source: company.conf, path: /etc/a/b, mode: 0640}]",
            "files.1.mode: YAML reads 0640 as another number, 416",
        ),
        (
            "files: [{source: company.conf, path: /etc/a/b, mode: '416'}]",
            "files: has a mode that is",
        ),
        ("files: [{source: company.conf, path: etc/a}]", "files: has a path that is no whole one"),
        ("packages: [htop, htop=1, htop=2]", "packages.3: `htop` is asked for in version 1, too"),
        ("packages: [htop==1]", "packages.1: is no package such as htop or htop=3.4.1-5"),
        ("packages_absent: [nano=1]", "packages_absent.1: `nano=1` is no name of a package"),
        ("packages_absent: [chrony]", "packages_absent.1: `chrony` is asked for by the role os_up"),
        ("packages_absent: [nano, nano]", "packages_absent.2: `nano` is given twice"),
        ("groups: [Data sets]", "groups: has what is no group"),
        ("users: [{name: root}]", "users: names root or no account"),
        ("users: [{name: Ann Lee}]", "users: names root or no account"),
        ("users: [{name: ann}, {name: ann}]", "users: names an account twice"),
        (
            "users: [{name: ann, ssh_keys: ['-----BEGIN OPENSSH PRIVATE KEY-----']}]",
            "users: has an SSH key that is no public one",
        ),
        (
            f"users: [{{name: ann, ssh_keys: ['form=\"10.0.0.0/8\" {KEY}']}}]",
            "users: has an SSH key",
        ),
        (f"users: [{{name: ann, ssh_keys: ['restrict, pty {KEY}']}}]", "users: has an SSH key"),
        ("users: [{name: ann, uid: 0}]", "users: has a uid twice"),
        ("users: [{name: ann, uid: 5000}, {name: bob, uid: 5000}]", "users: has a uid twice"),
        ("users: [{name: ann}, {name: bob, uid: 2000}]", "users: has a uid twice"),
        ("users: [{name: ann, shell: zsh}]", "users: has a shell that is no path"),
        ("users: [{name: ann, sudo: ['/bin/a, /bin/su']}]", "users: lets sudo run what is no"),
        ("users: [{name: ann, groups: adm}]", "users.1.groups: input should be a valid list"),
        ("proxy: 'http://ann:pw@proxy:3128'", "proxy: is no proxy such as http://proxy.company"),
        ("proxy: proxy:3128", "proxy: is no proxy such as"),
        ("no_proxy: [.company.example]", "no_proxy: says what goes past a proxy, and there is no"),
        ("apt_mirror: mirror/debian", "apt_mirror: is no address such as https://mirror.company"),
        ("apt_security_mirror: https://mirror/security", "apt_security_mirror: stands alone"),
        ("pip_index_url: 'https://ann:pw@pypi/simple'", "pip_index_url: is no address such as"),
        ("timezone: ../../etc/passwd", "timezone: unknown value `../../etc/passwd`; known: "),
        ("locale: german", "locale: unknown value `german`; "),
    ],
)
def test_what_is_refused(checkout: Path, line: str, complaint: str) -> None:
    say(checkout, line)
    said = refused(checkout)
    assert said.startswith(f"{IMAGE}.yml:13: roles.customize.customize_{complaint}"), said


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/etc/default/grub.d/99-acme.cfg", "no GRUB reads it: write `kernel_cmdline` of the role"),
        ("/etc/default/golden-cmdline", "write `kernel_cmdline` of the role kernel"),
        ("/etc/fstab", "the disk writes it: bring /etc/systemd/system/NAME.mount"),
        ("/etc/hostname", "each instance has its own: write `hostname` into user data"),
        ("/etc/machine-id", "each instance has its own"),
        ("/etc/resolv.conf", "it is a link: bring /etc/systemd/resolved.conf.d/NAME.conf"),
        ("/etc/sysctl.conf", "nothing reads it: bring /etc/sysctl.d/NAME.conf"),
    ],
)
def test_a_file_without_effect(checkout: Path, path: str, complaint: str) -> None:
    say(checkout, f"files: [{{source: company.conf, path: {path}}}]")
    place = "13: roles.customize.customize_files.1.path: "
    said = refused(checkout)
    assert said.startswith(f"{IMAGE}.yml:{place}`{path}` has no effect there: {complaint}"), said


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("sysctl.d/99-acme.conf", "kernel.panic=5", "hardening sets kernel.panic after it: write "),
        ("sysctl.d/10-acme.conf", "vm.max_map_count = 1", "network_tuning sets vm.max_map_count a"),
        ("security/limits.d/50-acme.conf", "* - nofile 9", "limits sets nofile after it: write "),
    ],
)
def test_a_file_that_a_role_s_file_comes_after(
    checkout: Path, path: str, line: str, complaint: str
) -> None:
    write(checkout / FILES, {"acme.conf": f"# {line}\n{line}\n"})
    edit(checkout, "  limits:\n", "  hardening:\n  limits:\n")
    say(checkout, f"files: [{{source: acme.conf, path: /etc/{path}}}]")
    said = refused(checkout)
    assert said.startswith(f"{IMAGE}.yml:14: roles.customize.customize_files.1.path: "), said
    assert f"/acme.conf:2: {complaint}" in said


def test_a_file_that_is_read_after_ours_may_say_what_it_likes(checkout: Path) -> None:
    write(checkout / FILES, {"acme.conf": "kernel.panic = 5\n"})
    say(checkout, "files: [{source: acme.conf, path: /etc/sysctl.d/99-acme.conf}]")
    load(checkout)
