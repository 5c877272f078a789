"""Secrets of random values in the notations of programs, and lines without one, as many as asked
for: what finds the first and passes the second is measured on values that nobody chose.

One seed gives the same samples.
"""

from __future__ import annotations

import base64
import json
import random
import shlex
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

_ALNUM = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_UPPER = string.ascii_uppercase + string.digits
_SYMBOLS = _ALNUM + string.punctuation
_WORDS = [
    "apple",
    "audit",
    "backup",
    "bridge",
    "build",
    "bundle",
    "cache",
    "cluster",
    "config",
    "container",
    "daemon",
    "default",
    "device",
    "disk",
    "driver",
    "engine",
    "export",
    "filter",
    "folder",
    "format",
    "gateway",
    "group",
    "header",
    "image",
    "index",
    "kernel",
    "layer",
    "library",
    "limit",
    "login",
    "machine",
    "manager",
    "memory",
    "metrics",
    "mirror",
    "model",
    "module",
    "monitor",
    "network",
    "object",
    "package",
    "parser",
    "policy",
    "profile",
    "python",
    "queue",
    "region",
    "release",
    "report",
    "request",
    "runtime",
    "sample",
    "schema",
    "server",
    "service",
    "session",
    "shadow",
    "sensor",
    "signal",
    "socket",
    "source",
    "status",
    "storage",
    "stream",
    "system",
    "target",
    "task",
    "tensor",
    "thread",
    "timer",
    "trace",
    "update",
    "user",
    "value",
    "vector",
    "version",
    "volume",
    "window",
    "worker",
]


@dataclass(frozen=True)
class Sample:
    """A text; what it is, and how it is written."""

    kind: str
    notation: str
    text: str


def _chars(chosen: random.Random, alphabet: str, length: int) -> str:
    return "".join(chosen.choice(alphabet) for _ in range(length))


def _base64(chosen: random.Random, count: int) -> str:
    return base64.b64encode(chosen.randbytes(count)).decode()


def _url64(chosen: random.Random, count: int) -> str:
    return base64.urlsafe_b64encode(chosen.randbytes(count)).decode().rstrip("=")


def _symbols(chosen: random.Random) -> str:
    """Twelve, with a letter, a digit and a symbol at least, as a password's rules ask."""
    while True:
        found = _chars(chosen, _SYMBOLS, 12)
        if all(
            set(found) & set(part)
            for part in (string.ascii_letters, string.digits, string.punctuation)
        ):
            return found


def _human(chosen: random.Random) -> str:
    word = chosen.choice(_WORDS).capitalize()
    return f"{word}{chosen.randrange(10, 9999)}{chosen.choice('!?#.-+*')}"[:14].ljust(8, "7")


def _licence(chosen: random.Random) -> str:
    return "-".join(_chars(chosen, _UPPER, 5) for _ in range(5))


def _jwt(chosen: random.Random) -> str:
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256"}, {"sub": str(chosen.randrange(10**9))})
    )
    return f"{head}.{body}.{_url64(chosen, 32)}"


def _issued(chosen: random.Random) -> str:
    return chosen.choice(
        [
            "gh" + "p_" + _chars(chosen, _ALNUM, 36),
            "glpat" + "-" + _chars(chosen, _ALNUM, 20),
            "hf" + "_" + _chars(chosen, string.ascii_letters, 34),
            "xoxb" + f"-{chosen.randrange(10**11, 10**12)}-" + _chars(chosen, _ALNUM, 24),
            "nvapi" + "-" + _url64(chosen, 48),
            "npm" + "_" + _chars(chosen, _ALNUM, 36),
            "AI" + "za" + _url64(chosen, 26)[:35],
            "sk-" + "proj-" + _url64(chosen, 36),
            "dckr" + "_pat_" + _url64(chosen, 20),
            "hvs" + "." + _url64(chosen, 68),
        ]
    )


