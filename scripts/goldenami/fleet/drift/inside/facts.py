"""What an instance said of itself, as a record: an answer of another form is none."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import PurePosixPath

from pydantic import Field, ValidationError

from goldenami.core.errors import Unreachable
from goldenami.core.records import Record
from goldenami.fleet.drift.inside import instance_program

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
