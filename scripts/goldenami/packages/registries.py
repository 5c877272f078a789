"""Third parties' container images, which skopeo gets from registries."""

from __future__ import annotations

import base64
import json
import operator
import os
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from goldenami.core import locks, process, records, shell
from goldenami.core.errors import BadInput, GoldenError, Replaced, Unreachable, Vanished
from goldenami.core.records import Record, Section
from goldenami.packages import mirrors
from goldenami.packages.http_documents import NotThere
from goldenami.packages.mirrors import LoginVariable
from goldenami.packages.store import Store

FOLDER = "containers"
"""Folder of a bake's repository in which the role finds blobs."""
_REGISTRY = r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"({_REGISTRY}/{_PART}(?:/{_PART})*)(?::([\w][\w.-]{{0,127}}))?"
    r"(?:@sha256:([0-9a-f]{64}))?"
)
"""Full name of an image, with its registry, by the grammar of distribution/reference."""
LEAST_DRIVER_LABEL = "goldenami.least-driver"
"""Label by which an image made by goldenami names the least NVIDIA driver for its CUDA."""
LIMIT_S = 60
"""Limit in seconds for a manifest or a configuration."""
POLL_S = 0.5
_SAID = re.compile(r'level=fatal msg=("(?:[^"\\]|\\.)*")')


class WantedContainer(Section):
    """A third party's container image in a definition, which may also be just its name."""

    image: str
    """registry, name, and a tag, which the lock resolves, or a digest, or both:
    `docker.io/library/redis:7@sha256:...`"""
    login: LoginVariable | None = None
    """name of an environment variable that holds `user:password`"""
    called: Annotated[str, Field(pattern=rf"^({_PART})?$")] = ""
    """a short name for engines, such as `golden-ml`"""

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"image": value}
        if isinstance(value, dict):
            name = value.get("image")
            if isinstance(name, str) and not _NAME.fullmatch(name):
                raise ValueError(
                    f"`{name}` is no whole name of an image: write its registry, too, such "
                    "as docker.io/library/redis:7"
                )
        return value

    @property
    def name(self) -> str:
        """Registry, path and tag."""
        # Engines take a name without a tag for `latest`.
        path, tag, _ = self._parts()
        return f"{path}:{tag or 'latest'}"

    @property
    def asked(self) -> str:
        """The reference by which a registry is asked; a digest wins over a tag."""
        path, _, digest = self._parts()
        if not digest:
            return self.name
        return f"{path}@sha256:{digest}"

    def _parts(self) -> tuple[str, str, str]:
        match = _NAME.fullmatch(self.image)
        assert match
        return match[1], match[2] or "", match[3] or ""


