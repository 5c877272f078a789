"""A running machine against its bake: what it says of itself, compared with what its files
declare."""

from __future__ import annotations

import base64
import json
import math
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydantic import Field, ValidationError

from goldenami.core import records
from goldenami.core.errors import Unreachable
from goldenami.core.records import Record
from goldenami.fleet.drift.disk import manifest
from goldenami.fleet.drift.disk.disk_records import RunningDifference, RunningKind
from goldenami.fleet.drift.disk.policy import Allowed
from goldenami.fleet.drift.inside import expected, instance_program
from goldenami.fleet.drift.inside.expected import MountRule, Running
from goldenami.local.reader.path_state import PathState
from goldenami.model.builds.build_folder import BuildFolder

Ask = Callable[[str], str]
"""Has a shell of the machine run a command as root; returns what it printed."""
_LONGEST = 8 << 20
"""Bytes of an answer when it is unpacked; an image's is some 20 KB."""


class Module(Record):
    """A loaded module and the modules that use it."""

    name: str
    users: list[str]


class ServiceLimits(Record):
    """Hard limits of a service by systemd's names: those that systemd has for it, and those of its
    main process."""

    unit: str
    limits: dict[str, str]
    actual: dict[str, str]


class Listener(Record):
    """A socket that hears others. `port` is such as tcp/22; `program` and `unit` are empty where
    nobody owns it."""

    port: str
    address: str
    program: str
    unit: str


class Mount(Record):
    """A mounted file system: where, which part of it, of which kind, from what; `device` is the
    kernel's number of it.
    """

    point: str
    part: str
    device: str
    kind: str
    source: str

    def shows_what_is_there(self, below: Mount) -> bool:
        """Whether it is a folder bound over itself, of the file system that is mounted `below` it:
        that hides nothing.
        """
        place = PurePosixPath(below.part) / PurePosixPath(self.point).relative_to(below.point)
        return self.device == below.device and self.part == str(place)


class Facts(Record):
    """One answer. `texts` are the files that declare something; `wanted` the modules that devices
    and files ask for."""

    nonce: str
    manifest_sha256: str
    texts: dict[str, str]
    release: str
    command_line: str
    modules: list[Module]
    wanted: list[str]
    sysctl: dict[str, str]
    manager: dict[str, str]
    services: list[ServiceLimits]
    listeners: list[Listener]
    mounts: list[Mount]
    containers: dict[str, str] = Field(default_factory=dict)
    """by name what the engine calls the image, empty where it has none"""


def look(
    build: BuildFolder, ask: Ask, allowed: Allowed = lambda _: ""
) -> list[RunningDifference]:
    """What a machine runs and `build` does not declare. Raises Unreachable where the machine gives
    no true answer.

    The program and all that it is compared with come from here; the machine's kernel and python3
    are believed.
    """
    baked = manifest.read(build)
    asked = {"nonce": secrets.token_hex(16), "manifest_sha256": baked.sha256,
             "files": expected.declaring(baked.paths)}
    said = read(ask(command(asked)), asked)
    return list(compare(said, baked.paths, Running.read(), allowed,
                        str(baked.boot.get("command_line", ""))))


def command(asked: Mapping[str, object]) -> str:
    """A shell's command that has python3 run the program, with the question in it."""
    text = f"{Path(instance_program.__file__).read_text(encoding='utf-8')}\nprint(answer({dict(asked)!r}))\n"
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return f"/usr/bin/python3 -I -B -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{packed}\")))'"


def read(said: str, asked: Mapping[str, object]) -> Facts:
    """The facts in what a command printed; Unreachable where the answer is missing, broken or to
    another question."""
    lines = [line for line in said.splitlines() if line.startswith(instance_program.MARK)]
    if len(lines) != 1:
        raise Unreachable("could not look: the instance gave "
                          f"{'no answer' if not lines else 'more than one answer'}",
                          hint="is python3 there, and does the command run as root?")
    try:
        packed = base64.b64decode(lines[0].removeprefix(instance_program.MARK), validate=True)
        unpacked = zlib.decompressobj().decompress(packed, _LONGEST)
        facts = Facts.model_validate(json.loads(unpacked))
    except (ValueError, ValidationError, zlib.error, RecursionError):
        raise Unreachable("could not look: the instance's answer is broken",
                          hint="an answer that was cut or forged is none: run again") from None
    if any(getattr(facts, name) != asked[name] for name in ("nonce", "manifest_sha256")):
        raise Unreachable("could not look: the instance answered another question",
                          hint="whatever answers there does not run what it is sent")
    return facts


