"""The account's template as it is in an account: its policies, and which of them each role has."""

from __future__ import annotations

from typing import Any

from cfnlint.decode import cfn_yaml
from goldenami_fleet.account import account_plan

BUCKET, TOPIC = "arn:aws:s3:::golden-ami-bucket", "arn:aws:sns:us-east-1:123456789012:golden-ami"
USERS_BUCKET = "arn:aws:s3:::golden-ami-users"
_BUCKETS = {"Bucket": BUCKET, "UsersBucket": USERS_BUCKET}


def resolved(value: Any) -> Any:
    """A part of the template as it is in an account that has all that the template can make."""
    if isinstance(value, list):
        return [resolved(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Sub" in value:
        text = value["Fn::Sub"].replace("${AWS::Partition}", "aws")
        for name, arn in _BUCKETS.items():
            text = text.replace(f"${{{name}.Arn}}", arn)
        # `${!` is a `${` that stays, of IAM.
        assert "${" not in text.replace("${!", ""), text
        return text.replace("${!", "${")
    if "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        assert attribute == "Arn", value
        return _BUCKETS[name]
    if "Fn::If" in value:
        return resolved(value["Fn::If"][1])
    if "Ref" in value:
        return {"Topic": TOPIC}.get(value["Ref"], value["Ref"])
    return {key: resolved(each) for key, each in value.items()}


RESOURCES: dict[str, Any] = {
    name: resolved({key: each for key, each in body.items() if key != "Condition"})
    for name, body in cfn_yaml.load(str(account_plan.TEMPLATE))["Resources"].items()
    if body["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::S3::BucketPolicy")
}
RAW: dict[str, Any] = cfn_yaml.load(str(account_plan.TEMPLATE))["Resources"]
BY_HAND = ("PackerPolicy",)
"""No role of the stack has them: a person attaches them."""
BY_COMMANDS = {name: body for name, body in RESOURCES.items() if "Metadata" in body}
ROLES: dict[str, list[str]] = {
    name: resolved(body["Properties"]["ManagedPolicyArns"])
    for name, body in RAW.items()
    if body["Type"] == "AWS::IAM::Role"
}
"""The policies of each role."""


def document(name: str) -> dict[str, Any]:
    """A managed policy's document."""
    return dict(RESOURCES[name]["Properties"]["PolicyDocument"])


BOUNDARY = document("Boundary")
