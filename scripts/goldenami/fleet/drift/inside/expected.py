"""What an image's files declare of a running machine, and what running.yml allows besides."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import yaml
from pydantic import Field

from goldenami.core.records import Record
from goldenami.fleet.drift.inside import instance_program
from goldenami.local.reader.path_state import PathState

GRUB = "/boot/grub/grub.cfg"
PERSISTENT = "/etc/default/golden-persistent"
"""Of an immutable image: what its instances may write to, in lines such as `overlay /etc`."""
_DECLARING = re.compile(
    r"/(etc|usr/lib)/(sysctl\.d|modules-load\.d|systemd/system\.conf\.d)/[^/]+\.conf"
    r"|/etc/(sysctl\.conf|modules|systemd/system\.conf|default/golden-persistent)|/boot/grub/grub\.cfg"
    rf"|{re.escape(instance_program.CONTAINERS)}")
_MODULE = re.compile(r"/(?:usr/)?lib/modules/([^/]+)/.+/([^/]+)\.ko(?:\.[a-z]+)?")
_SCALES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ListenerRule(Record):
    """Who may hear others, and why."""

    units: list[str]
    ports: list[str]
    reason: str
    address: str = ""

    def allows(self, unit: str, port: str, address: str) -> bool:
        return (_any(unit, self.units) and _any(port, self.ports)) and self.address in ("", address)


class MountRule(Record):
    """What may lie over paths of the image, and why."""

    points: list[str]
    kinds: list[str]
    reason: str
    parts: list[str] = Field(default=["/"])

    def allows(self, point: str, kind: str, part: str) -> bool:
        return point in self.points and kind in self.kinds and _any(part, self.parts)


class ModuleRule(Record):
    """Modules that the kernel may load on demand, and why."""

    names: list[str]
    reason: str


class Running(Record):
    """running.yml."""

    listeners: list[ListenerRule]
    mounts: list[MountRule]
    modules: list[ModuleRule] = Field(default_factory=list)

    @classmethod
    def read(cls) -> Running:
        return cls.model_validate(
            yaml.safe_load(Path(__file__).with_name("running.yml").read_text(encoding="utf-8"))
        )

    def on_demand(self, name: str) -> bool:
        return any(_any(name, rule.names) for rule in self.modules)


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def declaring(paths: Mapping[str, PathState]) -> list[str]:
    """The files of an image that say how a machine of it runs."""
    return [path for path, state in paths.items() if state.kind == "file"
            and _DECLARING.fullmatch(path)]


def modules(paths: Iterable[str], release: str) -> set[str]:
    """The modules of an image for a kernel, as the kernel calls them."""
    found = (_MODULE.fullmatch(path) for path in paths)
    return {match[2].replace("-", "_") for match in found if match and match[1] == release}


def sysctls(texts: Mapping[str, str]) -> dict[str, str]:
    """Declared values by key. Keys with `*` are left out: they leave it open which of a machine's
    interfaces there are.

    /etc/sysctl.conf counts as 99-sysctl.conf, which is its link.
    """
    by_name = _drop_ins(texts, "/sysctl.d/")
    if "/etc/sysctl.conf" in texts:
        by_name["99-sysctl.conf"] = texts["/etc/sysctl.conf"]
    return {key: value for name in sorted(by_name)
            for key, value in instance_program.settings(by_name[name]).items()
            if "*" not in key}


def limits(texts: Mapping[str, str]) -> dict[str, str]:
    """Declared hard limits of services by systemd's names, as systemd shows them."""
    by_name = _drop_ins(texts, "/system.conf.d/")
    declared = [texts.get("/etc/systemd/system.conf", ""),
                *(by_name[name] for name in sorted(by_name))]
    return {key.removeprefix("DefaultLimit"): _limit(value) for text in declared
            for key, value in instance_program.settings(text).items()
            if key.startswith("DefaultLimit")}


def _drop_ins(texts: Mapping[str, str], folder: str) -> dict[str, str]:
    """Files of such folders by their names, in whose order systemd takes them; of equal names that
    in /etc."""
    return {PurePosixPath(path).name: texts[path] for path in sorted(texts, reverse=True)
            if folder in path}


def _limit(value: str) -> str:
    """`soft:hard` or one for both, in bytes or with a scale (systemd.exec(5))."""
    hard = value.rpartition(":")[2]
    return str(int(hard[:-1]) * _SCALES[hard[-1]]) if re.fullmatch(r"\d+[KMGT]", hard) else hard


def command_line(texts: Mapping[str, str]) -> list[str]:
    """The kernel's words in the boot menu, as the kernel gets them: of its first entry, which boots
    by itself."""
    lines = (line.split() for line in texts.get(GRUB, "").splitlines())
    return next((words[2:] for words in lines if words[:1] == ["linux"]), [])


def containers(texts: Mapping[str, str]) -> dict[str, str]:
    """Images of containers by name, as an engine calls them: by the SHA-256 of the
    configuration."""
    declared = json.loads(texts.get(instance_program.CONTAINERS, "[]"))
    return {image["name"]: image["config"] for image in declared}


def mounts(texts: Mapping[str, str]) -> list[MountRule]:
    """What an immutable image declares to lie over its root; of another image nothing."""
    def rule(point: str, kind: str, part: str = "/") -> MountRule:
        return MountRule(points=[point], kinds=[kind], parts=[part], reason=f"{PERSISTENT} has it")

    lines = [line.split() for line in texts.get(PERSISTENT, "").splitlines()
             if line[:1] not in ("", "#")]
    found = [rule(folder, "overlay") if kind == "overlay"
             else rule(folder, "ext4", f"/{kind}{folder}") for kind, folder in lines]
    return [*found, rule("/persist", "ext4")] if found else []


def number(text: str) -> str:
    """A value as the kernel prints it: blanks are one, numbers are decimal."""
    return " ".join(str(int(word, 0)) if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[0-7]+", word) else word
                    for word in text.split())
