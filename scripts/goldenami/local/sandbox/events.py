"""Events by which a process in the namespaces tells its parent what it does: one JSON line each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goldenami.core.errors import KINDS, GoldenError, StageFailed

EVENT = "@golden "


def emit(kind: str, **fields: object) -> None:
    """Write one event line; `kind` is step, done, say or error."""
    sys.stdout.write(EVENT + json.dumps({"kind": kind, **fields}) + "\n")
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step and, if it succeeds, its seconds."""
    emit("step", name=name)
    began = time.monotonic()
    yield
    emit("done", name=name, seconds=round(time.monotonic() - began, 2))


def fail(error: GoldenError) -> int:
    """Report an expected failure, and return the exit status."""
    emit(
        "error", message=error.message, hint=error.hint, tail=error.tail, code=int(error.exit_code)
    )
    return int(error.exit_code)


def read(line: str) -> dict[str, Any] | None:
    """Return the event in a line of output, or None if there is none."""
    return json.loads(line.removeprefix(EVENT)) if line.startswith(EVENT) else None


def failure(event: dict[str, Any], log: Path) -> GoldenError:
    """Return the error that `fail` reported, with its exit code, for the reading process to
    raise."""
    kind = next((kind for kind in KINDS if kind.exit_code == event["code"]), StageFailed)
    return kind(event["message"], hint=event["hint"], tail=event["tail"], log=log)
