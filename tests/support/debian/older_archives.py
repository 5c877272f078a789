"""This machine's Debian archives as they were before the newest driver: the same indexes without
it, signed anew.

Only indexes are served here; package files are redirected to the real mirror. So nothing is
imitated but the date.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

from debian.deb822 import Release
from goldenami.model.builds import lockfile
from goldenami.model.supported import compatibility
from goldenami.packages import mirrors
from goldenami.watch.sources.archive_indexes import Archives

from support.debian import debrepo
from support.loopback import Loopback, QuietHandler

DAY_S = 86400


class OlderArchives:
    """Archives without `drop`, a test on the text of an index's stanza; `uris` are by the archives'
    names."""

    def __init__(
        self, archives: Archives, key: debrepo.Key, folder: Path, drop: Callable[[str], bool]
    ) -> None:
        self._real = {name: root.uris[name] for name, root in archives.roots.items()}
        for name, root in archives.roots.items():
            for path in sorted((root.folder / "lists").glob("*InRelease")):
                _suite(path, key, folder / name, drop)
        outer = self

        class Handler(QuietHandler):
            def do_GET(self) -> None:
                outer._answer(self, folder)

            do_HEAD = do_GET

        loopback = Loopback(Handler)
        self.close = loopback.close
        self.uris = {name: f"{loopback.url}/{name}" for name in self._real}

    def _answer(self, handler: QuietHandler, folder: Path) -> None:
        archive, _, rest = handler.path.lstrip("/").partition("/")
        path = folder / archive / rest
        if rest.startswith("pool/"):
            handler.answer(302, Location=f"{self._real[archive]}/{rest}")
        elif path.is_file():
            handler.answer(200, path.read_bytes())
        else:
            handler.answer(404)


@contextlib.contextmanager
def environment(
    archives: Archives, folder: Path, drop: Callable[[str], bool]
) -> Iterator[dict[str, str]]:
    """The environment in which `golden` sees the older archives, and trusts who signed them beside
    the real ones."""
    key = debrepo.Key()
    served = OlderArchives(archives, key, folder / "older", drop)
    try:
        rings = folder / "both.gpg"
        rings.write_bytes(mirrors.keyring("debian-archive-keyring").read_bytes()
                          + key.keyring.read_bytes())
        yield {**{mirrors.variable(name): uri for name, uri in served.uris.items()},
               "GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING": str(rings)}
    finally:
        served.close()
        key.close()


def forget_today(root: Path, image: str) -> None:
    """Remove the lock of a copied checkout: `golden lock` takes no archive that is older than the
    last lock."""
    lockfile.path_of(root, image).unlink()


def _suite(inrelease: Path, key: debrepo.Key, folder: Path, drop: Callable[[str], bool]) -> None:
    """One suite: apt names an index in its lists after the URI,
    `..._dists_SUITE_COMPONENT_binary-amd64_Packages`."""
    release = Release(inrelease.read_text(encoding="utf-8"))
    suite = inrelease.name.rpartition("_dists_")[2].removesuffix("_InRelease")
    indexes = dict[str, str]()
    for path in sorted(
        inrelease.parent.glob(inrelease.name.replace("InRelease", "*_binary-amd64_Packages"))
    ):
        component = path.name.removesuffix("_binary-amd64_Packages").rpartition("_")[2]
        stanzas = path.read_text(encoding="utf-8").split("\n\n")
        indexes[f"{component}/binary-amd64/Packages"] = "\n\n".join(
            stanza for stanza in stanzas if not drop(stanza))
    date = int(parsedate_to_datetime(release["Date"]).timestamp()) - DAY_S
    components = [name.partition("/")[0] for name in indexes]
    debrepo.write_suite(folder / "dists" / suite, key, indexes, [
        f"Origin: {release['Origin']}", f"Label: {release['Label']}", f"Suite: {release['Suite']}",
        f"Codename: {release['Codename']}", *debrepo.dated(date), "Architectures: amd64",
        f"Components: {' '.join(components)}"])


def of_driver(version: str, sources: list[str]) -> Callable[[str], bool]:
    """Whether a stanza is of driver `version` of these source packages (or of one newer)."""
    named = re.compile(r"^(?:Source|Package): (\S+)", re.MULTILINE)
    stated = re.compile(r"^Version: (\S+)", re.MULTILINE)

    def drop(stanza: str) -> bool:
        if not set(named.findall(stanza)) & set(sources):
            return False
        upstream = compatibility.upstream(stated.findall(stanza)[0])
        return compatibility.version_tuple(upstream) >= compatibility.version_tuple(version)

    return drop
