"""A Debian archive made of tiny real packages, signed by a key of its own and served on loopback
with faults.

`Key` signs, `Archive` is a folder with `pool/` and `dists/`, `Mirror` serves a folder over HTTP and
can be told to hang, refuse, lose, truncate or corrupt what it serves. `debian` makes the two
archives from which the CPU image resolves. Nothing here imitates apt: apt-get, dpkg-deb and gpg are
the real ones.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from fnmatch import fnmatch
from pathlib import Path

from goldenami.core.records import sha256_file

from support.files import write
from support.loopback import Loopback, QuietHandler

COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
DATE = 1_750_000_000
"""Seconds since 1970 of the Release files: long ago and always the same, so that two locks can be
equal."""


@dataclass(frozen=True)
class Package:
    """What a tiny package says of itself; its content is one file named after it, and `files`."""

    name: str
    version: str = "1.0-1"
    depends: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    component: str = "main"
    suite: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name in the pool, without the epoch, as Debian's archive has it."""
        return f"{self.name}_{self.version.rpartition(':')[2]}_amd64.deb"

    def control(self) -> str:
        given = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "amd64",
            "Maintainer": "Test <t@localhost>",
            "Installed-Size": "16",
            "Priority": "optional",
            "Depends": self.depends,
            "Description": f"tiny {self.name}",
            **self.fields,
        }
        return "".join(f"{name}: {value}\n" for name, value in given.items() if value)


class Key:
    """A signing key in a GNUPGHOME of its own. The folder's path is short: gpg-agent's socket
    stands in it."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="golden-gpg-"))
        self._gpg(
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--quick-generate-key",
            "Test archive",
            "ed25519",
            "sign",
            "0",
        )
        self.keyring = self.home / "test-archive.gpg"
        self._gpg("--output", str(self.keyring), "--export")
        self.public = self._gpg("--armor", "--export")
        rows = self._gpg("--with-colons", "--fingerprint").splitlines()
        self.fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))

    def _gpg(self, *args: str, stdin: str | None = None) -> str:
        return subprocess.run(
            ["gpg", "--batch", "--quiet", *args],
            check=True,
            capture_output=True,
            text=True,
            input=stdin,
            env={**os.environ, "GNUPGHOME": str(self.home)},
        ).stdout

    def clearsign(self, text: str) -> str:
        return self._gpg("--clearsign", stdin=text)

    def detached(self, text: str) -> str:
        return self._gpg("--armor", "--detach-sign", stdin=text)

    def sign(self, path: Path) -> None:
        """Write the detached signature of a file beside it, as NAME.asc."""
        self._gpg("--armor", "--output", f"{path}.asc", "--detach-sign", str(path))

    def close(self) -> None:
        subprocess.run(
            ["gpgconf", "--kill", "all"],
            check=True,
            env={**os.environ, "GNUPGHOME": str(self.home)},
        )
        shutil.rmtree(self.home, ignore_errors=True)


class Archive:
    """An archive below `folder`. Packages of no suite go into the first one; labels are those of
    Debian's archives."""

    def __init__(self, folder: Path, key: Key, *, label: str, suites: Sequence[str]) -> None:
        self.folder, self.key, self.label, self.suites = folder, key, label, tuple(suites)
        self.entries: dict[tuple[str, str], list[str]] = {}

    def add(self, packages: Iterable[Package]) -> Archive:
        """Build `packages` into the pool; `publish` makes them visible."""
        wanted = list(packages)
        with ThreadPoolExecutor(4) as pool:
            for package, entry in zip(wanted, pool.map(self._build, wanted), strict=True):
                self.entries.setdefault(
                    (package.suite or self.suites[0], package.component), []
                ).append(entry)
        return self

    def _build(self, package: Package) -> str:
        path = f"pool/{package.component}/{package.name[0]}/{package.name}/{package.file}"
        return stanza(build(package, self.folder / path), path, package.control())

    def publish(self, *, date: int = DATE, valid_for_s: int | None = None) -> Archive:
        for suite in self.suites:
            indexes = {
                f"{component}/binary-amd64/Packages": "\n".join(
                    self.entries.get((suite, component), [])
                )
                for component in COMPONENTS
            }
            write_suite(
                self.folder / "dists" / suite,
                self.key,
                indexes,
                [
                    "Origin: Debian",
                    f"Label: {self.label}",
                    f"Suite: {suite}",
                    f"Codename: {suite}",
                    *dated(date, valid_for_s),
                    "Architectures: amd64",
                    f"Components: {' '.join(COMPONENTS)}",
                ],
            )
        return self


