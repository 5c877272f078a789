"""Where a published build comes from, signed: an in-toto statement with SLSA's predicate (v1) in a DSSE envelope.

Its subjects are the disk and the AMI of each region; what it was made of is the lock, and what was found of it are the
digests of the build's records. Whoever has the public key can hold all of it to the envelope, on any machine.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)

from goldenami.core import records
from goldenami.core.errors import BadInput, NotVerified
from goldenami.model.build_folder import BuildFolder
from goldenami.model.build_records import PUBLISH_FILE
from goldenami.model.definition import Definition

KEY = "GOLDEN_SIGNING_KEY"
"""Environment variable: the file of an ECDSA P-256 key, PEM, not encrypted, outside the checkout."""
FILE = "provenance.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
BUILD_TYPE = "goldenami/bake/v1"
LASTING = ("bake.json", "manifest.json", "sbom.cdx.json", "sbom.spdx.json")
BYPRODUCTS = (*LASTING, "verify.json", "cve.json")
"""Records whose digests are in it, as far as the build has them; the last two may be made again later."""


def signing_key(root: Path) -> EllipticCurvePrivateKey | None:
    """The key that the environment names, or None; BadInput where it cannot sign, or is inside the checkout `root`."""
    if not (name := os.environ.get(KEY)):
        return None
    path = Path(name).resolve()
    if path.is_relative_to(root.resolve()):
        raise BadInput(f"{KEY}: {path} is inside the checkout", hint="keep private keys where git does not look")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{KEY}: {path} is no private key that can be read: {error}",
                       hint="`openssl ecparam -name prime256v1 -genkey -noout` makes one") from None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise BadInput(f"{KEY}: {path} is no ECDSA key on P-256",
                       hint="`openssl ecparam -name prime256v1 -genkey -noout` makes one")
    return key


def demanded(root: Path, definition: Definition) -> EllipticCurvePrivateKey | None:
    """The key to sign with; BadInput where the definition wants builds signed, and there is none."""
    key = signing_key(root)
    if key is None and definition.security.signed:
        raise BadInput(f"{definition.image} is published with signed provenance alone, and {KEY} names no key",
                       hint=f"set {KEY} to the file of an ECDSA P-256 key, outside the checkout")
    return key


def write(build: BuildFolder, key: EllipticCurvePrivateKey) -> Path:
    """Sign what publish.json and the other records of the build say; returns the envelope's path."""
    payload = records.canonical(_statement(build)).encode()
    signature = key.sign(_encoding(payload), ECDSA(hashes.SHA256()))
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}]}
    records.write_text(build.path / FILE, records.canonical(envelope))
    return build.path / FILE


def _statement(build: BuildFolder) -> dict[str, Any]:
    bake, published = build.read_bake(), _published(build)
    amis = [{"name": f"arn:aws:ec2:{region}::image/{entry['ami']}",
             "digest": {"sha256": bake.disk_sha256 or bake.lock_sha256},
             "annotations": {"snapshot": entry["snapshot"]}} for region, entry in sorted(published["regions"].items())]
    return {
        "_type": STATEMENT, "predicateType": PREDICATE, "subject": amis,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"image": bake.image, "builder": bake.builder.value},
                "resolvedDependencies": [
                    {"name": "lock.json", "digest": {"sha256": bake.lock_sha256}},
                    {"name": "checkout", "digest": {"gitCommit": bake.git_commit}}],
            },
            "runDetails": {
                "builder": {"id": "goldenami", "version": {"packer": bake.host.packer, "python": bake.host.python}},
                "metadata": {"invocationId": bake.build_id, "startedOn": bake.started_at,
                             "finishedOn": published["published_at"]},
                "byproducts": [{"name": name, "digest": {"sha256": records.sha256_file(build.path / name)}}
                               for name in BYPRODUCTS if (build.path / name).exists()],
            },
        },
    }


def _published(build: BuildFolder) -> dict[str, Any]:
    """publish.json as plain data: its record belongs to another stage."""
    if not build.publish.exists():
        raise BadInput(f"{build.path} was not published from here: there is no {PUBLISH_FILE}",
                       hint=f"`golden publish {build.image.image} --build {build.build_id}`")
    found: dict[str, Any] = json.loads(build.publish.read_text(encoding="utf-8"))
    return found


def _encoding(payload: bytes) -> bytes:
    """What is signed (DSSE 1.0.2, PAE): lengths keep type and payload apart."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key, DER of SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def verify(build: BuildFolder, public_key: Path) -> dict[str, Any]:
    """The statement of the build's envelope, held to its records; NotVerified says what differs.

    Records that are made again later (`verify.json`, `cve.json`) are in it as they were. BadInput without a key.
    """
    statement = opened(build.path / FILE, _public(public_key))
    signed, found = _parts(statement), _parts(_statement(build))
    for part, said in signed.items():
        if said != found.get(part):
            raise NotVerified(f"{build.path / FILE}: {part} differs: signed is {said}, here is {found.get(part)}",
                              hint="the build was changed after it was signed, or this envelope is another build's")
    return statement


def _parts(statement: dict[str, Any]) -> dict[str, Any]:
    """What is compared, in the order in which it says most."""
    predicate = statement["predicate"]
    run, definition = predicate["runDetails"], predicate["buildDefinition"]
    found = {"the image": definition["externalParameters"], "the lock": definition["resolvedDependencies"],
             "the build": run["metadata"], "the AMIs": statement["subject"]}
    return found | {row["name"]: row["digest"] for row in run["byproducts"] if row["name"] in LASTING}


def opened(envelope: Path, key: EllipticCurvePublicKey) -> dict[str, Any]:
    """The statement in an envelope that this key has signed; NotVerified where it has not, or there is none."""
    try:
        data = json.loads(envelope.read_text(encoding="utf-8"))
        payload = base64.b64decode(data["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in data["signatures"]]
        kind, statement = data["payloadType"], json.loads(payload)
    except FileNotFoundError:
        raise NotVerified(f"{envelope}: the build was published unsigned",
                          hint=f"set {KEY}, then `golden publish` signs it") from None
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise NotVerified(f"{envelope} is no DSSE envelope: {error!r}", hint="was it cut off, or edited?") from None
    if kind != PAYLOAD_TYPE or not any(_signed(key, one, payload) for one in signatures):
        raise NotVerified(f"{envelope} is not signed by the key {key_id(key)[:12]}",
                          hint="it was changed after it was signed, or another key has signed it")
    if (statement.get("_type"), statement.get("predicateType")) != (STATEMENT, PREDICATE):
        raise NotVerified(f"{envelope} holds no SLSA provenance, v1", hint="another program has signed it")
    return dict(statement)


def _signed(key: EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _encoding(payload), ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def _public(path: Path) -> EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no public key that can be read: {error}",
                       hint="`openssl ec -pubout` takes it from the private one") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise BadInput(f"{path} is no ECDSA key", hint="`openssl ec -pubout` takes it from the private one")
    return key
