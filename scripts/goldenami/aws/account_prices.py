"""What the resources of an account's stack cost: dated tables, as for snapshots. What is not in them is not guessed."""

from __future__ import annotations

from collections.abc import Mapping

PRICES_OF = "2024-12"
S3_USD_A_GB: Mapping[str, float] = {
    "us-east-1": 0.023, "us-east-2": 0.023, "us-west-1": 0.026, "us-west-2": 0.023, "ca-central-1": 0.025,
    "eu-west-1": 0.023, "eu-west-2": 0.024, "eu-west-3": 0.024, "eu-central-1": 0.0245, "eu-north-1": 0.023,
    "ap-northeast-1": 0.025, "ap-south-1": 0.025, "ap-southeast-1": 0.025, "ap-southeast-2": 0.025, "sa-east-1": 0.0405,
}
"""US dollars a month for 10^9 bytes of S3 Standard, the first 50 TB (https://aws.amazon.com/s3/pricing/)."""
DYNAMODB_USD_A_MILLION: Mapping[str, tuple[float, float]] = dict.fromkeys(
    ("us-east-1", "us-east-2", "us-west-2"), (0.625, 0.125))
"""US dollars for a million writes and reads on demand, since 2024-11 (https://aws.amazon.com/dynamodb/pricing/)."""


def of_kind(kind: str, region: str) -> str:
    """What a resource of that CloudFormation type costs a month in `region`, with the source; empty where nothing is
    known of the type.
    """
    if kind.startswith("AWS::IAM::"):
        return "nothing (https://aws.amazon.com/iam/)"
    if kind == "AWS::S3::BucketPolicy":
        return "nothing by itself"
    if kind.startswith("AWS::SNS::"):
        return "nothing for the first 1,000 e-mails (https://aws.amazon.com/sns/pricing/)"
    if kind == "AWS::S3::Bucket":
        price = S3_USD_A_GB.get(region)
        return f"{_usd(price)} for each 10^9 bytes in it, as of {PRICES_OF} (https://aws.amazon.com/s3/pricing/)"
    if kind == "AWS::DynamoDB::Table":
        write, read = DYNAMODB_USD_A_MILLION.get(region, (None, None))
        return (f"{_usd(write)} for a million writes, {_usd(read)} of reads, as of {PRICES_OF}; a move makes about ten"
                " (https://aws.amazon.com/dynamodb/pricing/)")
    return ""


def _usd(price: float | None) -> str:
    return "an unknown price" if price is None else f"${price:g}"
