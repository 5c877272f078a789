"""What an upload costs: against plain PUTs of the same bytes, with latency, again after a kill. `make bench-upload`.

Prints tables and writes build/bench/upload.json. The server (`ebs_sink.py --trust`) is a process on the same cores that
hashes and keeps nothing. A busy machine measures its load: compare figures of one round only; ratios are medians over
rounds in which everything is measured in turn. The disk is 20 GiB with 2 GiB of data below TMPDIR.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from goldenami.aws import session
from goldenami.aws.snapshots import ebs
from goldenami.core.records import canonical, write_text
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from support.aws import ebs_wire

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests/support/aws"
GIB = 1 << 30
DISK_GIB, DATA_BLOCKS = 20, 4096
CHANGED = 613
"""Blocks that a release of a driver changes; the number is arbitrary, the count of PUTs has to equal it."""
ROUNDS = 5
KILLS = 5
LATENCY_S = 0.1


class Server:
    """The sink as a process."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen([sys.executable, str(PROGRAMS / "ebs_sink.py"), *options],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        os.environ |= {"AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": ebs_wire.KEY_ID,
                       "AWS_SECRET_ACCESS_KEY": ebs_wire.SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
        account = session.Account()
        self.clients = account.ebs("us-east-1"), account.ec2("us-east-1")

    def counts(self) -> dict[str, int]:
        """PUTs so far, and different blocks among them."""
        with urllib.request.urlopen(f"{self.url}/_counts") as answer:
            return dict(json.load(answer))

    def stop(self) -> None:
        self._process.communicate()


@contextmanager
def server(*options: str) -> Iterator[Server]:
    made = Server(*options)
    try:
        yield made
    finally:
        made.stop()


