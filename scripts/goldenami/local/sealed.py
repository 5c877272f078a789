"""What must hold of a sealed root tree at rest, asserted before a disk is made of it.

The same list is asserted again on the booted image by tests/image/seal; here it is looked at as root, on the
files, before anything could have changed them.
"""

from __future__ import annotations

from pathlib import Path

from goldenami.errors import StageFailed

ABSENT = (
    "etc/ssh/ssh_host_*", "root/.ssh/authorized_keys", "home/*/.ssh/authorized_keys", "root/.*_history",
    "home/*/.*_history", "root/.viminfo", "root/.lesshst", "root/.netrc", "home/*/.netrc", "root/.cache/*",
    "root/.ansible", "home/*/.ansible", "tmp/*", "tmp/.[!.]*", "var/tmp/*", "var/cache/apt/archives/*.deb",
    "var/cache/apt/*.bin", "var/lib/apt/lists/*Packages*", "var/lib/apt/lists/*Release*", "var/lib/cloud/*",
    "var/lib/dhcp/*.leases", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "etc/*-",
    "var/log/journal/*", "var/log/wtmp", "var/log/btmp", "var/log/lastlog", "var/crash/*", "var/lib/systemd/coredump/*",
    "swapfile", "etc/udev/rules.d/70-persistent-net.rules", "var/lib/dkms/*/*/build", "var/lib/dkms/mok.*",
    "var/lib/shim-signed/mok/*", "etc/apt/sources.list.d/golden-bake.sources", "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/apt/apt.conf.d/99mmdebstrap", "run/golden/*",
)
"""Globs, relative to the root, that must match nothing."""
EMPTY = ("etc/machine-id",)
"""Files that must exist and be empty (an absent or "uninitialized" machine-id re-runs unit presets)."""


def problems(root: Path) -> list[str]:
    """Every violation, by path."""
    found = [f"/{path.relative_to(root)} is left" for pattern in ABSENT for path in sorted(root.glob(pattern))]
    found += [f"/{name} is not empty" for name in EMPTY
              if not (root / name).is_file() or (root / name).stat().st_size]
    for line in (root / "etc/shadow").read_text(encoding="utf-8").splitlines():
        user, secret, *_ = line.split(":")
        if secret and secret[0] not in "!*":
            found.append(f"/etc/shadow: {user} has a password")
        if not secret:
            found.append(f"/etc/shadow: {user} has an empty password")
    return found


def check(root: Path) -> None:
    """StageFailed naming what a seal missed."""
    found = problems(root)
    if found:
        raise StageFailed(f"the tree is not sealed: {'; '.join(found[:6])}" + (f" (and {len(found) - 6} more)" if
                          len(found) > 6 else ""), hint="roles/seal must remove it", tail="\n".join(found))
