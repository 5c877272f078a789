"""Image definitions: packer/images/*.yml, the only facts that a person writes.

Everything else is derived from them or refused. A role variable is checked against the role's own
argument_specs, because Ansible itself accepts an unknown extra variable silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import Field, ValidationError

from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from goldenami.core.records import Record
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model import compatibility, hardware, instruction_sets, recipes
from goldenami.model.update_policy import UpdatePolicy, Watch

STEPS = (
    ("os_updates",), ("cuda",), ("frameworks",), ("kernel",), ("nvidia_driver",),
    ("limits", "network_tuning", "provenance", "seal"),
)
"""The steps of a bake, from what costs or changes least often to what is cheap or always changes.

Each but the last is kept as a layer. Tuning is in the last: its roles take less time than a container's start.
"""
ROLE_ORDER = tuple(role for step in STEPS for role in step)
"""The order in which roles run, `seal` last: ansible/bake.yml has it from the lock, in `golden_steps`."""
REQUIRED_ROLES = ("os_updates", "kernel", "provenance", "seal")
NEWEST, ANY = "newest", "any"
"""Values of nvidia_driver_branch and nvidia_driver_flavour that leave the choice to the compiler."""


class Distribution(StrEnum):
    """Distributions that goldenami knows how to resolve and boot."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


@dataclass(frozen=True)
class Platform:
    """The distribution as Ansible names it, `Debian`, 12, and the version of its own GCC."""

    distribution: str
    major: int
    gcc: instruction_sets.GccVersion

    @property
    def vars_file(self) -> str:
        """The file name that roles use for this platform."""
        return f"{self.distribution}_{self.major}.yml"


PLATFORMS = {
    "bookworm": Platform("Debian", 12, (12, 2)), "trixie": Platform("Debian", 13, (14, 2)),
    "jammy": Platform("Ubuntu", 22, (11, 4)), "noble": Platform("Ubuntu", 24, (13, 3)),
}
"""Releases by codename; what their package `gcc` depends on (read 2026-11)."""


class KernelFlavour(StrEnum):
    """Kernel packages by purpose: `cloud` is Debian's, `aws` is Ubuntu's."""

    CLOUD = "cloud"
    AWS = "aws"


class Architecture(StrEnum):
    """Debian architecture names."""

    AMD64 = "amd64"


class Base(Record):
    """What the image starts from."""

    distribution: Annotated[Distribution, Field(strict=False)]
    release: str
    architecture: Annotated[Architecture, Field(strict=False)] = Architecture.AMD64
    backports: bool = False


class VolumeType(StrEnum):
    """EBS volumes that a root disk may be launched on."""

    GP3 = "gp3"
    IO2 = "io2"


class LaunchTemplate(Record):
    """How the image's launch template launches it. Without `instance_type` it names the declared families.

    EC2 takes a template with families (InstanceRequirements) for Auto Scaling and fleets; RunInstances wants a type.
    Limits are those of "Amazon EBS volume types" and "Initialize Amazon EBS volumes": IOPS, MiB/s, MiB/s.
    """

    volume_type: Annotated[VolumeType, Field(strict=False)] = VolumeType.GP3
    volume_size_gib: Annotated[int, Field(ge=2, le=65536)] | None = None
    iops: Annotated[int, Field(ge=3000, le=256000)] = 3000
    throughput: Annotated[int, Field(ge=125, le=2000)] = 125
    initialization_rate: Annotated[int, Field(ge=100, le=300)] | None = None
    instance_type: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")] | None = None


class InstanceRefresh(Record):
    """Auto Scaling groups that take a new `latest` at once, by a refresh that rolls itself back."""

    groups: Annotated[list[str], Field(min_length=1)]
    min_healthy_percent: Annotated[int, Field(ge=0, le=100)] = 90
    warmup_seconds: Annotated[int, Field(ge=0, le=21600)] = 300
    checkpoint_percent: Annotated[int, Field(ge=1, le=99)] | None = None
    checkpoint_delay_seconds: Annotated[int, Field(ge=0, le=172800)] = 3600
    alarms: Annotated[list[str], Field(max_length=10, default_factory=list)]


