"""What counts as a test of a build on a GPU."""

from __future__ import annotations

import ast
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

from pydantic import Field

from goldenami.core import records
from goldenami.core.errors import BadInput
from goldenami.core.records import Record, Sha256, SharedRecord
from goldenami.model import program_files
from goldenami.model.builds.build_records import BuildId, Utc
from goldenami.model.locked.lockfile import Lock
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
_LEAST_DIGITS = 6
"""Different digits of a SHA-256: fewer than one of 10**30 has less."""
_CHANCE = 16
"""Random hexadecimal digits of a nonce."""


def nonce_of(build_id: str, chance: str = "") -> str:
    """A nonce of one test: random digits, `chance` or new ones, and their digest with the build,
    which tells it from a nonce of another build."""
    chance = chance or secrets.token_hex(_CHANCE // 2)
    return chance + records.sha256_text(f"{build_id} {chance}")[:_CHANCE]


@dataclass(frozen=True)
class Asked:
    """What a test of a build has to show, by its lock: GPU architectures, and roles that have
    checks on a GPU. As text, which AMIs carry as a tag: `75 86: nvidia_driver frameworks`."""

    architectures: tuple[str, ...]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, lock: Lock) -> Asked:
        return cls(
            tuple(lock.hardware.sm), tuple(role for role in lock.roles if required(root, [role]))
        )

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

    def problems(
        self, checks: Sequence[str], optional: Iterable[str], known: Mapping[str, Family]
    ) -> Iterator[str]:
        """What keeps it from being true. `optional`: checks that a definition or a type need not
        ask for."""
        left_out = {*self.not_asked} & {*optional}
        if len(left_out) < len(self.not_asked) or self.checks + len(left_out) != len(checks):
            yield f"{self.checks} of {len(checks)} checks passed on {self.gpu}"
        name, _, size = self.instance_type.partition(".")
        family, gpus = known.get(name), self.gpu.split(", ")
        if family is None or family.gpu is None or family.sm != self.sm or not size:
            yield (
                f"{self.instance_type or 'an instance without a type'} "
                f"has no GPU of architecture {self.sm}"
            )
            return
        if len(gpus) not in family.gpus_of(size):
            yield f"{self.instance_type} has not {len(gpus)} GPUs"
        models = {other.gpu.name: other.gpu for other in known.values() if other.gpu}
        for gpu in gpus:
            if [name for name in models if models[name].is_called(gpu)] != [family.gpu.name]:
                yield f"`{gpu}` is no {family.gpu.name}, which {self.instance_type} has"


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

    def problems(
        self, architectures: Iterable[str], needed: Mapping[str, bool], known: Mapping[str, Family]
    ) -> Iterator[str]:
        """What keeps it, read alone, from showing what is asked for. `needed` is what `required`
        answers."""
        if not self.machines or not all(machine.gpu.strip() for machine in self.machines):
            yield "it names no machine with a GPU"
        if lacking := [name for name in needed if name not in self.checks]:
            yield f"{len(lacking)} checks are not in it, {lacking[0]} first"
        if len({*self.checks}) < len(self.checks):
            yield "it names a check twice"
        if bare := {*architectures} - {machine.sm for machine in self.machines}:
            yield f"no GPU of architecture {min(bare)} was tested"
        if self.nonce != nonce_of(self.build_id, self.nonce[:_CHANCE]):
            yield f"its nonce `{self.nonce[:32]}` is of no test of this build"
        files = {machine.junit_sha256 for machine in self.machines}
        if len(files) < len(self.machines) or any(len({*file}) < _LEAST_DIGITS for file in files):
            yield "its JUnit files are not one of each machine"
        optional = [name for name, is_optional in needed.items() if is_optional]
        for machine in self.machines:
            yield from machine.problems(self.checks, optional, known)


def required(root: Path, roles: Iterable[str]) -> dict[str, bool]:
    """Names of checks on a GPU, such as "nvidia_driver/driver_answers", and whether the check, or a
    fixture that it takes, may say NOT_ASKED."""
    found = dict[str, bool]()
    for role in roles:
        path = program_files.find(root, f"{program_files.CHECKS}/{role}/{_FILE}")
        body = ast.parse(path.read_text("utf-8")).body if path.exists() else []
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        skipping = {node.name for node in functions if NOT_ASKED in ast.unparse(node)}
        for node in functions:
            if node.name.startswith("test_"):
                used = {node.name, *(argument.arg for argument in node.args.args)}
                found[f"{role}/{node.name.removeprefix('test_')}"] = bool(used & skipping)
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
        self.properties = {
            node.get("name", ""): node.get("value", "") for node in tree.iter("property")
        }
        self._cases = list(tree.iter("testcase"))

    @property
    def failed(self) -> list[str]:
        return [_name(case) for case in self._cases if _has(case, "failure", "error")]

    @property
    def passed(self) -> list[str]:
        return [
            _name(case) for case in self._cases if not _has(case, "failure", "error", "skipped")
        ]

    @property
    def not_asked(self) -> list[str]:
        return [
            _name(case)
            for case in self._cases
            if (skip := case.find("skipped")) is not None
            and NOT_ASKED in (skip.get("message") or "")
        ]

    def problems(
        self, build_id: str, needed: Collection[str], session: GpuSession
    ) -> Iterator[str]:
        """Why it is no proof of the build's test in that session."""
        said, answered = self.properties, {*self.passed, *self.not_asked, *self.failed}
        if said.get(BUILD_PROPERTY) != build_id:
            yield f"it is of build {said.get(BUILD_PROPERTY) or '(unnamed)'}, not {build_id}"
        if said.get(AMI_PROPERTY) != session.ami:
            yield f"it is of {said.get(AMI_PROPERTY) or 'an unnamed AMI'}, not {session.ami}"
        if said.get(NONCE_PROPERTY) != session.nonce:
            yield "it is of another session"
        if not said.get(GPU_PROPERTY):
            yield "it names no GPU: was there one?"
        if self.failed:
            yield f"{len(self.failed)} of {len(self._cases)} tests failed, {self.failed[0]} first"
        if missing := [name for name in needed if name not in answered]:
            yield (
                f"{len(missing)} of {len(needed)} checks on a GPU are not in it, {missing[0]} first"
            )
        if not self.passed:
            yield "no test ran"


def _has(case: ElementTree.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def _name(case: ElementTree.Element) -> str:
    """pytest's class name is tests.image.<role>.test_<role>."""
    parts = case.get("classname", "").split(".")
    role = parts[-2] if len(parts) > 1 else ""
    return f"{role}/{case.get('name', '').partition('[')[0].removeprefix('test_')}"
