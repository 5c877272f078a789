"""What the coverage check read of a file, kept under the file's SHA-256: a library that did not
change is read once.

Decoding PyTorch takes a minute, hashing it two seconds. What is kept has no path and no allowance
in it: those are of an image, and are applied each time. A file of the cache that is not as it was
written counts as not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from goldenami.core import process, records
from goldenami.core.records import Record
from goldenami.model.builds.build_records import Finding

_READERS = ("coverage", "elf", "fatbin", "instructions", "known_code")
"""The modules that decide what is read of a file."""
_DECODER = "iced-x86"


class CodeFacts(Record):
    """A file's instructions and architectures, as a CodeFile has them, and what is beyond the
    baseline.

    `findings` have no file's name; one of the extension `unreadable` is the last.
    """

    instructions: int
    extensions: dict[str, int]
    sass: list[str]
    ptx: list[str]
    findings: list[Finding]


@cache
def _reader() -> str:
    """What reads: the bytes of its modules, and the decoder's version."""
    texts = {name: records.sha256_file(Path(__file__).with_name(f"{name}.py")) for name in _READERS}
    return records.canonical({**texts, _DECODER: metadata.version(_DECODER)})


@dataclass(frozen=True)
class KnownCode:
    """What is known in `folder` (None: nothing is kept) of files, for CPUs with `features` and GPUs
    `sm`."""

    folder: Path | None
    features: Sequence[str]
    sm: Sequence[str]

    def get(self, sha256: str) -> CodeFacts | None:
        """What was read of the file with this SHA-256; None where nothing is known of it."""
        if self.folder is None:
            return None
        try:
            digest, _, text = self._path(sha256).read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        return CodeFacts.model_validate_json(text) if records.sha256_text(text) == digest else None

    def keep(self, sha256: str, facts: CodeFacts) -> None:
        """Keep what was read. Nothing is synced: what a crash damages is known by its digest."""
        if self.folder is None:
            return
        path = self._path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        text, aside = facts.model_dump_json(), process.aside(path)
        aside.write_text(f"{records.sha256_text(text)}\n{text}", encoding="utf-8")
        aside.replace(path)

    def _path(self, sha256: str) -> Path:
        assert self.folder is not None
        key = records.sha256_text(records.canonical(
            {"file": sha256, "features": sorted(self.features), "sm": list(self.sm),
             "reader": _reader()}))
        return self.folder / key[:2] / key