class Publish(Record):
    """Where the image is published and for how long it is kept. No part of it shapes the image.

    `kms_key` is an alias that has to exist in each region; without it, the account's default decides on encryption.
    `soak_hours` is how long a candidate has to stand before `promote` takes it; 0: `publish` moves `latest` itself.
    """

    regions: Annotated[list[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]], Field(min_length=1)]
    keep_last: Annotated[int, Field(ge=1, le=100)] = 3
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 180
    deprecate_after_days: Annotated[int, Field(ge=1, le=3650)] = 90
    soak_hours: Annotated[int, Field(ge=0, le=720)] = 0
    deregistration_protection: bool = False
    share_with: Annotated[list[Annotated[str, Field(pattern=r"^\d{12}$")]], Field(default_factory=list)]
    kms_key: Annotated[str, Field(pattern=r"^alias/[A-Za-z0-9/_-]{1,250}$")] | None = None
    launch_template: LaunchTemplate = LaunchTemplate()
    instance_refresh: InstanceRefresh | None = None


class Definition(Record):
    """One image, as written by a person."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
    description: str
    base: Base
    kernel: Annotated[KernelFlavour, Field(strict=False)]
    disk_size_gib: Annotated[int, Field(ge=2, le=1024)]
    hardware: Annotated[list[str], Field(min_length=1)]
    frameworks: list[str] = Field(default_factory=list)
    roles: dict[str, dict[str, Any] | None]
    publish: Publish | None = None
    watch: Watch = Watch()

    def variables(self, role: str) -> dict[str, Any]:
        """What the definition sets for `role` (nothing: an empty mapping)."""
        return dict(self.roles.get(role) or {})

    @property
    def role_names(self) -> list[str]:
        """The image's roles in the order in which they are applied."""
        return [role for role in ROLE_ORDER if role in self.roles]

    @property
    def steps(self) -> list[list[str]]:
        """The roles of each step that this image has."""
        found = [[role for role in step if role in self.roles] for step in STEPS]
        return [roles for roles in found if roles]


@dataclass(frozen=True)
class RoleSpec:
    """A role's inputs as its argument_specs and defaults state them."""

    name: str
    options: dict[str, dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def settable(self) -> list[str]:
        """Variables that a definition may set; the others are derived by the lock."""
        return sorted(name for name in self.options if name in self.defaults)


def role_spec(root: Path, role: str) -> RoleSpec:
    """Read the inputs of `role` from the checkout at `root`."""
    folder = root / "roles" / role
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text(encoding="utf-8")) or {}
    return RoleSpec(name=role, options=specs["argument_specs"]["main"].get("options") or {}, defaults=defaults)


def path_of(root: Path, image: str) -> Path:
    """The definition file of `image`, or BadInput with the nearest image there is."""
    path = root / "packer/images" / f"{image}.yml"
    if not path.is_file():
        known = [found.stem for found in path.parent.glob("*.yml")]
        raise BadInput(f"no image `{image}`: {nearest(image, known)}", hint="images are the files of packer/images/")
    return path


def load(root: Path, path: Path) -> Definition:
    """Read and check a definition, or BadInput with file, line, key and the nearest valid one."""
    source = yaml_lines.load(path)
    try:
        definition = Definition.model_validate(source.data)
    except ValidationError as error:
        raise _first_problem(source, error) from None
    if definition.image != path.stem:
        raise source.error(("image",), f"is `{definition.image}` but the file is named `{path.stem}`")
    _check_release(source, definition.base)
    _check_hardware(root, source, definition)
    _check_roles(root, source, definition)
    _check_frameworks(root, source, definition)
    _check_watch(source, definition)
    if definition.publish:
        _check_publish(source, definition, definition.publish)
    return definition


APART = ("publish", "watch")
"""Sections that say where an image goes and when it is made again: no part of them is in it."""


