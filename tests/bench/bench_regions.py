"""What it takes to bring one disk to 17 regions: seconds, threads, memory, bytes over the uplink. `make bench-regions`.

Prints a table and writes build/bench/regions.json. Every way runs in a process of its own, against one server
(`ebs_sink.py --trust`, 20 ms for each call) on the same cores; compare figures of one run only. The disk has the data
of a GPU image; another size is the argument in GiB (`make bench-regions IMAGE=0.5`). EC2's own copies are not timed.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account
from goldenami.aws.snapshots import ebs
from goldenami.core.records import canonical, write_text
from goldenami.core.units import GIB
from goldenami.core.worker_pool import Budget
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap
from goldenami.model.builds.sparse_disk import BLOCK
from support.aws import ebs_wire

ROOT = Path(__file__).resolve().parents[2]
REGIONS = ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "eu-west-1", "eu-west-2", "eu-west-3",
           "eu-central-1", "eu-north-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1",
           "ap-southeast-1", "ap-southeast-2", "sa-east-1")
GPU_DATA_GIB = 3.4
LATENCY_S = 0.02
WAYS = {"each region its own threads": "own", "one budget of threads": "budget", "one upload, 16 copies": "copy"}


def make_disk(path: Path, gib: float) -> None:
    """Data in runs of 32 MiB with holes between them; each block is another one."""
    source, run = random.Random(1), 64
    with path.open("wb") as disk:
        disk.truncate(20 * GIB)
        for number in range(int(gib * GIB / BLOCK / run)):
            base = source.randbytes(BLOCK)
            for index in range(run):
                at = number * 2 * run + index
                os.pwrite(disk.fileno(), at.to_bytes(8) + base[8:], at * BLOCK)


def send(way: str, disk: Path, folder: Path) -> None:
    """The upload as a process: prints its figures as JSON."""
    account, listed, threads = Account(), BlockMap.open(disk.with_suffix(".blocks")), [0]
    budget = None if way == "own" else Budget(ebs.IN_FLIGHT)
    began = time.monotonic()

    def watch() -> None:
        while True:
            threads[0] = max(threads[0], threading.active_count())
            time.sleep(0.002)

    def upload(region: str) -> None:
        ebs.upload(account.ebs(region), account.ec2(region), disk, listed, journal=folder / way / region, tags={},
                   description="", budget=budget, in_flight=ebs.IN_FLIGHT)

    threading.Thread(target=watch, daemon=True).start()
    for_each_region(REGIONS[:1] if way == "copy" else REGIONS, upload).require_all()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    print(json.dumps({"seconds": round(time.monotonic() - began, 1), "threads": threads[0] - 1,
                      "MiB resident": int(peak) >> 10, "processor seconds": round(time.process_time(), 1)}))


def measure(way: str, disk: Path, folder: Path) -> dict[str, float]:
    """One way's figures."""
    program = ROOT / "tests/support/aws/ebs_sink.py"
    with subprocess.Popen([sys.executable, str(program), "--trust", "--latency", str(LATENCY_S)],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        url = server.stdout.readline().strip()
        environment = os.environ | {
            "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": ebs_wire.KEY_ID, "AWS_SECRET_ACCESS_KEY": ebs_wire.SECRET,
            "AWS_EC2_METADATA_DISABLED": "true"}
        ran = subprocess.run([sys.executable, __file__, "--send", way, str(disk), str(folder)], env=environment,
                             stdout=subprocess.PIPE, check=True, text=True)
        with urllib.request.urlopen(f"{url}/_counts") as answer:
            sent = json.load(answer)["puts"] * BLOCK
        server.stdin.close()
    return {**json.loads(ran.stdout), "GiB over the uplink": round(sent / GIB, 2)}


def main() -> None:
    """Measure every way."""
    size = next((word for word in sys.argv[1:] if re.fullmatch(r"[\d.]+", word)), "")  # `make` names its default image
    gib = float(size) if size else GPU_DATA_GIB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = folder / "disk.raw"
        make_disk(disk, gib)
        disk_blocks.scan(disk, disk.with_suffix(".blocks"))
        found = {title: measure(way, disk, folder) for title, way in WAYS.items()}
    for title, figures in found.items():
        print(f"{title:<28}" + "  ".join(f"{value} {what}" for what, value in figures.items()))
    write_text(ROOT / "build/bench/regions.json", canonical({"regions": len(REGIONS), "GiB of data": gib,
                                                             "load_1m": os.getloadavg()[0], "ways": found}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
