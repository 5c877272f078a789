"""Secrets of random values are found in what programs write, also encoded; lines that only look so
pass."""

from __future__ import annotations

import base64
import bz2
import collections
import gzip
import lzma
import re
import string
import zlib
from collections.abc import Callable

import pytest
from goldenami.local.tree import packed_text, secret_patterns
from support.security import secret_samples
from support.security.canaries import noise
from support.security.secret_lines import INNOCENT, PLANTED

SEED, COUNT = 20, 1920
"""docs/security.md has the figures of 10,000."""
ALPHABETS = {
    "": string.ascii_letters + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "X": "0123456789ABCDEF",
}


def found(text: str) -> str:
    return secret_patterns.found(f"x = 1\n{text}\ny = 2\n".encode())


def filled(example: str) -> str:
    """With characters made by chance for each `…40`."""
    return re.sub(
        r"…([UX]?)(\d+)",
        lambda part: noise(example + part[0], int(part[2]), ALPHABETS[part[1]]),
        example,
    )


def test_at_most_one_in_a_hundred_random_secrets_is_missed() -> None:
    samples = secret_samples.secrets(SEED, COUNT)
    missed = [sample for sample in samples if not found(sample.text)]
    assert len(missed) * 100 <= COUNT, missed
    kinds, each = (
        collections.Counter(sample.kind for sample in missed),
        COUNT // len(secret_samples.SECRETS),
    )
    assert {kind: count for kind, count in kinds.items() if count * 20 > each} == {}, (
        "1 in 20 of a kind"
    )
    assert {(sample.kind, sample.notation) for sample in samples} == {
        (kind, notation) for kind in secret_samples.SECRETS for notation in secret_samples.NOTATIONS
    }


def test_at_most_one_in_a_thousand_innocent_lines_is_named() -> None:
    named = [sample for sample in secret_samples.innocents(SEED, COUNT) if found(sample.text)]
    assert len(named) * 1000 <= COUNT, named


@pytest.mark.parametrize("name", ["createuser", "rabbitmqctl"])
def test_a_program_at_the_end_of_a_line_has_no_argument(name: str) -> None:
    """As in dpkg's lists of digests."""
    digest = "e0d1e743bbfb41475a33ed3fe375b542"
    assert found(f"{digest}  usr/bin/{name}\n{digest}  usr/bin/dropdb\n{digest}  usr/a\n") == ""


@pytest.mark.parametrize("row", secret_patterns.FORMS, ids=lambda row: row.name)
def test_each_form_finds_its_example(row: secret_patterns.Row) -> None:
    kinds = list(secret_patterns.kinds(f"x\n{filled(row.example)}\n".encode()))
    assert row.name in kinds, filled(row.example)


@pytest.mark.parametrize("row", secret_patterns.FIELDS, ids=lambda row: row.name)
def test_each_field_finds_its_example(row: secret_patterns.Row) -> None:
    assert found(filled(row.example)) == secret_patterns.ARGUMENT
    assert found(re.sub(r"…\d+", "$DB_PASSWORD", row.example)) == ""


@pytest.mark.parametrize("name", secret_patterns.ISSUED)
def test_each_beginning_of_an_issuer_is_found(name: str) -> None:
    for begin in secret_patterns.ISSUED[name].split():
        assert found(f"at {begin}{noise(begin, 40)} here") == name, begin
        assert found(f"at {begin}{'your-token-stands-here'} here") == "", begin


@pytest.mark.parametrize("names", secret_patterns.PROGRAMS)
def test_each_program_s_option_is_found(names: str) -> None:
    for name in names.split():
        for option in secret_patterns.PROGRAMS[names].split():
            space = "" if option[-1] in "*:,%" else " "
            line = f"{name} x {option.replace('*', ' ada')}{space}{noise(name, 20)} y"
            assert found(line) == secret_patterns.ARGUMENT, line


