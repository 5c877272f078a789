"""Typed JSON records, the only way stages meet: frozen pydantic models, written as canonical JSON
by an atomic rename, so that a reader never sees half a record and equal data is equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from goldenami.core import process, sparse_file
from goldenami.core.errors import BadInput


class Record(BaseModel):
    """Base of every record and of every part of one: immutable, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Section(Record):
    """Base of the parts of a definition: the text below a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class SharedRecord(Record):
    """Base of a record in the account, which several versions of goldenami read and write, and of
    its parts: what a newer version added is kept, and written again."""

    model_config = ConfigDict(extra="allow")


class NewerRecord(UserWarning):
    """A record of a newer schema was read as far as it is known."""


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
R = TypeVar("R", bound=Record)
T = TypeVar("T")
Lax = Annotated[T, Field(strict=False)]
"""What a file gives as text, such as an enum's value."""


def canonical(data: Any) -> str:
    """Canonical JSON text."""
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_text(text: str) -> str:
    """Hex SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


_ZEROS = bytes(1 << 20)


def sha256_sparse(path: Path, final: Callable[[int], int] | None = None) -> str:
    """`sha256_file` of a disk image, without reading its holes. Of one that is still being written,
    `final` waits until more than the bytes hashed so far is final and returns up to which byte."""
    digest, at = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as source:
        size = os.fstat(source.fileno()).st_size
        while at < size:
            limit = final(at) if final else size
            for first, end in sparse_file.data(source.fileno(), at, limit):
                _hash_hole(digest, first - at)
                for start in range(first, end, len(_ZEROS)):
                    piece = os.pread(source.fileno(), min(len(_ZEROS), end - start), start)
                    digest.update(piece)
                at = end
            _hash_hole(digest, limit - at)
            at = limit
    return digest.hexdigest()


def _hash_hole(digest: Any, length: int) -> None:
    for left in range(length, 0, -len(_ZEROS)):
        digest.update(_ZEROS[:left])


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically and durably (write aside, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = process.aside(path)
    try:
        with aside.open("w", encoding="utf-8") as sink:
            sink.write(text)
            sink.flush()
            os.fsync(sink.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write(path: Path, record: Record) -> None:
    """Write `record` as canonical JSON."""
    write_text(path, canonical(record.model_dump(mode="json")))


def read_object(
    path: Path, hint: str = "the stage that wrote it writes it again"
) -> dict[str, Any]:
    """A JSON object as plain data, also of an older shape; BadInput where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {error}", hint=hint) from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is no record", hint=hint)
    return found


def read(path: Path, kind: type[R]) -> R:
    """Read a record, or BadInput with the file, the key and what is wrong with it."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{path} does not exist", hint="run the stage that writes it first"
        ) from None
    except UnicodeDecodeError:
        raise BadInput(
            f"{path} is not UTF-8 text", hint="run the stage that writes it again"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BadInput(
            f"{path}: {key}: {first['msg']}",
            hint="records are generated: run the stage that writes it again",
        ) from None


def read_shared(text: str, kind: type[R], what: str, hint: str) -> R:
    """The record in a text from the account; BadInput for a damaged one, with `hint`, or for a
    newer one that cannot be read as this one. What is newer and can be read is warned of."""
    known = kind.model_fields["schema_version"].default
    try:
        found = kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole text"
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            if json.loads(text)["schema_version"] > known:
                hint = f"update goldenami: this one knows schema version {known}"
        raise BadInput(f"{what} cannot be read: {key}: {first['msg']}", hint=hint) from None
    version = getattr(found, "schema_version", known)
    if version > known:
        warnings.warn(
            f"{what} is of a newer goldenami: its schema version is {version}, and this "
            f"one knows {known}; what it added is kept",
            NewerRecord,
            stacklevel=2,
        )
    return found


def read_if_whole(path: Path, kind: type[R]) -> R | None:
    """None where it is missing or damaged: for what is made again, such as a cache's."""
    try:
        return read(path, kind)
    except BadInput:
        return None
