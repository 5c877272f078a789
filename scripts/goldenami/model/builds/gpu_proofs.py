"""Decides whether records and JUnit files prove that a build was tested on GPUs."""

from __future__ import annotations

import ast
import re
import secrets
from collections import Counter
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
from goldenami.model.supported import allowed_types, gpu_classes, hardware
from goldenami.model.supported.allowed_types import TypeRule
from goldenami.model.supported.hardware import Family, GpuType

BUILD_PROPERTY, GPU_PROPERTY = "goldenami:build-id", "goldenami:gpu"
AMI_PROPERTY, NONCE_PROPERTY = "goldenami:ami", "goldenami:nonce"
"""Properties of a JUnit file: the tested build, its GPU, AMI and session. tests/image writes
them."""
NOT_ASKED = "not asked: "
"""Start of a skipped test's message if the image's definition does not ask for what it tests."""
ATTEST_FILE = "attest.json"
"""Copy of the record in a build's folder, for `report`."""
_FILE = "test_gpu.py"
_LEAST_DIGITS = 6
"""Least number of different digits in a true SHA-256: fewer than one of 10**30 has less."""
_CHANCE = 16
"""Number of random hexadecimal digits in a nonce."""
_COUNTED = re.compile(r"(?P<count>[1-9][0-9]?) x (?P<name>.+)")


def nonce_of(build_id: str, chance: str = "") -> str:
    """Return a nonce for one test: random digits (`chance` or new ones), and the digest of build
    and digits, which tells it from a nonce of another build."""
    chance = chance or secrets.token_hex(_CHANCE // 2)
    return chance + records.sha256_text(f"{build_id} {chance}")[:_CHANCE]


@dataclass(frozen=True)
class Asked:
    """Classes of machines, and roles with checks on a GPU, that a build's test has to cover
    according to its lock and its definition's `instance_types`. As text, AMIs carry it in a tag:
    `75-one 86-one: nvidia_driver frameworks`. Earlier versions wrote an architecture, `75`, which
    any machine of it covers."""

    classes: tuple[str, ...]
    roles: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, lock: Lock, rule: TypeRule) -> Asked:
        classes = allowed_types.tested_classes(rule, hardware.load(root), lock.hardware.families)
        return cls(tuple(classes), tuple(role for role in lock.checked if required(root, [role])))

    @classmethod
    def parsed(cls, text: str) -> Asked:
        classes, _, roles = text.partition(":")
        return cls(tuple(classes.split()), tuple(roles.split()))

    def __str__(self) -> str:
        return f"{' '.join(self.classes)}: {' '.join(self.roles)}"


class GpuSession(Record):
    """The session that the tests on one instance get by `--gpu-session`. `nonce` is unique to
    it."""

    ami: str
    nonce: str
    kind: GpuType


def counted(names: str) -> str:
    """Return the GPUs of a machine (`A, A, B`) with each name once, behind its number where it is
    more than one: `2 x A, B`."""
    numbers = Counter(names.split(", "))
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in numbers.items())


class TestedGpu(SharedRecord):
    """An instance on which all checks passed. `sm` is the CUDA compute capability without its dot.
    `gpu` is as `counted` writes it; earlier versions repeated the name of each GPU.

    `not_asked` are checks that the definition or the instance type does not ask for.
    """

    sm: str
    gpu: str
    instance_type: str
    region: str
    ami: str
    checks: Annotated[int, Field(ge=1)]
    junit_sha256: Sha256
    not_asked: tuple[str, ...] = ()

    @property
    def gpus(self) -> list[str]:
        """The name of each GPU."""
        names = list[str]()
        for part in self.gpu.split(", "):
            found = _COUNTED.fullmatch(part)
            names += [found["name"]] * int(found["count"]) if found else [part]
        return names

    def covered(self, families: Mapping[str, Family]) -> set[str]:
        """The entries of `Asked.classes` that it covers."""
        family = families.get(self.instance_type.partition(".")[0])
        if family is None:
            return set()
        return {self.sm, gpu_classes.class_of(family, len(self.gpus))}

    def problems(
        self, checks: Sequence[str], optional: Iterable[str], families: Mapping[str, Family]
    ) -> Iterator[str]:
        """Yield contradictions in it. `optional` are the checks that a definition or an instance
        type need not ask for; `known` are the families of instances."""
        skipped = {*self.not_asked} & {*optional}
        if len(skipped) < len(self.not_asked) or self.checks + len(skipped) != len(checks):
            yield f"{self.checks} of {len(checks)} checks passed on {self.gpu}"
        family_name, _, size = self.instance_type.partition(".")
        family, gpus = families.get(family_name), self.gpus
        if family is None or family.gpu is None or family.sm != self.sm or not size:
            yield (
                f"{self.instance_type or 'an instance without a type'} "
                f"has no GPU of architecture {self.sm}"
            )
            return
        if len(gpus) not in family.gpus_of(size):
            yield f"{self.instance_type} has not {len(gpus)} GPUs"
        known_gpus = [known_family.gpu for known_family in families.values() if known_family.gpu]
        models = {model.name: model for model in known_gpus}
        for gpu in gpus:
            if [name for name, model in models.items() if model.is_called(gpu)] != [
                family.gpu.name
            ]:
                yield f"`{gpu}` is no {family.gpu.name}, which {self.instance_type} has"


