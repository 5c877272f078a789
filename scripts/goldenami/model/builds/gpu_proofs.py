"""What counts as a test of a build on a GPU."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

from pydantic import Field

from goldenami.core.errors import BadInput
from goldenami.core.records import Record, SharedRecord
from goldenami.model import program_files
from goldenami.model.builds.build_records import BuildId, Sha256, Utc
from goldenami.model.builds.lockfile import Lock
from goldenami.model.supported.hardware import Family, GpuType

BUILD_PROPERTY, GPU_PROPERTY = "goldenami:build-id", "goldenami:gpu"
AMI_PROPERTY, NONCE_PROPERTY = "goldenami:ami", "goldenami:nonce"
"""Properties of a JUnit file: which build was tested, on which GPU, as which AMI, in which session.
tests/image writes them."""
NOT_ASKED = "not asked: "
"""How a skipped test says that the image's definition does not ask for what it looks at."""
ATTEST_FILE = "attest.json"
"""In a build's folder: a copy of the record, for `report`."""
_FILE = "test_gpu.py"
_NONCE, _LEAST_DIGITS = re.compile(r"[0-9a-f]{32}"), 6
"""A nonce has 32 digits; of 10**12 random ones, one has fewer than six different digits."""


@dataclass(frozen=True)
class Asked:
    """What a test of a build has to show, by its lock: GPU architectures, and roles that have
    checks on a GPU. As text, which AMIs carry as a tag: `75 86: nvidia_driver frameworks`."""

    architectures: tuple[str, ...]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, lock: Lock) -> Asked:
        return cls(tuple(lock.hardware.sm),
                   tuple(role for role in lock.roles if required(root, [role])))

    @classmethod
    def parsed(cls, text: str) -> Asked:
        architectures, _, roles = text.partition(":")
        return cls(tuple(architectures.split()), tuple(roles.split()))

    def __str__(self) -> str:
        return f"{' '.join(self.architectures)}: {' '.join(self.roles)}"


class GpuSession(Record):
    """What the tests on one instance are told by `--gpu-session`. `nonce` is of this test alone."""

    ami: str
    nonce: str
    kind: GpuType


class TestedGpu(SharedRecord):
    """One instance on which all checks passed. `sm` is the CUDA compute capability without its dot.

    `not_asked`: checks that the definition or the type does not ask for.
    """

    sm: str
    gpu: str
    instance_type: str
    region: str
    ami: str
    checks: Annotated[int, Field(ge=1)]
    junit_sha256: Sha256
    not_asked: tuple[str, ...] = ()

    def problem(self, checks: Sequence[str], known: Mapping[str, Family]) -> str:
        """What keeps it from being true; "" where nothing does."""
        if not set(self.not_asked) < set(checks) or self.checks < len(checks) - len(self.not_asked):
            return f"{self.checks} of {len(checks)} checks passed on {self.gpu}"
        name, _, size = self.instance_type.partition(".")
        family = known.get(name)
        if family is None or family.sm != self.sm or not size:
            return f"{self.instance_type or 'an instance without a type'} has no GPU of architecture {self.sm}"
        count = len(self.gpu.split(", "))
        return "" if count in family.counts else f"{self.instance_type} has not {count} GPUs"


