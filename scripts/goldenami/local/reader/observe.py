"""Observe a file system: start the reader's process, serve it the disk's bytes, and end it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from goldenami.core import shell
from goldenami.local.reader import limits, wire
from goldenami.local.reader.block_source import BlockSource, Extent
from goldenami.local.reader.limits import Unreadable
from goldenami.local.reader.path_state import PathState
from goldenami.local.reader.walk import AS_BAKED, Area, Said
from goldenami.local.reader.wire import Say


@dataclass(frozen=True)
class Region:
    """A part of a disk, such as a partition, as a disk of its own."""

    disk: BlockSource
    offset: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= offset + length <= self.size:
            raise Unreadable(f"bytes {offset} to {offset + length} of a part of {self.size}")
        return self.disk.read(self.offset + offset, length)


@dataclass(frozen=True)
class Observation:
    """A request to observe a file system.

    `baked` are the manifest's paths, `sizes` the bytes of their files, or -1 for other types. The
    content of paths that the regular expression `kept` matches is handed over. `data` are names of
    areas and a regular expression for the paths of each: those are counted, and listed only if they
    are folders that were baked, set-id files, capabilities, devices, or `kept`.

    With `base`, the file system as it was baked, and `changed`, the parts written since, only what
    lies elsewhere or in a changed part is checked and hashed.
    """

    system: BlockSource
    baked: Mapping[str, PathState]
    sizes: Mapping[str, int]
    kept: str
    base: BlockSource | None = None
    changed: Sequence[Extent] | None = None
    data: Sequence[tuple[str, str]] = ()


class Observed(NamedTuple):
    """The states of paths that were read, the paths that are as baked, what the file system says of
    itself, and what the areas of data hold."""

    states: list[PathState]
    as_baked: set[str]
    settings: str
    areas: dict[str, Area]


def observe(wanted: Observation) -> Observed:
    """Return the observation of every path. Raises Unreadable if the disk cannot be read or
    contradicts itself."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(limits.SILENCE_S)
        argv = shell.python_argv("goldenami.local.reader.read_disk", str(theirs.fileno()))
        command = shell.Command(argv, env=shell.python_env())
        process = command.start(log=Path(os.devnull), pass_fds=[theirs.fileno()])
        # Else our own copy would hide that the reader is gone.
        theirs.close()
        try:
            return _serve(ours, wanted)
        except TimeoutError:
            raise Unreadable(f"the reader said nothing for {limits.SILENCE_S} s") from None
        except ConnectionError:
            raise Unreadable("the reader ended before its disk did") from None
        finally:
            shell.stop(process, grace_s=0)


def _serve(connection: socket.socket, wanted: Observation) -> Observed:
    """Answer the reader until it is done, and return what it found."""
    wire.send(connection, Say.ASKED, json.dumps(_request(wanted)).encode())
    observed, received = Observed([], set(), "", {}), 0
    disks = [wanted.system, wanted.base]
    while True:
        kind, data = wire.receive(connection)
        received += len(data)
        if received > limits.OUTPUT_BYTES:
            raise Unreadable("the reader has too much to say")
        match kind:
            case Say.READ:
                number, offset, length = wire.READ.unpack(data)
                disk = disks[number]
                if disk is None:
                    raise Unreadable("the reader asks for a disk that it was not given")
                wire.send(connection, Say.DATA, disk.read(offset, length))
            case Say.ROWS:
                _take(json.loads(data), wanted.baked, observed)
            case Say.DONE:
                last = json.loads(data)
                areas = {name: Area(*figures) for name, figures in last["areas"].items()}
                return observed._replace(settings=last["settings"], areas=areas)
            case _:
                # Unreadable begins with these words itself.
                raise Unreadable(data.decode("utf-8", "replace").removeprefix("could not look: "))


def _take(rows: list[Said], baked: Mapping[str, PathState], observed: Observed) -> None:
    """Add rows of the reader to `observed`."""
    for row in rows:
        if isinstance(row, str):
            observed.as_baked.add(row)
            continue
        if row.get("sha256") == AS_BAKED:
            row["sha256"] = baked[row["path"]].sha256
        observed.states.append(PathState.of_row(row))


def _request(wanted: Observation) -> dict[str, Any]:
    """Return the request to the reader."""
    base_size, changed = 0, None
    if wanted.base is not None and wanted.changed is not None:
        base_size, changed = wanted.base.size, wanted.changed
    return {
        "size": wanted.system.size,
        "base_size": base_size,
        "changed": changed,
        "kept": wanted.kept,
        "sizes": dict(wanted.sizes),
        "data": list(wanted.data),
        "cpu_s": limits.CPU_S
        + sum(wanted.sizes.values()) // limits.HASHED_PER_S
        + wanted.system.size // limits.SEARCHED_PER_S,
    }
