"""Lines in which people and programs leave secrets, anywhere in a line and encoded, and lines that
only look so."""

from __future__ import annotations

import base64
import gzip
import json
import string

from support.security.canaries import noise

_UPPER = string.ascii_uppercase + string.digits
_SHORT = "x7Kq2mZp"
"""Eight characters, as people choose them."""
_LONG = noise("long", 32)
_HEX = noise("hex", 40, "0123456789abcdef")
_AWS, _AWS_ID = noise("aws40", 40), "AKIA" + noise("awsid", 16, _UPPER)
_PEM = (
    "-----BEGIN RSA PRIVATE "
    + "KEY-----\n"
    + "\n".join(noise(f"pem{row}", 64) for row in range(6))
    + "\n-----END RSA PRIVATE "
    + "KEY-----\n"
)
_JWT = f"eyJ{noise('j1', 33)}.eyJ{noise('j2', 60)}.{noise('j3', 43)}"


def _base64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def _wrapped(text: str, width: int, indent: str) -> str:
    return "\n".join(indent + text[at : at + width] for at in range(0, len(text), width))


_SCRIPT = f"#!/bin/sh\nset -eu\nexport DB_PASSWORD={_SHORT}\nexec /opt/app/run\n"
_GZIP = _base64(gzip.compress(_SCRIPT.encode(), mtime=0))

PLANTED = {
    "drop-in, env": f"[Service]\nExecStart=/usr/bin/env APP_TOKEN={_LONG} /opt/app\n",
    "export, quoted": f"export DB_PASS='{_SHORT}'\n",
    "comment": f"# the password is {_SHORT}\n",
    "docker login -p": f"docker login -u ada -p {_SHORT} registry.example\n",
    "sshpass": f"sshpass -p {_SHORT} ssh ada@nas\n",
    "mysql -p": f"mysqldump -u root -p{_SHORT} app > /srv/dump\n",
    "curl -u": f"curl -fsS -u ada:{_SHORT} https://app.example/\n",
    "curl --user": f"curl --user 'ada:{_SHORT}' https://app.example/\n",
    "redis-cli": f"redis-cli -h cache -a {_SHORT} ping\n",
    "smbclient": f"smbclient //nas/x -U ada%{_SHORT}\n",
    "chpasswd": f"echo 'ada:{_SHORT}' | chpasswd\n",
    "ldap": f"ldapsearch -D cn=admin -w {_SHORT} -b dc=x\n",
    "aws configure": f"aws configure set aws_secret_access_key {_AWS}\n",
    "SSHPASS": f"SSHPASS={_SHORT} sshpass -e ssh x\n",
    "7z": f"7z x -p{_SHORT} x.7z\n",
    "az": f"az login --service-principal -u x -p {_SHORT} --tenant y\n",
    "zip": f"zip -r -P {_SHORT} x\n",
    "sqlcmd": f"sqlcmd -U sa -P {_SHORT}\n",
    "mongosh": f"mongosh -u a -p {_SHORT}\n",
    "ipmitool": f"ipmitool -H x -U a -P {_SHORT} status\n",
    "openssl enc": f"openssl enc -aes256 -k {_SHORT} -in x\n",
    "htpasswd -b": f"htpasswd -cb /etc/x ada {_SHORT}\n",
    "rabbitmqctl": f"rabbitmqctl add_user a {_SHORT}\n",
    "lftp": f"lftp -u ada,{_SHORT} host\n",
    "jenkins": f"java -jar cli.jar -auth ada:{_SHORT} list\n",
    "httpie": f"http -a ada:{_SHORT} x\n",
    "chpasswd, here": f"chpasswd <<< 'ada:{_SHORT}'\n",
    "chpasswd, cloud-init": f"chpasswd:\n  list: |\n    ada:{_SHORT}\n",
    "sudo -S": f"echo {_SHORT} | sudo -S true\n",
    "docker, standard input": f"echo {_SHORT} | docker login -u a --password-stdin r.example\n",
    "wandb login": f"wandb login {_HEX}\n",
    "SNMP user": f"createUser a SHA {_SHORT} AES\n",
    "redis.conf": f"requirepass {_SHORT}\n",
    "ldap.conf": f"bindpw {_SHORT}\n",
    "slapd.conf": f"rootpw {_SHORT}\n",
    "postfix": f"[smtp.example]:587 ada:{_SHORT}\n",
    "s3": f"s3://AKIA:{_SHORT}@bucket/x\n",
    "in an address": f"https://x.example/?password%3D{_SHORT}\n",
    "Teams": f"https://x.webhook.office.com/webhookb2/{_LONG}\n",
    "odbc": f"Server=db;Database=app;Uid=app;Pwd={_SHORT};\n",
    "docker config.json": '{"auths": {"r.example": '
    f'{{"auth": "{_base64(f"ada:{_SHORT}")}"}}}}}}\n',
    "pgpass": f"db.example:5432:app:ada:{_SHORT}\n",
    "pgpass, any": f"*:*:*:ada:{_SHORT}\n",
    "wpa_supplicant": f'network={{\n  ssid="x"\n  psk="{_SHORT}"\n}}\n',
    "krb": f"sssd ldap_default_authtok = {_SHORT}\n",
    "shadow": f"ada:$y$j9T${noise('y', 22)}${noise('y2', 43)}:1:\n",
    "rsync": f"secrets: ada:{_SHORT}\n",
    "JSON, compact": f'{{"a":1,"apiKey":"{_HEX}"}}\n',
    "PHP": f"define('DB_PASSWORD', '{_SHORT}');\n",
    "Ruby": f":password => '{_SHORT}',\n",
    "XML": f"<password>{_SHORT}</password>\n",
    "plist": f"<key>apiToken</key><string>{_LONG}</string>\n",
    "Terraform": f'variable "db_password" {{\n  default = "{_SHORT}"\n}}\n',
    "app settings": f'<add key="Password" value="{_SHORT}"/>\n',
    "pw": f"user=ada pw={_SHORT}\n",
    "AWS, id": f"id: {_AWS_ID}\n",
    "PEM, encrypted": _PEM.replace(
        "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1
    ),
    "PKCS#8 without its frame": f"key: MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw{noise('p8', 64)}\n",
    "grub": "password_pbkdf2 root grub.pbkdf2.sha512.10000."
    f"{noise('grub', 64, '0123456789ABCDEF')}\n",
    "LDAP hash": f"userPassword: {{SSHA}}{noise('ssha', 32)}\n",
    "Telegram": f"bot 123456789:AA{noise('tg', 33)}\n",
    "Slack": f"hook: https://hooks.slack.com/services/T{noise('s', 8, _UPPER)}/"
    f"B{noise('s2', 8, _UPPER)}/{noise('s3', 24)}\n",
    "Hugging Face": f'login("hf_{noise("hf", 34)}")\n',
    "write_files, wrapped": "write_files:\n- encoding: b64\n  content: |\n"
    f"{_wrapped(_base64(_PEM), 60, '    ')}\n",
    "write_files, !!binary": f"- content: !!binary |\n{_wrapped(_GZIP, 76, '    ')}\n",
    "secret of Kubernetes": json.dumps({"kind": "Secret", "data": {"password": _base64(_SHORT)}}),
    "licence of capitals": '{"licenseKey": "ABCDE-FGHIJ-KLMNO-PQRST"}\n',
    "licence of digits": "<activationKey>1234-5678-9012-3456-7890</activationKey>\n",
    "licence behind its vendor": "agent --licenseCode=ACME-2F4A-77B1-ZZ9Q-0LMK\n",
    "licence of capital hex": f"licenceKey = {noise('licence', 40, '0123456789ABCDEF')}\n",
    "basic header": f'-H "Authorization: Basic {_base64(f"ada:{_SHORT}")}"\n',
}
"""By kind: a text with one secret in it."""

