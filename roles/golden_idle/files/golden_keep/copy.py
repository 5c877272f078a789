"""One round: look at a folder, copy what is not safe, say how it stands."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path

from golden_keep import state
from golden_keep.bucket import PARALLEL, PART, Bucket, Changed, Refused
from golden_keep.folders import Folder
from golden_keep.index import Index
from golden_keep.scan import File, scan, shown
from golden_keep.sending import Sending
from golden_keep.state import End, KeepError, now

LAST_S, SAY_S, TICK_S = 2.0, 2.0, 0.5
"""Seconds that the last words take before an end, between statuses, and between looks at copies."""
MOST_NAMED = 20

_Running = dict[Future[tuple[File, str]], Sending]


class Round:
    """A round of one folder. The user whose folder it is runs it."""

    def __init__(self, root: Path, folder: Folder) -> None:
        self.began, self._root, self._folder = now(), root, folder
        self._place = state.place(root, folder)
        self._before = state.read_status(root, folder.uid)
        self._rate = float(self._before.get("rate", 0))
        self._arrived, self._measured = 0, (self.began, 0)
        prefix = self._place.removeprefix("s3://").partition("/")[2]
        self.files, self.left_out = scan(folder.path, f"{prefix}/")
        index = state.folder_of_state(root, folder) / "index.sqlite"
        self._index = Index(index, self._place)
        self.waiting = {
            path: file
            for path, file in self.files.items()
            if self._index.known.get(path, (None,))[0] != file
        }
        self.trouble, self._said = "", now()
        self._recorded = self._before.get("record")
        self._took = now() - self.began

    def run(self) -> None:
        """Copy what waits. The status says all, also what goes wrong."""
        end = state.end(self._root)
        if self.waiting or (end and _digest(self._record(end)) != self._recorded):
            try:
                bucket = Bucket(self._place)
                if self._send_all(bucket):
                    self._tell(bucket, state.end(self._root))
            except KeepError as error:
                self.trouble = str(error)
        self._say()

    def _record(self, end: End) -> str:
        """Return what the next machine has to know: what is not safe, what the user deleted."""
        gone = {
            path: etag
            for path, (_, etag) in self._index.known.items()
            if path not in self.files and path not in self.left_out
        }
        waiting = sorted([*self.waiting, *map(shown, self.left_out)])
        return json.dumps({"kind": end.kind, "waiting": waiting, "gone": gone})

    def _tell(self, bucket: Bucket, end: End | None) -> None:
        """Write the record of an end, unless the bucket has one that says the same."""
        record = self._record(end) if end else ""
        if not end or _digest(record) == self._recorded:
            return
        job = ThreadPoolExecutor(1).submit(bucket.write_record, json.loads(record))
        wait([job], None if end.until == float("inf") else max(0.0, end.until - now()))
        if not job.done():
            raise KeepError("the machine ends before the bucket answers")
        job.result()
        self._recorded = _digest(record)

    def _send_all(self, bucket: Bucket) -> bool:
        """Return whether it got so far: not if the way has to be free at once."""
        pool, running = ThreadPoolExecutor(PARALLEL), _Running()
        queue, last = sorted(self.waiting.values(), key=lambda file: file.mtime_ns), None
        while queue or running:
            end = state.end(self._root)
            if end and end != last:
                if self._is_in_the_way(end, queue, running):
                    # Parts on their way, up to 64 MB, end with this process alone. The agent starts
                    # the next round at once.
                    return False
                self._tell(bucket, end)
                # Smallest first, and newest first among equals: `pop` takes the last.
                queue.sort(key=lambda file: (-file.size, file.mtime_ns))
            last = end
            if self.trouble or _time_left(end) <= 0:
                _stop(queue, running)
            # At an end a large file's parts, which are many at once, keep no small one waiting.
            is_large = bool(end and queue and queue[-1].size > PART)
            if has_room := bool(queue) and len(running) < (1 if is_large else PARALLEL):
                if is_large:
                    # They may fill the way until the end: what is safe by now is told before them.
                    self._tell(bucket, end)
                sending = Sending(bucket, self._folder.path, queue.pop())
                if self._fits([*running.values(), sending], end):
                    known = self._index.known.get(sending.file.path)
                    job = pool.submit(sending.run, known, ask=self._index.fresh)
                    running[job] = sending
            done, _ = wait(running, 0 if has_room else TICK_S, FIRST_COMPLETED)
            for job in done:
                queue[:0] = self._finish(job, running.pop(job))
            self._go_on(running.values(), saved=bool(done))
            if end and now() > end.until:
                break  # a request hangs
        pool.shutdown(wait=False, cancel_futures=True)
        return True

    def _fits(self, sendings: Iterable[Sending], end: End | None) -> bool:
        needed = sum(sending.left for sending in sendings)
        return not self._rate or needed <= self._rate * _time_left(end)

    def _is_in_the_way(self, end: End, queue: list[File], running: _Running) -> bool:
        """Return whether something on its way cannot be whole in time with all that is smaller."""
        left = [sending.left for sending in running.values()]
        sizes = [*(file.size for file in queue), *left]
        in_time = self._rate * _time_left(end)
        return any(
            self._rate and sum(size for size in sizes if size <= large) > in_time for large in left
        )

    def _finish(self, job: Future[tuple[File, str]], sending: Sending) -> list[File]:
        """Note how a copy ended; return its file if it waits again."""
        path = sending.file.path
        self._arrived += sending.moved_at_full_speed
        try:
            file, etag = job.result()
        except CancelledError:
            return [sending.file]
        except Changed:
            pass  # it waits for the next round
        except Refused:
            self.trouble = (
                f"Refused: {shown(path)}: another machine wrote it just now, or the role "
            )
            self.trouble += "may not read it"
        except FileNotFoundError:
            del self.waiting[path], self.files[path]
        except OSError as error:
            del self.waiting[path], self.files[path]
            self.left_out[path] = error.strerror or str(error)
        except KeepError as error:
            self.trouble = self.trouble or str(error)
        else:
            del self.waiting[path]
            self._index.put(file, etag, sending.beside)
        return []

    def _go_on(self, running: Iterable[Sending], *, saved: bool) -> None:
        """Measure the way to the bucket by large files, save the index, and say how it stands."""
        if saved:
            self._index.save()
        moved = self._arrived + sum(sending.moved_at_full_speed for sending in running)
        since, before = self._measured
        took = now() - since
        if took >= 1 or not moved:  # the first second begins when something moves
            self._measured = (now(), moved)
            if moved > before:
                rate = (moved - before) / took
                self._rate += (rate - self._rate) / (5 if self._rate else 1)
        if now() - self._said > SAY_S:
            self._say()

    def _say(self) -> None:
        self._said = now()
        state.write(
            state.status_file(self._root, self._folder.uid),
            {
                "at": now(),
                "took_s": self._took,
                "owner": self._folder.owner,
                "place": self._place,
                "safe_files": len(self.files) - len(self.waiting),
                "safe_bytes": sum(
                    file.size for file in self.files.values() if file.path not in self.waiting
                ),
                "safe_since": self._before.get("safe_since") if self.waiting else self.began,
                "waiting_files": len(self.waiting),
                "waiting_bytes": sum(file.size for file in self.waiting.values()),
                "waiting": [shown(path) for path in sorted(self.waiting)[:MOST_NAMED]],
                "rate": round(self._rate),
                "left_out": [
                    f"{shown(path)}: {reason}"
                    for path, reason in sorted(self.left_out.items())[:MOST_NAMED]
                ],
                "left_out_files": len(self.left_out),
                "beside": self._index.beside(),
                "record": self._recorded,
                "trouble": self.trouble or self._index.trouble,
            },
        )


def _digest(record: str) -> int:
    return zlib.crc32(record.encode())


def _stop(queue: list[File], running: _Running) -> None:
    queue.clear()
    for sending in running.values():
        sending.transfer.cancel()


def _time_left(end: End | None) -> float:
    """Return the seconds in which copies have to end."""
    return end.until - LAST_S - now() if end else float("inf")
