"""The exceptions with which goldenami stops, and their exit codes. Only `cli.py` catches them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of `golden` with their meanings; docs/reference.md is generated from them. `make`
    itself exits with 2 if `golden` fails."""

    meaning: str

    OK = 0, "done; for `bake` and `verify`: every check is correct"
    INTERNAL = (
        1,
        "a defect of goldenami: a traceback; without one: the reader of its output has gone",
    )
    BAD_INPUT = 2, "bad input: a definition, lock or argument that a person has to correct"
    NO_FIT = (
        3,
        "no kernel, driver and CUDA satisfy the definition, or the parts of a new lock do not fit "
        "each other",
    )
    UNREACHABLE = 4, "a mirror or AWS did not answer, answered nonsense, or lost a locked file"
    STAGE_FAILED = 5, "a stage failed: the tool's name, status and last lines are shown"
    NOT_VERIFIED = 6, "at least one check was not `correct`"
    BUSY = 7, "another process works on this image, here or in the account"
    HOST = (
        8,
        "this host lacks a tool, a permission, space, memory, or AWS credentials that are good "
        "for the call",
    )
    NEWER = 10, "`watch`: something newer matters; `make watch` ends with 0 there"
    HELD_BACK = (
        11,
        "`publish`: the build is the candidate, and `latest` stays; `make publish` ends with 0 "
        "there",
    )
    INTERRUPTED = (
        130,
        "interrupted; what is left behind is removed or continued by the same command",
    )

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member


class GoldenError(Exception):
    """An error that the user sees: what happened (`message`), what to do (`hint`) and the exit
    code. `log` is the file with a tool's full output, `tail` has its last lines."""

    exit_code = ExitCode.INTERNAL

    def __init__(
        self, message: str, *, hint: str = "", log: Path | None = None, tail: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = log
        self.tail = tail


class BadInput(GoldenError):
    """A definition, lock or argument that a person has to correct."""

    exit_code = ExitCode.BAD_INPUT


class NoFit(GoldenError):
    """No combination of kernel, driver and CUDA satisfies the definition."""

    exit_code = ExitCode.NO_FIT


class Unreachable(GoldenError):
    """A mirror, registry or API did not answer, or answered with nonsense."""

    exit_code = ExitCode.UNREACHABLE


class Vanished(Unreachable):
    """The mirror answers, but it no longer has a file that the lock names."""


class Replaced(Unreachable):
    """An address now has another file than the one that the lock names."""


class StageFailed(GoldenError):
    """A tool that a stage runs ended in failure."""

    exit_code = ExitCode.STAGE_FAILED


class NotVerified(GoldenError):
    """At least one check of the image was not `correct`, or the image did not boot."""

    exit_code = ExitCode.NOT_VERIFIED


class Busy(GoldenError):
    """Another process works on the same image."""

    exit_code = ExitCode.BUSY


class HostNotReady(GoldenError):
    """This machine lacks a tool, a permission or the space that the work needs."""

    exit_code = ExitCode.HOST


def together(errors: Sequence[BadInput], where: Path) -> BadInput:
    """Return one error for all `errors` of the file or folder `where`; an inherited mistake is said
    once."""
    errors = list({error.message: error for error in errors}.values())
    if len(errors) == 1:
        return errors[0]
    lines = list[str]()
    for error in errors:
        if error.tail:
            lines += error.tail.splitlines()
        elif error.hint:
            lines.append(f"{error.message}: {error.hint}")
        else:
            lines.append(error.message)
    lines = list(dict.fromkeys(lines))
    return BadInput(
        f"{where} has {len(lines)} mistakes", tail="\n".join(lines), hint="correct the lines above"
    )


KINDS = (BadInput, NoFit, Unreachable, StageFailed, NotVerified, Busy, HostNotReady)
"""The class of each exit code that an error can have, but INTERNAL."""
_FREE = "free space (`make clean`), or set GOLDEN_CACHE to a larger disk"
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_ACCESS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR})
"""Error numbers with which the kernel refuses a path. ENOTDIR and EISDIR mean a file in place of a
folder, such as GOLDEN_CACHE=/dev/null, or a folder in place of a file."""


@contextmanager
def space(where: Path) -> Iterator[None]:
    """Turn an OSError in the block into HostNotReady if a disk is full or this user may not write
    the path. An error that names no file is about `where`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ACCESS and error.filename:
            raise HostNotReady(
                f"{error.filename}: {(error.strerror or '').lower()}",
                hint="run as root in a checkout of your own, with a GOLDEN_CACHE that it may write",
            ) from error
        if error.errno not in NO_SPACE:
            raise
        raise HostNotReady(
            f"no space left on the disk of {error.filename or where}", hint=_FREE
        ) from error


_WORDS: tuple[tuple[re.Pattern[str], type[GoldenError], str, str], ...] = (
    (
        re.compile("No space left on device|Disk quota exceeded"),
        HostNotReady,
        "no space left on a disk",
        _FREE,
    ),
    (
        re.compile("not valid yet|not yet valid|Not live until|time warp"),
        HostNotReady,
        "this machine's clock is behind",
        "set the clock (`timedatectl set-ntp true`), then run again",
    ),
    (
        re.compile("Release file .* expired|certificate has expired"),
        Unreachable,
        "it has expired, or this machine's clock is ahead",
        "look at the clock (`date`); if it is right, use another mirror",
    ),
    (
        re.compile(
            "(?i)certificate.verify.failed(?!: (hostname|ip) )|unknown authority|signer not"
        ),
        Unreachable,
        "this machine does not trust the server's certificate",
        "if your company's authority signed it, name that in SSL_CERT_FILE "
        "(docs/company-sources.md)",
    ),
)
"""Messages of dpkg, apt, its signature verifiers and TLS whose cause is this machine or an expired
file: pattern, error class, cause, hint."""


def with_cause(error: GoldenError) -> GoldenError:
    """Return `error`, or in its place one that names the true cause, if the output of a tool or a
    mirror shows a full disk, a wrong clock or an expired file."""
    if isinstance(error, StageFailed | Unreachable):
        for words, kind, cause, hint in _WORDS:
            if words.search(f"{error.message}\n{error.tail}"):
                return kind(f"{cause}: {error.message}", hint=hint, tail=error.tail, log=error.log)
    return error
