"""What the kernel's log says of faults since boot: which lines tell one, and of which device."""

import re

from golden_health.gpu_calls import Facts, output

LOGGED = {
    "xids": re.compile(r"NVRM: Xid \((PCI:[0-9a-fA-F:.]+)[^)]*\): (\d+)"),
    "sxids": re.compile(r"SXid \((PCI:[0-9a-fA-F:.]+)[^)]*\): (\d+)"),
    # An instance of MIG may follow the address. What stands beside an Xid's number is the Xid's.
    "failures": re.compile(
        r"NVRM: (?!Xid \([^)]*\): \d)(?:.*?(?:GPU |PCI:)([\da-fA-F]+:[\da-fA-F:.]+\b).*? )?.*?"
        r"(RmInitAdapter failed!.*|(?:GPU has )?fallen off the bus)"
    ),
}
UNCORRECTED = "uncorrected error of memory or a processor"
TROUBLES = rf"""
{UNCORRECTED} <- \[Hardware Error\]: (?:CPU \d+: Machine Check Exc|event severity: [fr])
{UNCORRECTED} <- EDAC MC\d+: \d+ UE|Memory failure: 0x|Uncorrected hardware
error of memory or a processor <- \[Hardware Error\]|EDAC MC\d+: \d+ CE
a processor is too hot <- temperature above threshold
a part of the kernel crashed: reboot <- \bBUG: (?!soft|workq)|kernel BUG at|Oops: | \[#\d+\]
a part of the kernel hangs: reboot <- BUG: (?:soft|workq)|hard LOCKUP|rcu.*detected.* stall
a part of the kernel hangs: reboot <- task \S*nv\S+ blocked for more
NVIDIA's driver did not start a GPU <- NVRM: (?:The NVIDIA probe|None of|This PCI I/O reg)
its driver did not start <- (?:nvidia|nvme|ena|efa)(?:: probe of)? ADDRESS:? .*failed with error
uncorrected PCIe error <- ADDRESS: PCIe Bus Error: severity=Uncorrect
does not answer on the bus <- ADDRESS: (?:not ready .*giving up|.*change power state from D3cold)
I/O errors <- (?:I/O|medium) error(?: on|,) dev(?:ice)? DISK(?!.*(?:DISCARD|ZEROES))
errors of its file system <- (?:EXT4-fs|BTRFS) error \(device DISK
errors of its file system <- EXT4-fs \(DISK\): (?:Remounting filesystem read-only|shut down)
errors of its file system <- XFS \(DISK\): .*(?:[Cc]orrupt|[Ss]hut(?:ting)? down|I/O [Ee]rror)
a disk of the array failed <- md/raid\w*:DISK: .*Disk failure
its controller did not answer <- nvme DISK: (?:controller is down|.*not ready|.*QID \d+ timeout)
its controller did not answer <- nvme DISK: (?:Removing after probe|Disabling device after)
its adapter did not answer <- NETDEV WATCHDOG: (\w+) .*timed out|efa \S+ (\w+): .*timeout
its adapter did not answer <- ena \S+ (\w+): (?:NETDEV WATCHDOG|Keep alive|Reset attempt)
""".replace("ADDRESS", r"([\da-fA-F]+:[\da-fA-F:.]+\b)").replace("DISK", r"(nvme\w+|md\d+|dm-\d+)")
"""Words and a pattern of what is wrong beside GPUs' own errors. A group is the device."""


def since_boot() -> Facts:
    """Return what the log says, by kind: pairs of a device, which may be "", and a text."""
    # The kernel's ring buffer forgets old lines; the journal has them since this boot.
    log = output("dmesg") + output("journalctl", "--dmesg", "--boot", "--output=cat", "--no-pager")
    found = {name: set(pattern.findall(log)) for name, pattern in LOGGED.items()}
    troubles = found["troubles"] = set()
    for row in TROUBLES.strip().splitlines():
        words, _, pattern = row.partition(" <- ")
        troubles |= {("".join(match.groups("")), words) for match in re.finditer(pattern, log)}
    return {name: sorted(rows) for name, rows in found.items()}
