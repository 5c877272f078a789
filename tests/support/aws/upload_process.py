"""An upload as a process, for tests that kill it: `upload_process.py DISK JOURNAL [IN_FLIGHT]
[PARENT MAP]`.

Where to and as whom comes from the environment, as with any AWS tool. Prints the snapshot as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

from goldenami.aws import session
from goldenami.aws.snapshots import ebs
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.disk_blocks import BlockMap


def main() -> None:
    """Scan and upload."""
    disk, journal = Path(sys.argv[1]), Path(sys.argv[2])
    in_flight = int(sys.argv[3]) if len(sys.argv) > 3 else None
    parent = (
        ebs.Parent(sys.argv[4], BlockMap.open(Path(sys.argv[5]))) if len(sys.argv) > 5 else None
    )
    account = session.Account()
    listed = disk_blocks.scan(disk, disk.with_suffix(".blocks"))
    done = ebs.upload(account.ebs("us-east-1"), account.ec2("us-east-1"), disk, listed,
                      journal=journal,
                      tags={"goldenami:image": "i"}, description="d", parent=parent,
                      in_flight=in_flight,
                      say=lambda text: print(text, file=sys.stderr))
    # Not ru_maxrss: a child inherits what its parent had at the fork.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB",
                         Path("/proc/self/status").read_text(encoding="utf-8"))
    print(json.dumps(dataclasses.asdict(done) | {"peak_kib": int(peak)}))


if __name__ == "__main__":
    main()
