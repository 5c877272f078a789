"""What the bucket has of an owner, back in the folder."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from golden_keep import state
from golden_keep.bucket import PARALLEL, Bucket, Found, Refused, Transfer, same_content
from golden_keep.folders import Folder
from golden_keep.index import OTHER, Index
from golden_keep.scan import STATE, File, shown
from golden_keep.sending import beside
from golden_keep.state import KeepError, now

SPARE, SAY_S = 64 << 20, 2.0
"""Bytes of the disk that stay free, and seconds between signs that it moves."""


@dataclass(frozen=True)
class _Coming:
    """An object, and the local file in its place: as it is safe, or as one that stays."""

    found: Found
    replaced: File | None
    stays: bool
    transfer: Transfer


class Restore:
    """One run. `lines` is what the user has to know."""

    def __init__(self, root: Path, folder: Folder, say: Callable[[str], None]) -> None:
        place = state.place(root, folder)
        self._bucket, self._top, self._say = Bucket(place), folder.path.resolve(), say
        self._index = Index(state.folder_of_state(root, folder) / "index.sqlite", place)
        self._new, self.lines = self._top / STATE / "new", list[str]()

    def run(self) -> int:
        """Restore, and return how many files came. Raises KeepError."""
        found = {each.path: each for each in self._bucket.list()}
        for each in self._records(found):
            found.pop(each, None)
        coming = [plan for each in found.values() for plan in self._plan(each)]
        needed = sum(each.found.size for each in coming)
        free = shutil.disk_usage(self._top).free
        if needed > max(0, free - SPARE):
            raise KeepError(
                f"no space: {needed / 1e9:.1f} GB would come back, and {self._top} has "
                f"{free / 1e9:.1f} GB free: nothing was restored; make room, or use a larger disk"
            )
        self._new.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._fetch_all(sorted(coming, key=lambda each: each.found.size), needed)
        finally:
            shutil.rmtree(self._new, ignore_errors=True)

    def _records(self, found: dict[str, Found]) -> Iterator[str]:
        """Yield the paths that are no files to restore; say what other machines lost."""
        records = [each for path, each in found.items() if path.startswith(f"{STATE}/")]
        for each in records:
            yield each.path
            machine = Path(each.path).stem
            if machine == self._bucket.machine:
                continue
            said = self._bucket.read_record(each.path)
            for path, etag in said.get("gone", {}).items():
                if path in found and found[path].etag == etag and found[path].at <= each.at:
                    yield path
            lost = [
                path
                for path in said.get("waiting", [])
                if path not in found or found[path].at <= each.at
            ]
            if lost:
                self.lines.append(
                    f"{len(lost)} files of {machine} were not safe at its end ({said.get('kind')}, "
                    f"{said.get('at')}): {', '.join(map(shown, lost[:20]))}"
                )

    def _plan(self, found: Found) -> Iterator[_Coming]:
        parts = found.path.split("/")
        if {"", ".", ".."} & set(parts) or "\0" in found.path:
            self.lines.append(f"left out: {shown(found.path)}: no path of a file")
            return
        known, etag = self._index.known.get(found.path, (None, ""))
        try:
            local = self._look(found.path)
        except OSError as error:
            self.lines.append(f"left out: {shown(found.path)}: {error.strerror}")
            return
        stays = local is not None and (local != known or etag == OTHER)
        # An equal one that is not here was deleted here.
        if stays or etag != found.etag:
            yield _Coming(found, local, stays, Transfer(found.size))

    def _fetch_all(self, coming: list[_Coming], needed: int) -> int:
        came, said = 0, now()
        with ThreadPoolExecutor(PARALLEL) as pool:
            jobs = {pool.submit(self._fetch, each): each for each in coming}
            running: set[Future[tuple[File, str]]] = set(jobs)
            while running:
                done, running = wait(running, SAY_S, FIRST_COMPLETED)
                try:
                    came += sum(self._finish(job, jobs[job]) for job in done)
                except KeepError:
                    pool.shutdown(wait=False, cancel_futures=True)
                    for each in coming:
                        each.transfer.cancel()
                    raise
                if now() - said > SAY_S:
                    said = now()
                    moved = sum(each.transfer.moved for each in coming)
                    self._say(
                        f"restored {came} of {len(coming)} files, "
                        f"{moved / 1e6:.0f} of {needed / 1e6:.0f} MB"
                    )
        self._index.save()
        return came

    def _finish(self, job: Future[tuple[File, str]], coming: _Coming) -> int:
        path = shown(coming.found.path)
        try:
            file, etag = job.result()
        except Refused:
            self.lines.append(f"left out: {path}: another machine just wrote it: restore again")
        except OSError as error:
            self.lines.append(f"left out: {path}: {error.strerror or error}")
        else:
            self._index.put(file, etag)
            self._index.save()
            if file.path != coming.found.path:
                self.lines.append(f"{path} is another here; the bucket's is {shown(file.path)}")
            return 1
        return 0

    def _fetch(self, coming: _Coming) -> tuple[File, str]:
        """Bring one file; return it as it lies there now, with its object's ETag."""
        found, path, replaced = coming.found, coming.found.path, coming.replaced
        if coming.stays and coming.replaced and self._is_equal(coming.replaced, found):
            return coming.replaced, found.etag
        if coming.stays:
            found = self._bucket.head(path) or found
            path = beside(path, found.machine)
            replaced = self._look(path)
            if replaced and replaced[1:3] == (found.size, found.mtime_ns):
                return replaced, OTHER  # it came before
            if replaced != self._index.known.get(path, (None,))[0]:
                replaced = None
        part = self._new / str(id(coming))
        try:
            found = self._bucket.get(found, part, coming.transfer)
            os.utime(part, ns=(found.mtime_ns, found.mtime_ns))
            if found.mode is not None:
                part.chmod(found.mode)
            target = self._top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.parent.resolve() != target.parent:
                raise OSError("a link on this machine leads elsewhere")
            if replaced:
                if self._look(path) != replaced:
                    raise OSError("it changed just now: restore again")
                part.replace(target)
            else:
                os.link(part, target)  # it never replaces a file
        finally:
            part.unlink(missing_ok=True)
        return File.of(path, target.lstat()), found.etag if not coming.stays else OTHER

    def _look(self, path: str) -> File | None:
        try:
            return File.of(path, (self._top / path).lstat())
        except FileNotFoundError:
            return None

    def _is_equal(self, local: File, found: Found) -> bool:
        if local.size != found.size or not stat.S_ISREG(local.mode):
            return False
        opened = os.open(self._top / local.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            same = same_content(opened, local.size, found.etag)
            return same and File.of(local.path, os.fstat(opened)) == local
        finally:
            os.close(opened)
