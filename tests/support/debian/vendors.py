"""A vendor's server on loopback: an agent in a repository by suites, a tool in a flat one behind a
login, both signed."""

from __future__ import annotations

from pathlib import Path

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
        self.agent = Archive(folder / "agent", key, label="Agent", suites=(SUITE,)).add(
            [Package("company-agent", "7.1-1", depends="libc6, agent-data"),
             Package("agent-data", "7.1-1")]).publish()
        built = Archive(folder / ".built", key, label="Tool", suites=("x",)).add(
            [Package("company-tool", "2.0-1", depends="company-agent")])
        self.tool = FlatArchive(folder / "tool", key, origin="Tool", label="Tool")
        self.tool.add(built.folder.rglob("*.deb")).publish()
        (folder / "agent.asc").write_text(key.public, encoding="utf-8")
        (folder / "tool/key.gpg").write_bytes(key.keyring.read_bytes())
        self.mirror = Mirror(folder)
        self.mirror.logins = {"/tool/": LOGIN}
        self.uri, self.close = self.mirror.uri, self.mirror.close

    def repos(self) -> str:
        """`extra_repos` of a definition."""
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
