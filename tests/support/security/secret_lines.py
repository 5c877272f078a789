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
_UUID = "-".join(noise(f"u{size}", size, "0123456789abcdef") for size in (8, 4, 4, 4, 12))
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
    return "\n".join(indent + text[at:at + width] for at in range(0, len(text), width))


_SCRIPT = f"#!/bin/sh\nset -eu\nexport DB_PASSWORD={_SHORT}\nexec /opt/app/run\n"
_GZIP = _base64(gzip.compress(_SCRIPT.encode(), mtime=0))

PLANTED = {
    # units of systemd
    "drop-in, env": f"[Service]\nExecStart=/usr/bin/env APP_TOKEN={_LONG} /opt/app\n",
    "drop-in, several": f'[Service]\nEnvironment="A=1" "DB_PASSWORD={_SHORT}"\n',
    "drop-in, first of several": f'[Service]\nEnvironment="DB_PASSWORD={_SHORT}" "A=1"\n',
    "drop-in, unquoted": f"[Service]\nEnvironment=A=1 SESSION_SECRET={_LONG} B=2\n",
    "drop-in, option": f"[Service]\nExecStart=/opt/agent --api-key {_HEX} --verbose\n",
    "drop-in, credential": f"[Service]\nSetCredential=db-password:{_SHORT}\n",
    "docker in a unit": f"ExecStart=/usr/bin/docker run -e WANDB_API_KEY={_HEX} image\n",
    "podman --env": f"ExecStart=/usr/bin/podman run --env=HUB_TOKEN={_LONG} image:latest\n",
    # shells and cron
    "export, several": f"export A=1 DB_PASSWORD={_SHORT}\n",
    "export, quoted": f"export DB_PASS='{_SHORT}'\n",
    "set in front of a command": f"PGPASSWORD={_SHORT} psql -h db -U app\n",
    "set behind a semicolon": f"cd /opt; REDIS_PASSWORD={_SHORT}; run\n",
    ".env with export": f'export SECRET_KEY="{_LONG}"  # of the site\n',
    "fish": f"set -gx GITHUB_TOKEN {_LONG}\n", "csh": f"setenv API_TOKEN {_LONG}\n",
    "cron, assignment": f"*/5 * * * * root TOKEN={_LONG} /opt/sync\n",
    "cron, header": f'0 3 * * * root curl -H "X-Api-Key: {_HEX}" https://app.example/\n',
    "cron, bearer": f"0 3 * * * root curl -H 'Authorization: Bearer {_LONG}' https://app.example/\n",
    "comment": f"# the password is {_SHORT}\n",
    "comment, assignment": f"# old: db_password={_SHORT}\n",
    # options of programs
    "--token=": f"agent join --token={_LONG} --quiet\n",
    "--password": f"docker login --password {_SHORT} -u ada\n",
    "docker login -p": f"docker login -u ada -p {_SHORT} registry.example\n",
    "sshpass": f"sshpass -p {_SHORT} ssh ada@nas\n",
    "sshpass, quoted": f"sshpass -p'{_SHORT}' ssh ada@nas\n",
    "mysql -p": f"mysqldump -u root -p{_SHORT} app > /srv/dump\n",
    "curl -u": f"curl -fsS -u ada:{_SHORT} https://app.example/\n",
    "curl --user": f"curl --user 'ada:{_SHORT}' https://app.example/\n",
    "wget": f"wget --http-password={_SHORT} https://app.example/\n",
    "redis-cli": f"redis-cli -h cache -a {_SHORT} ping\n",
    "openssl": f"openssl rsa -passin pass:{_SHORT} -in k\n",
    "smbclient": f"smbclient //nas/x -U ada%{_SHORT}\n",
    "mount": f"mount -t cifs -o user=ada,pass={_SHORT} //nas/x /x\n",
    "chpasswd": f"echo 'ada:{_SHORT}' | chpasswd\n",
    "ldap": f"ldapsearch -D cn=admin -w {_SHORT} -b dc=x\n",
    "aws configure": f"aws configure set aws_secret_access_key {_AWS}\n",
    "kubectl": f"kubectl create secret generic db --from-literal=password={_SHORT}\n",
    "SSHPASS": f"SSHPASS={_SHORT} sshpass -e ssh x\n", "7z": f"7z x -p{_SHORT} x.7z\n",
    "az": f"az login --service-principal -u x -p {_SHORT} --tenant y\n",
    "zip": f"zip -r -P {_SHORT} x\n", "unzip": f"unzip -P {_SHORT} x.zip\n",
    "sqlcmd": f"sqlcmd -U sa -P {_SHORT}\n", "mongosh": f"mongosh -u a -p {_SHORT}\n",
    "ipmitool": f"ipmitool -H x -U a -P {_SHORT} status\n",
    "openssl enc": f"openssl enc -aes256 -k {_SHORT} -in x\n",
    "htpasswd -b": f"htpasswd -cb /etc/x ada {_SHORT}\n",
    "rabbitmqctl": f"rabbitmqctl add_user a {_SHORT}\n", "lftp": f"lftp -u ada,{_SHORT} host\n",
    "jenkins": f"java -jar cli.jar -auth ada:{_SHORT} list\n",
    "httpie": f"http -a ada:{_SHORT} x\n",
    "chpasswd, here": f"chpasswd <<< 'ada:{_SHORT}'\n",
    "chpasswd, cloud-init": f"chpasswd:\n  list: |\n    ada:{_SHORT}\n",
    "sudo -S": f"echo {_SHORT} | sudo -S true\n",
    "docker, standard input": f"echo {_SHORT} | docker login -u a --password-stdin r.example\n",
    "wandb login": f"wandb login {_HEX}\n", "SNMP user": f"createUser a SHA {_SHORT} AES\n",
    "redis.conf": f"requirepass {_SHORT}\n", "ldap.conf": f"bindpw {_SHORT}\n",
    "slapd.conf": f"rootpw {_SHORT}\n", "postfix": f"[smtp.example]:587 ada:{_SHORT}\n",
    "word and digit": "password=letmein1\n", "word and digits": "PASSWORD=hunter22\n",
    # addresses
    "s3": f"s3://AKIA:{_SHORT}@bucket/x\n",
    "in an address": f"https://x.example/?password%3D{_SHORT}\n",
    "Teams": f"https://x.webhook.office.com/webhookb2/{_LONG}\n",
    "psql": f"DATABASE_URL=postgresql://app:{_SHORT}@db.example:5432/app\n",
    "pip.conf": f"[global]\nextra-index-url = https://ada:{_SHORT}@index.example/simple\n",
    "pip.conf, token": f"[global]\nindex-url = https://{_HEX}@index.example/simple\n",
    "git remote": f"url = https://oauth2:{_LONG}@git.example/x.git\n",
    "address, empty user": f"redis://:{_SHORT}@cache:6379/0\n",
    "query": f"url = https://app.example/hook?user=ada&token={_LONG}&x=1\n",
    "jdbc": f"url=jdbc:mysql://db/app?user=app;password={_SHORT};ssl=1\n",
    "odbc": f"Server=db;Database=app;Uid=app;Pwd={_SHORT};\n",
    "libpq": f"dsn = host=db user=app password={_SHORT} dbname=app\n",
    # logins in files of programs
    "netrc, one line": f"machine api.example login ada password {_SHORT}\n",
    "netrc, lines": f"machine api.example\n  login ada\n  password {_SHORT}\n",
    "apt auth.conf": f"machine apt.example/debian login ada password {_SHORT}\n",
    "docker config.json": f'{{"auths": {{"r.example": {{"auth": "{_base64(f"ada:{_SHORT}")}"}}}}}}\n',
    "pgpass": f"db.example:5432:app:ada:{_SHORT}\n", "pgpass, any": f"*:*:*:ada:{_SHORT}\n",
    "my.cnf": f"[client]\nuser=root\npassword={_SHORT}\n",
    "pypirc": f"username = ada\npassword: {_SHORT}\n",
    "smb credentials": f"username=ada\npassword={_SHORT}\ndomain=x\n",
    "ini, spaces": f"password   =   {_SHORT}\n",
    "wpa_supplicant": f'network={{\n  ssid="x"\n  psk="{_SHORT}"\n}}\n',
    "apache": f"SetEnv APP_SECRET {_LONG}\n",
    "nginx": f'proxy_set_header X-Auth-Token "{_LONG}";\n',
    "krb": f"sssd ldap_default_authtok = {_SHORT}\n",
    "htpasswd": f"ada:$apr1$abcdefgh${noise('apr', 22)}\n",
    "shadow": f"ada:$y$j9T${noise('y', 22)}${noise('y2', 43)}:1:\n",
    "SNMP": f"rocommunity {_SHORT}\nauthPassphrase {_LONG}\n", "rsync": f"secrets: ada:{_SHORT}\n",
    # JSON, YAML, TOML
    "JSON, one line": f'{{"user": "ada", "password": "{_SHORT}", "port": 1}}\n',
    "JSON, compact": f'{{"a":1,"apiKey":"{_HEX}"}}\n',
    "JSON, escaped": f'"{{\\"password\\": \\"{_SHORT}\\"}}"\n',
    "daemon.json": f'{{"log-opts": {{"splunk-token": "{_UUID}", "x": "y"}}}}\n',
    "YAML, flow": f"db: {{user: ada, password: {_SHORT}, port: 1}}\n",
    "YAML, list": f"  - db_password: '{_SHORT}'\n",
    "TOML": f'db = {{ user = "ada", password = "{_SHORT}" }}\n',
    "Python": f'connect(user="a", password="{_SHORT}")\n',
    "PHP": f"define('DB_PASSWORD', '{_SHORT}');\n", "Ruby": f":password => '{_SHORT}',\n",
    "XML": f"<password>{_SHORT}</password>\n",
    "XML, attribute": f'<user name="a" password="{_SHORT}"/>\n',
    "plist": f"<key>apiToken</key><string>{_LONG}</string>\n",
    "kubeconfig, token": f"users:\n- name: a\n  user: {{token: {_LONG}}}\n",
    "kubeconfig, key": f"    client-key-data: {_base64(_PEM)}\n",
    "kubeadm": "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef\n",
    "list of names and values": f'[{{"name": "DB_PASSWORD", "value": "{_SHORT}"}}]\n',
    "the same, YAML": f"env:\n- name: DB_PASSWORD\n  value: {_SHORT}\n",
    "Terraform": f'variable "db_password" {{\n  default = "{_SHORT}"\n}}\n',
    "YAML, block": f"password: |\n  {_SHORT}\n",
    "app settings": f'<add key="Password" value="{_SHORT}"/>\n',
    "JSON in JSON in JSON": json.dumps(json.dumps(json.dumps({"password": _SHORT}))) + "\n",
    "behind a path": f"secrets=/run/secrets:db_password={_SHORT}\n",
    "pw": f"user=ada pw={_SHORT}\n",
    "property of Java": f"java -Djavax.net.ssl.keyStorePassword={_SHORT} -jar x\n",
    "helm": f"helm install x --set auth.password={_SHORT},a=b\n",
    # keys of clouds
    "AWS, ini": f"aws_access_key_id = x\naws_secret_access_key = {_AWS}\n",
    "AWS, id": f"id: {_AWS_ID}\n",
    "AWS, JSON": f'{{"AccessKeyId": "x", "SecretAccessKey": "{_AWS}", "x": 1}}\n',
    "AWS, TOML": f'secret_access_key="{_AWS}"\n', "AWS, YAML": f"secretAccessKey: {_AWS}\n",
    "AWS, session": f"env AWS_SESSION_TOKEN={_AWS}{_AWS} run\n",
    "Azure": f"AZURE_CLIENT_SECRET={_LONG} az login\n",
    "PEM, encrypted": _PEM.replace("KEY-----\n",
                                   "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
                                   1),
    "PKCS#8 without its frame": f"key: MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw{noise('p8', 64)}\n",
    "grub": f"password_pbkdf2 root grub.pbkdf2.sha512.10000.{noise('grub', 64, '0123456789ABCDEF')}\n",
    "LDAP hash": f"userPassword: {{SSHA}}{noise('ssha', 32)}\n",
    "Telegram": f"bot 123456789:AA{noise('tg', 33)}\n",
    "Azure, signed address": f"https://x.example/c?sv=2022&sig={noise('sas', 44)}%3D\n",
    "bearer": f"x --header 'X: Bearer a1{noise('bear', 30)}'\n", "JWT": f"x --jwt {_JWT}\n",
    "Slack": f"hook: https://hooks.slack.com/services/T{noise('s', 8, _UPPER)}/"
    f"B{noise('s2', 8, _UPPER)}/{noise('s3', 24)}\n",
    "Hugging Face": f'login("hf_{noise("hf", 34)}")\n',
    # encoded
    "base64, one-line key": f"KEY={_base64(_PEM)}\n",
    "write_files, base64": f"write_files:\n- encoding: b64\n  content: {_base64(_SCRIPT)}\n  path: /x\n",
    "write_files, gzip": f"write_files:\n- encoding: gz+b64\n  content: {_GZIP}\n  path: /x\n",
    "write_files, wrapped": f"write_files:\n- encoding: b64\n  content: |\n{_wrapped(_base64(_PEM), 60, '    ')}\n",
    "write_files, !!binary": f"- content: !!binary |\n{_wrapped(_GZIP, 76, '    ')}\n",
    "base64 of base64": f"data: {_base64(_base64(_SCRIPT))}\n",
    "base64 in a shell": f"echo {_base64(f'token={_LONG}')} | base64 -d > /x\n",
    "secret of Kubernetes": json.dumps({"kind": "Secret", "data": {"password": _base64(_SHORT)}}),
    "basic header": f'-H "Authorization: Basic {_base64(f"ada:{_SHORT}")}"\n',
    "key in one line": _PEM.replace("\n", "\\n") + "\n", "key in JSON": json.dumps({"k": _PEM}),
    "word and year": "db_password = Sommer2024\n", "signs": "password: Tr0ub4dor&3\n",
    "quoted": 'password="aB3-dE6+gH9"\n',
}
"""By kind: a text with one secret in it."""

