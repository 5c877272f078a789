"""Recipes of ML frameworks, as data: roles/frameworks/files/<name>/recipe.yml, each with its programs beside it.

A recipe says where a framework comes from, how it is compiled for given hardware, and by which programs it is tried
and measured. `{options}` in a flag stands for the compiler's options of the target, `{jobs}` for the number of
parallel compilers, `{site}` for the folder of the build environment's packages, `{sm}` and `{sm_dotted}` for the CUDA
architectures (`80;86`, `8.0;8.6`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.yaml_lines import Key, YamlFile, nearest

FOLDER = "roles/frameworks/files"
"""A folder for each recipe; beside it `smoke.py`, which prints what it did, and `bench.py`: a JSON object of rates."""
DISPATCHING = f"{FOLDER}/dispatching.yml"


class SourceKind(StrEnum):
    """Where the source is: on the package index, or in an archive that the project tags."""

    SDIST = "sdist"
    ARCHIVE = "archive"


class FrameworkSource(Record):
    """The source of one version. An archive has an address and a size in bytes; one without a SHA-256 was never fetched
    by whoever wrote the recipe."""

    kind: Annotated[SourceKind, Field(strict=False)] = SourceKind.SDIST
    url: str | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


PTX = "+ptx"
"""Marks an architecture whose PTX is in a wheel besides: the driver compiles that for newer GPUs."""


class Wheel(Record):
    """A wheel on the package index. `sm`: CUDA architectures that it holds code for ("86", "90+ptx"), where they were
    looked up (coverage.py reads them)."""

    distribution: str
    sm: list[Annotated[str, Field(pattern=r"^\d+(\+ptx)?$")]] | None = None


class CudaWheel(Wheel):
    """A wheel with code for GPUs: the CUDA that it was compiled with, and the extra by which that CUDA comes along."""

    version: str
    cuda: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    extra: str | None = None

    @property
    def requirement(self) -> str:
        """What pip is asked for; `===` takes no build of the same version for CPUs ("2.15.0+cpu")."""
        return f"{self.distribution}{f'[{self.extra}]' if self.extra else ''}==={self.version}"


class Patch(Record):
    """Text of a source file to replace; it has to stand there exactly `count` times."""

    file: str
    find: str
    replace: str
    count: Annotated[int, Field(ge=1)] = 1


class CudaAdditions(Record):
    """What is added to a build where the image declares GPUs; the fields are those of `BuildInstructions`."""

    requires: list[str] = Field(default_factory=list)
    runs_with: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)


class BuildInstructions(Record):
    """How the wheel is compiled.

    `requires` is the build environment, `packages` what the scratch tree has besides, `runs_with` what only a wheel
    compiled here needs to run. `cuda` is what is added where the image declares GPUs. `library_path` is for
    libraries that were linked in the build environment. `memory_mib` is what one compiler takes at most: it bounds how
    many run at once. `not_run` says why this recipe has never been run.
    """

    requires: list[str]
    runs_with: list[str] = Field(default_factory=list)
    packages: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, list[str]] = Field(default_factory=dict)
    cuda: CudaAdditions | None = None
    files: dict[str, str] = Field(default_factory=dict)
    patches: list[Patch] = Field(default_factory=list)
    library_path: str | None = None
    memory_mib: Annotated[int, Field(ge=64)]
    not_run: str | None = None

    def added(self, sm: Sequence[str]) -> CudaAdditions:
        """What the CUDA architectures `sm` add: nothing without any, or to a build that knows no CUDA."""
        return self.cuda if sm and self.cuda else CudaAdditions()


class UpstreamTests(Record):
    """The framework's own tests: the wheel counts as built only if they pass on it."""

    requires: list[str]
    arguments: list[str]


class Allowed(Record):
    """Code beyond the baseline that asks the CPU or the GPU before it is reached: the coverage gate lets it be, by the
    reason.

    `files` is a pattern below the environment's site-packages; `extensions` are patterns of instruction sets, or of
    CUDA architectures (`sm_*`); `symbols` of functions, or `device code *` for the parts of a file, never the whole.
    """

    files: str
    symbols: str = "*"
    extensions: list[str]
    reason: str


class Recipe(Record):
    """One framework. `only` names the CPUs for which compiling it is considered; absent: all.

    `wheel` is what an image without GPUs gets; `cuda_wheels`, newest first, are for images with GPUs.
    """

    version: str
    distribution: str
    module: str
    source: FrameworkSource = FrameworkSource()
    wheel: Wheel | None = None
    cuda_wheels: list[CudaWheel] = Field(default_factory=list)
    requires: list[str] = Field(default_factory=list)
    build: BuildInstructions
    suite: UpstreamTests | None = None
    only: list[str] | None = None
    generic: str | None = None

    @property
    def against(self) -> str:
        """What a build for the hardware is compared with: the CPU of a generic one, or the wheel."""
        return self.generic or "the wheel"


@cache
def dispatching(root: Path) -> dict[str, list[Allowed]]:
    """Projects of the package index whose code chooses at run time, with what the coverage gate allows them.

    A project may be a pattern: `nvidia-*`.
    """
    source = yaml_lines.load(root / DISPATCHING)
    found = dict[str, list[Allowed]]()
    for project, entries in source.data.items():
        for index, entry in enumerate(entries):
            try:
                found.setdefault(project, []).append(Allowed.model_validate(entry))
            except ValidationError as error:
                first = error.errors()[0]
                raise source.error((project, index, *first["loc"]), first["msg"]) from None
    return found


@cache
def known(root: Path) -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(sorted(path.parent.name for path in (root / FOLDER).glob("*/recipe.yml")))


def load(root: Path, name: str) -> Recipe:
    """The recipe `name`, or BadInput with file, line, key and the nearest valid one."""
    if name not in known(root):
        raise BadInput(f"no framework `{name}`; {nearest(name, known(root))}",
                       hint=f"recipes are the folders of {FOLDER}/")
    source = yaml_lines.load(root / FOLDER / name / "recipe.yml")
    try:
        recipe = Recipe.model_validate(source.data)
    except ValidationError as error:
        raise _problem(source, error) from None
    if recipe.wheel is None and recipe.generic is None:
        raise source.error(("generic",), "is required where there is no wheel: the CPU of the build to compare with")
    return recipe


def _problem(source: YamlFile, error: ValidationError) -> BadInput:
    # A misspelt key is both unknown and missing: that it is unknown, and what it may mean, says more.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    key: Key = tuple(first["loc"])
    if first["type"] == "extra_forbidden":
        return source.error(key, f"unknown key; {nearest(str(key[-1]), _fields(key[:-1]))}")
    if first["type"] == "missing":
        return source.error(key, "is required and missing")
    return source.error(key, f"{first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})")


def _fields(at: Key) -> list[str]:
    """The keys that the part of a recipe at `at` may have."""
    kind: type[BaseModel] = Recipe
    for part in at:
        if isinstance(part, str):
            kind = _model(kind.model_fields[part].annotation) or kind
    return list(kind.model_fields)


def _model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = getattr(annotation, "__args__", ())
    return next((found for part in parts if (found := _model(part))), None)
