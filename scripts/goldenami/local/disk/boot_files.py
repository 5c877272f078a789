"""What boots in a root tree: GRUB's menu, the mount table and the ESP's mount point."""

from __future__ import annotations

from pathlib import Path

from goldenami.local.disk import grub


def write_boot_files(tree: Path, root_uuid: str, esp: str, *, immutable: bool) -> None:
    """Put them into the tree; writing them again changes nothing."""
    menu = tree / "boot/grub/grub.cfg"
    (tree / "boot/efi").mkdir(parents=True, exist_ok=True)
    menu.parent.mkdir(parents=True, exist_ok=True)
    if immutable:
        menu.unlink(missing_ok=True)
    else:
        _replace(menu, grub.menu(tree, root_uuid))
    fstab = tree / "etc/fstab"
    mounts = [
        line for line in (fstab.read_text(encoding="utf-8").splitlines() if fstab.is_file() else [])
        if not line.startswith("#") and line.split()[1:2] not in ([], ["/"], ["/boot/efi"])
    ]
    root = "/dev/mapper/root / ext4 ro 0 0" if immutable else (
        f"UUID={root_uuid} / ext4 defaults,errors=remount-ro 0 1")
    # nofail: nothing at run time needs the ESP, and a failed mount would end in a shell that no
    # instance has.
    _replace(fstab, "\n".join([
        root,
        f"UUID={esp[:4]}-{esp[4:]} /boot/efi vfat umask=0077,nofail{',ro' if immutable else ''} 0 0",
        *mounts, "",
    ]))


def _replace(path: Path, text: str) -> None:
    """Write a new file in `path`'s place: the old one may be a link that leads out of the tree."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
