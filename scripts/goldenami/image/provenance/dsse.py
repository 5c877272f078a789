"""Statements of in-toto in signed envelopes: DSSE 1.0.2, with ECDSA on P-256 over SHA-256.

Any tool that knows DSSE reads them, cosign among them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from goldenami.core.errors import NotVerified, Unreachable

if TYPE_CHECKING:  # securesystemslib imports boto3: only where something is signed or opened
    from securesystemslib.signer import Key, Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


def statement(
    kind: str, subject: list[dict[str, Any]], predicate: dict[str, Any]
) -> dict[str, Any]:
    """An in-toto statement with a predicate of type `kind` about `subject`."""
    return {"_type": STATEMENT, "predicateType": kind, "subject": subject, "predicate": predicate}


def sealed(statement: dict[str, Any], signer: Signer) -> str:
    """The signed envelope as compact JSON: a parameter of Systems Manager has room for 4,096
    characters."""
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - most commands sign nothing

    envelope = Envelope(_compact(statement).encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    data = envelope.to_dict()
    # Verifiers skip a signature whose `keyid` is not their own name of the key, which for cosign is
    # the SSH fingerprint. So it stays empty.
    data["signatures"][0]["keyid"] = ""
    return _compact(data)


def opened(text: str, key: Key, name: str, predicate: str) -> dict[str, Any]:
    """The statement in an envelope. Raises Unreachable if `text` is no envelope, NotVerified if
    `key` has not signed it, or its predicate has another type."""
    from securesystemslib.dsse import Envelope  # noqa: PLC0415 - as above
    from securesystemslib.exceptions import VerificationError  # noqa: PLC0415 - as above

    try:
        data = json.loads(text)
        for signature in data["signatures"]:
            # securesystemslib skips a signature with another `keyid`; `sealed` leaves it empty.
            signature["keyid"] = key.keyid
        envelope = Envelope.from_dict(data)
        statement = dict(json.loads(envelope.payload))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(
            f"{name} is no DSSE envelope: {error!r}", hint="was it cut off, or edited?"
        ) from None
    try:
        envelope.verify([key], threshold=1)
    except VerificationError:
        raise NotVerified(
            f"{name} is not signed by the key {key.keyid[:12]}",
            hint="it was changed after it was signed, or another key has signed it",
        ) from None
    types = (envelope.payload_type, statement.get("_type"), statement.get("predicateType"))
    if types != (PAYLOAD_TYPE, STATEMENT, predicate):
        raise NotVerified(
            f"{name} holds no statement of {predicate}", hint="another program has signed it"
        )
    return statement


def _compact(data: Any) -> str:
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