def without_publish(text: str) -> str:
    """The text of a definition without the sections of `APART`, which do not shape the image."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)  # `load` has seen to that
    lines, starts = text.splitlines(keepends=True), [(key.value, key.start_mark.line) for key, _ in node.value]
    ends = [*(line for _, line in starts[1:]), len(lines)]
    for (name, start), end in reversed(list(zip(starts, ends, strict=True))):  # from below: line numbers stay true
        if name in APART:
            del lines[start:end]
    return "".join(lines)


def with_branch(path: Path, text: str, branch: str) -> str:
    """The text of a definition with another driver branch; every other character stays."""
    key = ("roles", "nvidia_driver", "nvidia_driver_branch")
    source = yaml_lines.load(path)
    if key not in source.lines:
        raise source.error(key[:2], "states no nvidia_driver_branch that could be moved",
                           hint="write the branch, also where it is the default")
    lines = text.splitlines(keepends=True)
    number = source.lines[key] - 1
    changed = re.sub(r"(nvidia_driver_branch:\s*)[\"']?\d+[\"']?", rf'\g<1>"{branch}"', lines[number], count=1)
    return "".join([*lines[:number], changed, *lines[number + 1:]])


def _first_problem(source: YamlFile, error: ValidationError) -> BadInput:
    # A misspelt key is both unknown and missing: that it is unknown, and what it may mean, says more.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    key = tuple(part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return source.error(key, f"unknown key; {nearest(str(key[-1]), _keys_at(key[:-1]))}")
    if first["type"] == "missing":
        return source.error(key, "is required and missing")
    if first["type"] == "value_error":
        return source.error(key, str(first["ctx"]["error"]))
    problem = first["msg"][0].lower() + first["msg"][1:]
    return source.error(key, f"{problem} (got {first['input']!r})")


def _keys_at(path: yaml_lines.Key) -> list[str]:
    """The keys that a definition may have at `path`."""
    model: type[Record] = Definition
    for name in path:
        if name not in model.model_fields:
            continue  # the name of an entry, as below `watch.frameworks`
        kinds = (kind for kind in (model.model_fields[str(name)].annotation, *_optional(model, str(name))))
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record))
    return list(model.model_fields)


def _optional(model: type[Record], name: str) -> tuple[Any, ...]:
    return get_args(model.model_fields[name].annotation)


def _check_release(source: YamlFile, base: Base) -> None:
    known = [name for name, platform in PLATFORMS.items() if platform.distribution.lower() == base.distribution]
    if base.release not in known:
        raise source.error(("base", "release"),
                           f"unknown release of {base.distribution} `{base.release}`; {nearest(base.release, known)}")


def _check_hardware(root: Path, source: YamlFile, definition: Definition) -> None:
    known = hardware.load(root)
    for index, name in enumerate(definition.hardware):
        key = ("hardware", index)
        if name not in known:
            raise source.error(key, f"unknown family `{name}`; {nearest(name, known)}")
        if (architecture := known[name].cpu.architecture) != definition.base.architecture:
            raise source.error(key, f"`{name}` is {architecture}, the image {definition.base.architecture}",
                               hint="no program runs on both: split the image, a definition for each architecture")


def _check_watch(source: YamlFile, definition: Definition) -> None:
    if definition.variables("nvidia_driver").get("nvidia_driver_source") != "nvidia":
        return
    for name, rule in (("driver", definition.watch.driver), ("cuda", definition.watch.cuda)):
        if rule.policy is UpdatePolicy.SECURITY:
            raise source.error(("watch", name, "policy"),
                               "NVIDIA's repository marks no security updates: `security` would never take anything")


def _check_publish(source: YamlFile, definition: Definition, wanted: Publish) -> None:
    template = wanted.launch_template
    for key, values in (("regions", wanted.regions), ("share_with", wanted.share_with)):
        for index, value in enumerate(values):
            if value in values[:index]:
                raise source.error(("publish", key, index), f"`{value}` is given twice")
    if template.instance_type and (family := template.instance_type.partition(".")[0]) not in definition.hardware:
        raise source.error(("publish", "launch_template", "instance_type"),
                           f"`{family}` is not in `hardware`; {nearest(family, definition.hardware)}")
    if template.volume_size_gib and template.volume_size_gib < definition.disk_size_gib:
        raise source.error(("publish", "launch_template", "volume_size_gib"),
                           f"{template.volume_size_gib} GiB cannot hold the disk of {definition.disk_size_gib}")
    if wanted.kms_key and wanted.kms_key.startswith("alias/aws/"):
        raise source.error(("publish", "kms_key"), "AWS manages that key, and no other account can use it")
    if template.volume_type is VolumeType.GP3 and template.throughput * 4 > template.iops:
        raise source.error(("publish", "launch_template", "throughput"),
                           f"gp3 gives 1 MiB/s for 4 IOPS: {template.throughput} MiB/s need {template.throughput * 4}")


def _check_roles(root: Path, source: YamlFile, definition: Definition) -> None:
    for role, variables in definition.roles.items():
        if role not in ROLE_ORDER:
            raise source.error(("roles", role), f"unknown role; {nearest(role, ROLE_ORDER)}")
        spec = role_spec(root, role)
        for name, value in (variables or {}).items():
            key = ("roles", role, name)
            if name not in spec.options:
                raise source.error(key, f"unknown role variable; {nearest(name, spec.settable)}")
            if name not in spec.settable:
                raise source.error(key, "is derived by `lock` and cannot be set")
            if value is not None or spec.defaults[name] is not None:
                _check_type(source, key, spec.options[name], value)
    _check_branch(root, source, definition)
    for role in REQUIRED_ROLES:
        if role not in definition.roles:
            raise source.error(("roles",), f"`{role}` is missing; every image needs {', '.join(REQUIRED_ROLES)}")


def _check_branch(root: Path, source: YamlFile, definition: Definition) -> None:
    """A driver branch that does not run a declared GPU is refused before anything is resolved."""
    if "nvidia_driver" not in definition.roles:
        return
    branch = {**role_spec(root, "nvidia_driver").defaults, **definition.variables("nvidia_driver")}[
        "nvidia_driver_branch"]
    if branch == NEWEST:
        return
    if not str(branch).isdecimal():
        raise source.error(("roles", "nvidia_driver", "nvidia_driver_branch"), f"`{branch}` is no branch such as `535`")
    refusal = compatibility.branch_refusal(str(branch), hardware.architectures(root, definition.hardware))
    if refusal:
        raise source.error(("roles", "nvidia_driver", "nvidia_driver_branch"), refusal)


SHARED = "frameworks_shared_environment"


def _check_frameworks(root: Path, source: YamlFile, definition: Definition) -> None:
    """Every framework has a recipe that can be read; the role and the list come together."""
    known = recipes.known(root)
    for index, name in enumerate(definition.frameworks):
        if name not in known:
            raise source.error(("frameworks", index), f"unknown framework `{name}`; {nearest(name, known)}")
        if name in definition.frameworks[:index]:
            raise source.error(("frameworks", index), f"`{name}` stands there twice")
        recipes.load(root, name)
    if bool(definition.frameworks) != ("frameworks" in definition.roles):
        raise source.error(("frameworks",), "the list `frameworks` and the role `frameworks` need each other")
    shared = definition.variables("frameworks").get(SHARED) or "all"
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", shared) or shared == "bin":  # as the role itself asks for, hours later
        raise source.error(("roles", "frameworks", SHARED), f"`{shared}` is no name for a folder of /opt/ml; use small "
                                                            "letters, digits, `-` and `.`, and not `bin`")


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "list": (list,), "dict": (dict,), "float": (float, int),
    "path": (str,), "raw": (object,),
}


def _check_type(source: YamlFile, key: yaml_lines.Key, option: dict[str, Any], value: Any) -> None:
    wanted = option.get("type", "str")
    matches = isinstance(value, _TYPES[wanted]) and not (wanted in ("int", "float") and isinstance(value, bool))
    if not matches:
        given = "nothing" if value is None else f"{type(value).__name__} {value!r}"
        raise source.error(key, f"expected {wanted}, got {given}")
    choices = option.get("choices")
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_type(source, (*key, index), {"type": option.get("elements", "raw"), "choices": choices}, item)
    elif choices and value not in choices:
        raise source.error(key, f"unknown value `{value}`; {nearest(str(value), map(str, choices))}")