def _pem(chosen: random.Random) -> str:
    rows = "\n".join(_chars(chosen, _ALNUM, 64) for _ in range(6))
    kind = chosen.choice(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
    return f"-----BEGIN {kind}PRIVATE " + f"KEY-----\n{rows}\n-----END {kind}PRIVATE " + "KEY-----"


SECRETS: dict[str, Callable[[random.Random], str]] = {
    "AWS secret key": lambda chosen: _chars(chosen, _ALNUM + "+/", 40),
    "32 bytes in base64": lambda chosen: _base64(chosen, 32),
    "32 bytes in base64url": lambda chosen: _url64(chosen, 32),
    "hex": lambda chosen: _chars(chosen, _HEX, chosen.choice([32, 40, 64])),
    "12 with symbols": _symbols,
    "16 letters and digits": lambda chosen: _chars(chosen, _ALNUM, 16),
    "word, number, symbol": _human,
    "licence": _licence,
    "uuid": lambda chosen: str(uuid.UUID(bytes=chosen.randbytes(16), version=4)),
    "JSON web token": _jwt,
    "issued token": _issued,
    "private key": _pem,
}
"""By kind: a new value."""
_PASSWORDS = ("12 with symbols", "16 letters and digits", "word, number, symbol")
_PASSWORD_NAMES = (
    "password",
    "db_password",
    "smtp_pass",
    "admin_passwd",
    "root_pwd",
    "keystore_passphrase",
    "pw",
    "redis_auth_password",
    "sudo_pass",
    "user_password",
)
_KEY_NAMES = (
    "api_key",
    "secret_key",
    "access_token",
    "client_secret",
    "auth_token",
    "license_key",
    "activation_key",
    "encryption_key",
    "signing_key",
    "aws_secret_access_key",
    "master_key",
    "account_key",
    "token",
    "secret",
    "refresh_token",
    "private_key",
    "shared_secret",
    "session_key",
    "wandb_api_key",
    "app_key",
)


def _name(chosen: random.Random, kind: str, case: str) -> str:
    parts = chosen.choice(_PASSWORD_NAMES if kind in _PASSWORDS else _KEY_NAMES).split("_")
    if case == "camel":
        return parts[0] + "".join(part.capitalize() for part in parts[1:])
    return case.join(parts) if case != "UPPER" else "_".join(parts).upper()


def _block(value: str, indent: str) -> str:
    return "|\n" + "\n".join(indent + row for row in value.split("\n"))


NOTATIONS: dict[str, Callable[[random.Random, str, str], str]] = {
    "shell": lambda chosen, kind, value: (
        f"export {_name(chosen, kind, 'UPPER')}={shlex.quote(value)}"
    ),
    "unit": lambda chosen, kind, value: (
        f"Environment={json.dumps(_name(chosen, kind, 'UPPER') + '=' + value)}"
    ),
    "JSON": lambda chosen, kind, value: json.dumps(
        {"port": 1, _name(chosen, kind, "camel"): value}
    ),
    "YAML": lambda chosen, kind, value: (
        f"  {_name(chosen, kind, '_')}: "
        + (_block(value, "    ") if "\n" in value else "'" + value.replace("'", "''") + "'")
    ),
    "INI": lambda chosen, kind, value: f"{_name(chosen, kind, '_')} = {value}",
    "XML": lambda chosen, kind, value: (
        f"<{(name := _name(chosen, kind, 'camel'))}>{escape(value)}</{name}>"
    ),
    "option": lambda chosen, kind, value: (
        f"run --{_name(chosen, kind, '-')}{chosen.choice(' =')}{shlex.quote(value)}"
    ),
    "address": lambda chosen, kind, value: (
        f"url: https://ada:{quote(value, safe='')}@{chosen.choice(_WORDS)}.example/x"
    ),
}
"""How a program reads a value: by kind of secret and value, a text."""


def secrets(seed: int, count: int) -> list[Sample]:
    """So many secrets, of each kind in each notation alike."""
    chosen = random.Random(seed)
    pairs = [(kind, notation) for kind in SECRETS for notation in NOTATIONS]
    found = list[Sample]()
    for number in range(count):
        kind, notation = pairs[number % len(pairs)]
        value = SECRETS[kind](chosen)
        found.append(Sample(kind, notation, NOTATIONS[notation](chosen, kind, value)))
    return found


def _path(chosen: random.Random) -> str:
    parts = [chosen.choice(_WORDS) for _ in range(chosen.randrange(2, 6))]
    if chosen.random() < 0.3:
        parts[-1] += f"-{chosen.randrange(20)}.{chosen.randrange(20)}"
    if chosen.random() < 0.2:
        parts.insert(1, _chars(chosen, _HEX, chosen.choice([12, 40, 64])))
    return (
        chosen.choice(["/", "/", "/", "./", "~/", "", "../"])
        + "/".join(parts)
        + chosen.choice(["", ".py", ".conf", ".key", ".so.1"])
    )


def _sentence(chosen: random.Random) -> str:
    words = [
        chosen.choice(
            [
                *_WORDS,
                "the",
                "a",
                "of",
                "to",
                "password",
                "token",
                "key",
                "secret",
                "is",
                "in",
                "not",
            ]
        )
        for _ in range(chosen.randrange(6, 14))
    ]
    return " ".join(words).capitalize() + "."


def _version(chosen: random.Random) -> str:
    one = f"{chosen.randrange(30)}.{chosen.randrange(30)}.{chosen.randrange(200)}"
    return one + chosen.choice(
        ["", "-1", "+deb13u2", "~rc1", "-1ubuntu0.3", ".post1", "+git20240101", "-eks-1"]
    )


def _digest(chosen: random.Random) -> str:
    hexadecimal = _chars(chosen, _HEX, chosen.choice([32, 40, 64]))
    return chosen.choice(
        [
            f"{hexadecimal}  {_path(chosen)}",
            f"sha256:{_chars(chosen, _HEX, 64)}",
            f"commit {hexadecimal}",
            f"integrity: sha512-{_base64(chosen, 64)}",
            f"RUN cmp {hexadecimal}",
            f"SHA256:{_base64(chosen, 32).rstrip('=')} root@host (ED25519)",
            f"--hash=sha256:{_chars(chosen, _HEX, 64)}",
            f"{chosen.choice(_WORDS)}/{chosen.choice(_WORDS)}.py,"
            f"sha256={_url64(chosen, 32)},{chosen.randrange(9999)}",
            f'etag = "{hexadecimal}"',
            f"checksum: {hexadecimal}",
            f"Signed-By: {_chars(chosen, '0123456789ABCDEF', 40)}",
        ]
    )


def _identity(chosen: random.Random) -> str:
    short = _chars(chosen, _HEX, 17)
    return chosen.choice(
        [
            f"instance_id: i-{short}",
            f"ami-{short}",
            f'vpc = "vpc-{short}"',
            f"key_name: {chosen.choice(_WORDS)}-{chosen.randrange(99)}",
            f"key_id = {uuid.UUID(bytes=chosen.randbytes(16))}",
            f'"KmsKeyId": "{uuid.UUID(bytes=chosen.randbytes(16))}"',
            "secret_arn: arn:aws:secretsmanager:eu-west-1:123456789012:secret:"
            f"{chosen.choice(_WORDS)}-{_chars(chosen, _ALNUM, 6)}",
            f"kms: arn:aws:kms:eu-west-1:123456789012:key/{uuid.UUID(bytes=chosen.randbytes(16))}",
            "key fingerprint = "
            f"{' '.join(_chars(chosen, '0123456789ABCDEF', 4) for _ in range(10))}",
            f"account = {chosen.randrange(10**11, 10**12)}",
            f"client_id: {_chars(chosen, _HEX, 24)}",
            f"token_id = {_chars(chosen, _HEX, 24)}",
            f"cache_key: {chosen.choice(_WORDS)}-{_version(chosen)}",
        ]
    )


def _public(chosen: random.Random) -> str:
    rows = "\n".join(_base64(chosen, 48) for _ in range(4))
    return chosen.choice(
        [
            f"-----BEGIN PUBLIC KEY-----\n{rows}\n-----END PUBLIC KEY-----",
            f"-----BEGIN CERTIFICATE-----\nMIID{rows}\n-----END CERTIFICATE-----",
            f"PublicKey = {_base64(chosen, 32)}",
            f"public_key: {_base64(chosen, 32)}",
            f'"publicKey": "{_base64(chosen, 91)}"',
            f"untrusted comment: minisign public key\nRW{_base64(chosen, 40)}",
            f"pubkey={_base64(chosen, 32)}",
            f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQIN{rows}\n"
            "-----END PGP PUBLIC KEY BLOCK-----",
            f"HOST_PUBLIC_KEY={_base64(chosen, 32)}",
            f"    verifying-key: {_chars(chosen, _HEX, 64)}",
        ]
    )


def _address(chosen: random.Random) -> str:
    host = f"{chosen.choice(_WORDS)}.{chosen.choice(['example', 'example.org', 'internal'])}"
    return "see " + chosen.choice(
        [
            f"https://{host}/{chosen.choice(_WORDS)}/{_chars(chosen, _HEX, 40)}",
            f"https://{host}:8443/{_path(chosen).lstrip('./~')}",
            f"ssh://git@{host}/{chosen.choice(_WORDS)}",
            f"https://{host}/?{chosen.choice(_WORDS)}={_chars(chosen, _ALNUM, 12)}",
            f"https://user:password@{host}/",
            f"https://${{USER}}:${{TOKEN}}@{host}/x",
            f"postgres://{host}/{chosen.choice(_WORDS)}",
            f"https://{host}/{chosen.choice(_WORDS)}@{_version(chosen)}",
            f"https://{host}/{uuid.UUID(bytes=chosen.randbytes(16))}",
        ]
    )


def _setting(chosen: random.Random) -> str:
    word, other, number = chosen.choice(_WORDS), chosen.choice(_WORDS), chosen.randrange(10**5)
    return chosen.choice(
        [
            f"{word}_{other} = {number}",
            f"{word}: {{{other}: true, limit: {number}}}",
            f"password_min_length = {number}",
            f"max_tokens: {number}",
            f"token_lifetime = {number}s",
            f"password = ${word.upper()}_PASSWORD",
            f"password: ${{{word.upper()}_PASS}}",
            f"password = {{{{ {word}_password }}}}",
            f"PASSWORD_FILE={_path(chosen)}",
            f"ssl_key = /etc/ssl/{word}/{other}.key",
            f"tls_private_key: {_path(chosen)}",
            f"secretName: {word}-{other}-credentials",
            "api_key = YOUR_API_KEY",
            f'token = os.environ["{word.upper()}_TOKEN"]',
            f'password = getpass.getpass("{word}")',
            f"sort_key = {word}_{other}",
            f"token = request.headers.get('X-{word.capitalize()}-Token')",
            f"token = self.{word}.{other}[{number % 9}]",
            f"token: {word}.{other}@{other}.example",
            f"secret = {word}.get_secret({other}, {number})",
            f"key = {word}.{other}({word}_{number % 99})",
            f"pad_token_id: {number}",
            f'eos_token: "<|end_of_{word}|>"',
            f"tokenizer: {word}-{other}-uncased-v{number % 4}",
            f"--token-file {_path(chosen)}",
            f"password={word}{other}",
            f"partition_key = {word}#{other}#{number}",
            f"primaryKey: {word}Id",
            f'foreign_key: "{word}_{number % 99}.{other}_id"',
            f"token = {word.capitalize()}{other.capitalize()}Token({number % 9})",
            f"authorized_keys: {_path(chosen)}",
            f"key: {word}/{other}-{_version(chosen)}.tar.gz",
            f"token: <{word}-{other}>",
            f'password: "*****{"*" * (number % 9)}"',
        ]
    )


INNOCENTS: dict[str, Callable[[random.Random], str]] = {
    "digest": _digest,
    "path": lambda chosen: f"{chosen.choice(['', 'include ', 'path = ', 'load: '])}{_path(chosen)}",
    "identity": _identity,
    "public key": _public,
    "uuid": lambda chosen: (
        f"{chosen.choice(['PARTUUID=', 'boot_id: ', 'id = ', ''])}"
        f"{uuid.UUID(bytes=chosen.randbytes(16))}"
    ),
    "version": lambda chosen: (
        f"{chosen.choice(_WORDS)}{chosen.choice(['=', ' = ', ': ', ' (= '])}{_version(chosen)}"
    ),
    "address": _address,
    "prose": _sentence,
    "setting": _setting,
}
"""By kind: a new text without a secret."""


def innocents(seed: int, count: int) -> list[Sample]:
    """So many texts without a secret, of each kind alike."""
    chosen, kinds = random.Random(seed), list(INNOCENTS)
    return [
        Sample(kind, "", INNOCENTS[kind](chosen))
        for kind in (kinds[number % len(kinds)] for number in range(count))
    ]
