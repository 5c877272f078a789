"""A registry of containers on loopback, and builds that have a small container image."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from goldenami.core import records, shell
from goldenami.local.oci_layout import OciLayout
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.container_records import (
    DRIVER_LABEL,
    LEAST_DRIVER_LABEL,
    LOCK_LABEL,
    ContainerLayer,
    ContainerRecord,
)

from support.builds.tools import need
from support.waiting import until

CREATED = "2026-01-01T00:00:00Z"


class ContainerRegistry:
    """Debian's docker-registry with its blobs in `folder`. With `login` it lets nobody in."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        need("docker-registry", "oras", "umoci")
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:  # free, as of now
            self.port = int(probe.getsockname()[1])
        self.name = f"localhost:{self.port}/team/ml"
        (folder / "users").parent.mkdir(parents=True, exist_ok=True)
        (folder / "users").write_text("", encoding="utf-8")
        auth = f"auth: {{htpasswd: {{realm: here, path: {folder}/users}}}}\n" if login else ""
        (folder / "config.yml").write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'}}\n{auth}", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Answer."""
        self._process = shell.start(["docker-registry", "serve", str(self.folder / "config.yml")],
                                    log=self.folder / "log")
        until("the registry", self._answers)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self) -> None:
        """Be out."""
        if self._process is not None:
            shell.stop(self._process, grace_s=0)

    def digest(self, tag: str) -> str:
        """What a tag names, by the registry's own files."""
        path = self.folder / f"docker/registry/v2/repositories/team/ml/_manifests/tags/{tag}"
        link = path / "current/link"
        return link.read_text(encoding="utf-8") if link.exists() else ""

    def blob(self, sha256: str) -> Path:
        """The file of a blob."""
        return self.folder / f"docker/registry/v2/blobs/sha256/{sha256[:2]}/{sha256}/data"


@contextmanager
def serving(folder: Path, *, login: bool = False) -> Iterator[ContainerRegistry]:
    """A registry that ends with the block."""
    registry = ContainerRegistry(folder, login=login)
    try:
        yield registry
    finally:
        registry.stop()


def containerize(folder: Path, *, least: str = "", layers: int = 2, size: int = 1000) -> str:
    """Give the build in `folder` a container image of `layers` layers of `size` random bytes, the
    first of them the same in all builds; returns its digest."""
    build = BuildFolder(folder)
    lock_sha256, tar = records.sha256_file(build.lock), folder / "layer.tar"
    layout, found = OciLayout(build.layout, build.build_id), []
    layout.begin()
    for number in range(layers):
        seed = f"{number}{build.build_id if number else ''}"
        with tarfile.open(tar, "w") as sink:
            info = tarfile.TarInfo(f"file-{number}")
            info.size = size
            sink.addfile(info, BytesIO(random.Random(seed).randbytes(size)))
        digest, count = layout.add(tar, f"layer-{number}", CREATED)
        found.append(ContainerLayer(name=f"layer-{number}", digest=digest, bytes=count,
                                    unpacked=size))
    tar.unlink()
    labels = {LOCK_LABEL: lock_sha256, DRIVER_LABEL: "550.163.01"}
    labels |= {LEAST_DRIVER_LABEL: least} if least else {}
    layout.configure(architecture="amd64", environment={}, entrypoint=[], labels=labels,
                     created=CREATED)
    records.write(build.container, ContainerRecord(
        image=build.image.image, build_id=build.build_id, lock_sha256=lock_sha256,
        digest=layout.digest, bytes=sum(layer.bytes for layer in found), layers=found,
        least_driver=least, started_at=CREATED, seconds=1.0, made=[]))
    assert hashlib.sha256((build.layout / f"blobs/sha256/{layout.digest}").read_bytes()
                          ).hexdigest() == layout.digest
    return f"sha256:{layout.digest}"
