"""Seconds to SSH of an image and of a plain Debian cloud image of its release, in turn. `make bench-boot`.

The plain one has the packages and the debconf answer of Debian's own EC2 image (the configuration space of
debian-cloud-images: classes CLOUD, EC2, SYSTEM_BOOT, EXTRAS), the same kernel package, and is otherwise as Debian
ships it: cloud-init's own configuration, an initramfs of MODULES=most. The disk's writer, GRUB, firmware and QEMU are
the same for both. RUNS boots of each, the first login as the end. Prints a table, and where each boot's time went.
Beside the seconds stand those of QEMU's processors: what else a machine does changes them less.

Writes build/bench/boot-<image>.json. Needs root, the mirrors, a verified build of the image and 6 GB.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.records import Record
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import boot_time, cpu, vm
from goldenami.model.builds import lockfile
from goldenami.model.builds.build_folder import ImageFolder
from goldenami.model.builds.build_records import Accel, Boot
from goldenami.model.supported import instruction_sets
from goldenami.packages import mirrors

ROOT = Path(__file__).resolve().parents[2]
RUNS = int(os.environ.get("RUNS", "3"))
AIM = 0.6
PLAIN = "plain Debian"
PACKAGES = {
    "base, kernel": "init netbase apt-utils linux-sysctl-defaults zstd apparmor linux-image-cloud-amd64 e2fsprogs",
    "CLOUD": "openssh-server ssh-import-id",
    "EC2": "awscli cloud-init cloud-guest-utils amazon-ec2-utils",
    "SYSTEM_BOOT": "sudo libpam-systemd systemd-resolved libnss-resolve libnss-myhostname netplan.io polkitd "
                   "unattended-upgrades iptables iputils-ping less nano vim-tiny whiptail chrony dbus udev",
    "EXTRAS": "apt-listchanges bash-completion bind9-host man-db manpages socat pciutils reportbug traceroute vim "
              "psmisc tcpdump ca-certificates curl ethtool uuid-runtime screen xz-utils",
}
"""What Debian's list names, by its class. Not cloud-initramfs-growroot: the disk writer's root grows by cloud-init."""
DEBCONF = "cloud-init cloud-init/datasources multiselect Ec2"
GROWTH_BYTES = 1 << 30
"""The volume is larger than the image, as in `verify`."""


def plain(release: str, folder: Path) -> Path:
    """The disk of a plain Debian cloud image."""
    tree, answers = folder / "tree", folder / "debconf"
    answers.write_text(DEBCONF + "\n", encoding="utf-8")
    names = [name for line in PACKAGES.values() for name in line.split()]
    shell.stream([
        "mmdebstrap", "--quiet", "--mode=root", "--variant=important", f"--include={','.join(names)}",
        "--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io",
        f"--essential-hook=chroot \"$1\" debconf-set-selections < {answers}", release, str(tree),
        f"deb {mirrors.locate(['debian'])['debian']} {release} main",
    ], log=folder / "mmdebstrap.log")
    (tree / "etc/machine-id").write_text("", encoding="utf-8")
    for name in ("etc/hostname", *(f"etc/ssh/{path.name}" for path in (tree / "etc/ssh").glob("ssh_host_*"))):
        (tree / name).unlink(missing_ok=True)
    for path in tree.rglob("*"):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith("system.posix_acl"):  # systemd-tmpfiles sets them again
                os.removexattr(path, name)
    facts = disk.write_disk(tree, folder / "disk.raw", log=folder / "disk.log", layout=disk.DiskLayout(
        image=f"plain-{release}", size_bytes=3 << 30, source_date_epoch=1_700_000_000, immutable=False))
    shell.output(["rm", "-rf", str(tree)])
    return facts.disk


class Measured(Record):
    """One boot, and the seconds that processors worked for it until the first login."""

    boot: Boot
    processor_s: float


def boot(image: Path, folder: Path) -> Measured:
    """One boot in namespaces of its own."""
    key = folder / "key"
    if not key.exists():
        shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
    argv = [sys.executable, __file__, "--boot", str(image), str(folder)]
    shell.stream(namespaces.unshare_argv(argv), log=folder / "boot.log", env=shell.python_env())
    return records.read(folder / "boot.json", Measured)


def inside(image: Path, folder: Path) -> None:
    """Boot, ask where the time went, write it down."""
    namespaces.prepare()
    features = instruction_sets.features("x86-64-v3")
    accelerator = Accel.KVM if vm.kvm_works(image, folder / "probe") else Accel.TCG
    with vm.running(vm.VmConfig(
        disk=image, scratch=folder / "vm", private_key=folder / "key", user="debian", firmware=vm.Firmware.BIOS,
        accelerator=accelerator, size_bytes=image.stat().st_size + GROWTH_BYTES, ssh_limit_s=600,
        cpu=cpu.emulated(features, instruction_sets.KNOWN_X86).argument,
    )) as machine:
        processor_s = sum(map(int, Path(f"/proc/{machine.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        earlier = boot_time.moment(machine)
        machine.ssh("cloud-init status --wait >/dev/null; true", timeout_s=600)
        times = boot_time.look(machine, earlier)
        records.write(folder / "boot.json", Measured(processor_s=processor_s / os.sysconf("SC_CLK_TCK"), boot=Boot(
            firmware=vm.Firmware.BIOS.value, seconds_to_ssh=round(machine.seconds_to_ssh, 1), times=times)))


def main() -> None:
    """Measure one image against Debian's."""
    image = sys.argv[1]
    build = ImageFolder.of(ROOT, image).latest
    if build is None:
        sys.exit(f"{image} has no verified build: make bake IMAGE={image}")
    release = lockfile.read_copy(build.lock)[0].base.release
    found: dict[str, list[Measured]] = {PLAIN: [], image: []}
    with tempfile.TemporaryDirectory(dir=build.image.path) as temporary:
        folder = Path(temporary)
        disks = {PLAIN: plain(release, folder), image: build.disk}
        for _ in range(RUNS):
            for name, path in disks.items():
                found[name].append(boot(path, folder))
                print(said(name, found[name][-1]), flush=True)
    report(image, found)


