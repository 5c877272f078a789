from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from support.aws.emulator_probe import ProbeAccount, probe, refused


@probe("signed_as_it_is")
def test_a_digest_is_signed_as_it_is(account: ProbeAccount) -> None:
    kms, message = account.client("kms"), b"what is signed"
    asked = {"KeyId": kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"],
             "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
    public = load_der_public_key(kms.get_public_key(KeyId=asked["KeyId"])["PublicKey"])
    assert isinstance(public, EllipticCurvePublicKey)
    refused("ValidationException", kms.sign, **asked, Message=message)
    for kind, text in (("DIGEST", hashlib.sha256(message).digest()), ("RAW", message)):
        signature = kms.sign(**{**asked, "MessageType": kind}, Message=text)["Signature"]
        public.verify(signature, message, ECDSA(hashes.SHA256()))
