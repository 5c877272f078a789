"""Seconds to SSH of an image and of a plain Debian cloud image, in turn. `make bench-boot`.

The plain one has the packages and the debconf answer of Debian's own EC2 image
(debian-cloud-images: classes CLOUD, EC2, SYSTEM_BOOT, EXTRAS) and the same kernel. Disk writer,
GRUB, firmware and QEMU are the same for both. A boot ends with the first login. The seconds of
QEMU's processors change less with what else the machine does. Needs root, the mirrors, a verified
build of the image and 6 GB.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import harness
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import cpu, vm
from goldenami.model.builds.build_records import Accel
from goldenami.model.locked import lockfile
from goldenami.model.supported import instruction_sets
from goldenami.packages import mirrors

AIM = 0.6
PACKAGES = " ".join(
    (
        "init netbase apt-utils linux-sysctl-defaults zstd apparmor linux-image-cloud-amd64",
        "e2fsprogs openssh-server ssh-import-id awscli cloud-init cloud-guest-utils",
        "amazon-ec2-utils sudo dbus udev libpam-systemd systemd-resolved libnss-resolve",
        "libnss-myhostname netplan.io polkitd chrony unattended-upgrades iptables iputils-ping",
        "less nano vim-tiny whiptail apt-listchanges man-db bash-completion bind9-host manpages",
        "socat pciutils reportbug traceroute vim psmisc tcpdump ca-certificates curl ethtool",
        "uuid-runtime screen xz-utils",
    )
).replace(" ", ",")
"""Debian's list without cloud-initramfs-growroot: the root of our disk grows by cloud-init."""
GROWTH_BYTES = 1 << 30
"""The volume is larger than the image, as in `verify`."""


def plain(release: str, folder: Path) -> Path:
    """The disk of a plain Debian cloud image."""
    tree, answers = folder / "tree", folder / "debconf"
    answers.write_text("cloud-init cloud-init/datasources multiselect Ec2\n", encoding="utf-8")
    shell.stream(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=important",
            f"--include={PACKAGES}",
            '--aptopt=APT::Install-Recommends "false"',
            "--dpkgopt=force-unsafe-io",
            f'--essential-hook=chroot "$1" debconf-set-selections < {answers}',
            release,
            str(tree),
            f"deb {mirrors.locate(['debian'])['debian']} {release} main",
        ],
        log=folder / "mmdebstrap.log",
    )
    (tree / "etc/machine-id").write_text("", encoding="utf-8")
    for path in (tree / "etc/hostname", *(tree / "etc/ssh").glob("ssh_host_*")):
        path.unlink(missing_ok=True)
    for path in tree.rglob("*"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("system.posix_acl"):  # systemd-tmpfiles sets them again
                os.removexattr(path, name)
    layout = disk.DiskLayout(
        image=f"plain-{release}",
        size_bytes=3 << 30,
        immutable=False,
        source_date_epoch=1_700_000_000,
    )
    facts = disk.write_disk(tree, folder / "disk.raw", log=folder / "disk.log", layout=layout)
    shell.output(["rm", "-rf", str(tree)])
    return facts.disk


def boot(image: Path, folder: Path) -> dict[str, float]:
    """One boot in namespaces of its own: seconds to SSH, and those of the processors until then."""
    key = folder / "key"
    if not key.exists():
        shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    argv = [sys.executable, __file__, "--boot", str(image), str(folder)]
    shell.stream(namespaces.unshare_argv(argv), log=folder / "boot.log", env=shell.python_env())
    seconds: dict[str, float] = json.loads((folder / "boot.json").read_text(encoding="utf-8"))
    return seconds


def inside(image: Path, folder: Path) -> None:
    """Boot, and write down what it took."""
    namespaces.prepare()
    features = instruction_sets.features("x86-64-v3")
    kvm = vm.kvm_works(image, folder / "probe")
    with vm.running(
        vm.VmConfig(
            disk=image,
            scratch=folder / "vm",
            private_key=folder / "key",
            user="debian",
            firmware=vm.Firmware.BIOS,
            accelerator=Accel.KVM if kvm else Accel.TCG,
            ssh_limit_s=600,
            size_bytes=image.stat().st_size + GROWTH_BYTES,
            cpu=cpu.emulated(features, instruction_sets.KNOWN_X86).argument,
        )
    ) as machine:
        # After the command's name in parentheses, utime and stime are the fields 12 and 13.
        fields = Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()
        processors = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
        seconds = {"seconds to SSH": machine.seconds_to_ssh, "seconds of processors": processors}
    (folder / "boot.json").write_text(json.dumps(seconds), encoding="utf-8")


def compare(image: str, runs: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, Debian's first, and keep all runs."""
    for figure in ("seconds to SSH", "seconds of processors"):
        theirs, ours = (statistics.median(run[figure] for run in each) for each in runs.values())
        harness.show(f"plain Debian, {figure}", theirs)
        harness.show(f"{image}, {figure}", ours)
        aim = AIM if figure == "seconds to SSH" else None
        harness.show("    share of plain Debian's", ours / theirs, unit="", aim=aim)
    harness.keep(f"boot-{image}", {"image": image, "runs": runs})


def main() -> None:
    """Measure one image against Debian's."""
    image, build = harness.image(), harness.verified_build()
    release = lockfile.read_copy(build.lock)[0].base.release
    with tempfile.TemporaryDirectory(dir=build.image.path) as temporary:
        folder = Path(temporary)
        debian = plain(release, folder)
        runs = harness.in_turn(
            {"plain Debian": lambda: boot(debian, folder), image: lambda: boot(build.disk, folder)}
        )
    compare(image, runs)


if __name__ == "__main__":
    if sys.argv[1] == "--boot":
        inside(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
