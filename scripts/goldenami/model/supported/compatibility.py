"""Reads packer/driver_branches.yml: which drivers, CUDA releases and GPUs run together. What it
does not state is unknown, and unknown is refused."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from goldenami.core import yaml_lines
from goldenami.core.errors import NoFit
from goldenami.core.records import Lax, Record
from goldenami.model import program_files

TABLE = "packer/driver_branches.yml"
END_NOTICE = timedelta(days=90)
"""How long before its end a branch is reported: time to bake and try another one."""
MOST_DAYS = 60
"""Age of the table in days from which it is reported: NVIDIA has a new branch about every three
months."""


class BranchKind(StrEnum):
    """NVIDIA's kinds of driver branches, in releases.json with the word "branch" behind."""

    LTS = "lts"
    PRODUCTION = "production"
    NEW_FEATURE = "new feature"


class DriverBranch(Record):
    """A row of a driver branch; the table explains the keys. None is an unknown fact."""

    cuda: str | None = None
    kind: Lax[BranchKind] | None = None
    ends: Lax[date] | Literal["ended"] | None = None
    source: str | None = None

    @property
    def last_day(self) -> date | None:
        """The last day of support, or None if no source states it."""
        return self.ends if isinstance(self.ends, date) else None

    def has_ended(self, day: date) -> bool:
        return self.ends == "ended" or bool(self.last_day and self.last_day < day)


class GpuArchitecture(Record):
    """A row of a compute capability. `last_cuda` and `last_branch` are None if the newest ones
    still have it."""

    first_cuda: str
    last_cuda: int | None = None
    last_branch: str | None = None

    def is_compiled_by(self, cuda: str) -> bool:
        version = version_tuple(cuda)
        is_dropped = self.last_cuda is not None and version[0] > self.last_cuda
        return version >= version_tuple(self.first_cuda) and not is_dropped


class DriverTable(Record):
    """The whole table. `source` is where its rows without a source of their own were read, on the
    day `read`."""

    read: date
    source: str
    cuda: dict[str, str]
    architectures: dict[str, GpuArchitecture]
    branches: dict[Annotated[str, Field(pattern=r"^\d{3,4}$")], DriverBranch]

    def native_cuda(self, branch: str) -> str:
        """Return the newest CUDA that `branch` runs natively. Raises NoFit if it is unknown."""
        row = self.branches.get(branch)
        if row is None or row.cuda is None:
            raise NoFit(f"what driver branch {branch} runs is not known", hint=_missing(branch))
        return row.cuda

    def least_driver(self, cuda: str) -> str:
        """Return the oldest driver that runs `cuda` ("11.8") by minor-version compatibility. Raises
        NoFit if it is unknown."""
        major = cuda.partition(".")[0]
        if major not in self.cuda:
            raise NoFit(
                f"what CUDA {cuda} needs is not known",
                hint=f'add `"{major}": DRIVER` to `cuda` of {TABLE}, and what it compiles for',
            )
        return self.cuda[major]

    def _architecture(self, sm: str) -> GpuArchitecture:
        if sm not in self.architectures:
            raise NoFit(
                f"what runs and compiles for sm_{sm} is not known",
                hint=_missing(sm, "architectures"),
            )
        return self.architectures[sm]

    def check_cuda(self, cuda: str, driver: str) -> str:
        """Return why `cuda` ("11.8") runs on `driver` ("535.309.01"). Raises NoFit with both if it
        does not."""
        major, branch = cuda.partition(".")[0], driver.partition(".")[0]
        native = self.native_cuda(branch)
        if version_tuple(cuda) <= version_tuple(native):
            return f"driver branch {branch} has CUDA {native}"
        minimum = self.least_driver(cuda)
        if version_tuple(driver) >= version_tuple(minimum):
            return f"minor-version compatibility: CUDA {major}.x needs driver {minimum} or newer"
        raise NoFit(
            f"CUDA {cuda} does not run on driver {driver}: CUDA {major}.x needs {minimum}",
            hint="choose a newer nvidia_driver_branch or an older CUDA",
        )

    def check_architectures(self, cuda: str, architectures: list[str]) -> None:
        """Raise NoFit if the toolkit `cuda` cannot compile for one of `architectures` ("86")."""
        self.least_driver(cuda)
        rows = {sm: self._architecture(sm) for sm in architectures}
        unsupported = [f"sm_{sm}" for sm, row in rows.items() if not row.is_compiled_by(cuda)]
        if unsupported:
            compiled = [sm for sm, row in self.architectures.items() if row.is_compiled_by(cuda)]
            compiled.sort(key=int)
            raise NoFit(
                f"CUDA {cuda} compiles for sm_{compiled[0]} to sm_{compiled[-1]}, "
                f"not for {', '.join(unsupported)}",
                hint="take the family out of `hardware`, or choose another CUDA",
            )

    def branch_refusal(self, branch: str, architectures: list[str]) -> str:
        """Return why driver `branch` does not run one of the GPUs, or "". The first branch that
        runs an architecture is the one whose native CUDA first compiles for it."""
        try:
            native = version_tuple(self.native_cuda(branch))
            rows = {sm: self._architecture(sm) for sm in architectures}
        except NoFit as error:
            return f"{error.message}: {error.hint}"
        for sm, row in rows.items():
            refusal = f"branch {branch} does not run sm_{sm}"
            if row.last_branch and int(branch) > int(row.last_branch):
                return f"{refusal}: {row.last_branch} was the last branch that does"
            if native < version_tuple(row.first_cuda):
                return f"{refusal}: {self._first_branch(row)} is the first branch that does"
        return ""

    def _first_branch(self, row: GpuArchitecture) -> str:
        first_cuda = version_tuple(row.first_cuda)
        for name, branch in self.branches.items():
            if branch.cuda and version_tuple(branch.cuda) >= first_cuda:
                return name
        return "one without a row"

    def near_end(self, branch: str, today: date) -> str:
        """Return a message if `branch` ends within `END_NOTICE`, has ended, or has an unknown end;
        else ""."""
        row = self.branches.get(branch, DriverBranch())
        if row.ends is None:
            return f"the end of driver branch {branch} is not known: {_missing(branch)}"
        if row.last_day is None:
            return f"driver branch {branch} has ended, NVIDIA says: no more fixes of its own come"
        if row.has_ended(today):
            return f"driver branch {branch} ended on {row.last_day}: no more fixes come"
        if row.last_day - today > END_NOTICE:
            return ""
        days = (row.last_day - today).days
        return f"driver branch {branch} ends on {row.last_day}, in {days} days"

    def stale(self, today: date) -> str:
        """Return a message if the table was read more than `MOST_DAYS` ago, else ""."""
        days = (today - self.read).days
        if days <= MOST_DAYS:
            return ""
        return (
            f"{TABLE} was read on {self.read}, {days} days ago: run scripts/driver_branches, and "
            "read the CUDA and ends of its branches again"
        )