def said(name: str, measured: Measured) -> str:
    """One line."""
    return f"{name:24} {measured.boot.seconds_to_ssh:6.1f} s, processors {measured.processor_s:6.1f} s"


def report(image: str, found: dict[str, list[Measured]]) -> None:
    """Print medians and where the time of the median boot went; keep the figures."""
    figures: dict[str, dict[str, float]] = {}
    for name, runs in found.items():
        middle = sorted(runs, key=lambda one: one.boot.seconds_to_ssh)[len(runs) // 2]
        print(f"{said(name, middle)}  (median of {len(runs)})")
        for timings in (middle.boot.times.parts, middle.boot.times.units, middle.boot.times.modules) \
                if middle.boot.times else ():
            print("    " + ", ".join(f"{timing.name} {timing.seconds}" for timing in timings))
        figures[name] = {"seconds": statistics.median(one.boot.seconds_to_ssh for one in runs),
                         "processor_s": statistics.median(one.processor_s for one in runs)}
    ratios = {key: round(figures[image][key] / figures[PLAIN][key], 3) for key in figures[image]}
    print(f"{image} / {PLAIN}: {ratios['seconds']:.2f} of the time (aim {AIM}: "
          f"{'met' if ratios['seconds'] <= AIM else 'missed'}), {ratios['processor_s']:.2f} of the processors'")
    records.write_text(ROOT / "build/bench" / f"boot-{image}.json", records.canonical({
        "image": image, "medians": figures, "ratios": ratios, "load_1m": os.getloadavg()[0],
        "runs": {name: [one.model_dump(mode="json") for one in runs] for name, runs in found.items()}}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--boot"]:
        inside(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
