"""Third parties' images of containers, as skopeo gets them from registries."""

from __future__ import annotations

import base64
import json
import operator
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from goldenami.core import locks, records, shell
from goldenami.core.errors import BadInput, GoldenError, Replaced, Unreachable, Vanished
from goldenami.core.records import Record, Section
from goldenami.packages import mirrors
from goldenami.packages.http_documents import NotThere, Refused
from goldenami.packages.mirrors import LoginVariable, NoLogin
from goldenami.packages.store import Store

FOLDER = "containers"
"""Of a bake's repository: where the role finds blobs."""
_REGISTRY = r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"({_REGISTRY}/{_PART}(?:/{_PART})*)(?::([\w][\w.-]{{0,127}}))?"
    r"(?:@sha256:([0-9a-f]{64}))?"
)
"""The grammar of distribution/reference, with the registry."""
LEAST_DRIVER_LABEL = "goldenami.least-driver"
"""What an image made by goldenami says of the NVIDIA driver that its CUDA asks for."""
LIMIT_S = 60
"""Seconds for a manifest, or a configuration."""
POLL_S = 0.5
_SAID = re.compile(r'level=fatal msg=("(?:[^"\\]|\\.)*")')


class WantedContainer(Section):
    """A third party's image of a container. A name alone stands for it, too."""

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
        given = {"image": value} if isinstance(value, str) else value
        name = given.get("image") if isinstance(given, dict) else None
        if isinstance(name, str) and not _NAME.fullmatch(name):
            raise ValueError(
                f"`{name}` is no whole name of an image: write its registry, too, such "
                "as docker.io/library/redis:7"
            )
        return given

    @property
    def name(self) -> str:
        """Without a tag, engines say `latest`."""
        path, tag, _ = self._parts()
        return f"{path}:{tag or 'latest'}"

    @property
    def asked(self) -> str:
        path, _, digest = self._parts()
        return f"{path}@sha256:{digest}" if digest else self.name

    def _parts(self) -> tuple[str, str, str]:
        match = _NAME.fullmatch(self.image)
        assert match
        return match[1], match[2] or "", match[3] or ""


