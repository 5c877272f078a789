"""A registry of containers on loopback, which wants a token as public ones do where it is told to,
and images made from nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import subprocess
from pathlib import Path

import urllib3

from support.builds.tools import need
from support.loopback import Loopback, QuietHandler
from support.waiting import until

LOGIN, VARIABLE = "ann:s3cr3t/word", "HUB_LOGIN"
CONFIGURATION = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
AUTH = 'auth: {{silly: {{realm: "{realm}", service: hub}}}}\n'
"""Any token will do: who gives them is asked for the login."""


class Realm(QuietHandler):
    def do_GET(self) -> None:
        wanted = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        if self.headers.get("Authorization") == wanted:
            self.answer(200, json.dumps({"token": "any"}).encode())
        else:
            self.answer(401)


class Registry:
    """Debian's docker-registry; `mirror` is what an environment variable says of it."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        need("docker-registry", "skopeo", "umoci", "oras")
        self.folder = folder
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._realm = Loopback(Realm)
        text = CONFIGURATION.format(folder=folder / "kept", port=self.port)
        (folder / "open.yml").write_text(text)
        (folder / "closed.yml").write_text(text + AUTH.format(realm=self._realm.url))
        self.mirror = f"http://127.0.0.1:{self.port}"
        self.name = f"localhost:{self.port}/team/ml"
        self.start(login=login)

    def start(self, *, login: bool = False) -> None:
        configuration = self.folder / ("closed.yml" if login else "open.yml")
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", configuration], stdout=log, stderr=log
            )
        until("the registry", self._answers)

    def _answers(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._realm.close()

    def push(
        self,
        name: str,
        *layers: dict[str, str],
        architecture: str = "amd64",
        form: str = "oci",
        without: tuple[str, ...] = (),
        label: str = "made=here",
    ) -> str:
        """Have an image of `layers`, each files by path, the last one without the paths `without`;
        returns the digest of its manifest."""
        image = f"{self.folder / 'made'}:new"
        shutil.rmtree(self.folder / "made", ignore_errors=True)
        _run("umoci", "init", "--layout", self.folder / "made")
        _run("umoci", "new", "--image", image)
        for number, layer in enumerate(layers):
            tree = self.folder / f"layers/{number}"
            shutil.rmtree(tree, ignore_errors=True)
            for path, text in layer.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_text(text, encoding="utf-8")
            _run("umoci", "insert", "--image", image, tree, "/")
        for path in without:
            _run("umoci", "insert", "--image", image, "--whiteout", path)
        _run(
            "umoci",
            "config",
            "--image",
            image,
            "--architecture",
            architecture,
            "--os",
            "linux",
            "--config.label",
            label,
        )
        _run(
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            f"--format={form}",
            f"--digestfile={self.folder / 'digest'}",
            f"oci:{image}",
            f"docker://127.0.0.1:{self.port}/{name}",
        )
        return (self.folder / "digest").read_text(encoding="utf-8").removeprefix("sha256:")

    def list(self, name: str, **digests: str) -> str:
        path, _, tag = name.partition(":")
        kind = "application/vnd.oci.image.{}.v1+json"
        rows = [
            {
                "mediaType": kind.format("manifest"),
                "digest": f"sha256:{digest}",
                "size": self.blob(digest).stat().st_size,
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in digests.items()
        ]
        body = json.dumps(
            {"schemaVersion": 2, "mediaType": kind.format("index"), "manifests": rows}
        ).encode()
        done = urllib3.request(
            "PUT",
            f"{self.mirror}/v2/{path}/manifests/{tag}",
            body=body,
            headers={"Content-Type": kind.format("index")},
        )
        assert done.status == 201, done.data
        return hashlib.sha256(body).hexdigest()

    def digest(self, tag: str) -> str:
        """What a tag of `name` names, by the registry's own files."""
        path = self.folder / f"kept/docker/registry/v2/repositories/team/ml/_manifests/tags/{tag}"
        link = path / "current/link"
        return link.read_text(encoding="utf-8") if link.exists() else ""

    def blob(self, sha256: str) -> Path:
        return self.folder / "kept/docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"


def _run(*argv: object) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
