"""The signature of a block's PUT is the one that botocore gives the same request."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from goldenami.aws.snapshots.block_signature import BlockSignature
from goldenami.model.sparse_disk import BLOCK

CHECKSUM = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
AT = datetime.datetime(2026, 2, 28, 23, 59, 59, tzinfo=datetime.UTC)


def _signer(token: str | None, region: str) -> Any:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "a secret/of+mine", token)
    return SimpleNamespace(get_auth_instance=lambda service, _region, _version: auth.SigV4Auth(
        credentials, service, region))


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize(("url", "region"), [
    ("https://ebs.us-east-1.amazonaws.com", "us-east-1"), ("https://ebs.eu-west-1.api.aws", "eu-west-1"),
    ("http://127.0.0.1:4566", "us-gov-west-1"), ("https://proxy.example/ebs", "us-east-1"),
])
@pytest.mark.parametrize("days", [0, 1])
def test_it_is_botocores(url: str, region: str, token: str | None, days: int) -> None:
    signer, at = _signer(token, region), AT + datetime.timedelta(days=days)
    scheme, _, place = url.partition("://")
    host, slash, folder = place.partition("/")
    path = f"{slash}{folder}/snapshots/snap-0123456789abcdef0/blocks/4711"
    ours = BlockSignature(host, region, signer).headers(path, CHECKSUM, at)
    request = AWSRequest("PUT", f"{scheme}://{host}{path}", headers={
        "x-amz-Data-Length": str(BLOCK), "x-amz-Checksum": CHECKSUM, "x-amz-Checksum-Algorithm": "SHA256",
        "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    with patch.object(auth, "get_current_datetime", lambda: at.replace(tzinfo=None)):
        signer.get_auth_instance("ebs", region, "v4").add_auth(request)
    assert ours == {name.lower(): value for name, value in request.headers.items()}
