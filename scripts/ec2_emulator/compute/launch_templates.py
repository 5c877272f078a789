"""Launch templates: versions that can be deleted, inherited from, filtered and resolved."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidLaunchTemplateVersionNotFound
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.ec2.utils import parse_user_data

from ec2_emulator import listing
from ec2_emulator.compute import resource_tags
from ec2_emulator.rules import ApiError, invalid_parameter, rule

MOST = 200
"""The most versions in a page, and in a deletion."""


class EmulatedTemplate(LaunchTemplate):
    """A template whose versions keep their numbers when others go: no number is used again."""

    def create_version(self, data: dict[str, Any], description: str) -> LaunchTemplateVersion:
        # moto numbers by counting, so it would use a deleted version's number again.
        self.highest: int = getattr(self, "highest", 0) + 1
        self.versions.append(LaunchTemplateVersion(self, self.highest, data, description))
        return self.versions[-1]

    def get_version(self, num: Any) -> LaunchTemplateVersion:
        """Return a version by its number, $Latest or $Default
        (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
        """
        wanted = {"$Latest": self.versions[-1].number, "$Default": self.default_version_number}.get(
            str(num), num
        )
        version = next(
            (version for version in self.versions if str(version.number) == str(wanted)), None
        )
        if version is None:
            raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=num)
        return version

    def default_version(self) -> LaunchTemplateVersion:
        return self.get_version(self.default_version_number)


@rule
def inherited(source: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A version with SourceVersion has the source's parameters except its snapshots, overwritten by
    its own."""
    data = copy.deepcopy(dict(source))
    for device in data.get("BlockDeviceMappings", []):
        device.get("Ebs", {}).pop("SnapshotId", None)
    return {**data, **{key: value for key, value in changes.items() if value is not None}}


def why_not_deletable(template: EmulatedTemplate, number: str) -> tuple[str, str] | None:
    """Return the error code and message why a version cannot be deleted, or None if it can."""
    if all(str(version.number) != number for version in template.versions):
        return "launchTemplateVersionDoesNotExist", f"version {number} does not exist"
    if str(template.default_version_number) == number:
        return "unexpectedError", f"version {number} is the default version"
    return None


class LaunchTemplateApi(EC2BaseResponse):
    """The handlers."""

    def _template(self) -> EmulatedTemplate:
        """Return the template that the request names by its name or its id
        (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyLaunchTemplate.html).
        """
        name, template_id = (
            self._get_param("LaunchTemplateName"),
            self._get_param("LaunchTemplateId"),
        )
        if bool(name) == bool(template_id):
            raise ApiError(
                "InvalidParameterCombination",
                "either LaunchTemplateId or LaunchTemplateName is required",
            )
        template = (
            self.ec2_backend.get_launch_template(template_id)
            if template_id
            else self.ec2_backend.get_launch_template_by_name(name)
        )
        return template  # type: ignore[no-any-return]

    def _data(self) -> dict[str, Any]:
        data = dict(self._get_param("LaunchTemplateData", {}))
        if data.get("UserData") is not None:
            data["UserData"] = parse_user_data(data["UserData"])
        return data

    def _shown(self, template: LaunchTemplate) -> dict[str, Any]:
        return {
            "CreateTime": template.create_time,
            "DefaultVersionNumber": template.default_version_number,
            "LaunchTemplateId": template.id,
            "LatestVersionNumber": template.latest_version_number,
            "LaunchTemplateName": template.name,
            "Tags": template.get_tags(),
        }

    def _version(self, version: LaunchTemplateVersion) -> dict[str, Any]:
        template = version.template
        return {
            "CreateTime": version.create_time,
            "DefaultVersion": template.is_default(version),
            "LaunchTemplateData": version.data,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "VersionDescription": version.description,
            "VersionNumber": version.number,
        }

    def create_launch_template(self) -> ActionResult:
        tags = {
            "launch-template": resource_tags.tags_for(
                "launch-template", self._get_param("TagSpecifications", []), ["launch-template"]
            )
        }
        template = self.ec2_backend.create_launch_template(
            self._get_param("LaunchTemplateName"),
            self._get_param("VersionDescription"),
            self._data(),
            tags,
        )
        return ActionResult({"LaunchTemplate": self._shown(template)})

    def create_launch_template_version(self) -> ActionResult:
        template, data, source = self._template(), self._data(), self._get_param("SourceVersion")
        if source is not None:
            data = inherited(template.get_version(source).data, data)
        version = template.create_version(data, self._get_param("VersionDescription"))
        return ActionResult({"LaunchTemplateVersion": self._version(version)})

    def delete_launch_template(self) -> ActionResult:
        """Delete a template. One that does not exist is refused as not found (moto reports a
        missing parameter)."""
        template = self._template()
        self.ec2_backend.delete_launch_template(template.name, template.id)
        return ActionResult({"LaunchTemplate": self._shown(template)})

    def delete_launch_template_versions(self) -> ActionResult:
        """Versions can be deleted, up to 200 at once, but not the default one; each has an answer
        (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteLaunchTemplateVersions.html).
        """
        template, deleted, refused = self._template(), [], []
        names = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
        versions = self._get_param("Versions", [])
        if len(versions) > MOST:
            raise invalid_parameter(f"{len(versions)} versions, at most {MOST}")
        for number in versions:
            reason = why_not_deletable(template, number)
            if reason is not None:
                error = {"Code": reason[0], "Message": reason[1]}
                refused.append({**names, "VersionNumber": int(number), "ResponseError": error})
            else:
                template.versions.remove(template.get_version(number))
                deleted.append({**names, "VersionNumber": int(number)})
        return ActionResult(
            {
                "SuccessfullyDeletedLaunchTemplateVersions": deleted,
                "UnsuccessfullyDeletedLaunchTemplateVersions": refused,
            }
        )

    def describe_launch_template_versions(self) -> ActionResult:
        if self._get_param("Filters"):
            raise NotImplementedError  # no command filters versions
        pairs = self.ec2_backend.describe_launch_template_versions(
            self._get_param("LaunchTemplateName"),
            self._get_param("LaunchTemplateId"),
            self._get_param("Versions", []),
            None,
            None,
            None,
        )
        versions = [self._version(version) for _, version in pairs]
        return listing.answer(self, "LaunchTemplateVersions", versions, most=MOST)

    @rule
    def describe_launch_templates(self) -> ActionResult:
        """Templates are listed in pages, all of them."""
        templates = self.ec2_backend.describe_launch_templates(
            template_names=self._get_param("LaunchTemplateNames", []),
            template_ids=self._get_param("LaunchTemplateIds", []),
            filters=self._filters_from_querystring(),
        )
        return listing.answer(self, "LaunchTemplates", map(self._shown, templates), most=MOST)