class Blob(Record):
    """A blob of a registry. The hex SHA-256 becomes a file's name; `size` is in bytes."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class LockedContainer(Record):
    """A container image for one architecture. `asked` is the reference by which its registry was
    asked, `answer` the SHA-256 of the answer: a list of architectures, or the manifest itself."""

    name: str
    asked: str
    answer: str
    manifest: Blob
    config: Blob
    layers: list[Blob]
    login: str | None = None
    called: str = Field(default="", exclude_if=operator.not_)
    """A short name for engines; if it is "", they use `name`."""
    least_driver: str = Field(default="", exclude_if=operator.not_)

    @property
    def blobs(self) -> dict[str, int]:
        return {blob.sha256: blob.size for blob in (self.manifest, self.config, *self.layers)}

    @property
    def pinned(self) -> str:
        return f"{_path(self.asked)}@sha256:{self.manifest.sha256}"


def answer(reference: str, login: str | None) -> str:
    """Return the registry's answer about a name, byte for byte. Raises Replaced if it is not of the
    digest that was asked for."""
    text = _skopeo(reference, login, "inspect", "--raw")
    digest = records.sha256_text(text)
    if reference.partition("@sha256:")[2] not in ("", digest):
        raise Replaced(f"{reference}: its registry has another manifest, of SHA-256 {digest[:12]}")
    return text


def resolve(wanted: WantedContainer, architecture: str, store: Store) -> LockedContainer:
    """Return the image for `architecture`, with manifest and configuration in the store. Raises
    NotThere if the registry has no such name, and BadInput if the answer is no container image or
    not for the architecture."""
    first_answer = text = answer(wanted.asked, wanted.login)
    try:
        if manifests := json.loads(text).get("manifests"):
            digest = _listed(wanted, manifests, f"linux/{architecture}")
            text = answer(f"{_path(wanted.asked)}@{digest}", wanted.login)
        manifest = json.loads(text)
        draft = LockedContainer(
            name=wanted.name,
            asked=wanted.asked,
            answer=records.sha256_text(first_answer),
            login=wanted.login,
            called=wanted.called,
            config=_blob(manifest["config"]),
            manifest=Blob(sha256=records.sha256_text(text), size=len(text.encode())),
            layers=[_blob(layer) for layer in manifest["layers"]],
        )
        _keep(text, store)
        config = json.loads(_config(draft, store))
        labels = config.get("config", {}).get("Labels") or {}
        platform = f"{config['os']}/{config['architecture']}"
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadInput(
            f"{wanted.name}: what its registry has is no image of a container",
            hint="engines of today take those of OCI, and of Docker's schema 2",
        ) from None
    if platform != f"linux/{architecture}":
        raise BadInput(f"{wanted.name} is for {platform}, the image for linux/{architecture}")
    return draft.model_copy(update={"least_driver": labels.get(LEAST_DRIVER_LABEL, "")})


def _listed(wanted: WantedContainer, manifests: list[dict[str, Any]], platform: str) -> str:
    """Return the digest of the manifest for the platform `mine`, or raise BadInput."""
    # Reversed, so that the first row of a platform wins.
    platforms = {
        f"{row['platform']['os']}/{row['platform']['architecture']}": str(row["digest"])
        for row in reversed(manifests)
        if "platform" in row
    }
    if platform not in platforms:
        raise BadInput(
            f"{wanted.name} is not for {platform}, but for {', '.join(sorted(platforms))}"
        )
    return platforms[platform]


def fetch(
    containers: Iterable[LockedContainer], store: Store, on_bytes: Callable[[int], None]
) -> None:
    """Fetch the blobs of all containers that the store lacks. `on_bytes` is called with the number
    of bytes that arrived."""
    for container in containers:
        _fetch(container, store, on_bytes)


def _fetch(container: LockedContainer, store: Store, on_bytes: Callable[[int], None]) -> None:
    if not store.has(container.manifest.sha256, container.manifest.size):
        _keep(answer(container.pinned, container.login), store)
    if not store.has(container.config.sha256, container.config.size):
        _config(container, store)
    layers = {layer.sha256: layer for layer in container.layers}
    missing = [sha256 for sha256, layer in layers.items() if not store.has(sha256, layer.size)]
    if not missing:
        return
    folder = store.cache.work / FOLDER / container.manifest.sha256
    with locks.hold(folder.with_suffix(".lock")):
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        # skopeo doesn't fetch layers that are in the folder already.
        for sha256 in layers.keys() - missing:
            (blobs / sha256).unlink(missing_ok=True)
            os.link(store.path(sha256), blobs / sha256)
        _copy(container, folder, on_bytes)
        for sha256 in missing:
            if store.add(blobs / sha256) != sha256:  # a crash may have left half of it
                (blobs / sha256).unlink()
                raise Unreachable(
                    f"{container.name}: layer {sha256[:12]} came damaged", hint="run again"
                )
        shutil.rmtree(folder)


def _copy(container: LockedContainer, folder: Path, on_bytes: Callable[[int], None]) -> None:
    # skopeo keeps files that are in the folder, also those of a killed run. It writes a manifest of
    # its own, so the image's manifest is not taken from there.
    seen = _bytes(folder)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(
            _skopeo,
            container.pinned,
            container.login,
            "copy",
            "--quiet",
            "--retry-times=2",
            "--dest-oci-accept-uncompressed-layers",
            f"--dest-shared-blob-dir={folder / 'blobs'}",
            target=f"oci:{folder / 'image'}",
        )
        while not copying.done():
            futures.wait([copying], POLL_S)
            # skopeo removes temporary files, but the count must not go backwards.
            arrived = max(seen, _bytes(folder))
            on_bytes(arrived - seen)
            seen = arrived
        copying.result()


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _config(container: LockedContainer, store: Store) -> str:
    blob = container.config
    if store.has(blob.sha256, blob.size):
        return store.path(blob.sha256).read_text(encoding="utf-8")
    text = _skopeo(container.pinned, container.login, "inspect", "--config", "--raw")
    if _keep(text, store) != blob.sha256:
        raise Replaced(
            f"{container.name}: its registry has another configuration than its "
            f"manifest names, {blob.sha256[:12]}"
        )
    return text


def _keep(text: str, store: Store) -> str:
    with process.scratch() as folder:
        path = Path(folder, "text")
        path.write_bytes(text.encode())
        return store.add(path)


def _blob(row: dict[str, Any]) -> Blob:
    return Blob(sha256=str(row["digest"]).removeprefix("sha256:"), size=int(row["size"]))


def _path(reference: str) -> str:
    match = _NAME.fullmatch(reference)
    assert match
    return match[1]


def _skopeo(
    reference: str, login: str | None, command: str, *options: str, target: str = ""
) -> str:
    """Run skopeo on an image and return its output. Raises a GoldenError with the registry's
    reason."""
    shell.require("skopeo", "skopeo")
    registry, _, path = reference.partition("/")
    mirror = os.environ.get(mirrors.variable(registry)) or f"https://{registry}"
    server, proxy = urlsplit(mirror), mirrors.proxy(mirror)
    user, password = mirrors.login(reference, login)
    logins = dict[str, dict[str, str]]()
    if user:
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        logins[server.netloc] = {"auth": auth}
    limits, tls_option, targets = [f"--command-timeout={LIMIT_S}s"], "--tls-verify", list[str]()
    if target:
        limits, tls_option, targets = [], "--src-tls-verify", [target]
    env = {"NO_PROXY": "*"}
    if proxy:
        env = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    # The login is in a file: every user of this machine can read arguments.
    with process.scratch() as folder:
        access = Path(folder, "logins.json")
        access.write_text(json.dumps({"auths": logins}), encoding="utf-8")
        argv = [
            "skopeo",
            "--insecure-policy",
            *limits,
            command,
            *options,
            f"{tls_option}={json.dumps(server.scheme != 'http')}",
            f"--authfile={access}",
            f"docker://{server.netloc}{server.path.rstrip('/')}/{path}",
            *targets,
        ]
        try:
            return shell.output(argv, env=env)
        except shell.CommandFailed as error:
            raise _meant(reference, login, error) from None


def _meant(reference: str, login: str | None, error: shell.CommandFailed) -> GoldenError:
    fatal_messages = _SAID.findall(error.output)
    text = json.loads(fatal_messages[-1]) if fatal_messages else error.tail
    cause = re.sub(r'^.*?"docker://[^"]*": ', "", text)
    if "certificate" in cause:
        return Unreachable(f"{reference}: {cause}", hint="look at the registry's certificate")
    if re.search("(?i)unauthorized|forbidden|denied|authentication required", cause):
        return mirrors.refused(f"{reference}: {cause}", has_login=login is not None)
    if re.search("unknown|not found|404", cause):
        missing = Vanished if "@" in reference else NotThere
        return missing(f"{reference}: {cause}", hint="write what its registry has")
    if "igest" in cause:  # `Digest` or `digest`: skopeo's messages differ
        return Replaced(f"{reference}: {cause}", hint="do not trust what is there")
    return Unreachable(
        f"{reference}: {cause}", hint="check the registry and the network, then run again"
    )
