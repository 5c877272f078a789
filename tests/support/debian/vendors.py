"""A vendor's server on loopback: an agent in a repository by suites, a tool in a flat one behind a
login, both signed; and files by themselves, a tarball with a detached signature among them."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path

from goldenami.core.records import sha256_file

from support.debian import debrepo
from support.debian.debrepo import Archive, Mirror, Package
from support.debian.flat_archive import FlatArchive

LOGIN, VARIABLE = "ann:s3cr3t/word", "TOOL_LOGIN"
SUITE = "trixie"
"""As vendors name theirs: the same as Debian's."""


class VendorServer:
    """Serves both repositories; `uri` is its address."""

    def __init__(self, folder: Path, key: debrepo.Key) -> None:
        self.folder, self.key = folder, key
        self.agent = (
            Archive(folder / "agent", key, label="Agent", suites=(SUITE,))
            .add(
                [
                    Package("company-agent", "7.1-1", depends="libc6, agent-data"),
                    Package("agent-data", "7.1-1"),
                    Package("xz-utils"),
                ]
            )
            .publish()
        )
        tool = debrepo.build(
            Package("company-tool", "2.0-1", depends="company-agent"),
            folder / ".built/company-tool.deb",
        )
        self.tool = FlatArchive(folder / "tool", key, origin="Tool", label="Tool")
        self.tool.add([tool]).publish()
        (folder / "agent.asc").write_text(key.public, encoding="utf-8")
        (folder / "tool/key.gpg").write_bytes(key.keyring.read_bytes())
        self.files = folder / "files"
        self.files.mkdir()
        debrepo.build(
            Package("company-sealed", "3.0-1", depends="agent-data"), self.files / "sealed.deb"
        )
        tarball(
            self.files / "probe-2.1.tar.gz",
            {
                "probe-2.1/bin/probe": "#!/bin/sh\necho 2.1\n",
                "probe-2.1/etc/probe.conf": "colour = blue\n",
            },
        )
        key.sign(self.files / "probe-2.1.tar.gz")
        tarball(
            self.files / "installer.tar.xz",
            {
                "installer/install.sh": "#!/bin/sh\nset -e\nmkdir -p /opt/fabric/lib\n"
                'cp "$(dirname "$0")/fabric.so" /opt/fabric/lib/\n',
                "installer/fabric.so": "not really\n",
            },
        )
        (self.files / "license.txt").write_text("ours to use\n", encoding="utf-8")
        self.mirror = Mirror(folder)
        self.mirror.logins = {"/tool/": LOGIN}
        self.uri, self.close = self.mirror.uri, self.mirror.close

    def take(self, debs: Iterable[Path]) -> None:
        for deb in debs:
            path = f"pool/main/{deb.name}"
            (self.agent.folder / path).write_bytes(deb.read_bytes())
            self.agent.entries[SUITE, "main"].append(debrepo.stanza(deb, path))
        self.agent.publish()

    def repos(self) -> str:
        return f"""extra_repos:
  - name: agent
    uri: {self.uri}/agent
    suites: [{SUITE}]
    components: [main]
    key: {self.uri}/agent.asc
    fingerprint: {self.key.fingerprint}
  - name: tool
    uri: {self.uri}/tool
    key: {self.uri}/tool/key.gpg
    fingerprint: {self.key.fingerprint}
    login: {VARIABLE}
"""

    def downloads(self) -> str:
        """`downloads` of a definition: a package, a signed tarball, an installer, a file."""

        def of(name: str) -> str:
            return f"{self.uri}/files/{name}\n    sha256: {sha256_file(self.files / name)}"

        return f"""downloads:
  - url: {of("sealed.deb")}
    install: deb
  - url: {of("probe-2.1.tar.gz")}
    signature: {self.uri}/files/probe-2.1.tar.gz.asc
    key: {self.uri}/agent.asc
    fingerprint: {self.key.fingerprint}
    unpack: /opt/probe
    strip: 1
  - url: {of("installer.tar.xz")}
    unpack: /opt/fabric-installer
    strip: 1
  - url: {of("license.txt")}
    path: /etc/company/license.txt
    mode: "0640"
"""


def tarball(path: Path, files: dict[str, str]) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text.encode()), debrepo.DATE
            member.mode = 0o755 if text.startswith("#!") else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    pack = lzma.compress if path.suffix == ".xz" else gzip.compress
    path.write_bytes(pack(content.getvalue()))
