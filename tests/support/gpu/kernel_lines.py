"""Lines of the kernel's log, and how golden-health names them."""

from __future__ import annotations

LOG = {
    "NVRM: Xid (PCI:0000:00:13 GPU-I:05): 95, pid=7, Uncontained": (
        "GPU 3: Xid 95 (uncontained memory error)"
    ),
    "NVRM: GPU 0000:00:13.0: GPU has fallen off the bus.": (
        "0000:00:13.0: GPU has fallen off the bus"
    ),
    "NVRM: Xid (PCI:0000:00:15 GPU-I:05): GPU has fallen off the bus.": (
        "0000:00:15: GPU has fallen off the bus"
    ),
    "NVRM: The NVIDIA GPU 0000:00:13.0\n"
    "     NVRM: (PCI ID: 10de:2330) installed in this system has\n"
    "     NVRM: fallen off the bus and is not responding to commands.": "a GPU: fallen off the bus",
    "NVRM: Xid (PCI:0000:00:14): 79, GPU has fallen off the bus.\n"
    "NVRM: GPU 0000:00:14.0: GPU has fallen off the bus.": (
        "GPU 4: Xid 79 (GPU has fallen off the bus)"
    ),
    "NVRM: RmInitAdapter failed! (0x24:0x65:1568)": "a GPU: RmInitAdapter failed! (0x24:0x65:1568)",
}
"""What the kernel's log alone says of GPUs, and how it is named."""
UNCORRECTED = "uncorrected error of memory or a processor"
TROUBLES = {
    "mce: [Hardware Error]: CPU 12: Machine Check Exception: 5 Bank 1: be00000": UNCORRECTED,
    "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#1_Chan#0_DIMM#0": UNCORRECTED,
    "Memory failure: 0x1a2b3c: recovery action for dirty LRU page: Failed": UNCORRECTED,
    "mce: [Hardware Error]: Machine check events logged": "error of memory or a processor",
    "CPU7: Package temperature above threshold, cpu clock throttled": "a processor is too hot",
    "BUG: kernel NULL pointer dereference, address: 08": "a part of the kernel crashed: reboot",
    "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI": "a part of the kernel crashed: reboot",
    "watchdog: BUG: soft lockup - CPU#3 stuck for 22s!": "a part of the kernel hangs: reboot",
    "rcu: INFO: rcu_sched self-detected stall on CPU": "a part of the kernel hangs: reboot",
    "INFO: task nvidia-smi:42 blocked for more than 120 seconds.": (
        "a part of the kernel hangs: reboot"
    ),
    "NVRM: The NVIDIA probe routine failed for 1 device(s).": "NVIDIA's driver did not start a GPU",
    "nvidia: probe of 0000:00:11.0 failed with error -1": "0000:00:11.0: its driver did not start",
    "efa 0000:00:20.0: probe with driver efa failed with error -62": (
        "0000:00:20.0: its driver did not start"
    ),
    "nvidia 0000:00:13.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction": (
        "0000:00:13.0: uncorrected PCIe error"
    ),
    "pci 0000:00:13.0: not ready 65535ms after FLR; giving up": (
        "0000:00:13.0: does not answer on the bus"
    ),
    "I/O error, dev nvme3n1, sector 12345 op 0x0:(READ) flags 0x80700": "nvme3n1: I/O errors",
    "critical medium error, dev nvme4n1, sector 12345 op 0x0:(READ)": "nvme4n1: I/O errors",
    "EXT4-fs error (device nvme0n1p1): ext4_find_entry:1682: inode #2: comm bash": (
        "nvme0n1p1: errors of its file system"
    ),
    "XFS (md127): Filesystem has been shut down due to log error (0x2).": (
        "md127: errors of its file system"
    ),
    "md/raid0:md127: Disk failure on nvme3n1 detected, failing array.": (
        "md127: a disk of the array failed"
    ),
    "nvme nvme3: controller is down; will reset: CSTS=0xffffffff": (
        "nvme3: its controller did not answer"
    ),
    "nvme nvme5: Removing after probe failure status: -19": "nvme5: its controller did not answer",
    "NETDEV WATCHDOG: ens5 (ena): transmit queue 3 timed out": "ens5: its adapter did not answer",
    "ena 0000:00:05.0 ens6: Keep alive watchdog timeout.": "ens6: its adapter did not answer",
    "efa 0000:00:20.0 rdmap0: Wait for completion (polling) timeout": (
        "rdmap0: its adapter did not answer"
    ),
}
"""What it says of the rest of the machine."""
HARMLESS = """NVRM: GPU at PCI:0000:00:13: GPU-5c1b0a8e-0000-0000-0000-000000000003
NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build
nvidia 0000:00:13.0: enabling device (0000 -> 0002)
nvidia 0000:00:13.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)
EDAC MC: Ver: 3.0.0
watchdog: Delayed init of the lockup detector failed: -19
traps: python3[42] general protection fault ip:7f0 sp:7ff error:0 in libc.so.6[7f00+1000]
python3[43]: segfault at 0 ip 00007f00 sp 00007fff error 4 in libtorch.so[7f00+1000] likely on CPU 3
Out of memory: Killed process 42 (python3) total-vm:1kB, anon-rss:1kB
I/O error, dev nvme1n1, sector 0 op 0x3:(DISCARD) flags 0x800 phys_seg 1
EXT4-fs (nvme0n1p1): re-mounted 8e2f r/w. Quota mode: none.
EXT4-fs error (device loop0): ext4_lookup:1855: inode #2: comm ls: a user's own image
XFS (md127): Ending clean mount
nvme nvme0: 2/0/0 default/read/poll queues
ena 0000:00:05.0: Elastic Network Adapter (ENA) found at mem febf4000, mac addr 0a:82:97:cd:ec:be
ena 0000:00:05.0 ens5: Found a Tx that wasn't completed on time, qid 3. Missing Tx timeout
INFO: task python3:42 blocked for more than 120 seconds.
"""
"""Lines of healthy machines, of users' programs and of errors that were corrected."""
