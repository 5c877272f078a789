"""Typed JSON records, by which alone stages hand data to each other. They are frozen pydantic
models. Canonical JSON makes equal data equal bytes; an atomic rename shows a reader no half
record."""

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
    """Base of the parts of a definition. The docstring below a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class SharedRecord(Record):
    """Base of a record in the account, and of its parts. Several versions of goldenami read and
    write it, so fields that a newer version added are kept and written back."""

    model_config = ConfigDict(extra="allow")


class NewerRecord(UserWarning):
    """Warning that a record of a newer schema was read, and only its known fields understood."""


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
R = TypeVar("R", bound=Record)
T = TypeVar("T")
Lax = Annotated[T, Field(strict=False)]
"""A field that a file gives as text, such as an enum's value: strict mode would refuse it."""


def canonical(data: Any) -> str:
    """Return `data` as canonical JSON text: sorted keys, two spaces, a final newline."""
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_text(text: str) -> str:
    """Return the hex SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


_ZEROS = bytes(1 << 20)


def sha256_sparse(path: Path, final: Callable[[int], int] | None = None) -> str:
    """Return the hex SHA-256 of a disk image, without reading its holes. If the image is still
    being written, `final(hashed)` waits until bytes after the first `hashed` ones are final, and
    returns the end (exclusive) of the final bytes."""
    digest, hashed = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as source:
        size = os.fstat(source.fileno()).st_size
        while hashed < size:
            limit = size
            if final:
                limit = final(hashed)
            for first, end in sparse_file.data(source.fileno(), hashed, limit):
                _hash_hole(digest, first - hashed)
                for start in range(first, end, len(_ZEROS)):
                    piece = os.pread(source.fileno(), min(len(_ZEROS), end - start), start)
                    digest.update(piece)
                hashed = end
            _hash_hole(digest, limit - hashed)
            hashed = limit
    return digest.hexdigest()


def _hash_hole(digest: Any, length: int) -> None:
    for left in range(length, 0, -len(_ZEROS)):
        digest.update(_ZEROS[:left])


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` atomically and durably (write aside, fsync, rename)."""
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
    """Return a JSON object as plain data, which may be of an older schema. Raises BadInput if the
    file holds no JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {error}", hint=hint) from None
    if not isinstance(data, dict):
        raise BadInput(f"{path} is no record", hint=hint)
    return data


def read(path: Path, kind: type[R]) -> R:
    """Read a record. Raises BadInput with the file, the key and the problem."""
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
    """Return the record in a text from the account, which messages call `what`. Raises BadInput
    with `hint` for a damaged record, and with the advice to update for a newer one that this
    version cannot read. Warns if a newer one can be read."""
    known_version = kind.model_fields["schema_version"].default
    try:
        record = kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole text"
        # The text may be no JSON object at all: then the caller's hint stays.
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            if json.loads(text)["schema_version"] > known_version:
                hint = f"update goldenami: this one knows schema version {known_version}"
        raise BadInput(f"{what} cannot be read: {key}: {first['msg']}", hint=hint) from None
    version = getattr(record, "schema_version", known_version)
    if version > known_version:
        warnings.warn(
            f"{what} is of a newer goldenami: its schema version is {version}, and this "
            f"one knows {known_version}; what it added is kept",
            NewerRecord,
            stacklevel=2,
        )
    return record


def read_if_whole(path: Path, kind: type[R]) -> R | None:
    """Return the record, or None if the file is missing or damaged. For files that can be made
    again, such as the cache's."""
    try:
        return read(path, kind)
    except BadInput:
        return None
