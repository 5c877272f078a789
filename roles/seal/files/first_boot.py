"""Do what cloud-init would do at each machine's first boot, and always alike; print what changes.

Runs on the image's own python3 from standard input, with cloud-init's own functions: they fit the
release's cloud-init.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("cloudinit") is None:
    sys.exit()  # the role alone, on a tree that never boots on EC2

from cloudinit import cloud, distros, helpers, subp, util
from cloudinit.config import cc_apt_configure, cc_install_hotplug
from cloudinit.distros import ug_util
from cloudinit.sources import DataSourceEc2, DataSourceNone

SUDOERS = Path("/etc/sudoers.d/90-cloud-init-users")
OTHERS = (
    "passwd",
    "group",
    "udev/rules.d/90-cloud-init-hook-hotplug.rules",
    "apt/sources.list.d/debian.sources",
    "apt/sources.list.d/ubuntu.sources",
)
MIRRORS = (
    "primary",
    "security",
    "sources_list",
    "disable_suites",
    "generate_mirrorlists",
    "preserve_sources_list",
)
"""What a configuration says of the distribution's own sources; the first boot minds the others."""


def contents() -> dict[Path, bytes]:
    """What is there of what this may write."""
    return {
        path: path.read_bytes()
        for path in (SUDOERS, *(Path("/etc", name) for name in OTHERS))
        if path.exists()
    }


before = contents()
cfg, paths = util.read_conf_with_confd("/etc/cloud/cloud.cfg"), helpers.Paths({})
system = cfg["system_info"]
distro = distros.fetch(system["distro"])(system["distro"], system, paths)

# cloud-init adds the user's rule to a file that lacks it. One of its own would begin with the time.
SUDOERS.unlink(missing_ok=True)
SUDOERS.touch(0o440)
user, options = ug_util.extract_default(ug_util.normalize_users_groups(cfg, distro)[0])
if user:
    distro.create_user(user, **options)

# Ubuntu searches for mirrors by the region, which the first boot alone knows.
apt = {key: value for key, value in cfg.get("apt", {}).items() if key in MIRRORS}
if "primary" in apt or not any("search" in row for row in system.get("package_mirrors", [])):
    nowhere = DataSourceNone.DataSourceNone(cfg, distro, paths)
    machine = cloud.Cloud(nowhere, paths, cfg, distro, helpers.Runners(paths))
    cc_apt_configure.handle("apt-configure", {"apt": apt}, machine, [])

# The rule is written before udev is told, which a bake's container lacks.
if "Ec2" in cfg.get("datasource_list", []):
    with contextlib.suppress(subp.ProcessExecutionError):
        cc_install_hotplug.install_hotplug(
            DataSourceEc2.DataSourceEc2(cfg, distro, paths), cfg, False
        )

for path, content in contents().items():
    if before.get(path) != content:
        print(f"first boot: {path}")