def _missing(name: str, section: str = "branches") -> str:
    return f"add the row `{name}` to `{section}` of {TABLE}, or what it lacks (docs/adding.md)"


@cache
def load(root: Path) -> DriverTable:
    """Return the table with the rows of the repository `root`, branches in ascending order. Raises
    BadInput with file and line."""
    table = yaml_lines.validate(program_files.table(root, TABLE, depth=2), DriverTable)
    branches = sorted(table.branches.items(), key=lambda item: int(item[0]))
    return table.model_copy(update={"branches": dict(branches)})


def version_tuple(version: str) -> tuple[int, ...]:
    """Return NVIDIA's dotted numbers as integers: "535.309.01" -> (535, 309, 1)."""
    return tuple(int(part) for part in version.split("."))


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: "1:535.309.01-0+deb12u1" -> "535.309.01"."""
    return version.rpartition(":")[2].partition("-")[0].partition("~")[0]


def runs_on(least: str, driver: str) -> bool:
    """Whether software that needs at least the driver `least` runs on `driver`. "" means that none
    is needed, or that there is none."""
    return not least or (bool(driver) and version_tuple(driver) >= version_tuple(least))


def check_flavour(flavour: str, open_only: list[str], closed_only: list[str]) -> None:
    """Raise NoFit if the flavour of kernel modules cannot run a declared family's GPU. The lists
    have the families for which it has to be open, and those for which it can't be."""
    if flavour == "open" and closed_only:
        raise NoFit(
            f"open kernel modules need Turing or newer, which {', '.join(closed_only)} has not",
            hint="set nvidia_driver_flavour: proprietary, or take the family out of `hardware`",
        )
    if flavour == "proprietary" and open_only:
        raise NoFit(
            f"only the open kernel modules run the GPU of {', '.join(open_only)}",
            hint="set nvidia_driver_flavour: open, or take the family out of `hardware`",
        )