class GpuTestRecord(SharedRecord):
    """A build's test on a machine of each class that it has to cover. `checks` has the names of
    those that every machine answered.

    It names the SHA-256 of the lock, the disk and its manifest, as the AMIs do in their tags.
    `signature` is a DSSE envelope.
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
        self,
        classes: Iterable[str],
        needed: Mapping[str, bool],
        families: Mapping[str, Family],
    ) -> Iterator[str]:
        """Yield reasons why this record alone does not prove the test. `needed` is the result of
        `required`."""
        if not self.machines or not all(machine.gpu.strip() for machine in self.machines):
            yield "it names no machine with a GPU"
        if missing := [name for name in needed if name not in self.checks]:
            yield f"{len(missing)} checks are not in it, {missing[0]} first"
        if len({*self.checks}) < len(self.checks):
            yield "it names a check twice"
        optional = [name for name, is_optional in needed.items() if is_optional]
        for machine in self.machines:
            yield from machine.problems(self.checks, optional, families)
        covered = set[str]().union(*(machine.covered(families) for machine in self.machines))
        for untested in sorted({*classes} - covered)[:1]:
            yield f"no machine of class {untested} ({gpu_classes.words(untested)}) was tested"
        if self.nonce != nonce_of(self.build_id, self.nonce[:_CHANCE]):
            yield f"its nonce `{self.nonce[:32]}` is of no test of this build"
        files = {machine.junit_sha256 for machine in self.machines}
        if len(files) < len(self.machines) or any(len({*file}) < _LEAST_DIGITS for file in files):
            yield "its JUnit files are not one of each machine"


def required(root: Path, roles: Iterable[str]) -> dict[str, bool]:
    """Return the checks on a GPU, such as "nvidia_driver/driver_answers", with whether the check,
    or a fixture that it takes, may be skipped as NOT_ASKED."""
    checks = dict[str, bool]()
    for role in roles:
        path = program_files.find(root, f"{program_files.CHECKS}/{role}/{_FILE}")
        body = ast.parse(path.read_text("utf-8")).body if path.exists() else []
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        skipping = {node.name for node in functions if NOT_ASKED in ast.unparse(node)}
        for node in functions:
            if node.name.startswith("test_"):
                names = {node.name, *(argument.arg for argument in node.args.args)}
                checks[f"{role}/{node.name.removeprefix('test_')}"] = bool(names & skipping)
    return checks


class JunitFile:
    """A JUnit file of tests/image: its properties, and the outcomes of tests by `role/name`."""

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
        names = list[str]()
        for case in self._cases:
            skip = case.find("skipped")
            if skip is not None and NOT_ASKED in (skip.get("message") or ""):
                names.append(_name(case))
        return names

    def problems(
        self, build_id: str, needed: Collection[str], session: GpuSession
    ) -> Iterator[str]:
        """Yield reasons why this file does not prove the build's test in that session."""
        properties, answered = self.properties, {*self.passed, *self.not_asked, *self.failed}
        if properties.get(BUILD_PROPERTY) != build_id:
            yield f"it is of build {properties.get(BUILD_PROPERTY) or '(unnamed)'}, not {build_id}"
        if properties.get(AMI_PROPERTY) != session.ami:
            yield f"it is of {properties.get(AMI_PROPERTY) or 'an unnamed AMI'}, not {session.ami}"
        if properties.get(NONCE_PROPERTY) != session.nonce:
            yield "it is of another session"
        if not properties.get(GPU_PROPERTY):
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
    """Return `role/name` of a test."""
    # pytest's class name is tests.image.<role>.test_<role>. An image's name may have dots.
    role = case.get("classname", "").removeprefix("tests.image.").rpartition(".")[0]
    return f"{role}/{case.get('name', '').partition('[')[0].removeprefix('test_')}"
