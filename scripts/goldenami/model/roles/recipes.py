"""Recipes of ML frameworks, roles/frameworks/files/<name>/recipe.yml, with their programs beside
them. In a flag `{options}` stands for the compiler's options of the target, `{jobs}` for the number
of parallel compilers, `{site}` for the folder of the build environment's packages, `{sm}` and
`{sm_dotted}` for the CUDA architectures (`80;86`, `8.0;8.6`)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.records import Lax, Record, Sha256
from goldenami.core.yaml_lines import nearest
from goldenami.model import program_files

FOLDER = "roles/frameworks/files"
"""Folder with a folder for each recipe. Beside the recipe, `smoke.py` prints what it did, and
`bench.py` prints a JSON object of rates."""
DISPATCHING = f"{FOLDER}/dispatching.yml"


class SourceKind(StrEnum):
    """Where the source is: on the package index, or in an archive of the project's tag."""

    SDIST = "sdist"
    ARCHIVE = "archive"


class FrameworkSource(Record):
    """The source of one version. An archive has an address and a size in bytes. If it has no
    SHA-256, the recipe's author has never fetched it."""

    kind: Lax[SourceKind] = SourceKind.SDIST
    url: str | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Sha256 | None = None


class Allowance(Record):
    """An exception for the coverage check: code beyond the baseline that runs only if the CPU
    supports it, or device code for one GPU only.

    `files` (relative to the tree; in a recipe, to the environment's site-packages), `symbols` of
    functions (or `device code *` for the parts of a file, never the whole) and `extensions`
    (instruction sets, or `sm_*`) are shell patterns. `reason` says why it is safe.
    """

    files: str
    symbols: str = "*"
    extensions: Annotated[list[str], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


PTX = "+ptx"
"""Suffix of an architecture for which a wheel has PTX, too. The driver compiles PTX for newer
GPUs."""


class Wheel(Record):
    """A wheel on the package index. `sm` has the CUDA architectures of its code ("86", "90+ptx"),
    as coverage.py reads them, or None if nobody looked them up."""

    distribution: str
    sm: list[Annotated[str, Field(pattern=r"^\d+(\+ptx)?$")]] | None = None


class CudaWheel(Wheel):
    """A wheel with code for GPUs. `cuda` is the CUDA with which it was compiled, `extra` the extra
    of the wheel that installs that CUDA."""

    version: str
    cuda: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    extra: str | None = None

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        # `==` would also take a build of the same version for CPUs ("2.15.0+cpu").
        extra = f"[{self.extra}]" if self.extra else ""
        return f"{self.distribution}{extra}==={self.version}"


class Patch(Record):
    """A replacement of text in a source file, which has to have it exactly `count` times."""

    file: str
    find: str
    replace: str
    count: Annotated[int, Field(ge=1)] = 1


class CudaAdditions(Record):
    """Additions to a build for an image with GPUs. The fields are those of `BuildInstructions`."""

    requires: list[str] = Field(default_factory=list)
    runs_with: list[str] = Field(default_factory=list)
    environment: dict[str, str] = Field(default_factory=dict)


class BuildInstructions(Record):
    """How the wheel is compiled.

    `requires` are the packages of the build environment, `packages` further Debian packages of its
    tree, `runs_with` packages that only a wheel compiled here needs to run. `cuda` is added if the
    image declares GPUs. `library_path` is for libraries that were linked in the build environment.
    `memory_mib` is the most that one compiler takes, and limits how many run at once. `not_run`
    says why this recipe has never been run.
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
        return self.cuda if sm and self.cuda else CudaAdditions()


NO_BUILD = BuildInstructions(requires=[], memory_mib=64, not_run="it describes no build")
"""Stands for a missing `build` in a recipe: the image gets the index's wheel on all hardware."""


class UpstreamTests(Record):
    """The framework's own tests. A compiled wheel is used only if they pass."""

    requires: list[str]
    arguments: list[str]


class Recipe(Record):
    """One framework. `only` lists the CPUs for which compiling it is considered; None: all.

    `wheel` is for images without GPUs; `cuda_wheels`, newest first, are for images with GPUs.
    """

    version: str
    distribution: str
    module: str
    source: FrameworkSource = FrameworkSource()
    wheel: Wheel | None = None
    cuda_wheels: list[CudaWheel] = Field(default_factory=list)
    requires: list[str] = Field(default_factory=list)
    build: BuildInstructions = NO_BUILD
    suite: UpstreamTests | None = None
    only: list[str] | None = None
    generic: str | None = None

    @property
    def against(self) -> str:
        return self.generic or "the wheel"

    @property
    def has_build(self) -> bool:
        return self.build != NO_BUILD


def folder(root: Path, name: str) -> Path:
    """Return the folder of a recipe: the repository's own, else the program's."""
    return program_files.find(root, f"{FOLDER}/{name}")


@cache
def dispatching(root: Path) -> dict[str, list[Allowance]]:
    """Return exceptions for the coverage check by projects on the index, or patterns such as
    `nvidia-*`, whose code chooses at run time what fits the CPU."""
    source = program_files.table(root, DISPATCHING)
    allowances = dict[str, list[Allowance]]()
    for project, entries in source.data.items():
        allowances[project] = [
            yaml_lines.validate(source, Allowance, entry, at=(project, index))
            for index, entry in enumerate(entries)
        ]
    return allowances


@cache
def known(root: Path) -> tuple[str, ...]:
    """Return the names of all recipes."""
    names = set[str]()
    for recipes in (program_files.home(root) / FOLDER, root / FOLDER):
        names |= {path.parent.name for path in recipes.glob("*/recipe.yml")}
    return tuple(sorted(names))


def load(root: Path, name: str) -> Recipe:
    """Return the recipe `name`. Raises BadInput with file, line, key and the nearest valid one."""
    if name not in known(root):
        raise BadInput(
            f"no framework `{name}`; {nearest(name, known(root))}",
            hint=f"recipes are the folders of {FOLDER}/",
        )
    source = yaml_lines.load(folder(root, name) / "recipe.yml")
    recipe = yaml_lines.validate(source, Recipe)
    if recipe.wheel is None and not recipe.has_build:
        raise source.error(("build",), "is required where there is no wheel")
    if recipe.wheel is None and recipe.generic is None:
        raise source.error(
            ("generic",),
            "is required where there is no wheel: the CPU of the build to compare with",
        )
    return recipe