@pytest.mark.parametrize(
    "name",
    [
        "licenseKey",
        "activationKey",
        "license_key",
        "LICENCE_KEY",
        "encryptionKey",
        "signingKey",
        "masterKey",
        "dbPassword",
        "dbPass",
        "rootPwd",
        "dbpass",
        "SSHPASS",
        "sshpw",
        "apiToken",
        "clientSecret",
        "secret_access_key",
        "MY_SERVICE_TOKEN",
        "api-key",
        "X-Api-Key",
        "activation_code",
        "licenseCode",
        "sessionCookie",
        "KEYSTORE_PASSPHRASE",
        "appKey",
    ],
)
def test_a_name_in_any_case_says_secret(name: str) -> None:
    for value in (
        noise(name, 24),
        "-".join(noise(f"{name}{part}", 5, ALPHABETS["U"]) for part in range(5)),
    ):
        for line in (
            f"{name}: {value}",
            f'{{"{name}":"{value}"}}',
            f"<{name}>{value}</{name}>",
            f"{name}={value}",
            f'let {name}: String = "{value}"',
            f"<name>{name}</name><value>{value}</value>",
        ):
            kinds = secret_patterns.kinds(f"x = 1\n{line}\n".encode())
            assert "a value of something secret" in kinds, line


@pytest.mark.parametrize(
    "name",
    [
        "publicKey",
        "primary_key",
        "cacheKey",
        "sort_key",
        "key_id",
        "KeyId",
        "tokenType",
        "monkey",
        "compass",
        "keyboard",
        "password_file",
        "secret_arn",
        "key_fingerprint",
        "tokenizer",
        "passthrough",
    ],
)
def test_other_names_do_not(name: str) -> None:
    assert found(f"{name} = {noise(name, 24)}") == ""


def _twice(data: bytes) -> bytes:
    return base64.b64encode(base64.b64encode(data))


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "hex": lambda data: data.hex().encode(),
    "gzip": lambda data: base64.b64encode(gzip.compress(data)),
    "zlib": lambda data: base64.b64encode(zlib.compress(data)),
    "bzip2": lambda data: base64.b64encode(bz2.compress(data)),
    "xz": lambda data: base64.b64encode(lzma.compress(data)),
    "xz in hex": lambda data: lzma.compress(data).hex().encode(),
    "UTF-16": lambda data: base64.b64encode(data.decode().encode("utf-16")),
    "twice": _twice,
    "three times": lambda data: base64.b64encode(_twice(data)),
    "in lines": base64.encodebytes,
    "hex in lines": lambda data: re.sub(rb"(.{60})", rb"\1\n", data.hex().encode()),
    "behind a path": lambda data: b"/x/y/" + base64.b64encode(data),
    "behind a name": lambda data: b"a_b-" + base64.b64encode(data),
    "in JSON": lambda data: data.replace(b"=", b"\\u003d"),
    "with umlauts": lambda data: base64.b64encode("Grüße\n".encode() + data),
}
"""How a text may stand in another."""


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoded_secret_is_found(encoding: str) -> None:
    for number in range(20):
        text = (
            "# settings of the service ~~~???\n"
            f"DB_PASSWORD={noise(f'{encoding}{number}', 24)}\nPORT=5432\n"
        ).encode()
        encoded = ENCODINGS[encoding](text)
        assert (
            secret_patterns.found(b"data: " + encoded + b"\n") == "a value of something secret"
        ), encoded


def test_what_is_encoded_is_decoded_three_times_and_no_more() -> None:
    text = f"DB_PASSWORD={noise('deep', 16)}\n".encode()
    for _ in range(4):
        text = base64.b64encode(text)
    assert secret_patterns.found(text) == ""
    assert secret_patterns.found(base64.b64decode(text)) != ""


def test_a_compressed_file_of_many_gigabytes_is_not_unpacked_whole() -> None:
    stream = gzip.compress(bytes(17 << 20))
    assert len(packed_text.readable(stream * 9)[0]) < 64 << 20


def test_what_only_looks_like_a_secret_is_none() -> None:
    assert len(INNOCENT) >= 40
    assert {text: kind for text in INNOCENT if (kind := found(text))} == {}


def test_what_is_a_secret_is_found() -> None:
    assert len(PLANTED) >= 60
    assert [kind for kind, text in PLANTED.items() if not found(text)] == []


@pytest.mark.parametrize(
    "part",
    [b"\\", b"echo ", b"curl ", b"_key", b"token", b"A", b"a:1:", b"password", b"-", b"x\x9c"],
)
def test_a_text_of_one_thing_ends(part: bytes) -> None:
    """A mebibyte of what a pattern begins with: one that looked ahead without an end would take
    hours."""
    assert secret_patterns.found(part * ((1 << 20) // len(part))) == ""
