"""Statements of in-toto in signed envelopes: DSSE 1.0.2, with ECDSA on P-256 over SHA-256.

Any tool that knows DSSE reads them, cosign among them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

from goldenami.core.errors import NotVerified, Unreachable
from goldenami.image.security.signers import SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


def sealed(statement: dict[str, Any], key: SigningKey) -> str:
    """The envelope of a statement, without a space: a parameter of Systems Manager has room for 4,096 characters.

    It names no key. Verifiers skip a signature whose `keyid` is not what they would call the key, and cosign calls it
    by its fingerprint of SSH.
    """
    payload = _compact(statement).encode()
    signature = key.sign(_encoding(payload))
    return _compact({"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
                     "signatures": [{"keyid": "", "sig": base64.b64encode(signature).decode()}]})


def opened(text: str, key: EllipticCurvePublicKey, where: str, predicate: str) -> dict[str, Any]:
    """The statement in an envelope, whose predicate is of that type.

    Unreachable where `text` is no envelope; NotVerified where this key has not signed it, or something else is in it.
    """
    try:
        data = json.loads(text)
        payload = base64.b64decode(data["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in data["signatures"]]
        kind, statement = data["payloadType"], dict(json.loads(payload))
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Unreachable(f"{where} is no DSSE envelope: {error!r}", hint="was it cut off, or edited?") from None
    if kind != PAYLOAD_TYPE or not any(_signed(key, one, payload) for one in signatures):
        raise NotVerified(f"{where} is not signed by the key {key_id(key)[:12]}",
                          hint="it was changed after it was signed, or another key has signed it")
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, predicate):
        raise NotVerified(f"{where} holds no statement of {predicate}", hint="another program has signed it")
    return statement


def key_id(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key, DER of SubjectPublicKeyInfo: how messages name it."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _encoding(payload: bytes) -> bytes:
    """What is signed (DSSE 1.0.2, PAE): lengths keep type and payload apart."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signed(key: EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _encoding(payload), ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def _compact(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
