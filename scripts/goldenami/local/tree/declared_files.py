"""Files of a sealed tree that belong to no package, by who writes them: all others are left behind
by somebody.

Those that maintainer scripts name are not here. `*` stays within a folder, `**` crosses folders.
"""

from __future__ import annotations

DECLARED = {
    "dpkg and debconf: the packages' own database": [
        "/var/lib/dpkg/**", "/var/cache/debconf/*.dat", "/var/lib/ucf/**", "/var/lib/pam/**",
        "/var/lib/shells.state",
    ],
    "apt: which packages were installed by themselves, and two locks": [
        "/var/lib/apt/extended_states", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock",
    ],
    "passwd and base-files: accounts, a first configuration": [
        "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid",
        "/etc/shadow-", "/etc/.pwd.lock", "/etc/shells",
        "/etc/security/opasswd", "/etc/environment", "/etc/profile", "/etc/motd",
        "/etc/nsswitch.conf", "/etc/inputrc",
        "/etc/networks", "/etc/network/interfaces", "/etc/hosts.allow", "/etc/hosts.deny",
        "/etc/timezone",
        "/etc/adjtime", "/etc/legal", "/etc/locale.conf", "/etc/locale.gen", "/etc/default/locale",
        "/etc/default/keyboard", "/etc/default/console-setup", "/etc/pam.d/common-*",
        "/etc/dpkg/origins/default",
    ],
    "seal: an identity that the first boot fills": [
        "/etc/machine-id", "/etc/hosts", "/etc/resolv.conf", "/etc/.updated", "/var/.updated",
    ],
    "the disk: how it boots and what is mounted": [
        "/boot/grub/grub.cfg", "/boot/initrd.img-*", "/etc/fstab",
    ],
    "triggers: caches and catalogues of what is installed": [
        "/etc/ld.so.cache", "/usr/lib/modules/*/modules.*", "/lib/modules/*/modules.*",
        "/usr/lib/udev/hwdb.bin",
        "/etc/udev/hwdb.bin", "/var/lib/systemd/catalog/database",
        "/var/lib/systemd/deb-systemd-*/**",
        "/usr/share/info/dir", "/etc/ssl/certs/ca-certificates.crt", "/etc/ca-certificates.conf",
        "/etc/ssl/certs/java/cacerts", "/var/lib/python/**", "/etc/python3/debian_config",
        "/etc/xml/**",
        "/var/lib/xml-core/**", "/var/lib/sgml-base/**", "/etc/sgml/**", "/usr/share/mime/**",
        "/var/lib/aspell/**",
        "/usr/share/glib-2.0/schemas/gschemas.compiled", "/usr/lib/*/gconv/gconv-modules.cache",
        "/usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache", "/usr/lib/*/gio/modules/giomodule.cache",
        "/usr/share/icons/*/icon-theme.cache", "/usr/share/applications/mimeinfo.cache",
        "/usr/lib/locale/**",
        "/var/lib/dbus/machine-id", "/etc/apparmor.d/local/**", "/etc/emacs/**",
        "/var/lib/emacsen-common/**",
        "/var/lib/dictionaries-common/**", "/var/lib/texmf/**", "/var/lib/ghostscript/**",
        "/var/lib/command-not-found/**", "/var/lib/update-notifier/**",
        "/var/lib/ubuntu-release-upgrader/**",
        "/usr/share/perl5/**/ParserDetails.ini",
    ],
    "maintainer scripts: configuration under names that they put together": [
        "/etc/chrony/chrony.*", "/etc/ssh/sshd_config", "/etc/mdadm/mdadm.conf", "/etc/default/*",
        "/etc/initramfs-tools/*", "/etc/initramfs-tools/conf.d/resume", "/etc/modules",
        "/etc/modules-load.d/*", "/etc/apt/apt.conf.d/*", "/etc/cloud/cloud.cfg.d/*",
        "/etc/init.d/.depend.*", "/etc/insserv.conf.d/*", "/etc/nvme/*", "/etc/vim/*",
    ],
    "roles: what their tasks name only on the machine": [
        "/etc/systemd/system/*.d/60-golden.conf",
        "/etc/systemd/system/*.d/60-golden-fast-boot.conf",
        "/etc/systemd/system/nvidia-fabricmanager.service.d/golden.conf",
        "/etc/systemd/system/*.service.d/golden-instance-store.conf", "/usr/local/bin/golden-idle",
        "/usr/local/share/golden-idle/**", "/usr/local/share/golden-first-touch.tsv",
    ],
    "nvidia_driver: which modules are loaded, and that DKMS leaves them alone": [
        "/etc/nvidia/*.conf", "/etc/dkms/*", "/etc/modprobe.d/nvidia*.conf",
    ],
    "container_runtime and tools: configuration whose name the program fixes": [
        "/etc/docker/daemon.json", "/etc/containers/**.conf", "/etc/containers/**.yaml",
        "/etc/containers/**.json",
        "/etc/cni/net.d/*", "/etc/containerd/config.toml",
    ],
    "jupyterhub: the hub's configuration and its kernels": [
        "/etc/jupyterhub/**", "/etc/jupyter/**", "/usr/local/share/jupyter/**",
        "/usr/local/etc/jupyter/**",
        "/opt/jupyterhub/**",
    ],
    "hardening: a dictionary of bad passwords, and units whose name is a folder's": [
        "/var/cache/cracklib/**", "/usr/local/lib/systemd/system/*.mount",
        "/etc/audit/audit.rules",
    ],
    "frameworks and cuda: environments of the locked wheels": [
        "/opt/ml/bin/*", "/opt/ml/*/.gitignore", "/opt/ml/*/bin/*", "/opt/ml/*/pyvenv.cfg",
        "/opt/ml/*/share/jupyter/kernels/**", "/opt/ml/*/CUDA.json",
        "/opt/ml/*/lib/*/site-packages/*.dist-info/**", "/opt/ml/*/lib/*/site-packages/*.pth",
        "/opt/ml/*/lib/*/site-packages/pip.py", "/opt/ml/*/lib/*/site-packages/golden_threads.py",
        "/opt/ml/*/lib/*/site-packages/__pycache__/golden_threads.*.pyc",
        "/opt/ml/*/lib/*/site-packages/__pycache__/pip.*.pyc",
    ],
}
"""Patterns of paths, by the program or role that writes them."""
PRIVATE = ("/root", "/home")
"""Folders that are somebody's own; of homes elsewhere an account's line says it."""
HOME_FILES = frozenset({".bashrc", ".profile", ".bash_logout"})
"""What base-files puts into root's home, and skel into others."""
UNREAD = ("/proc", "/sys", "/dev", "/run", "/lost+found")
"""Not on the disk."""
