#!/bin/sh
# Makes the publisher's instance the start of a bake: the lock's files are its only packages, in the lock's versions.
set -eu

# The first boot may still be at work; its own complaints are not the bake's.
! command -v cloud-init >/dev/null || cloud-init status --wait >/dev/null || true

mkdir -p /run/golden/repo
mount --bind /var/tmp/golden-repo /run/golden/repo

# What starts the publisher's image knows an initramfs only from the moment on that it is made.
mkdir -p /etc/initramfs/post-update.d
cat >/etc/initramfs/post-update.d/zz-golden-grub <<'EOF'
#!/bin/sh
! command -v update-grub >/dev/null || exec update-grub
EOF
chmod 0755 /etc/initramfs/post-update.d/zz-golden-grub

# A shutdown would write random seed, journal and wtmp into what is sealed: off at once, as a container is killed. It is
# started now: the seal ends this user's login.
systemd-run --quiet --unit=golden-off --property=StandardOutput=null sh -c \
  'until [ -e /dev/shm/golden-sealed ]; do sleep 1; done; sleep 2; sync; exec systemctl poweroff --force --force'

rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
printf 'Types: deb\nURIs: file:/run/golden/repo\nSuites: ./\nTrusted: yes\n' \
  >/etc/apt/sources.list.d/golden-bake.sources
printf 'Package: *\nPin: release o=goldenami\nPin-Priority: 1001\n' >/etc/apt/preferences.d/golden-bake
apt-get update -q -o APT::Update::Error-Mode=any
DEBIAN_FRONTEND=noninteractive apt-get --yes -q --allow-downgrades --no-install-recommends \
  -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold dist-upgrade
