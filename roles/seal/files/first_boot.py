"""Do what cloud-init would do alike at each machine's first boot; print the files that change.

Runs on the image's own python3 from standard input, and calls cloud-init's own functions, which fit
the release's cloud-init.
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("cloudinit") is None:
    sys.exit()  # a tree with this role alone, which never boots on EC2

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
"""Keys of a configuration about the distribution's own sources. The first boot handles the
others."""


def contents() -> dict[Path, bytes]:
    """Return the contents of the files that this program may write, as far as they exist."""
    files = [SUDOERS, *(Path("/etc", name) for name in OTHERS)]
    return {path: path.read_bytes() for path in files if path.exists()}


before = contents()
cfg, paths = util.read_conf_with_confd("/etc/cloud/cloud.cfg"), helpers.Paths({})
system = cfg["system_info"]
distro = distros.fetch(system["distro"])(system["distro"], system, paths)

# cloud-init adds the user's rule to an existing file. A file that it makes begins with the time.
SUDOERS.unlink(missing_ok=True)
SUDOERS.touch(0o440)
user, options = ug_util.extract_default(ug_util.normalize_users_groups(cfg, distro)[0])
if user:
    distro.create_user(user, **options)

# Ubuntu searches for mirrors by the region, which only the first boot knows.
apt = {key: value for key, value in cfg.get("apt", {}).items() if key in MIRRORS}
if "primary" in apt or not any("search" in row for row in system.get("package_mirrors", [])):
    no_source = DataSourceNone.DataSourceNone(cfg, distro, paths)
    machine = cloud.Cloud(no_source, paths, cfg, distro, helpers.Runners(paths))
    cc_apt_configure.handle("apt-configure", {"apt": apt}, machine, [])

# cloud-init writes the rule before it calls udev, which a bake's container lacks.
if "Ec2" in cfg.get("datasource_list", []):
    with contextlib.suppress(subp.ProcessExecutionError):
        cc_install_hotplug.install_hotplug(
            DataSourceEc2.DataSourceEc2(cfg, distro, paths), cfg, False
        )

for path, content in contents().items():
    if before.get(path) != content:
        print(f"first boot: {path}")
