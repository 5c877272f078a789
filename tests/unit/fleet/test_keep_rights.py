"""What a machine's role may do to what its users keep: read and write below its team's prefix."""

from __future__ import annotations

import pytest
from support.aws.account_template import BOUNDARY, ROLES, USERS_BUCKET, document
from support.aws.iam_policies import Asked, allows, kinds_of

KEPT = [
    ("s3:PutObject", "red/ann/model.pt", True),
    ("s3:GetObject", "red/ann/model.pt", True),
    ("s3:AbortMultipartUpload", "red/ann/model.pt", True),
    ("s3:ListBucket", "red/ann/", True),
    ("s3:PutObject", "blue/ann/model.pt", False),
    ("s3:GetObject", "blue/ann/model.pt", False),
    ("s3:PutObject", "redder/ann/model.pt", False),
    ("s3:ListBucket", "blue/ann/", False),
    ("s3:ListBucket", "", False),
    ("s3:DeleteObject", "red/ann/model.pt", False),
    ("s3:DeleteObjectVersion", "red/ann/model.pt", False),
    ("s3:PutBucketVersioning", "", False),
    ("s3:PutLifecycleConfiguration", "", False),
]


@pytest.mark.parametrize(("action", "where", "right"), KEPT)
def test_a_machine_reads_and_writes_what_its_team_keeps_and_deletes_nothing(
    action: str, where: str, right: bool
) -> None:
    """Also where a policy that is attached later allows all of S3: the boundary has no deletion."""
    policies = [document(policy) for policy in ROLES["Machine"]]
    resource, said = USERS_BUCKET, {"s3:prefix": where}
    if "object" in kinds_of(action):
        resource, said = f"{USERS_BUCKET}/{where}", {}
    of_red = Asked(action, resource, {**said, "aws:PrincipalTag/goldenami:team": "red"})
    assert allows(policies, BOUNDARY, of_red) is right
    assert not allows(policies, BOUNDARY, Asked(action, resource, said)), "a role of no team"
    if action not in {allowed for allowed, _, may in KEPT if may}:
        anything = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        assert not allows([*policies, anything], BOUNDARY, of_red)


def test_only_machines_reach_what_users_keep() -> None:
    said = {"aws:PrincipalTag/goldenami:team": "red"}
    asked = Asked("s3:GetObject", f"{USERS_BUCKET}/red/ann/model.pt", said)
    readers = {
        name
        for name, policies in ROLES.items()
        if allows([document(policy) for policy in policies], BOUNDARY, asked)
    }
    assert readers == {"Machine"}