INNOCENT = (
    "password=$DB_PASSWORD",
    "--password-file /etc/app/password",
    "api_key = YOUR_API_KEY",
    "password = changeme",
    "password = password",
    "token: xxxxxxxxxxxx",
    "api_key: your-api-key-here",
    "password = ********",
    "password requisite pam_pwquality.so retry=3",
    "password sufficient pam_unix.so sha512 shadow nullok try_first_pass use_authtok",
    "ssl_key = /etc/ssl/private/x.key",
    "http://user:<password>@host/",
    "http://user:password@proxy.example/",
    "git clone ssh://git@host/x",
    "ftp://anonymous:@ftp.example/",
    "https://${USER}:${TOKEN}@git.example/x",
    "authorizedkeysfile .ssh/authorized_keys",
    "-----BEGIN CERTIFICATE-----\nMIIB",
    "-----BEGIN PUBLIC KEY-----\nMIIB",
    "url = https://example.org:8080/path@2",
    "token_endpoint: https://login.example/oauth2/v2.0/token",
    "secretName: db-credentials",
    "TokenFile=/run/secrets/token",
    "LoadCredential=token:/etc/app/token",
    "sort_key = created_at",
    "password = getpass.getpass()",
    'token = os.environ["API_TOKEN"]',
    "token = request.headers.get('X-Token')",
    "signing_key: 4A3B5C6D7E8F90112233445566778899AABBCCDD",
    "integrity sha512-" + "Ab1/" * 21 + "==",
    "curl -u ada https://app.example/",
    'curl -u "$USER:$PASS" https://x',
    "machine: x86_64-pc-linux-gnu",
    "the machine x login y password z",
    "Authorization: Bearer <token>",
    "Authorization: Basic %s",
    "PARTUUID=2a4c6e8f-01",
    "credential_process = /opt/bin/aws-creds get",
    "psk-file=/etc/x.psk",
    "# pass ssl=True to it",
    "pass TTarget* p1",
    "aws kms --key-id 1234abcd-12ab-34cd-56ef-1234567890ab",
    '"KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"',
    "secret_arn: arn:aws:secretsmanager:x:1:secret:a-B2c3d4",
    "unzip -P file.zip",
    "7z x -pfolder x.7z",
    "password_encryption = scram-sha-256",
    "password_hash = argon2id",
    "api_key_header: X-Api-Key",
    "Set user password (PBKDF2). ",
    "its password isn\\*(Aqt echoed",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n-----BEGIN PGP SIGNATURE-----",
    "License: GFDL-NIV-1.3",
    "licenseKey: XXXXX-XXXXX-XXXXX-XXXXX-XXXXX",
    "licenseKey: YOUR-LICENSE-KEY-HERE",
    "productCode: {90160000-008C-0000-1000-0000000FF1CE}",
    "serial: 1234-5678-9012-3456",
    "{password:!0,image:!0})d.pseudos[b]=la(b)",
    '#define TXT_kECDHEPSK "kECDHEPSK"',
    'f(setup="pass", timer=default_timer)',
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
)
"""None has a secret in it."""
