"""What people launch machines with, of the kinds that cloud-init takes: a name and a second key."""

from __future__ import annotations

import gzip
from email.message import EmailMessage

NAME = "trainer"
SECOND = "ssh-ed25519 AAAAC3NzaC1lZDI1second"
_CONFIG = f"""#cloud-config
hostname: {NAME}
ssh_authorized_keys:
- {SECOND} müller
write_files:
- {{path: /home/debian/.config/own.conf, content: "own", owner: "debian:debian", defer: true}}
runcmd:
- [mkdir, -p, /srv/data]
"""
_HOOK = f"""#cloud-boothook
#!/bin/sh
hostname {NAME}
mkdir -p /srv/data
echo '{SECOND}' >/srv/data/keys
"""
_SCRIPT = f"""#!/bin/sh
hostnamectl set-hostname {NAME}
mkdir -p /srv/data
echo '{SECOND}' >>/home/debian/.ssh/authorized_keys
"""


def _terraform() -> bytes:
    """cloudinit_config as Terraform makes it: MIME, each part in base64."""
    message = EmailMessage()
    message.make_mixed("MIMEBOUNDARY")
    part = EmailMessage()
    part.set_content(_CONFIG.encode(), "text", "cloud-config")
    message.attach(part)
    return message.as_bytes()


def _archive() -> bytes:
    lines = "".join(f"    {line}\n" for line in _CONFIG.splitlines())
    return f"#cloud-config-archive\n- type: text/cloud-config\n  content: |\n{lines}".encode()


USER_DATA = {
    "multipart": _terraform(),
    "compressed multipart": gzip.compress(_terraform()),
    "archive": _archive(),
    "boothook": _HOOK.encode(),
    "script": _SCRIPT.encode(),
    "configuration": _CONFIG.encode(),
}