class GpuTestRecord(SharedRecord):
    """A build's test on every GPU architecture that it declares. `checks`: by name those that every
    machine answered.

    It is of the lock, of the disk and of its manifest whose SHA-256 it names, as the AMIs do in
    their tags. `signature` is a DSSE envelope.
    """

    schema_version: Annotated[int, Field(ge=2)] = 2
    image: str
    build_id: BuildId
    nonce: str
    at: Utc
    by: str
    lock_sha256: Sha256
    disk_sha256: Sha256 | None = None
    manifest_sha256: Sha256 | None = None
    checks: tuple[str, ...]
    machines: tuple[TestedGpu, ...]
    signature: str = ""

    def __str__(self) -> str:
        gpus = ", ".join(dict.fromkeys(machine.gpu for machine in self.machines))
        return f"tested on {gpus}"

    def shortfall(
        self, architectures: Iterable[str], needed: Iterable[str], known: Mapping[str, Family]
    ) -> str:
        """What keeps it, read alone, from showing what is asked for; "" where it does."""
        if not self.machines or not all(machine.gpu.strip() for machine in self.machines):
            return "it names no machine with a GPU"
        if lacking := [name for name in needed if name not in self.checks]:
            return f"{len(lacking)} checks are not in it, {lacking[0]} first"
        bare = {*architectures} - {machine.sm for machine in self.machines}
        if bare:
            return f"no GPU of architecture {min(bare)} was tested"
        if not _NONCE.fullmatch(self.nonce) or len(set(self.nonce)) < _LEAST_DIGITS:
            return f"its nonce `{self.nonce[:32]}` is no random one"
        said = (machine.problem(self.checks, known) for machine in self.machines)
        return next(filter(None, said), "")


def required(root: Path, roles: Iterable[str]) -> list[str]:
    """Names of checks on a GPU, such as "nvidia_driver/driver_answers"."""
    found = []
    for role in roles:
        path = program_files.find(root, f"{program_files.CHECKS}/{role}/{_FILE}")
        if path.exists():
            found += [f"{role}/{node.name.removeprefix('test_')}"
                      for node in ast.parse(path.read_text("utf-8")).body
                      if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return found


class JunitFile:
    """A JUnit file of tests/image: properties, and the outcome of tests on a GPU by `role/name`."""

    def __init__(self, path: Path) -> None:
        try:
            tree = ElementTree.parse(path)  # noqa: S314 - expat expands no external entity
        except FileNotFoundError:
            raise BadInput(
                f"{path} does not exist", hint="name the JUnit file of the test on the GPU"
            ) from None
        except ElementTree.ParseError as error:
            raise BadInput(
                f"{path} is not JUnit XML: {error}",
                hint="name the JUnit file of the test on the GPU",
            ) from None
        self.properties = {node.get("name", ""): node.get("value", "")
                           for node in tree.iter("property")}
        self._cases = list(tree.iter("testcase"))

    @property
    def failed(self) -> list[str]:
        return [_name(case) for case in self._cases if _has(case, "failure", "error")]

    @property
    def passed(self) -> list[str]:
        return [_name(case) for case in self._cases
                if not _has(case, "failure", "error", "skipped")]

    @property
    def not_asked(self) -> list[str]:
        return [_name(case) for case in self._cases if (skip := case.find("skipped")) is not None
                and NOT_ASKED in (skip.get("message") or "")]

    @property
    def answered(self) -> set[str]:
        return {*self.passed, *self.not_asked}

    def problem(self, build_id: str, needed: Sequence[str], session: GpuSession) -> str:
        """Why it is no proof of the build's test in that session; "" where it is."""
        said, missing = self.properties, sorted({*needed} - {*self.answered, *self.failed},
                                                key=[*needed].index)
        ami = said.get(AMI_PROPERTY, "")
        return (f"it is of build {said.get(BUILD_PROPERTY) or '(unnamed)'}, not {build_id}"
                if said.get(BUILD_PROPERTY) != build_id else
                f"it is of {ami or 'an unnamed AMI'}, not {session.ami}" if ami != session.ami else
                "it is of another session" if said.get(NONCE_PROPERTY) != session.nonce else
                "it names no GPU: was there one?" if not said.get(GPU_PROPERTY) else
                f"{len(self.failed)} of {len(self._cases)} tests failed, {self.failed[0]} first"
                if self.failed else
                f"{len(missing)} of {len(needed)} checks on a GPU are not in it, {missing[0]} first"
                if missing else
                "no test ran" if not self.passed else "")


def _has(case: ElementTree.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def _name(case: ElementTree.Element) -> str:
    """pytest's class name is tests.image.<role>.test_<role>."""
    parts = case.get("classname", "").split(".")
    role = parts[-2] if len(parts) > 1 else ""
    return f"{role}/{case.get('name', '').partition('[')[0].removeprefix('test_')}"
