"""No call of the code is beyond what the policies grant."""

from __future__ import annotations

import ast
from pathlib import Path

import boto3
from ec2_emulator import iam
from support.builds.tools import POLICIES, granted


def _called(path: Path) -> set[str]:
    """Names of methods that a module calls or pages, such as `register_image`."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Call)]
    methods = {node.func.attr for node in nodes if isinstance(node.func, ast.Attribute)}
    return methods | {argument.value for node in nodes for argument in node.args
                      if isinstance(argument, ast.Constant) and isinstance(argument.value, str)}


def test_no_call_of_the_code_is_beyond_all_policies() -> None:
    services = ("autoscaling", "budgets", "ce", "cloudwatch", "dynamodb", "ebs", "ec2", "kms",
                "pricing", "s3",
                "savingsplans", "sns", "ssm")
    models = {service: boto3.client(service, "us-east-1").meta.method_to_api_mapping
              for service in services}
    allowed = {action for path in POLICIES.glob("*.json") for action in granted(path.stem)}
    missing, modules = [], sorted(POLICIES.parent.rglob("*.py"))
    assert len(modules) >= 46, "modules that may call AWS: fewer are seen than there are"
    for path in modules:
        for method in sorted(_called(path)):
            actions = {action for service, model in models.items() if method in model
                       for action in iam.actions(f"{service}:{model[method]}", b"")}
            if actions and not actions & allowed:
                missing.append(f"{path.name} calls {method}: {', '.join(sorted(actions))}")
    assert missing == []
