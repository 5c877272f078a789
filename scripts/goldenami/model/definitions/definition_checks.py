"""Whether a definition fits the checkout."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from goldenami.core.errors import BadInput, together
from goldenami.core.yaml_lines import YamlFile, nearest
from goldenami.model import program_files
from goldenami.model.definitions import (
    customize_checks,
    file_effects,
    operation_checks,
    package_requests,
    python_checks,
    role_checks,
    role_rules,
    source_checks,
)
from goldenami.model.definitions.definition import (
    DRIVER_MODULES,
    Base,
    Definition,
)
from goldenami.model.operation.publish_section import SELFTEST, Publish, VolumeType
from goldenami.model.roles import recipes, role_order
from goldenami.model.supported import allowed_types, hardware
from goldenami.model.supported.architectures import ARCHITECTURES
from goldenami.model.supported.platforms import PLATFORMS

Mistakes = Iterator[BadInput]
SERVED = [name for name, architecture in ARCHITECTURES.items() if architecture.images]
"""Architectures for which images are made."""


def check(
    root: Path, source: YamlFile, definition: Definition, regions: Collection[str] | None = None
) -> None:
    """Raise one BadInput for all mistakes, each with file, line and key. `regions` are the existing
    ones, or None to skip that check."""
    problems = [
        *_check_description(source, definition.description),
        *_check_release(source, definition.base),
        *_check_hardware(root, source, definition),
        *role_order.mistakes(root, source, definition.roles),
        *role_checks.mistakes(root, source, definition),
        *_check_platforms(root, source, definition),
        *_check_frameworks(root, source, definition),
        *_check_modules(source, definition),
        *_check_drift(source, definition),
        *source_checks.mistakes(root, source, definition),
        *python_checks.mistakes(root, source, definition),
        *operation_checks.mistakes(root, source, definition),
    ]
    if definition.publish:
        problems += _check_publish(root, source, definition, definition.publish, regions)
    # These checks take values that the checks above have found valid.
    problems = problems or [
        *role_checks.branch(root, source, definition),
        *customize_checks.mistakes(root, source, definition),
        *package_requests.mistakes(root, source, definition),
        *file_effects.mistakes(root, source, definition),
    ]
    problems = problems or [*role_rules.broken(root, source, definition)]
    if problems:
        raise together(problems, source.path)


_DESCRIPTION = re.compile("[ -~]{1,255}")
"""What EC2 takes for the description of an AMI: printable ASCII characters (RegisterImage)."""
_TOLD_KEY = re.compile(r"[\w+=.,:@-]+", re.ASCII)
"""Keys of tags that an instance can be told ("Use instance tags in instance metadata")."""


def _check_description(source: YamlFile, description: str) -> Mistakes:
    # Also without `publish`: it is in the lock, so a later correction would need a new build.
    if not _DESCRIPTION.fullmatch(description):
        yield source.error(
            ("description",), "EC2 takes one line of 1 to 255 ASCII characters (`>-` folds lines)"
        )


def _check_release(source: YamlFile, base: Base) -> Mistakes:
    releases = [
        name
        for name, platform in PLATFORMS.items()
        if platform.distribution.lower() == base.distribution
    ]
    if base.release not in releases:
        yield source.error(
            ("base", "release"),
            f"unknown release of {base.distribution} `{base.release}`; "
            f"{nearest(base.release, releases)}",
        )
    if base.architecture not in SERVED:
        yield source.error(
            ("base", "architecture"),
            f"unknown value `{base.architecture}`; {nearest(base.architecture, SERVED)}",
        )


def _check_hardware(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    families = hardware.load(root)
    yield from source.repeated(("hardware",), definition.hardware)
    for index, name in enumerate(definition.hardware):
        key = ("hardware", index)
        if refused := hardware.refusal(root, name):
            yield source.error(key, refused, hint="leave it out of `hardware`")
        elif name not in families:
            yield source.error(
                key, f"unknown family `{name}`; {nearest(name, families)}", hint=hardware.UNKNOWN
            )
        elif (architecture := families[name].cpu.architecture) != definition.base.architecture:
            yield source.error(
                key,
                f"`{name}` is {architecture}, the image {definition.base.architecture}",
                hint=f"images are made for {' and '.join(SERVED)} only: take a family of that, "
                "such as m7i or g6",
            )


def _check_drift(source: YamlFile, definition: Definition) -> Mistakes:
    for index, row in enumerate(definition.drift.allow):
        if not _names_place(row.path):
            yield source.error(
                ("drift", "allow", index, "path"),
                f"`{row.path}` names no place",
                hint="begin with two names, such as /opt/agent/**; `/**` would allow everything",
            )
        elif row.path.endswith(".pyc"):
            yield source.error(
                ("drift", "allow", index, "path"),
                "Python runs .pyc instead of its source: never",
                hint="let a role compile the modules, so that the bake has them",
            )


def _names_place(path: str) -> bool:
    """Whether an absolute path or pattern begins with two names that no pattern stands for."""
    start, *names = path.split("/")
    if start or len(names) < 2:
        return False
    return not any("*" in name or name in ("", ".", "..") for name in names[:2])


def _check_modules(source: YamlFile, definition: Definition) -> Mistakes:
    names = [DRIVER_MODULES, *(module.name for module in definition.kernel_modules)]
    for index, module in enumerate(definition.kernel_modules):
        key = ("kernel_modules", index)
        if module.name in names[: index + 1]:
            yield source.error(
                (*key, "name"),
                f"`{module.name}` is taken",
                hint="the driver's is `nvidia`; take another name",
            )
        if (module.package is None) == (module.source is None):
            yield source.error(key, "wants `package` or `source`, one of them")
    if "kernel_modules" in definition.variables("kernel"):
        yield source.error(
            ("roles", "kernel", "kernel_modules"),
            "is derived by `lock`",
            hint="write `kernel_modules:` beside `roles`",
        )


MOST_USER_DATA = 16 * 1024
"""EC2's limit of user data in bytes, before it is encoded (EC2 user guide, "Instance user
data")."""


