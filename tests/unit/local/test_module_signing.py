"""Signatures of kernel modules: what they hold, that they repeat, and the keys that are refused."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from goldenami.core.errors import BadInput
from goldenami.local.kernel import module_signing
from support.debian.module_keys import certificate, write

MODULE = b"\x7fELF" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_signed_module_is_the_module_and_what_the_kernel_expects(
    key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    """As include/linux/module_signature.h has it: PKCS#7 in DER, a structure of 12 bytes, a magic
    string."""
    signer = module_signing.load(write(tmp_path, key, certificate(key)))
    signed = signer.sign(MODULE)
    assert signed.startswith(MODULE)
    assert signed.endswith(b"~Module signature appended~\n")
    trailer = signed[-len(module_signing.MAGIC) - 12 : -len(module_signing.MAGIC)]
    algo, digest, kind, signer_length, key_length, size = struct.unpack(">BBBBB3xI", trailer)
    assert (algo, digest, kind, signer_length, key_length) == (0, 0, 2, 0, 0)
    der = signed[len(MODULE) : -len(module_signing.MAGIC) - 12]
    assert len(der) == size
    (tmp_path / "module").write_bytes(MODULE)
    (tmp_path / "signature").write_bytes(der)
    argv = [
        "openssl",
        "cms",
        "-verify",
        "-binary",
        "-inform",
        "DER",
        "-in",
        "signature",
        "-content",
        "module",
        "-certfile",
        "cert.pem",
        "-CAfile",
        "cert.pem",
        "-no_check_time",
        "-purpose",
        "any",
        "-out",
        "/dev/null",
    ]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "module").write_bytes(MODULE[:-1] + b"x")
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_the_same_key_gives_the_same_bytes(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    path = write(tmp_path, key, certificate(key))
    first, second = (module_signing.load(path) for _ in range(2))
    assert first.sign(MODULE) == second.sign(MODULE)
    assert first.signature.signer == "Test signer"


def test_keys_that_cannot_sign_are_refused(key: rsa.RSAPrivateKey, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    for folder in ("curve", "locked", "other", "nameless", "bare"):
        (tmp_path / folder).mkdir()
    curve = ec.generate_private_key(ec.SECP256R1())
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for path, complaint in (
        (tmp_path / "junk", "junk has no usable private key"),
        (tmp_path / "absent", "absent has no usable private key"),
        (write(tmp_path / "bare", key, None), "has no certificate"),
        (
            write(tmp_path / "curve", curve, certificate(curve)),
            "has no RSA key: with another one each",
        ),
        (
            write(tmp_path / "locked", key, certificate(key), password=b"x"),
            "has no usable private key: Password",
        ),
        (write(tmp_path / "other", key, certificate(other)), "is not that of its key"),
        (
            write(tmp_path / "nameless", key, certificate(key, NameOID.ORGANIZATION_NAME)),
            "has no common name",
        ),
    ):
        with pytest.raises(BadInput, match=complaint) as caught:
            module_signing.load(path)
        assert "GOLDEN_MODULE_KEY" in caught.value.hint


def test_what_the_environment_names(
    key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(module_signing.KEY, raising=False)
    assert module_signing.configured() is None
    monkeypatch.setenv(module_signing.KEY, str(write(tmp_path, key, certificate(key))))
    found = module_signing.configured()
    assert found is not None and found.signature.signer == "Test signer"
    (tmp_path / "packer/images").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"key\.pem is inside a checkout"):
        module_signing.configured()
