"""Debian's cloud kernel under the names of Ubuntu's for EC2: image, modules and headers in packages
of their own.

The names are those of noble's archive: `linux-image-aws` depends on `linux-image-<release>`, that
on `linux-modules-<release>`; `linux-headers-aws` on `linux-headers-<release>`, which has
`scripts/sign-file` itself (DKMS: "/usr/src/linux-headers-$kernelver/scripts/sign-file" on Ubuntu).
noble-updates' meta package has left 6.8 for newer series, as Ubuntu's guide to linux-aws-64k shows:
linux-image-6.14.0-1009-aws, linux-modules-6.14.0-1009-aws.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

from support.ubuntu import dressed
from support.ubuntu.dressed import Repacked

RELEASE = "6.14.0-1018-aws"
VERSION = "6.14.0-1018.18~24.04.1"
_SETUP_SECTORS, _VERSION_TEXT, _PAYLOAD = 0x1F1, 0x20E, 0x248
"""Fields of a bzImage's header: setup_sects, kernel_version, payload_offset and payload_length
(Documentation/arch/x86/boot.rst)."""
_SIZE_BYTES = 4
"""The payload ends in the size of what it unpacks to (scripts/Makefile.lib, size_append)."""


def image_and_modules(deb: Path, folder: Path, debian: str) -> list[Repacked]:
    """`linux-image-<release>` and `linux-modules-<release>` of Debian's linux-image-`debian`."""
    with dressed.unpacked(deb) as tree:
        vmlinuz = tree / f"boot/vmlinuz-{debian}"
        when = vmlinuz.stat().st_mtime
        vmlinuz.write_bytes(named(vmlinuz.read_bytes(), debian, RELEASE))
        os.utime(vmlinuz, (when, when))
        shutil.rmtree(tree / "usr/share/bug")
        dressed.rename(tree, {debian: RELEASE})
        modules = tree.with_name("modules")
        for name in ("boot/config-", "boot/System.map-", "usr/lib/modules/"):
            # The folder is `lib/modules` in Ubuntu's packages.
            target = modules / f"{name.removeprefix('usr/')}{RELEASE}"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tree / f"{name}{RELEASE}").rename(target)
        (modules / "DEBIAN").mkdir()
        shutil.copy2(tree / "DEBIAN/control", modules / "DEBIAN/control")
        dressed.fields(
            modules,
            Package=f"linux-modules-{RELEASE}",
            Source="linux-aws-6.14",
            Version=VERSION,
            Description="Linux kernel extra modules",
            Pre_Depends=None,
            Depends=None,
            Recommends=None,
            Suggests=None,
            Conflicts=None,
            Breaks=None,
            Replaces=None,
            Built_Using=None,
        )
        dressed.fields(
            tree,
            Package=f"linux-image-{RELEASE}",
            Source="linux-signed-aws-6.14",
            Version=VERSION,
            Depends=f"kmod, linux-base (>= 4.5), linux-modules-{RELEASE}",
            Conflicts=None,
            Replaces=None,
            Recommends="grub-pc | grub-efi-amd64 | grub-efi-ia32 | grub, "
            "initramfs-tools | "
            "linux-initramfs-tool",
            Suggests=None,
            Breaks=None,
            Built_Using=None,
        )
        return [dressed.build(tree, folder), dressed.build(modules, folder)]


def headers(deb: Path, kbuild: Path, folder: Path, debian: str) -> Repacked:
    """`linux-headers-<release>`: with kbuild's programs in it, as Ubuntu has them, and Debian's
    common headers below.

    `kbuild` is Debian's linux-kbuild of that version.
    """
    with dressed.unpacked(deb) as tree, dressed.unpacked(kbuild) as tools:
        dressed.rename(tree, {debian: RELEASE})
        folder_of = tree / f"usr/src/linux-headers-{RELEASE}"
        for name in ("scripts", "tools"):
            (folder_of / name).unlink()
            shutil.copytree(
                next(tools.glob("usr/lib/linux-kbuild-*")) / name, folder_of / name, symlinks=True
            )
        control = dressed.fields(tree)
        kept = [part for part in control["Depends"].split(", ") if "linux-image-" not in part]
        dressed.fields(
            tree,
            Package=f"linux-headers-{RELEASE}",
            Source="linux-aws-6.14",
            Version=VERSION,
            Depends=", ".join(kept),
        )
        return dressed.build(tree, folder)


def meta(folder: Path, name: str, depends: str, like: Path) -> Repacked:
    """A package of nothing but a dependency, from the control file of `like`."""
    with dressed.unpacked(like) as tree:
        for path in tree.iterdir():
            if path.name != "DEBIAN":
                shutil.rmtree(path)
        dressed.fields(
            tree, Package=name, Source="linux-meta-aws-6.14", Version=VERSION, Depends=depends
        )
        return dressed.build(tree, folder)


def named(bzimage: bytes, old: str, new: str) -> bytes:
    """A bzImage whose kernel calls itself `new`: the text in its header, and in the kernel that it
    unpacks.

    AssertionError where the new payload does not fit into the old one's place.
    """
    assert len(new) <= len(old)
    text = struct.unpack_from("<H", bzimage, _VERSION_TEXT)[0] + 0x200
    start, length = struct.unpack_from("<II", bzimage, _PAYLOAD)
    start += (bzimage[_SETUP_SECTORS] + 1) * 512
    end = start + length - _SIZE_BYTES
    kernel = _zstd("-dc", bzimage[start:end])
    changed = _renamed(kernel, old.encode(), new.encode())
    packed = _zstd("-22", "--ultra", "-c", changed)  # as the kernel's own build does
    assert changed != kernel and len(packed) <= end - start, (len(packed), end - start)
    image = bytearray(bzimage)
    image[start:end] = packed.ljust(end - start, b"\0")
    image[text : text + len(old)] = new.encode().ljust(len(old), b"\0")
    return bytes(image)


def _renamed(kernel: bytes, old: bytes, new: bytes) -> bytes:
    """`new` for `old` in each text: what follows moves up, so that the kernel's vermagic, for its
    modules, is whole."""
    return re.sub(
        re.escape(old) + rb"([^\0]*)",
        lambda found: (new + found[1]).ljust(len(found[0]), b"\0"),
        kernel,
    )


def _zstd(*argv: str | bytes) -> bytes:
    *options, data = argv
    assert isinstance(data, bytes)
    return subprocess.run(
        ["zstd", "-q", *options], input=data, check=True, capture_output=True
    ).stdout
