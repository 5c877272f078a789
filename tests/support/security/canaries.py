"""Secrets and residue as people and programs leave them, each at its usual place, made up here.

Tokens are put together from parts: scanners of repositories would take them for real ones.
"""

from __future__ import annotations

import random
import string

_ALPHABET = string.ascii_letters + string.digits


def noise(seed: str, length: int, alphabet: str = _ALPHABET) -> str:
    """Characters in no order, the same for one seed."""
    chosen = random.Random(seed)
    return "".join(chosen.choice(alphabet) for _ in range(length))


def _hex(seed: str, length: int) -> str:
    return noise(seed, length, "0123456789abcdef")


def _pem(kind: str) -> str:
    lines = "\n".join(noise(f"{kind}{number}", 64) for number in range(4))
    return (
        f"-----BEGIN {kind}PRIVATE " + f"KEY-----\n{lines}\n-----END {kind}PRIVATE " + "KEY-----\n"
    )


_SSH = f"ssh-ed25519 AAAA{noise('ssh', 64)} ada@laptop\n"
_CORE = "\x7fELF\x02\x01\x01" + "\0" * 9 + "\x04\0>\0" + "\0" * 64
_JWT = f"eyJ{noise('a', 20)}.eyJ{noise('b', 60)}.{noise('c', 43)}"

KNOWN = {
    "etc/machine-id": _hex("id", 32),
    "etc/ssh/ssh_host_ed25519_key": _pem("OPENSSH "),
    "root/.ssh/authorized_keys": _SSH,
    "root/.bash_history": "ls",
    "root/.python_history": "1",
    "root/.aws/credentials": "[default]\n"
    f"aws_access_key_id = AKIA{noise('k', 16, string.ascii_uppercase)}\n",
    "root/.netrc": "machine api.wandb.ai login user password x",
    "root/.docker/config.json": "{}",
    "root/.kube/config": "x",
    "root/.huggingface/token": f"hf_{noise('hf', 34)}",
    "etc/environment": f"WANDB_API_KEY={_hex('wandb', 40)}\n",
    "etc/pip.conf": "[global]\nindex-url=https://u:pw9@i.example/\n",
    "etc/apt/sources.list.d/private.list": "deb https://ada:" + "s3cret@apt.example stable main\n",
    "etc/apt/auth.conf.d/private.conf": "machine apt.example login ada password s3cret",
    "etc/systemd/system/app.service.d/env.conf": "[Service]\n"
    f'Environment="GITLAB_TOKEN=glpat-{noise("gl", 20)}"\n',
    "etc/profile.d/proxy.sh": "export https_proxy=http://ada:" + "s3cret@proxy.example:3128\n",
    "etc/docker/daemon.json": f'{{"auth": "{noise("auth", 24)}"}}',
    "etc/fstab": f"//nas/x /x cifs password={noise('nas', 14)}\n",
    "etc/ssl/private/server.key": _pem(""),
    "etc/wireguard/wg0.conf": f"PrivateKey = {noise('wg', 43)}=",
    "etc/krb5.keytab": "\x05\x02x",
    "etc/passwd-": "x",
    "opt/app/key.pem": _pem("RSA "),
    "opt/core.1234": _CORE,
    "usr/local/bin/deploy": "#!/bin/sh",
    "var/lib/cloud/data/instance-id": "i-0",
    "var/log/auth.log": "x",
    "swapfile": "x",
    "var/backups/x": "x",
}
"""Kinds that are known from reports and from other scanners, by path in the tree."""

OTHERS = {
    "root/.config/op/config": "x",
    "root/.pgpass": "db:5432:*:ada:x",
    "root/.vscode-server/x": "x",
    "etc/default/agent": f"DD_API_KEY={_hex('dd', 32)}\n",
    "etc/cloud/cloud.cfg.d/99_key.cfg": f"- {_SSH}",
    "etc/gitconfig": '[url "https://ada:' + 'x9y8z7@g.example"]',
    "opt/ml/bin/run": f"key=sk-proj-{noise('openai', 48)}\n",
    "etc/golden-notes": f"AccountKey={noise('azure', 86)}==\n",
    "etc/sysctl.d/60-golden.conf": f"# pypi-AgE{noise('pypi', 60)}\n",
    "etc/profile": f"export DB_PASSWORD='{noise('db', 16)}'\n",
    "etc/security/opasswd": "ada:1000:1:$6$" + f"salt${noise('hash', 86)}\n",
    "etc/chrony/chrony.keys": f"secret {noise('chrony', 20)}\n",
    "usr/lib/python3/app.py": f"AWS_SECRET_ACCESS_KEY = '{noise('aws', 40)}'\n",
    "usr/share/doc/bash/README": _pem("EC "),
    "var/lib/dpkg/info/bash.postinst": f"curl https://ada:{noise('curl', 12)}@x.example/\n",
    "mnt/usb/x": "x",
    "boot/backup.img": "x",
    "var/spool/cron/crontabs/root": "* * * * * x",
}
"""Kinds that were thought of afterwards, some in files that a package or a role may well have."""
