from __future__ import annotations

import json
from typing import Any

from support.aws.emulator_probe import ProbeAccount, probe, refused


@probe("dynamic_reference")
def test_a_template_names_an_image_by_its_parameter(account: ProbeAccount) -> None:
    """As docs/launching.md shows it: what the parameter holds when the stack is made."""
    ssm, cloudformation = account.client("ssm"), account.client("cloudformation")

    def made(reference: str) -> Any:
        body = {"Resources": {"Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {
            "LaunchTemplateName": "by-parameter",
            "LaunchTemplateData": {"ImageId": f"{{{{resolve:ssm:{reference}}}}}"}}}}}
        return cloudformation.create_change_set(StackName="machines", ChangeSetName="first", ChangeSetType="CREATE",
                                                TemplateBody=json.dumps(body))

    for number, kind in ((1, "String"), (2, "SecureString")):
        ssm.put_parameter(Name=f"/p/{number}", Value=f"ami-{number:017x}", Type=kind)
    for missing in ("/p/3", "/p/2"):
        refused("ValidationError", lambda name=missing: made(name))
    cloudformation.execute_change_set(ChangeSetName=made("/p/1:1")["Id"])
    found = account.ec2.describe_launch_template_versions(LaunchTemplateName="by-parameter")
    assert [each["LaunchTemplateData"]["ImageId"] for each in found["LaunchTemplateVersions"]] == [f"ami-{1:017x}"]
