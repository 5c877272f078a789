"""Keys for signed provenance, made as a person makes them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from goldenami.image.provenance import signers

from support.builds.tools import find


def make(path: Path, curve: str = "prime256v1") -> Path:
    """A private key at `path`, and its public one beside it; returns the public one."""
    public = path.with_suffix(".pub")
    for argv in (
        ["ecparam", "-name", curve, "-genkey", "-noout", "-out", str(path)],
        ["ec", "-in", str(path), "-pubout", "-out", str(public)],
    ):
        subprocess.run([find("openssl"), *argv], check=True, capture_output=True)
    return public


SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAicl7XU1gyuKmv26LsdWrRgc04ODmxm/lQddheVpsfL x"
"""The public half of a person's key, which a launch names."""


def in_kms(region: str, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
    """The ARN of a new key of KMS, with an alias by which the account's roles may use it."""
    kms = boto3.client("kms", region)
    made = kms.create_key(KeyUsage=usage, KeySpec=spec)["KeyMetadata"]
    kms.create_alias(AliasName=f"alias/golden-ami/{made['KeyId']}", TargetKeyId=made["KeyId"])
    return str(made["Arn"])


@contextmanager
def used(key: Path | str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(signers.KEY, str(key))
        yield
