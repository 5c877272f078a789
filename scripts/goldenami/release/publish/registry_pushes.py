"""The registries of an image's containers: reading, pushing and tagging by oras.

oras uses Docker's logins. For ECR a login is requested, and kept only while the command runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from goldenami.aws.session import Account, translated
from goldenami.core import process, records, shell
from goldenami.core.errors import BadInput, GoldenError, HostNotReady, StageFailed, Unreachable
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.operation.residency import registry_region

SILENCE_S = 60
"""Seconds that any call but a push may take. oras has no time limit of its own."""
_ABSENT = re.compile(r"not found|name unknown|manifest unknown|blob unknown", re.I)
_REFUSED = re.compile(r"\b40[13]\b|unauthorized|denied|forbidden|basic credential", re.I)
_DIFFERENT = re.compile(r"mismatch|digest did not match|invalid digest", re.I)
_FAILING = re.compile(r"\b(429|50[0234])\b|too ?many ?requests|reset by peer|unexpected EOF", re.I)
_SILENT = re.compile(r"connection refused|no such host|timeout|timed out|unreachable|EOF", re.I)
"""With the four before it, patterns of oras's error texts, which are Go's and those of the
distribution specification ("Error Codes")."""


class Absent(BadInput):
    """The registry has no such tag, manifest or repository."""


@dataclass(frozen=True)
class Registry:
    """One repository of a registry, such as `registry.example/team/image`. `logins` is a file like
    Docker's configuration, or None for Docker's own."""

    name: str
    account: Account
    logins: Path | None = None

    @property
    def host(self) -> str:
        return self.name.partition("/")[0]

    def find(self, tag: str) -> str | None:
        """The digest that a tag names, `sha256:...`, or None if there is no such tag."""
        try:
            return self._oras("resolve", f"{self.name}:{tag}").strip()
        except Absent:
            return None

    def annotations(self, digest: str) -> dict[str, str]:
        manifest = json.loads(self._oras("manifest", "fetch", f"{self.name}@{digest}"))
        return dict(manifest.get("annotations") or {})

    def push(self, layout: OciLayout) -> None:
        """Push an image and what refers to it, by digest and without a tag. Blobs that the registry
        has are not sent again."""
        for digest, size in layout.blobs():
            # Not by `cp` alone: if a manifest is there, `cp` takes its image for complete, even if
            # the registry has lost a blob.
            self._oras(
                "blob",
                "push",
                "--no-tty",
                "--size",
                str(size),
                f"{self.name}@{digest}",
                str(layout.path_of(digest)),
                sends=True,
            )
        self._oras(
            "cp",
            "--no-tty",
            "-r",
            "--from-oci-layout",
            f"{layout.folder}:{layout.tag}",
            self.name,
            sends=True,
        )

    def tag(self, digest: str, tag: str) -> None:
        self._oras("tag", f"{self.name}@{digest}", tag)

    def tags(self) -> list[str]:
        try:
            return sorted(self._oras("repo", "tags", self.name).split())
        except Absent:
            return []

    def remove(self, digest: str) -> None:
        if region := registry_region(self.host):
            with translated(region):
                self.account.client("ecr", region).batch_delete_image(
                    repositoryName=self.name.partition("/")[2],
                    registryId=self.host.partition(".")[0],
                    imageIds=[{"imageDigest": digest}],
                )
        else:
            self._oras("manifest", "delete", "--force", f"{self.name}@{digest}")

    def _oras(self, *words: str, sends: bool = False) -> str:
        argv = [shell.require("oras", "oras"), *words]
        if not sends:
            argv = ["timeout", str(SILENCE_S), *argv]
        if self.logins:
            option = "--registry-config"
            if words[0] == "cp":
                option = "--to-registry-config"
            argv += [option, str(self.logins)]
        try:
            return shell.output(argv)  # oras itself tries six times if a registry fails
        except shell.CommandFailed as error:
            raise self._translated(error) from None

    def _translated(self, error: shell.CommandFailed) -> GoldenError:
        """The error for a failure of oras, by the text of its output."""
        lines = [line for line in error.output.splitlines() if line.startswith("Error")]
        text = (lines or [error.message])[0].removeprefix("Error: ")
        for pattern, kind, problem, hint in (
            (
                _DIFFERENT,
                StageFailed,
                "a blob is not what its digest says",
                "make the image again: `golden container IMAGE`",
            ),
            (
                _REFUSED,
                HostNotReady,
                "it refuses the login",
                f"`docker login {self.host}`; of ECR: an AWS profile with the rights",
            ),
            (_FAILING, Unreachable, "it throttles or fails", "run again"),
            (_ABSENT, Absent, "there is no such image", "publish it"),
            (_SILENT, Unreachable, "it does not answer", "run again when it does"),
        ):
            # 124 is the exit status of `timeout`.
            if pattern.search(error.output) or (pattern is _SILENT and error.status == 124):
                return kind(f"{self.name}: {problem}: {text}", hint=hint)
        return StageFailed(f"{self.name}: {text}", tail=error.tail, hint="run again")


@contextmanager
def opened(account: Account, names: list[str]) -> Iterator[Mapping[str, Registry]]:
    """Yield the registries by name. Logins for ECR are in a temporary file for the context."""
    with process.scratch() as folder:
        path, registries = Path(folder) / "config.json", dict[str, Registry]()
        hosts = sorted({name.partition("/")[0] for name in names})
        of_ecr = {host: {"auth": _login(account, host)} for host in hosts if registry_region(host)}
        records.write_text(path, json.dumps({"auths": of_ecr}))
        for name in names:
            registry = Registry(name, account)
            if registry.host in of_ecr:
                registry = Registry(name, account, path)
            registries[name] = registry
        yield registries


def _login(account: Account, host: str) -> str:
    """A login for ECR that is valid for twelve hours: `user:password` in base64, as in Docker's
    configuration."""
    region = registry_region(host)
    with translated(region):
        answer = account.client("ecr", region).get_authorization_token()
    if not answer["authorizationData"]:
        raise Unreachable(f"ECR gives no login for {host}", hint="run again")
    return str(answer["authorizationData"][0]["authorizationToken"])