def make_disk(path: Path) -> None:
    """DISK_GIB with DATA_BLOCKS of data, in runs as a file system has them."""
    source = random.Random(1)
    starts = sorted(source.sample(range(0, DISK_GIB * 2048, 64), DATA_BLOCKS // 64))
    with path.open("wb") as disk:
        disk.truncate(DISK_GIB * GIB)
        for start in starts:
            os.pwrite(disk.fileno(), source.randbytes(64 * BLOCK), start * BLOCK)


def indexes(listed: BlockMap) -> list[int]:
    return [index for index, _sha256 in listed]


def plain(url: str, disk: Path, listed: BlockMap, threads: int, *, checksum: bool) -> float:
    """Seconds to PUT the blocks by http.client alone; with `checksum` as the API demands it of every client."""
    source, lock, parts = iter(indexes(listed)), threading.Lock(), urlsplit(url)
    began = time.monotonic()

    def work() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        headers = {"x-amz-Data-Length": str(BLOCK), "x-amz-Checksum-Algorithm": "SHA256", "x-amz-Checksum": "-"}
        while True:
            with lock:
                index = next(source, None)
            if index is None:
                connection.close()
                return
            block = os.pread(fd, BLOCK, index * BLOCK)
            if checksum:
                headers["x-amz-Checksum"] = base64.b64encode(hashlib.sha256(block).digest()).decode()
            connection.request("PUT", f"/snapshots/plain/blocks/{index}", body=block, headers=headers)
            connection.getresponse().read()

    with disk.open("rb") as opened:
        fd = opened.fileno()
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return time.monotonic() - began


_FOLDERS = itertools.count()


def upload(made: Server, disk: Path, listed: BlockMap, folder: Path, *, in_flight: int | None = None,
           parent: ebs.Parent | None = None) -> tuple[float, ebs.UploadedSnapshot]:
    """Seconds of `ebs.upload` without the wait for EBS to seal."""
    marks: list[float] = []
    began = time.monotonic()

    def mark(_count: int) -> None:
        marks[:] = [time.monotonic()]

    done = ebs.upload(*made.clients, disk, listed, journal=folder / f"journal{next(_FOLDERS)}", tags={},
                      description="", parent=parent, in_flight=in_flight, on_bytes=mark)
    return (marks or [began])[0] - began, done


def throughput(disk: Path, folder: Path) -> dict[str, object]:
    """MB/s of each way, median of the rounds, and the uploader's ratio to plain PUTs."""
    found: dict[str, list[float]] = {}
    with server("--trust") as made:
        for _ in range(ROUNDS):
            began = time.monotonic()
            listed = disk_blocks.scan(disk, folder / "disk.blocks")
            scanned = time.monotonic() - began
            hashing, bare = (plain(made.url, disk, listed, 8, checksum=wanted) for wanted in (True, False))
            many = plain(made.url, disk, listed, ebs.IN_FLIGHT, checksum=True)
            sending, _done = upload(made, disk, listed, folder)
            for name, seconds in (
                ("list the blocks (SHA-256 of all data)", scanned),
                ("plain PUTs with checksums, 8 threads", hashing), ("plain PUTs without, 8 threads", bare),
                (f"plain PUTs with checksums, {ebs.IN_FLIGHT} threads", many),
                ("upload of listed blocks", sending), ("list and upload", scanned + sending),
            ):
                found.setdefault(name, []).append(seconds)
    ratios = {
        "upload of listed blocks / plain PUTs with checksums": _ratio(found, "plain PUTs with checksums, 8 threads",
                                                                      "upload of listed blocks"),
        "upload of listed blocks / plain PUTs without checksums": _ratio(found, "plain PUTs without, 8 threads",
                                                                         "upload of listed blocks"),
        "list and upload / plain PUTs with checksums": _ratio(found, "plain PUTs with checksums, 8 threads",
                                                              "list and upload"),
        "list and upload / plain PUTs without checksums": _ratio(found, "plain PUTs without, 8 threads",
                                                                 "list and upload"),
    }
    rates = {name: round(DATA_BLOCKS * BLOCK / 1e6 / statistics.median(seconds)) for name, seconds in found.items()}
    spread = {name: f"{min(each):.2f} to {max(each):.2f} s" for name, each in found.items()}
    return {"MB/s, median": rates, "ratio, median": ratios, "spread": spread}


def _ratio(found: dict[str, list[float]], base: str, ours: str) -> float:
    return round(statistics.median(one / other for one, other in zip(found[base], found[ours], strict=True)), 2)


def in_flight(disk: Path, listed: BlockMap, folder: Path) -> dict[str, object]:
    """Blocks a second by number in flight, at the latencies of a near and a far region."""
    rows: dict[str, object] = {}
    for latency in (0.0, 0.02, LATENCY_S):
        with server("--trust", "--latency", str(latency)) as made:
            rates = {}
            for count in (8, 16, 32, 64, 128):
                seconds, _done = upload(made, disk, _some(listed, folder, 2048 if count > 16 else 512), folder,
                                        in_flight=count)
                sent = 2048 if count > 16 else 512
                rates[str(count)] = round(sent / seconds)
                if latency == LATENCY_S:
                    rows[f"of the limit at 100 ms, {count} in flight"] = round(sent / seconds / (count / latency), 3)
            rows[f"blocks/s by number in flight, {latency * 1e3:.0f} ms a PUT"] = rates
    return rows


def _some(listed: BlockMap, folder: Path, count: int) -> BlockMap:
    """A list of the first `count` blocks."""
    part = BlockMap.create(folder / f"part{count}.blocks", listed.gib)
    with part.path.open("r+b") as sink:
        for index, sha256 in itertools.islice(listed, count):
            os.pwrite(sink.fileno(), sha256, index * disk_blocks.SLOT)
    return part


def puts(disk: Path, listed: BlockMap, folder: Path) -> dict[str, object]:
    """PUTs of a whole disk and of its successor."""
    changed = folder / "next.raw"
    subprocess.run(["cp", "--sparse=always", str(disk), str(changed)], check=True)
    source = random.Random(2)
    data = indexes(listed)
    touched = source.sample(data, CHANGED - 100) + source.sample(sorted(set(range(DISK_GIB * 2048)) - set(data)), 60)
    zeroed = source.sample(sorted(set(data) - set(touched)), 40)
    with changed.open("r+b") as sink:
        for index in touched:
            os.pwrite(sink.fileno(), source.randbytes(16), index * BLOCK + source.randrange(BLOCK - 16))
        for index in zeroed:
            os.pwrite(sink.fileno(), bytes(BLOCK), index * BLOCK)
    with server("--trust") as made:
        _seconds, first = upload(made, disk, listed, folder)
        whole = made.counts()["puts"]
        after = disk_blocks.scan(changed, folder / "next.blocks")
        upload(made, changed, after, folder, parent=ebs.Parent(first.id, listed))
        delta = made.counts()["puts"] - whole
    changed.unlink()
    return {"blocks of the disk": DISK_GIB * 2048, "not zeros": DATA_BLOCKS, "PUTs": whole,
            "blocks that differ in its successor": len(touched) + len(zeroed), "PUTs of the successor": delta}


def kills(disk: Path, folder: Path) -> dict[str, object]:
    """Blocks sent twice when a process is killed somewhere and another one finishes."""
    source, twice, peaks = random.Random(), [], []
    for number in range(KILLS):
        with server("--trust") as made:
            argv = [sys.executable, str(PROGRAMS / "upload_process.py"), str(disk), str(folder / f"kill{number}")]
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=os.environ | {
                "PYTHONPATH": str(ROOT / "scripts")})
            until = source.randrange(100, DATA_BLOCKS)
            while made.counts()["puts"] < until and process.poll() is None:
                time.sleep(0.005)
            process.kill()
            process.wait()
            done = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, env=os.environ | {
                "PYTHONPATH": str(ROOT / "scripts")}).stdout)
            counts = made.counts()
            assert counts["blocks"] == DATA_BLOCKS
            twice.append(counts["puts"] - counts["blocks"])
            peaks.append(done["peak_kib"])
    return {"in flight": ebs.in_flight_of(DATA_BLOCKS), "blocks sent twice, each kill": twice,
            "share of the disk's, worst": f"{max(twice) / DATA_BLOCKS:.2%}",
            "peak memory of the process, MiB": max(peaks) >> 10}


def main() -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        folder, wanted = Path(name), set(sys.argv[1].split(","))
        disk = folder / "disk.raw"
        make_disk(disk)
        listed = disk_blocks.scan(disk, folder / "disk.blocks")
        parts: dict[str, Callable[[], dict[str, object]]] = {
            "throughput": lambda: throughput(disk, folder), "in flight": lambda: in_flight(disk, listed, folder),
            "PUTs": lambda: puts(disk, listed, folder), "kills": lambda: kills(disk, folder)}
        found: dict[str, object] = {}
        for part, measure in parts.items():
            if part in wanted or not wanted & parts.keys():  # `make bench-upload IMAGE=kills`: a part alone
                found[part] = measure()
                show(part, found[part])
    target = ROOT / "build/bench/upload.json"
    write_text(target, canonical({
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "cpus": os.cpu_count(),
        "load_1m": os.getloadavg()[0], "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, **found}))
    print(f"written to {target.relative_to(ROOT)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def show(part: str, found: object) -> None:
    """One line a figure."""
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, dict):
                show(f"{part}: {name}", value)
            else:
                print(f"{part}: {name:60} {value}", flush=True)


if __name__ == "__main__":
    main()