def compare(
    said: Facts, paths: Mapping[str, PathState], rules: Running, allowed: Allowed,
    command_line: str = "",
) -> Iterator[RunningDifference]:
    """Each difference, in the order of kinds. Of a file that is not as baked nothing is taken for
    declared.

    `command_line` is the kernel's where no file of the root has it: that of an immutable image is
    in its manifest.
    """
    texts = {path: text for path, text in said.texts.items()
             if path in paths and records.sha256_text(text) == paths[path].sha256}
    for path in sorted(set(expected.declaring(paths)) - texts.keys()):
        yield _row(RunningKind.DECLARATION, path, "the file is not as baked",
                   "what it declares cannot be compared")
    yield from _kernel(said, command_line.split() or expected.command_line(texts), paths)
    yield from _modules(said, paths, rules)
    yield from _sysctls(said, texts)
    yield from _limits(said, texts)
    yield from _listeners(said, paths, rules, allowed)
    yield from _mounts(said, paths, [*rules.mounts, *expected.mounts(texts)])
    for name, declared in sorted(expected.containers(texts).items()):
        if (now := said.containers.get(name, "")) != declared:
            yield _row(RunningKind.CONTAINER, name,
                       f"is {now[:12]}" if now else "is not in the engine",
                       f"the image has {declared[:12]} by this name")


def _row(kind: RunningKind, name: str, what: str, rule: str) -> RunningDifference:
    return RunningDifference(kind=kind, name=name, what=what, rule=rule)


def _kernel(
    said: Facts, declared: list[str], paths: Mapping[str, PathState]
) -> Iterator[RunningDifference]:
    if f"/boot/vmlinuz-{said.release}" not in paths:
        yield _row(RunningKind.KERNEL, said.release, "runs", "the image has no such kernel")
    words = [word for word in said.command_line.split() if not word.startswith("BOOT_IMAGE=")]
    if declared and words != declared:
        added, missing = ([word for word in one if word not in other]
                          for one, other in ((words, declared), (declared, words)))
        what = "; ".join([*(f"added: {word}" for word in added),
                          *(f"missing: {word}" for word in missing)])
        yield _row(RunningKind.COMMAND_LINE, "/proc/cmdline", what or "another order",
                   "the image's boot menu has it otherwise")


def _modules(
    said: Facts, paths: Mapping[str, PathState], rules: Running
) -> Iterator[RunningDifference]:
    """A module has to be the image's, and something has to ask for it: a device, a file, the
    kernel, or its users."""
    known = expected.modules(paths, said.release)
    wanted = {module.name for module in said.modules if module.name in said.wanted
              or rules.on_demand(module.name)}
    while more := {module.name for module in said.modules if wanted & set(module.users)} - wanted:
        wanted |= more
    for module in said.modules:
        if module.name not in known:
            yield _row(RunningKind.MODULE, module.name, "is loaded", "the image has no such module")
        elif module.name not in wanted:
            yield _row(RunningKind.MODULE, module.name, "is loaded",
                       "neither a device nor a file of the image asks for it")


def _sysctls(said: Facts, texts: Mapping[str, str]) -> Iterator[RunningDifference]:
    for key, declared in sorted(expected.sysctls(texts).items()):
        now = said.sysctl.get(key, "")  # empty where nothing on this machine has such a key
        if now and expected.number(now) != expected.number(declared):
            yield _row(RunningKind.SYSCTL, key, f"is {now}", f"the image declares {declared}")


def _limits(said: Facts, texts: Mapping[str, str]) -> Iterator[RunningDifference]:
    for name, declared in sorted(expected.limits(texts).items()):
        if said.manager.get(name) != declared:
            yield _row(RunningKind.LIMIT, f"DefaultLimit{name}",
                       f"is {said.manager.get(name, 'not there')}",
                       f"the image declares {declared}")
    for service in said.services:
        for name, limit in sorted(service.limits.items()):
            now = service.actual.get(name, "")
            # A service of root may give itself more, as udevd does.
            if _amount(now) < _amount(limit):
                yield _row(RunningKind.LIMIT, f"{name} of {service.unit}", f"is {now}",
                           f"systemd started it with {limit}")


def _amount(limit: str) -> float:
    """A limit as systemd or the kernel writes it; one that nobody states is none."""
    return float(limit) if limit.isdecimal() else math.inf


def _listeners(said: Facts, paths: Mapping[str, PathState], rules: Running, allowed: Allowed,
               ) -> Iterator[RunningDifference]:
    for found in sorted(said.listeners, key=lambda one: (one.port, one.address, one.program)):
        is_known = found.program in paths and any(
            rule.allows(found.unit, found.port, found.address) for rule in rules.listeners)
        if is_known or allowed(found.port):
            continue
        yield _row(RunningKind.LISTENER, f"{found.port} on {found.address}",
                   f"{found.program or 'nobody known'} of {found.unit or 'no unit'} listens",
                   "no rule names it; a definition allows ports by drift.listen")


def _mounts(
    said: Facts, paths: Mapping[str, PathState], rules: Sequence[MountRule]
) -> Iterator[RunningDifference]:
    """What lies over a path of the image hides it from whoever runs it, and not from a disk's
    reader."""
    seen = dict[str, Mount]()
    for mount in said.mounts:
        if mount.point not in paths:
            continue
        below = next((seen[str(folder)] for folder in PurePosixPath(mount.point).parents
                      if str(folder) in seen), None)
        if below and mount.shows_what_is_there(below):
            continue
        is_known = any(rule.allows(mount.point, mount.kind, mount.part) for rule in rules)
        if not is_known or mount.point in seen:
            yield _row(RunningKind.MOUNT, mount.point,
                       f"{mount.part} of {mount.source} ({mount.kind}) is mounted over it",
                       "no rule names it")
        seen[mount.point] = mount
