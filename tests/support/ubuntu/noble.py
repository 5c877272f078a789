"""An archive dressed as noble, signed by a test's key: Debian 13's packages in Ubuntu's suites and
components.

Changed are what tells a system that it is Ubuntu 24.04 (base-files, cloud-init's configuration) and
the kernel's names; all else is Debian's own file, linked from the store. So a walk over it proves
our names, paths and tables and cloud-init's user, and nothing of Ubuntu's packages.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from goldenami.image.lock.resolution import BASE_PACKAGES, ESSENTIAL, SEED
from goldenami.model.definitions import definition_file
from goldenami.model.roles import role_packages
from goldenami.model.supported.platforms import PLATFORMS
from goldenami.packages import mirrors
from goldenami.packages.apt import AptRoot, Deb, store_requests
from goldenami.packages.store import Store

from support.debian import debrepo
from support.ubuntu import dressed, kernel
from support.ubuntu.dressed import FILES, Repacked

SUITES = ("noble", "noble-updates", "noble-security")
COMPONENTS = ("main", "restricted", "universe", "multiverse")
UNIVERSE = ("dkms", "libnss-resolve", "nvme-cli")
"""Of what the roles name, what noble has there (packages.ubuntu.com)."""
OPTIONAL = ("ifupdown",)
"""Important in Debian, and not in Ubuntu, where netplan is in its place."""
DEBIAN_KERNEL = "linux-image-cloud-amd64"


class Noble:
    """The archive in `folder`, with the closure of `image` of the checkout `root` and of what
    compiles for it."""

    def __init__(
        self, root: Path, image: str, folder: Path, store: Store, key: debrepo.Key
    ) -> None:
        self.root, self.folder, self.key, self.store = root, folder, key, store
        self.entries: dict[tuple[str, str], list[Repacked]] = {}
        debs, apt = _debian(root, image, folder / "apt", store)
        self._place(debs)
        self._publish(max((entry["date"] for entry in apt.releases()), key=parsedate_to_datetime))

    def _place(self, debs: Sequence[Deb]) -> None:
        there = {deb.name: self.store.path(deb.sha256) for deb in debs}
        made = self.folder / "made"
        made.mkdir(parents=True)
        image = next(name for name in there if name.startswith("linux-image-6"))
        release = image.removeprefix("linux-image-")
        changed = [
            _base_files(there["base-files"], made),
            _cloud_init(there["cloud-init"], made),
            _openssh_server(there["openssh-server"], made),
        ]
        headers = there[f"linux-headers-{release}"]
        kbuild = next(path for name, path in there.items() if name.startswith("linux-kbuild-"))
        for found in (
            *changed,
            *(_other_priority(there[name], made) for name in OPTIONAL if name in there),
        ):
            self._add("noble-updates", "main", found)
        for found in (
            *kernel.image_and_modules(there[image], made, release),
            kernel.headers(headers, kbuild, made, release),
            *(
                kernel.meta(made, f"linux-{kind}-aws", f"linux-{kind}-{kernel.RELEASE}", headers)
                for kind in ("image", "headers")
            ),
        ):
            for suite in ("noble-updates", "noble-security"):
                self._add(suite, "main", found)
        replaced = {
            *(package.name for package in changed),
            *OPTIONAL,
            image,
            f"linux-headers-{release}",
        }
        for name, path in there.items():
            if name not in replaced:
                component = "universe" if name in UNIVERSE else "main"
                self._add("noble", component, dressed.described(path))

    def _add(self, suite: str, component: str, package: Repacked) -> None:
        name = package.name
        path = self.folder / f"pool/{component}/{name[0]}/{name}/{_file_name(package)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _link(package.file, path)
        package.control["Filename"] = str(path.relative_to(self.folder))
        self.entries.setdefault((suite, component), []).append(package)

    def _publish(self, date: str) -> None:
        for suite in SUITES:
            indexes = dict[str, str]()
            for component in COMPONENTS:
                packages = sorted(
                    self.entries.get((suite, component), []), key=lambda found: found.name
                )
                indexes[f"{component}/binary-amd64/Packages"] = "\n".join(
                    found.control.dump() for found in packages
                )
            # Every suite has the release's codename, as Ubuntu's have.
            part = "24.04" if suite == "noble" else suite.partition("-")[2].title()
            debrepo.write_suite(
                self.folder / "dists" / suite,
                self.key,
                indexes,
                [
                    "Origin: Ubuntu",
                    "Label: Ubuntu",
                    f"Suite: {suite}",
                    "Version: 24.04",
                    "Codename: noble",
                    f"Date: {date}",
                    "Architectures: amd64",
                    f"Components: {' '.join(COMPONENTS)}",
                    f"Description: Ubuntu Noble {part}",
                ],
            )


def _debian(root: Path, image: str, folder: Path, store: Store) -> tuple[list[Deb], AptRoot]:
    """What the roles of `image` name on noble, and all that it depends on, from this machine's
    Debian 13."""
    definition = definition_file.load(root, definition_file.path_of(root, image))
    sources = mirrors.sources("debian", "trixie", backports=False)
    apt = AptRoot(folder, tuple(sources), mirrors.locate([source.archive for source in sources]))
    apt.configure()
    apt.pin({})
    apt.update()
    meta = apt.stanza(DEBIAN_KERNEL, apt.versions(DEBIAN_KERNEL)[0])
    names = {"kernel": {"kernel_package": meta["Depends"].split()[0], "kernel_release": ""}}
    wanted = [
        name
        for role in definition.role_names
        if role not in ("cuda", "nvidia_driver")
        for name in role_packages.packages(
            root, role, PLATFORMS["noble"], {**definition.variables(role), **names.get(role, {})}
        )
    ]
    headers = names["kernel"]["kernel_package"].replace("image", "headers")
    debs = apt.solve(
        [ESSENTIAL, *SEED, *BASE_PACKAGES, *wanted, "dkms", "make", "gcc", "g++", "gpg", headers]
    )
    store.fetch(store_requests(debs, apt.uris))
    return debs, apt


def _base_files(deb: Path, folder: Path) -> Repacked:
    with dressed.unpacked(deb) as tree:
        for name in ("usr/lib/os-release", "etc/lsb-release"):
            dressed.put(
                tree,
                name,
                (FILES / Path(name).name).read_text(encoding="utf-8"),
                "etc/debian_version",
            )
        dressed.put(
            tree,
            "etc/dpkg/origins/ubuntu",
            (FILES / "origin").read_text(encoding="utf-8"),
            "etc/debian_version",
        )
        dressed.put(tree, "etc/issue", "Ubuntu 24.04.3 LTS \\n \\l\n\n", "etc/debian_version")
        dressed.put(tree, "etc/issue.net", "Ubuntu 24.04.3 LTS\n", "etc/debian_version")
        script = tree / "DEBIAN/postinst"
        text = script.read_text(encoding="utf-8")
        assert "origins/debian" in text
        script.write_text(
            text.replace("origins/debian", "origins/ubuntu").replace(
                "ln -sf debian", "ln -sf ubuntu"
            ),
            encoding="utf-8",
        )
        listed = tree / "DEBIAN/conffiles"
        listed.write_text(
            f"{listed.read_text(encoding='utf-8')}/etc/lsb-release\n/etc/dpkg/origins/ubuntu\n",
            encoding="utf-8",
        )
        return _ubuntu(tree, folder)


def _cloud_init(deb: Path, folder: Path) -> Repacked:
    with dressed.unpacked(deb) as tree:
        dressed.put(
            tree,
            "etc/cloud/cloud.cfg",
            (FILES / "cloud.cfg").read_text(encoding="utf-8"),
            "etc/cloud/cloud.cfg",
        )
        return _ubuntu(tree, folder)


def _openssh_server(deb: Path, folder: Path) -> Repacked:
    """Its socket is enabled, not its service ("SSHd now uses socket-based activation", Ubuntu 22.10
    and later)."""
    with dressed.unpacked(deb) as tree:
        script = tree / "DEBIAN/postinst"
        words = re.split(r"('ssh\.(?:service|socket)')", script.read_text(encoding="utf-8"))
        other = {"'ssh.service'": "'ssh.socket'", "'ssh.socket'": "'ssh.service'"}
        assert other.keys() <= set(words), "the script enables its units in another way"
        script.write_text("".join(other.get(word, word) for word in words), encoding="utf-8")
        return _ubuntu(tree, folder)


def _ubuntu(tree: Path, folder: Path) -> Repacked:
    """The package with Ubuntu's mark in its version; Debian's stays in front of it, since others
    ask for that."""
    version = dressed.fields(tree)["Version"]
    dressed.fields(tree, Version=f"{version}ubuntu1")
    return dressed.build(tree, folder)


def _other_priority(deb: Path, folder: Path) -> Repacked:
    with dressed.unpacked(deb) as tree:
        dressed.fields(tree, Priority="optional")
        return dressed.build(tree, folder)


def _file_name(package: Repacked) -> str:
    control = package.control
    version = control["Version"].rpartition(":")[2]
    return f"{control['Package']}_{version}_{control['Architecture']}.deb"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