INNOCENT = (
    "password =", "password = \n", "password: \"\"", "password: ''", "password = ${DB_PASSWORD}",
    "password=$DB_PASSWORD",
    "export TOKEN=$(cat /run/token)", "TOKEN=`cat /run/token`", "token = {{ vault_token }}",
    "secret: !vault x",
    "password: %(password)s", "--password-file /etc/app/password", "--password=<password>",
    "api_key = YOUR_API_KEY",
    "password = changeme", "password = password", "secret = example", "token: xxxxxxxxxxxx",
    "api_key: your-api-key-here",
    "password = ********", "PasswordAuthentication no", "PermitEmptyPasswords no",
    "auth required pam_unix.so nullok",
    "password [success=1 default=ignore] pam_unix.so obscure yescrypt",
    "password requisite pam_pwquality.so retry=3",
    "password sufficient pam_unix.so sha512 shadow nullok try_first_pass use_authtok",
    "PASS_MAX_DAYS 99999",
    "ENCRYPT_METHOD SHA512", "ENCRYPT_METHOD YESCRYPT", "root:!*:20000:0:99999:7:::",
    "ada:!:20000:0:99999:7:::",
    "token_lifetime = 86400", "ssl_key = /etc/ssl/private/x.key", "# password: example",
    "key_buffer_size = 16M",
    "http://user:<password>@host/", "http://user:password@proxy.example/",
    "git clone ssh://git@host/x",
    "ftp://anonymous:@ftp.example/", "https://${USER}:${TOKEN}@git.example/x",
    "authorizedkeysfile .ssh/authorized_keys", "-----BEGIN CERTIFICATE-----\nMIIB",
    "-----BEGIN PUBLIC KEY-----\nMIIB",
    "url = https://example.org:8080/path@2", "KeyType = ed25519", "sk-learn", "hf_transfer",
    "keyserver hkps.pool",
    "HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
    "PubkeyAcceptedAlgorithms ssh-ed25519-cert-v01@openssh.com",
    "token_endpoint: https://login.example/oauth2/v2.0/token", "secretName: db-credentials",
    "key: value",
    "TokenFile=/run/secrets/token", "LoadCredential=token:/etc/app/token",
    "EnvironmentFile=/etc/app/secrets.env",
    "keyfile /etc/chrony/chrony.keys", "# secret keys are in /etc/golden", "passwd: files systemd",
    "shadow: files",
    "# The password is read from standard input.", "# Specify a password with -p or --password.",
    "lock_passwd: True",
    "# -H \"X-Api-Key: KEY\"", "ssh_pwauth: false", "chpasswd: {expire: false}", "primary_key = id",
    "foreign_key: user_id",
    "sort_key = created_at", "key=lambda row: row[0]", "def password(self) -> str:",
    "password = getpass.getpass()",
    "token = os.environ[\"API_TOKEN\"]", "token = request.headers.get('X-Token')",
    "self.token = token", "tokens: 4096",
    "max_tokens=2048", "tokenizer = AutoTokenizer.from_pretrained(\"bert-base-uncased\")",
    "pad_token_id: 50256",
    "tokenizer_class: LlamaTokenizerFast", "tokenizer: xlm-roberta-base2",
    "keymap = de-latin1-nodeadkeys",
    "XKBMODEL=\"pc105\"", "keyboard: us",
    "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
    "signing_key: 4A3B5C6D7E8F90112233445566778899AABBCCDD", "sha256:" + "ab12" * 16,
    "integrity sha512-" + "Ab1/" * 21 + "==",
    "mysql -u root -p < dump", "mysql --protocol=tcp -P3306", "mkdir -p /srv/x1y2z3",
    "docker run -p 8080:80 image",
    "ssh -p 2222 ada@host", "cp -p a1b2c3d4 /x", "curl -u ada https://app.example/",
    "curl -u \"$USER:$PASS\" https://x",
    "psql -U app -w -h db", "netstat -plnt", "install -m 0640 -o root:ssl-cert key /x",
    "chown root:shadow /etc/shadow",
    "machine: x86_64-pc-linux-gnu", "the machine x login y password z",
    "Authorization: Bearer <token>",
    "Authorization: Basic %s", "uuid = 123e4567-e89b-12d3-a456-426614174000",
    "PARTUUID=2a4c6e8f-01", "AWS_REGION=eu-west-1",
    "aws_access_key_id = <your key>", "credential_process = /opt/bin/aws-creds get",
    "AWS_PROFILE=team-1",
    "commit = 9daeafb9864cf43055a93de98b2fa6b2f6a1d3ad", "build_id: 71d27dfb6ed2",
    "passphrase: ask", "psk-file=/etc/x.psk",
    "# pass ssl=True to it", "pass TTarget* p1",
    "aws kms --key-id 1234abcd-12ab-34cd-56ef-1234567890ab",
    '"KeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"',
    "secret_arn: arn:aws:secretsmanager:x:1:secret:a-B2c3d4",
    "echo hello | sudo tee /etc/x", "echo $PASS | docker login --password-stdin",
    "unzip -P file.zip",
    "list:\n  - name: a1b2c3d4", "7z x -pfolder x.7z", "openssl req -key x -keyout y",
    "[::1]:8080 up",
    "AUTH_TYPE=oauth2", "auth_method = scram-sha-256", "password_encryption = scram-sha-256",
    "secretbox: xsalsa20poly1305",
    "password_hash = argon2id", "hash_algorithm: sha3-256", "use_tokens: true", "token_type=bearer",
    "api_key_header: X-Api-Key",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
)
"""None has a secret in it."""