class Blob(Record):
    """Bytes of a registry by hex SHA-256, which become a file's name."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class LockedContainer(Record):
    """An image of a container for one architecture. `asked` is what its registry was asked for,
    `answer` the SHA-256 of what it said: a list of architectures, or the manifest itself."""

    name: str
    asked: str
    answer: str
    manifest: Blob
    config: Blob
    layers: list[Blob]
    login: str | None = None
    called: str = Field(default="", exclude_if=operator.not_)
    """What engines call it; its name where there is nothing else."""
    least_driver: str = Field(default="", exclude_if=operator.not_)

    @property
    def blobs(self) -> dict[str, int]:
        return {one.sha256: one.size for one in (self.manifest, self.config, *self.layers)}

    @property
    def pinned(self) -> str:
        return f"{_path(self.asked)}@sha256:{self.manifest.sha256}"


def answer(asked: str, login: str | None) -> str:
    """What the registry says of a name, as it says it."""
    text = _skopeo(asked, login, "inspect", "--raw")
    digest = records.sha256_text(text)
    if asked.partition("@sha256:")[2] not in ("", digest):
        raise Replaced(f"{asked}: its registry has another manifest, of SHA-256 {digest[:12]}")
    return text


def resolve(wanted: WantedContainer, architecture: str, store: Store) -> LockedContainer:
    """With manifest and configuration in the store. NotThere where the registry has no such name,
    BadInput where that is nothing for the image."""
    said = text = answer(wanted.asked, wanted.login)
    try:
        if listed := json.loads(text).get("manifests"):
            digest = _listed(wanted, listed, f"linux/{architecture}")
            text = answer(f"{_path(wanted.asked)}@{digest}", wanted.login)
        manifest = json.loads(text)
        draft = LockedContainer(
            name=wanted.name,
            asked=wanted.asked,
            answer=records.sha256_text(said),
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


def _listed(wanted: WantedContainer, listed: list[dict[str, Any]], mine: str) -> str:
    """The first of the platform counts."""
    platforms = {
        f"{row['platform']['os']}/{row['platform']['architecture']}": str(row["digest"])
        for row in reversed(listed)
        if "platform" in row
    }
    if mine not in platforms:
        raise BadInput(f"{wanted.name} is not for {mine}, but for {', '.join(sorted(platforms))}")
    return platforms[mine]


def fetch(
    containers: Iterable[LockedContainer], store: Store, on_bytes: Callable[[int], None]
) -> None:
    """Have all blobs in the store; those that are there are not asked for."""
    for container in containers:
        _fetch(container, store, on_bytes)


def _fetch(container: LockedContainer, store: Store, on_bytes: Callable[[int], None]) -> None:
    if not store.has(container.manifest.sha256, container.manifest.size):
        _keep(answer(container.pinned, container.login), store)
    if not store.has(container.config.sha256, container.config.size):
        _config(container, store)
    layers = {layer.sha256: layer for layer in container.layers}
    lacking = [sha256 for sha256, layer in layers.items() if not store.has(sha256, layer.size)]
    if not lacking:
        return
    folder = store.cache.work / FOLDER / container.manifest.sha256
    with locks.hold(folder.with_suffix(".lock")):
        blobs = folder / "blobs/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for sha256 in layers.keys() - lacking:
            (blobs / sha256).unlink(missing_ok=True)
            os.link(store.path(sha256), blobs / sha256)
        _copy(container, folder, on_bytes)
        for sha256 in lacking:
            if store.add(blobs / sha256) != sha256:  # a crash may have left half of it
                (blobs / sha256).unlink()
                raise Unreachable(
                    f"{container.name}: layer {sha256[:12]} came damaged", hint="run again"
                )
        shutil.rmtree(folder)


def _copy(container: LockedContainer, folder: Path, on_bytes: Callable[[int], None]) -> None:
    """skopeo leaves alone what is in the folder, also from a run that was killed. It would write
    another manifest, so that is not taken from it."""
    seen = _bytes(folder)
    with ThreadPoolExecutor(1) as pool:
        copied = pool.submit(
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
        while not copied.done():
            futures.wait([copied], POLL_S)
            now = max(seen, _bytes(folder))
            on_bytes(now - seen)
            seen = now
        copied.result()


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _config(container: LockedContainer, store: Store) -> str:
    wanted = container.config
    if store.has(wanted.sha256, wanted.size):
        return store.path(wanted.sha256).read_text(encoding="utf-8")
    text = _skopeo(container.pinned, container.login, "inspect", "--config", "--raw")
    if _keep(text, store) != wanted.sha256:
        raise Replaced(
            f"{container.name}: its registry has another configuration than its "
            f"manifest names, {wanted.sha256[:12]}"
        )
    return text


def _keep(text: str, store: Store) -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return store.add(Path(file.name))


def _blob(row: dict[str, Any]) -> Blob:
    return Blob(sha256=str(row["digest"]).removeprefix("sha256:"), size=int(row["size"]))


def _path(asked: str) -> str:
    match = _NAME.fullmatch(asked)
    assert match
    return match[1]


def _skopeo(asked: str, login: str | None, command: str, *options: str, target: str = "") -> str:
    """The login is in no argument, which all could read."""
    shell.require("skopeo", "skopeo")
    registry, _, path = asked.partition("/")
    mirror = os.environ.get(mirrors.variable(registry)) or f"https://{registry}"
    at, proxy = urlsplit(mirror), mirrors.proxy(mirror)
    user, password = mirrors.login(asked, login)
    known = {at.netloc: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}
    prefix = "src-" if target else ""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as access:
        json.dump({"auths": known if user else {}}, access)
        access.flush()
        argv = [
            "skopeo",
            "--insecure-policy",
            *([] if target else [f"--command-timeout={LIMIT_S}s"]),
            command,
            *options,
            f"--{prefix}tls-verify={json.dumps(at.scheme != 'http')}",
            f"--authfile={access.name}",
            f"docker://{at.netloc}{at.path.rstrip('/')}/{path}",
            *filter(None, [target]),
        ]
        env = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy} if proxy else {"NO_PROXY": "*"}
        try:
            return shell.output(argv, env=env)
        except shell.CommandFailed as error:
            raise _meant(asked, login, error) from None


def _meant(asked: str, login: str | None, error: shell.CommandFailed) -> GoldenError:
    said = _SAID.findall(error.output)
    text = json.loads(said[-1]) if said else error.tail
    cause = re.sub(r'^.*?"docker://[^"]*": ', "", text)
    if re.search("unauthorized|denied|authentication required", cause):
        if login:
            return Refused(f"{asked}: {cause}", hint=f"{login} holds another login")
        return NoLogin(
            f"{asked}: its registry wants a login: {cause}",
            hint="name an environment variable in `login`; no file needs it",
        )
    if re.search("unknown|not found|404", cause):
        gone = Vanished if "@" in asked else NotThere
        return gone(f"{asked}: {cause}", hint="write what its registry has")
    if "igest" in cause:  # skopeo's words differ
        return Replaced(f"{asked}: {cause}", hint="do not trust what is there")
    return Unreachable(
        f"{asked}: {cause}", hint="check the registry and the network, then run again"
    )
