"""What the role `trim` took out of an image, as it wrote it to /opt/ml/TRIMMED.json: the image, `bake.json` and the
bills of materials say the same."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from goldenami.core.records import Record

TRIMMED_FILE = "opt/ml/TRIMMED.json"
"""Below an image's root."""
_Bytes = Annotated[int, Field(ge=0)]


class TrimmedProgram(Record):
    """A program without the machine code of `architectures` (`90a`); paths are below /opt/ml. `was` and `now` are its
    digests as the wheel's RECORD has them, before and after; `wheel` is that wheel ("torch-2.10.0")."""

    path: str
    wheel: str
    bytes: _Bytes
    architectures: list[str]
    was: str
    now: str


class RemovedFiles(Record):
    """Files of a wheel that are not in the image; the reason is the role's switch."""

    wheel: str
    reason: str
    files: _Bytes
    bytes: _Bytes


class LinkedFile(Record):
    """A file that is another name of an equal one now."""

    path: str
    to: str
    bytes: _Bytes


class Trimmed(Record):
    """All that went. `architectures` are those of the declared GPUs, for which nothing did."""

    architectures: list[str]
    gpu_code: list[TrimmedProgram]
    removed: list[RemovedFiles]
    linked: list[LinkedFile]

    @property
    def bytes(self) -> int:
        """What the disk does not hold: at most, since zeros less than a block are stored."""
        return sum(row.bytes for rows in (self.gpu_code, self.removed, self.linked) for row in rows)

    @property
    def sentence(self) -> str:
        """What went, for a report: bytes are in its figure."""
        foreign = sorted({name for row in self.gpu_code for name in row.architectures}, key=_number)
        code = f"machine code for sm_{', sm_'.join(foreign)} in {len(self.gpu_code)} programs" if foreign else ""
        files = sum(row.files for row in self.removed)
        return "; ".join(filter(None, [code, f"{files} files that nothing uses" if files else "",
                                       f"{len(self.linked)} copies of files" if self.linked else ""]))

    def of_wheel(self, project: str, version: str) -> list[str]:
        """What went of a wheel, a line each."""
        name = f"{project}-{version}".replace("_", "-").lower()

        def is_it(wheel: str) -> bool:
            return wheel.replace("_", "-").lower() == name

        return [*(f"{row.path}: without machine code of sm_{', sm_'.join(row.architectures)}; {row.was} is {row.now}"
                  for row in self.gpu_code if is_it(row.wheel)),
                *(f"without {row.files} files ({row.reason})" for row in self.removed if is_it(row.wheel))]


def _number(architecture: str) -> tuple[int, str]:
    return int("".join(filter(str.isdigit, architecture))), architecture
