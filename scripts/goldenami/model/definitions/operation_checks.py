"""Checks a definition's sections about running machines against its other sections and the
repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import Key, YamlFile, nearest
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation import residency
from goldenami.model.operation.cluster_section import ClusterSection, GroupedBy
from goldenami.model.supported import allowed_types, hardware
from goldenami.model.supported.allowed_types import AllowedTypes

IDLE_ROLE = "golden_idle"


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield the mistakes, each with file, line and key."""
    yield from _residency(root, source, definition)
    if definition.cluster:
        yield from _cluster(root, source, definition, definition.cluster)


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


def launched_type(
    source: YamlFile, key: Key, name: str, hardware_names: list[str], allowed: AllowedTypes
) -> Iterator[BadInput]:
    """Yield what is wrong with an instance type that machines of the image shall have."""
    family = name.partition(".")[0]
    if family not in hardware_names:
        yield source.error(
            key, f"`{family}` is not in `hardware`; {nearest(family, hardware_names)}"
        )
    elif not allowed.allows(name):
        yield source.error(
            key,
            f"EC2 would not launch the image on `{name}`, but on {allowed}",
            hint=f"take one of these, or allow it: {allowed_types.WIDER}",
        )


def _cluster(
    root: Path, source: YamlFile, definition: Definition, section: ClusterSection
) -> Iterator[BadInput]:
    if definition.publish is None:
        yield source.error(
            ("cluster",), "has machines of an image that is not published", hint="write `publish:`"
        )
        return
    template_type = definition.publish.launch_template.instance_type or ""
    allowed = allowed_types.of_families(
        definition.publish.instance_types, hardware.load(root), definition.hardware
    )
    for kind, machines in section.machines.items():
        key, is_type = ("cluster", "machines", kind), "." in kind
        if is_type is not (section.by is GroupedBy.TYPE):
            yield source.error(
                key,
                f"`{kind}` is {'a type' if is_type else 'no type'}, and groups are by {section.by}",
                hint="name types, such as g6.xlarge, with `by: type`, else families, such as g6",
            )
            continue
        # Where groups are by family, any size of it will do.
        yield from launched_type(
            source, key, kind, definition.hardware, allowed if is_type else AllowedTypes()
        )
        if (machines.spare or machines.working_hours) and IDLE_ROLE not in definition.roles:
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
        if machines.stopped and kind not in (template_type, template_type.partition(".")[0]):
            wanted = kind if is_type else f"{kind}.xlarge"
            yield source.error(
                (*key, "stopped"),
                "a warm pool has machines of one type",
                hint=f"name it: `publish: launch_template: instance_type: {wanted}`",
            )