def _check_template(
    root: Path, source: YamlFile, definition: Definition, publish: Publish
) -> Mistakes:
    template, several = publish.launch_template, len(publish.regions) > 1

    def mistake(key: str, problem: str, hint: str = "") -> BadInput:
        return source.error(("publish", "launch_template", key), problem, hint=hint)

    for index, group in enumerate(template.security_groups):
        if group.startswith("sg-") and several:
            yield source.error(
                ("publish", "launch_template", "security_groups", index),
                f"`{group}` is of one region, and `regions` names several",
                hint="take its name",
            )
    if template.user_data_file:
        path = (root / template.user_data_file).resolve()
        if not (path.is_file() and path.is_relative_to(root.resolve())):
            yield mistake(
                "user_data_file", f"`{template.user_data_file}` is no file of this repository"
            )
        elif path.stat().st_size > MOST_USER_DATA:
            yield mistake(
                "user_data_file",
                f"{template.user_data_file} has {path.stat().st_size} bytes, EC2 takes "
                f"{MOST_USER_DATA}",
                "let it fetch the rest",
            )


def _check_launch(
    root: Path, source: YamlFile, definition: Definition, publish: Publish
) -> Mistakes:
    """Yield the mistakes in the type and the volume of instances, which have to suit the image."""
    template, families = publish.launch_template, hardware.load(root)
    allowed = allowed_types.of_families(publish.instance_types, families, definition.hardware)
    if template.instance_type:
        key = ("publish", "launch_template", "instance_type")
        yield from operation_checks.launched_type(
            source, key, template.instance_type, definition.hardware, allowed
        )
    if len(allowed.supported) > allowed_types.MOST_ENTRIES:
        yield source.error(
            ("hardware",),
            f"EC2 takes {allowed_types.MOST_ENTRIES} instance types of an AMI, these are "
            f"{len(allowed.supported)}",
            hint="declare fewer families, or write `publish: instance_types: any`",
        )
    if template.volume_size_gib and template.volume_size_gib < definition.disk_size_gib:
        yield source.error(
            ("publish", "launch_template", "volume_size_gib"),
            f"{template.volume_size_gib} GiB cannot hold the disk of {definition.disk_size_gib}",
        )


def _check_publish(
    root: Path,
    source: YamlFile,
    definition: Definition,
    publish: Publish,
    regions: Collection[str] | None,
) -> Mistakes:
    template = publish.launch_template
    for index, region in enumerate(publish.regions):
        if regions is not None and region not in regions:
            yield source.error(
                ("publish", "regions", index),
                f"unknown region `{region}`; {nearest(region, regions)}",
                hint="a region newer than the pinned botocore needs a newer one in requirements/",
            )
    yield from source.repeated(("publish", "regions"), publish.regions)
    yield from source.repeated(("publish", "share_with"), publish.share_with)
    for name in publish.tags:
        key = ("publish", "tags", name)
        is_reserved = name.lower().startswith(("aws:", "goldenami:"))
        if is_reserved and (definition.image, name) != SELFTEST:
            yield source.error(key, "AWS or goldenami sets such tags itself")
        if template.metadata_options.instance_tags and not _TOLD_KEY.fullmatch(name):
            yield source.error(
                key, "`instance_tags` tells it, and then EC2 takes letters, digits and _+=.,:@-"
            )
    yield from _check_launch(root, source, definition, publish)
    yield from _check_template(root, source, definition, publish)
    if publish.kms_key and publish.kms_key.startswith("alias/aws/"):
        yield source.error(
            ("publish", "kms_key"), "AWS manages that key, and no other account can use it"
        )
    if template.volume_type is VolumeType.GP3 and template.throughput * 4 > template.iops:
        yield source.error(
            ("publish", "launch_template", "throughput"),
            f"gp3 gives 1 MiB/s for 4 IOPS: {template.throughput} MiB/s need "
            f"{template.throughput * 4}",
        )


def _check_platforms(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    platform = PLATFORMS.get(definition.base.release)
    if platform is None:
        return
    platform_name = f"{platform.distribution} {platform.major}"
    for role in definition.role_names:
        supported = sorted(
            path.stem.replace("_", " ")
            for path in (program_files.role(root, role) / "vars").glob("*_*.yml")
        )
        if supported and platform_name not in supported:
            yield source.error(
                ("roles", role) if role in definition.roles else (role,),
                f"is for {', '.join(supported)}, not for {platform_name}",
                hint="take it out, or give the image another base",
            )


def _check_frameworks(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    known = recipes.known(root)
    for index, name in enumerate(definition.frameworks):
        if name not in known:
            yield source.error(
                ("frameworks", index), f"unknown framework `{name}`; {nearest(name, known)}"
            )
        else:
            recipes.load(root, name)
    yield from source.repeated(("frameworks",), definition.frameworks)
    if "frameworks" in definition.roles:
        is_alone = not definition.frameworks and not definition.python_packages
    else:
        is_alone = bool(definition.frameworks)
    if is_alone:
        yield source.error(
            ("frameworks",), "the list `frameworks` and the role `frameworks` need each other"
        )