def build(package: Package, target: Path) -> Path:
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        write(
            tree,
            {
                f"usr/share/tiny/{package.name}": f"{package.name} {package.version}\n" * 64,
                "DEBIAN/control": package.control(),
                **package.files,
            },
        )
        (tree / "DEBIAN").chmod(0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        return pack(tree, target, "-Znone")


def pack(tree: Path, target: Path, *options: str, epoch: int = DATE) -> Path:
    """The package of a tree. One thread: more would split the data, and the bytes with it, by the
    number of cores."""
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", *options, "--build", str(tree), str(target)],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "DPKG_DEB_THREADS_MAX": "1"},
    )
    return target


def stanza(deb: Path, path: str, control: str = "") -> str:
    """What an index says of a package that is at `path` of its archive; its control file is read
    where it is not given."""
    fields = (
        control
        or subprocess.run(
            ["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True
        ).stdout
    )
    return f"{fields}Filename: {path}\nSize: {deb.stat().st_size}\nSHA256: {sha256_file(deb)}\n"


def dated(date: int, valid_for_s: int | None = None) -> list[str]:
    until = (
        []
        if valid_for_s is None
        else [f"Valid-Until: {formatdate(date + valid_for_s, usegmt=True)}"]
    )
    return [f"Date: {formatdate(date, usegmt=True)}", *until]


def write_suite(folder: Path, key: Key, indexes: Mapping[str, str], fields: Sequence[str]) -> None:
    """Indexes, plain and packed, and a signed Release file of them that begins with `fields`
    (https://wiki.debian.org/DebianRepository/Format)."""
    sums = []
    for index, text in indexes.items():
        (folder / index).parent.mkdir(parents=True, exist_ok=True)
        plain = text.encode()
        for name, data in ((index, plain), (f"{index}.gz", gzip.compress(plain, 1, mtime=0))):
            (folder / name).write_bytes(data)
            sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    sign(folder, key, "\n".join([*fields, "SHA256:", *sums, ""]))


def sign(folder: Path, key: Key, release: str) -> None:
    (folder / "Release").write_text(release, encoding="utf-8")
    (folder / "Release.gpg").write_text(key.detached(release), encoding="utf-8")
    (folder / "InRelease").write_text(key.clearsign(release), encoding="utf-8")


def sign_again(folder: Path, key: Key, date: int) -> None:
    """Sign every suite below `folder` with a later date, as archives do when no package changed."""
    for path in folder.rglob("Release"):
        text = re.sub(
            r"^Date: .*$",
            f"Date: {formatdate(date, usegmt=True)}",
            path.read_text(encoding="utf-8"),
            flags=re.M,
        )
        sign(path.parent, key, text)


class Fault(Enum):
    HANG = auto()
    LOST = auto()
    BROKEN_ONCE = auto()
    BROKEN = auto()
    TRUNCATED = auto()
    CORRUPTED = auto()
    STALLED = auto()
    CIRCLE = auto()


class Mirror:
    """Serves `folder` on a free loopback port, also as a proxy that everything is behind.

    `faults` and `instead` are by path pattern (`*/InRelease`); without `ranges` it always sends the
    whole file. What lies below a path of `logins` wants that `user:password`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, Fault] = {}
        self.instead: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.logins: dict[str, str] = {}
        self.ranges = True
        self._released = threading.Event()
        self._served = Loopback(type("Handler", (_Handler,), {"mirror": self}))
        self.uri = self._served.url

    def fault(self, path: str) -> Fault | None:
        """The fault of `path`; BROKEN_ONCE answers properly from the second request on."""
        pattern = next((pattern for pattern in self.faults if fnmatch(path, pattern)), None)
        if pattern is None:
            return None
        found = self.faults[pattern]
        if found is Fault.BROKEN_ONCE and self.requests.count(path) > 1:
            return None
        return found

    def lets_in(self, path: str, header: str) -> bool:
        """Whether a request's Authorization opens `path`."""
        wanted = next((login for place, login in self.logins.items() if path.startswith(place)), "")
        return not wanted or header == f"Basic {base64.b64encode(wanted.encode()).decode()}"

    def content(self, path: str) -> bytes | None:
        for pattern, data in self.instead.items():
            if fnmatch(path, pattern):
                return data
        file = self.folder / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None

    def wait(self) -> None:
        self._released.wait(120)

    def close(self) -> None:
        """Stop serving: from now on the port refuses. A second time changes nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._served.close()


class _Handler(QuietHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        self.path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is given whole addresses
        self.mirror.requests.append(self.path)
        self.mirror.headers.append(dict(self.headers))
        fault, data = self.mirror.fault(self.path), self.mirror.content(self.path)
        if not self.mirror.lets_in(self.path, self.headers.get("Authorization", "")):
            self.send_error(401)
        elif fault is Fault.HANG:
            self.mirror.wait()
        elif fault in (Fault.BROKEN, Fault.BROKEN_ONCE):
            self.send_error(503)
        elif fault is Fault.CIRCLE:
            self._circle()
        elif fault is Fault.LOST or data is None:
            self.send_error(404)
        else:
            self._send(data, fault)

    def _circle(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        if self.mirror.fault(self.path) is Fault.CIRCLE:
            return self._circle()
        if (data := self.mirror.content(self.path)) is None:
            return self.send_error(404)
        self.send_response(200)
        self._end_headers(len(data))

    def _end_headers(self, length: int) -> None:
        self.send_header("Content-Length", str(length))
        if (file := self.mirror.folder / self.path.lstrip("/")).is_file():
            self.send_header("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))
        self.end_headers()

    def _head(self, data: bytes) -> bytes:
        """Send the headers of all of `data` or of the range that is asked for; returns what comes
        after them."""
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        asked = (
            re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.mirror.ranges else None
        )
        if asked and self.headers.get("If-Range", tag) == tag:
            start, size = int(asked[1]), len(data)
            data = data[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if self.mirror.ranges:
            self.send_header("ETag", tag)
        self._end_headers(len(data))
        return data

    def _send(self, data: bytes, fault: Fault | None) -> None:
        data = self._head(data)
        if fault is Fault.TRUNCATED:
            data = data[: len(data) // 2]
        elif fault is Fault.CORRUPTED:
            data = bytes([data[0] ^ 1]) + data[1:]
        elif fault is Fault.STALLED:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            return self.mirror.wait()
        with contextlib.suppress(ConnectionError):  # a client that has enough hangs up
            self.wfile.write(data)


KERNELS = ("6.1.0-49", "6.1.0-50")
"""Older and newer kernel of the synthetic release."""
ESSENTIAL = ("base-files", "base-passwd", "bash", "coreutils", "dpkg", "libc-bin", "sed", "tar")


def kernel_packages(abi: str, version: str, *, headers: bool = True) -> list[Package]:
    names = [
        f"linux-image-{abi}-cloud-amd64",
        *([f"linux-headers-{abi}-cloud-amd64"] if headers else []),
    ]
    return [Package(name, version, fields={"Source": "linux-signed-amd64 (1)"}) for name in names]


def base_packages() -> list[Package]:
    essential = [
        Package(
            name,
            "12.4+deb13u5",
            depends="libc6",
            fields={"Essential": "yes", "Priority": "required"},
        )
        for name in ESSENTIAL
    ]
    meta = Package(
        "linux-image-cloud-amd64",
        "6.1.140-1",
        depends=f"linux-image-{KERNELS[1]}-cloud-amd64 (= 6.1.140-1)",
    )
    return [
        *essential,
        Package("libc6", "2.36-9+deb13u10", fields={"Priority": "required"}),
        Package("apt", "2.6.1", depends="libc6", fields={"Priority": "required"}),
        Package("nano", "7.2-1", fields={"Priority": "important"}),
        Package("hello", "2.10-3"),
        *kernel_packages(KERNELS[0], "6.1.130-1"),
        *kernel_packages(KERNELS[1], "6.1.140-1"),
        meta,
    ]


def debian(folder: Path, key: Key, wanted: Iterable[str], release: str = "trixie") -> Path:
    """Both archives of a synthetic Debian that holds `wanted`; returns the folder to serve."""
    known = base_packages()
    names = sorted(set(wanted) - {package.name for package in known})
    Archive(folder / "debian", key, label="Debian", suites=(release, f"{release}-updates")).add(
        [*known, *(Package(name, depends="libc6") for name in names)]
    ).publish()
    Archive(folder / "security", key, label="Debian-Security", suites=(f"{release}-security",)).add(
        [
            Package(
                "sed",
                "12.4+deb13u6",
                depends="libc6",
                fields={"Essential": "yes", "Priority": "required"},
            )
        ]
    ).publish()
    return folder
