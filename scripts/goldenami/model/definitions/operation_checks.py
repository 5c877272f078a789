"""Checks a definition's sections about running machines against its other sections and the
repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation import residency
from goldenami.model.operation.cluster_section import ClusterSection

IDLE_ROLE = "golden_idle"


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with file, line and key."""
    yield from _residency(root, source, definition)
    if definition.cluster:
        yield from _cluster(source, definition, definition.cluster)


def _residency(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    rules = residency.allowed(root, [(f"{source.path.name}: residency", definition.residency)])
    for index, region in enumerate(definition.regions):
        if refused := rules.refusal(region):
            yield source.error(
                ("publish", "regions", index),
                refused,
                hint="take the region out (`left_regions` names where builds stay), "
                f"or allow it; {residency.FILE} is for all images, `residency` "
                "in a definition for that one",
            )
    for index, name in enumerate(definition.publish.registries if definition.publish else ()):
        region = residency.registry_region(name.partition("/")[0])
        if region and (refused := rules.refusal(region)):
            yield source.error(
                ("publish", "registries", index),
                refused,
                hint="take the registry out, or allow its region",
            )


def _cluster(
    source: YamlFile, definition: Definition, section: ClusterSection
) -> Iterator[BadInput]:
    if definition.publish is None:
        yield source.error(
            ("cluster",), "has machines of an image that is not published", hint="write `publish:`"
        )
        return
    template_type = definition.publish.launch_template.instance_type or ""
    for family, machines in section.machines.items():
        key = ("cluster", "machines", family)
        if family not in definition.hardware:
            yield source.error(
                key, f"`{family}` is not in `hardware`; {nearest(family, definition.hardware)}"
            )
        elif (machines.spare or machines.working_hours) and IDLE_ROLE not in definition.roles:
            yield source.error(
                key,
                f"needs the role {IDLE_ROLE}: nothing else says which machine "
                "is free, or takes one away that nobody uses",
                hint=f"write `{IDLE_ROLE}:` below `roles`",
            )
        elif (
            machines.spare
            and definition.variables(IDLE_ROLE).get("golden_idle_action") == "leave_group"
        ):
            yield source.error(
                (*key, "spare"),
                "a spare machine is idle, and the action `leave_group` ends it again and again",
                hint="take the action `none` or `notify`",
            )
        if machines.stopped and template_type.partition(".")[0] != family:
            yield source.error(
                (*key, "stopped"),
                "a warm pool has machines of one type",
                hint=f"name it: `publish: launch_template: instance_type: {family}.xlarge`",
            )
