"""The CloudFormation template of a cluster, rendered by `cluster.yml.j2` from an image's definition
and a region's prices."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from goldenami.aws import tags
from goldenami.aws.channels import pointers
from goldenami.aws.pricing.price_list import RegionPrices
from goldenami.aws.services import metrics
from goldenami.aws.services.stacks import StackIdentity, StackTemplate
from goldenami.core import clock
from goldenami.core.errors import BadInput
from goldenami.model.definitions.definition import Definition
from goldenami.model.operation.cluster_section import ClusterSection, GroupedBy, MachinesAhead
from goldenami.model.supported import allowed_types
from goldenami.model.supported.allowed_types import TypeRule
from goldenami.model.supported.hardware import Family
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FILE = "cluster.yml.j2"
QUARTERS = (25, 50, 75, 100)
"""Percent of the month's budget at which an alert is sent, of the spent sum and of the forecast."""

TEMPLATE_BYTES = 51_200
"""Limit in bytes of a template that is sent with the request ("Quotas"); six families fit."""


_NO_PRICE_LIMIT = 999999
"""Percent over the cheapest type, which turns price protection off ("InstanceRequirements"). The
default of 20 for on-demand would leave only the smallest sizes of the cheapest family, and no GPU
family beside a CPU family."""


_NOTHING_AHEAD = MachinesAhead()


@dataclass(frozen=True)
class ScheduledLeast:
    """A scheduled action: the least number of machines of a group from a recurring minute (`cron`)
    on; 0 is the group's usual number. `begins` and `ends` bound it, in UTC, unless they are ""."""

    name: str
    least: int
    cron: str
    zone: str
    begins: str = ""
    ends: str = ""


@dataclass(frozen=True)
class MachineGroup:
    """The group of one family or one type, its `kind`. `id` is the prefix of its resources' logical
    names; `has_gpu` is for GPUs with NVIDIA's metrics. `types` are those that EC2 launches the
    image on, with wildcards.

    `prices` are US dollars an hour by type, empty if unknown. `ahead` are the machines that run, or
    could start at once, before somebody needs them; `calendar` changes the group's least number.
    """

    kind: str
    id: str
    name: str
    has_gpu: bool
    types: tuple[str, ...]
    prices: Mapping[str, float]
    ahead: MachinesAhead = _NOTHING_AHEAD
    calendar: tuple[ScheduledLeast, ...] = ()

    @property
    def is_of_type(self) -> bool:
        return self.types == (self.kind,)

    @property
    def is_kept(self) -> bool:
        return bool(self.ahead.spare or self.ahead.working_hours)


def identity(image: str) -> StackIdentity:
    """Return the identity of an image's cluster stack."""
    # A stack's name takes no dots (CloudFormation, "StackName").
    return StackIdentity(
        f"golden-cluster-{image.replace('.', '-')}",
        f"the template of {image}'s cluster",
        f"goldenami cluster of {image}",
    )


def _machine_role(definition: Definition, region: str) -> str:
    """Return the name of the machines' role if this region's stack makes it, else "". The first
    region's stack makes it for all regions, if the image's launch template names it."""
    publish, role = definition.publish, f"golden-ami-cluster-{definition.image}"
    is_named = publish and publish.launch_template.instance_profile == role
    return role if publish and is_named and region == publish.regions[0] else ""


def kinds(definition: Definition) -> list[str]:
    """Return the families, or the types, that have a group each."""
    section = definition.cluster
    is_by_type = section is not None and section.by is GroupedBy.TYPE
    return list(section.machines) if section and is_by_type else definition.hardware


def _team(definition: Definition) -> str:
    """Return the team whose files the machines keep, or "": the prefix in s3://BUCKET/PREFIX."""
    keep = str(definition.variables("golden_idle").get("golden_idle_keep", ""))
    return keep.rstrip("/").rpartition("/")[2]


def groups_of(
    definition: Definition,
    families: Mapping[str, Family],
    present: Collection[str],
    prices: RegionPrices,
) -> list[MachineGroup]:
    """Return a group for each family or type that is `present` in the region, and of which EC2
    launches the image on some size."""
    machines = definition.cluster.machines if definition.cluster else {}
    types, wanted = _types(definition, families), kinds(definition)
    ahead = {kind: machines.get(kind, MachinesAhead()) for kind in wanted}
    return [
        MachineGroup(
            kind,
            "".join(part.capitalize() for part in re.split("[.-]", kind)),
            f"golden-{definition.image}-{kind}",
            # Only an NVIDIA GPU has an `sm`, its compute capability, and sends these metrics.
            families[kind.partition(".")[0]].sm is not None,
            types[kind],
            prices.of_kind(kind),
            ahead[kind],
            tuple(_actions(definition.cluster, ahead[kind].working_hours)),
        )
        for kind in wanted
        if kind in present and types[kind]
    ]


def _types(definition: Definition, families: Mapping[str, Family]) -> dict[str, tuple[str, ...]]:
    rule = definition.publish.instance_types if definition.publish else TypeRule.ANY
    allowed = allowed_types.of_families(rule, families, definition.hardware).supported
    types = dict[str, tuple[str, ...]]()
    for family in definition.hardware:
        own_types = tuple(entry for entry in allowed if entry.startswith(f"{family}."))
        types[family] = (f"{family}.*",) if rule is TypeRule.ANY else own_types
    # The definition's check refuses a type that EC2 does not launch the image on.
    return types | {kind: (kind,) for kind in kinds(definition) if "." in kind}


def _actions(section: ClusterSection | None, least: int) -> Iterator[ScheduledLeast]:
    """Yield the scheduled actions that open and close the working hours."""
    if section is None or not least:
        return
    for number, hours in enumerate(section.calendar, 1):
        for begins, ends in hours.periods(section.holidays, clock.now()):
            name = f"Opens{number}"
            if begins:
                name += f"From{begins:%Y%m%d}"
            yield ScheduledLeast(
                name, least, hours.starts, hours.zone, _stamp(begins), _stamp(ends)
            )
        # Only openings leave holidays out: to close on a holiday, too, does no harm.
        yield ScheduledLeast(f"Closes{number}", 0, hours.ends, hours.zone)


def _stamp(moment: datetime | None) -> str:
    return clock.stamp(moment) if moment else ""


def render(
    definition: Definition, groups: Sequence[MachineGroup], prices: RegionPrices
) -> StackTemplate:
    """Render the template for one region, as text that a person can read, keep and deploy."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML
    )
    image, stack = definition.image, identity(definition.image)
    body = environment.get_template(FILE).render(
        image=image,
        stack=stack.name,
        region=prices.region,
        groups=groups,
        prices=prices,
        quarters=QUARTERS,
        description=stack.description,
        template=pointers.template_name(image),
        metrics=metrics,
        tags=tags,
        role=_machine_role(definition, prices.region),
        team=_team(definition),
        no_price_limit=_NO_PRICE_LIMIT,
    )
    if len(body.encode()) > TEMPLATE_BYTES:
        raise BadInput(
            f"{stack.file} has {len(body.encode()):,} bytes, and CloudFormation takes "
            f"{TEMPLATE_BYTES:,}",
            hint="declare fewer families in `hardware:`, or fewer types in `cluster: machines:`",
        )
    return StackTemplate(**vars(stack), body=body, removed_by=f"`golden cluster remove {image}`")
