"""A container image in a folder, in OCI's image layout: umoci writes it, oras adds files that refer
to it.

Neither takes a time from the clock here, and umoci's gzip gives the same bytes on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goldenami.core import shell

CREATED = "org.opencontainers.image.created"
"""Annotation that oras would otherwise set by the clock."""
WORK = "/scratch"
"""Folder in which programs start, on the machine's local disks if it has any. Everybody may write
there."""


class OciLayout:
    """The image `tag` in the layout in `folder`."""

    def __init__(self, folder: Path, tag: str) -> None:
        self.folder, self.tag = folder, tag

    def begin(self) -> None:
        self._umoci("init", "--layout", str(self.folder))
        self._umoci("new", "--image", self._name)

    def add(self, tar: Path, name: str, created: str) -> tuple[str, int]:
        """Add the files of an uncompressed tar as the top layer. Return the blob's SHA-256 and
        bytes."""
        self._umoci(
            "raw",
            "add-layer",
            "--image",
            self._name,
            "--history.created",
            created,
            "--history.created_by",
            name,
            str(tar),
        )
        last = self._blob(self.digest)["layers"][-1]
        return last["digest"].removeprefix("sha256:"), last["size"]

    def configure(
        self,
        *,
        architecture: str,
        environment: Mapping[str, str],
        entrypoint: Sequence[str],
        labels: Mapping[str, str],
        created: str,
    ) -> None:
        """Set how the image is run and what it is. `architecture` is Debian's name, which OCI
        shares for amd64 and arm64."""
        words = [
            "--created",
            created,
            "--os",
            "linux",
            "--architecture",
            architecture,
            "--no-history",
            "--config.cmd",
            "bash",
            "--config.workingdir",
            WORK,
        ]
        pairs = [
            ("--config.env", environment),
            ("--config.label", labels),
            ("--manifest.annotation", labels),
        ]
        for option, values in pairs:
            # Sorted, so that equal images have equal bytes.
            for name, value in sorted(values.items()):
                words += [option, f"{name}={value}"]
        for word in entrypoint:
            words += ["--config.entrypoint", word]
        self._umoci("config", "--image", self._name, *words)
        self._umoci("gc", "--layout", str(self.folder))  # blobs that the calls above replaced

    def attach(self, path: Path, kind: str, created: str) -> None:
        """Add a file that refers to the image; `kind` is its media type."""
        shell.output(
            [
                shell.require("oras", "oras"),
                "attach",
                "--no-tty",
                "--oci-layout",
                "--artifact-type",
                kind,
                "--annotation",
                f"{CREATED}={created}",
                f"{self.folder}@sha256:{self.digest}",
                f"{path.name}:{kind}",
            ],
            cwd=path.parent,
        )

    @property
    def digest(self) -> str:
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        (image_digest,) = [
            row["digest"]
            for row in index["manifests"]
            if row.get("annotations", {}).get("org.opencontainers.image.ref.name") == self.tag
        ]
        return str(image_digest).removeprefix("sha256:")

    def blobs(self) -> list[tuple[str, int]]:
        """Return the digest (`sha256:...`) and bytes of the configuration and of each layer."""
        manifest = self._blob(self.digest)
        return [(row["digest"], row["size"]) for row in [manifest["config"], *manifest["layers"]]]

    def path_of(self, digest: str) -> Path:
        return self.folder / "blobs/sha256" / digest.removeprefix("sha256:")

    def _blob(self, digest: str) -> dict[str, Any]:
        return dict(json.loads(self.path_of(digest).read_text(encoding="utf-8")))

    @property
    def _name(self) -> str:
        return f"{self.folder}:{self.tag}"

    def _umoci(self, *words: str) -> None:
        shell.output([shell.require("umoci", "umoci"), *words])
