"""Whether a definition fits the checkout: hardware that is known, roles and variables that exist,
recipes, branches.

A role variable is checked against the role's own argument_specs, because Ansible itself accepts an
unknown extra variable silently.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput, together
from goldenami.core.yaml_lines import Key, YamlFile, about_quotes, nearest
from goldenami.model.definitions import recipes, role_files, role_packages, role_rules
from goldenami.model.definitions.definition import (
    IMMUTABLE,
    NEWEST,
    REQUIRED_ROLES,
    ROLE_ORDER,
    Architecture,
    Base,
    Definition,
    Publish,
    VolumeType,
)
from goldenami.model.definitions.role_specs import role_spec
from goldenami.model.definitions.update_policy import UpdatePolicy
from goldenami.model.supported import compatibility, hardware
from goldenami.model.supported.platforms import PLATFORMS

Mistakes = Iterator[BadInput]


def check(
    root: Path, source: YamlFile, definition: Definition, regions: Collection[str] | None = None
) -> None:
    """BadInput with file, line and key of all parts of `definition`, read from `source`, that do
    not fit.

    `regions` are those that exist, where that is to be looked at.
    """
    found = [*_check_release(source, definition.base), *_check_hardware(root, source, definition),
             *_check_roles(root, source, definition), *_check_platforms(root, source, definition),
             *_check_frameworks(root, source, definition), *_check_watch(source, definition),
             *_check_drift(source, definition)]
    if definition.publish:
        found += _check_publish(root, source, definition, definition.publish, regions)
    # What goes together can be asked of parts that are right by themselves.
    found = found or [
        *_check_fabrics(root, source, definition), *_check_branch(root, source, definition),
        *_check_containers(root, source, definition), *_check_notebooks(root, source, definition),
        *_check_local_disks(root, source, definition), *_check_shared(source, definition),
        *_check_idle(root, source, definition), *_check_cuda(source, definition)]
    found = found or [
        source.error(("roles", role, name), because)
        for role in definition.roles
        for name, because in role_rules.broken(root, role, definition.variables(role))
    ]
    if found:
        raise together(found, source.path)


def _check_release(source: YamlFile, base: Base) -> Mistakes:
    known = [name for name, platform in PLATFORMS.items() if platform.distribution.lower()
             == base.distribution]
    if base.release not in known:
        yield source.error(("base", "release"),
                           f"unknown release of {base.distribution} `{base.release}`; "
                           f"{nearest(base.release, known)}")


def _check_hardware(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    known, served = hardware.load(root), " and ".join(Architecture)
    for index, name in enumerate(definition.hardware):
        key = ("hardware", index)
        if refused := hardware.refusal(name):
            yield source.error(key, refused, hint="take p5en, p5e or p5, or leave it out")
        elif name not in known:
            yield source.error(key, f"unknown family `{name}`; {nearest(name, known)}",
                               hint=hardware.UNKNOWN)
        elif (architecture := known[name].cpu.architecture) != definition.base.architecture:
            yield source.error(key,
                               f"`{name}` is {architecture}, the image "
                               f"{definition.base.architecture}",
                               hint=f"images are made for {served} only: take a family of that, "
                                    "such as m7i or g6")


def _check_fabrics(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """What joins several GPUs (NVSwitch) and several instances (EFA) has its software in the
    distribution."""
    distribution, known = definition.base.distribution, hardware.load(root)
    settings = {name: value for role in ("kernel", "nvidia_driver") for name, value in
                {**role_spec(root, role).defaults, **definition.variables(role)}.items()}
    if "nvidia_driver" in definition.roles and settings["nvidia_driver_source"] != "nvidia" \
            and distribution in compatibility.WITHOUT_FABRIC_MANAGER:
        for index, name in enumerate(definition.hardware):
            if known[name].nvswitch:
                yield source.error(
                    ("hardware", index),
                    f"`{name}` joins its GPUs by NVSwitches, for which Debian has no fabric "
                    "manager: CUDA would not start there",
                    hint="set nvidia_driver_source: nvidia and "
                         "nvidia_driver_fabricmanager_enabled: true, as "
                         "ubuntu-24.04-ml-gpu does, or take the family out of `hardware`")
    if not settings["kernel_efa_enabled"]:
        return
    key = ("roles", "kernel", "kernel_efa_enabled")
    if distribution in compatibility.WITHOUT_EFA:
        yield source.error(key,
                           "Debian's kernels have no EFA driver (CONFIG_INFINIBAND_EFA is not set)",
                           hint="take `distribution: ubuntu` with `kernel: aws`, as "
                                "ubuntu-24.04-ml-gpu does, or leave "
                                "it out: instances with EFA run without it, over ENA")
    if not any(known[name].efa for name in definition.hardware):
        yield source.error(key, f"no size of {', '.join(definition.hardware)} has an EFA",
                           hint="leave it out, or declare a family that packer/hardware.yml marks "
                                "`efa`")


def _check_watch(source: YamlFile, definition: Definition) -> Mistakes:
    if definition.variables("nvidia_driver").get("nvidia_driver_source") != "nvidia":
        return
    for name, rule in (("driver", definition.watch.driver), ("cuda", definition.watch.cuda)):
        if rule.policy is UpdatePolicy.SECURITY:
            yield source.error(("watch", name, "policy"),
                               "NVIDIA's repository marks no security updates: `security` would "
                               "never take anything")


def _check_drift(source: YamlFile, definition: Definition) -> Mistakes:
    """A path that may differ says where it is: at least its first two names."""
    for index, row in enumerate(definition.drift.allow):
        names = row.path.split("/")
        if names[0] or len(names) < 3 or any("*" in name or name in ("", ".", "..")
                                             for name in names[1:3]):
            yield source.error(("drift", "allow", index, "path"), f"`{row.path}` names no place",
                               hint="begin with two names, such as /opt/agent/**; `/**` would "
                                    "allow everything")
        elif row.path.endswith(".pyc"):
            yield source.error(("drift", "allow", index, "path"),
                               "Python runs .pyc instead of its source: never",
                               hint="let a role compile the modules, so that the bake has them")


MOST_USER_DATA = 16 * 1024
"""Bytes before they are encoded ("Instance user data")."""


def _check_template(
    root: Path, source: YamlFile, definition: Definition, wanted: Publish
) -> Mistakes:
    """A user's own template and what templates name: ids are of one region, a file is there and not
    too long."""
    template, several = wanted.launch_template, len(wanted.regions) > 1

    def mistake(key: str, what: str, hint: str = "") -> BadInput:
        return source.error(("publish", "launch_template", key), what, hint=hint)

    if template.id and template.name:
        yield mistake("id", "and `name` are both given", "keep one of them")
    if template.id and several:
        yield mistake("id", "is of one region, and `regions` names several", "take `name:` instead")
    if template.name == f"golden-{definition.image}":
        yield mistake("name", "is the template that the pipeline makes by itself",
                      "take the line out")
    if "source_version" in template.model_fields_set and not template.is_theirs:
        yield mistake("source_version", "is for a template of your own",
                      "name it by `name:` or `id:`")
    for index, group in enumerate(template.security_groups):
        if group.startswith("sg-") and several:
            yield source.error(("publish", "launch_template", "security_groups", index),
                               f"`{group}` is of one region, and `regions` names several",
                               hint="take its name")
    if template.user_data_file:
        path = (root / template.user_data_file).resolve()
        if not (path.is_file() and path.is_relative_to(root.resolve())):
            yield mistake("user_data_file",
                          f"`{template.user_data_file}` is no file of this repository")
        elif path.stat().st_size > MOST_USER_DATA:
            yield mistake("user_data_file",
                          f"{template.user_data_file} has {path.stat().st_size} bytes, EC2 takes "
                                            f"{MOST_USER_DATA}", "let it fetch the rest")


def _check_publish(
    root: Path, source: YamlFile, definition: Definition, wanted: Publish,
    regions: Collection[str] | None,
) -> Mistakes:
    template = wanted.launch_template
    for index, region in enumerate(wanted.regions):
        if regions is not None and region not in regions:
            yield source.error(("publish", "regions", index),
                               f"unknown region `{region}`; {nearest(region, regions)}",
                               hint="a region newer than the pinned botocore needs a newer one in "
                                    "requirements/")
    for key, values in (("regions", wanted.regions), ("share_with", wanted.share_with)):
        for index, value in enumerate(values):
            if value in values[:index]:
                yield source.error(("publish", key, index), f"`{value}` is given twice")
    if (
        template.instance_type
        and (family := template.instance_type.partition(".")[0]) not in definition.hardware
    ):
        yield source.error(("publish", "launch_template", "instance_type"),
                           f"`{family}` is not in `hardware`; "
                           f"{nearest(family, definition.hardware)}")
    if template.volume_size_gib and template.volume_size_gib < definition.disk_size_gib:
        yield source.error(("publish", "launch_template", "volume_size_gib"),
                           f"{template.volume_size_gib} GiB cannot hold the disk of "
                           f"{definition.disk_size_gib}")
    yield from _check_template(root, source, definition, wanted)
    if wanted.kms_key and wanted.kms_key.startswith("alias/aws/"):
        yield source.error(("publish", "kms_key"),
                           "AWS manages that key, and no other account can use it")
    if template.volume_type is VolumeType.GP3 and template.throughput * 4 > template.iops:
        yield source.error(("publish", "launch_template", "throughput"),
                           f"gp3 gives 1 MiB/s for 4 IOPS: {template.throughput} MiB/s need "
                           f"{template.throughput * 4}")


def _check_roles(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    for role, variables in definition.roles.items():
        if role not in ROLE_ORDER:
            yield source.error(("roles", role), f"unknown role; {nearest(role, ROLE_ORDER)}")
            continue
        if role == IMMUTABLE:
            yield source.error(("roles", role), "is no role to list",
                               hint="write `immutable: true` beside `roles`")
            continue
        spec = role_spec(root, role)
        for name, value in (variables or {}).items():
            key = ("roles", role, name)
            if name not in spec.options:
                known = nearest(name, spec.settable) if spec.settable else \
                    "the role's defaults/main.yml and meta/argument_specs.yml name none"
                yield source.error(key, f"unknown role variable; {known}")
            elif name not in spec.settable:
                yield source.error(key, "is derived by `lock` and cannot be set")
            elif not name.startswith(f"{role}_"):
                yield source.error(key,
                                   f"does not reach the role: its variables begin with `{role}_`",
                                   hint=f"rename it in roles/{role}")
            elif value is not None or spec.defaults[name] is not None:
                yield from _check_type(source, key, spec.options[name], value)
        for path in role_files.brought(root, role, variables or {}):
            if problem := role_files.misplaced(path):
                yield source.error(("roles", role), f"brings {path}, which {problem}")
    for role in REQUIRED_ROLES:
        if role not in definition.roles:
            yield source.error(("roles",),
                               f"`{role}` is missing; every image needs {', '.join(REQUIRED_ROLES)}")


def _check_branch(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """A driver branch that does not run a declared GPU is refused before anything is resolved."""
    if "nvidia_driver" not in definition.roles:
        return
    branch = {**role_spec(root, "nvidia_driver").defaults, **definition.variables("nvidia_driver")}[
        "nvidia_driver_branch"]
    if branch == NEWEST:
        return
    if not str(branch).isdecimal():
        yield source.error(("roles", "nvidia_driver", "nvidia_driver_branch"),
                           f"`{branch}` is no branch such as `535`")
        return
    refusal = compatibility.branch_refusal(str(branch),
                                           hardware.architectures(root, definition.hardware))
    if refusal:
        yield source.error(("roles", "nvidia_driver", "nvidia_driver_branch"), refusal)


def _check_containers(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """GPUs in containers need a driver in the image and an engine that reads CDI specifications."""
    role, release = "container_runtime", definition.base.release
    if role not in definition.roles:
        return
    settings = role_packages.variables(root, role, definition.variables(role))
    engine, gpu_source = (
        settings["container_runtime_engine"],
        settings["container_runtime_gpu_source"],
    )
    key = ("roles", role, "container_runtime_gpu_source")
    if gpu_source == "none":
        return
    if "nvidia_driver" not in definition.roles:
        yield source.error(key,
                           f"`{gpu_source}` gives containers GPUs, but the image has no driver",
                           hint="add the role `nvidia_driver`, or set it to `none`")
        return
    facts = role_packages.facts(root, role, PLATFORMS[release], definition.variables(role))
    if engine not in facts["__container_runtime_cdi_engines"]:
        yield source.error(key,
                           f"the {engine} of {release} cannot give containers GPUs: it has no CDI",
                           hint="set container_runtime_engine to `podman`, or take a newer "
                                "release (Debian 13)")


def _check_platforms(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """A role that has facts for some platforms, and none for this one, does not run there."""
    platform = PLATFORMS.get(definition.base.release)
    if platform is None:
        return
    here = f"{platform.distribution} {platform.major}"
    for role in definition.role_names:
        known = sorted(path.stem.replace("_", " ")
                       for path in (root / "roles" / role / "vars").glob("*_*.yml"))
        if known and here not in known:
            yield source.error(("roles", role) if role in definition.roles else (role,),
                               f"is for {', '.join(known)}, not for {here}",
                               hint="take it out, or give the image another base")


_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""What useradd takes (shadow's man page useradd(8))."""
_HUB_S_OWN_PORTS = (8001, 8081)
"""The proxy's API and the hub behind it, on the loopback ("Networking basics" of JupyterHub)."""


def _check_notebooks(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """Somebody may log in, by the name of an account; the hub's address is one."""
    role = "jupyterhub"
    if role not in definition.roles:
        return
    given = {**role_spec(root, role).defaults, **definition.variables(role)}
    users, admins, port = (given[f"{role}_{name}"] for name in ("users", "admins", "port"))

    def refuse(name: str, *index: int, because: str) -> BadInput:
        return source.error(("roles", role, f"{role}_{name}", *index), because)

    if not users:
        yield refuse("users",
                     because="is empty: name the accounts that may log in, such as `debian`, "
                             "which cloud-init "
                                      "makes of Debian's own package")
    for number, name in enumerate(users):
        if not _ACCOUNT.fullmatch(name) or name == "root":
            yield refuse("users", number,
                         because=f"`{name}` is no account that may have notebooks: small letters, "
                                                  "digits, `-` and `_`, and not root")
    for number, name in enumerate(admins):
        if users and name not in users:
            yield refuse("admins", number,
                         because=f"`{name}` is not in {role}_users; {nearest(name, users)}")
    try:
        ipaddress.ip_address(given[f"{role}_bind_address"])
    except ValueError as error:
        yield refuse("bind_address", because=f"{error}")
    if not 1 <= port <= 65535 or port in _HUB_S_OWN_PORTS:
        yield refuse("port",
                     because=f"{port} is no port from 1 to 65535, or one of the hub's own (8001, "
                             "8081)")


def _check_local_disks(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """The engine whose data goes onto the local disks is the image's."""
    role, name = "instance_store", "instance_store_container_engine"
    wanted = definition.variables(role).get(name, "none")
    runtime = role_packages.variables(root, "container_runtime",
                                      definition.variables("container_runtime"))
    engine = (
        runtime["container_runtime_engine"] if "container_runtime" in definition.roles else "none"
    )
    if wanted not in ("none", engine):
        yield source.error(("roles", role, name),
                           f"is `{wanted}`, but the image's container engine is `{engine}`",
                           hint=f"set it to `{engine}`, or change container_runtime")


_IDLE_LEAST = {"window_minutes": 15, "grace_minutes": 5, "longest_hold_hours": 1}
_IDLE_TARGET = re.compile(
    r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}|ssm:/[A-Za-z0-9._/-]{1,1000}"
)


def _check_idle(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """What the agent asks of its file (settings.py among the role's files), with its line and
    before a bake."""
    role = "golden_idle"
    if role not in definition.roles:
        return
    given = {**role_spec(root, role).defaults, **definition.variables(role)}
    action, target = given[f"{role}_action"], given[f"{role}_target"]

    def refuse(name: str, because: str, hint: str = "") -> BadInput:
        return source.error(("roles", role, f"{role}_{name}"), because, hint=hint)

    for name, least in _IDLE_LEAST.items():
        if given[f"{role}_{name}"] < least:
            yield refuse(name, f"is {given[f'{role}_{name}']}: at least {least}")
    for name in ("gpu_percent", "cores", "disk_mb_s", "network_mb_s"):
        if not 0 <= given[f"{role}_{name}"] < float("inf"):
            yield refuse(name, f"is {given[f'{role}_{name}']}: it has to be a number from 0 on")
    if action != "none" and not target:
        yield refuse("action", f"is `{action}`, and nobody would be told",
                     f"set {role}_target to an SNS topic's ARN, or to `ssm:/NAME` of a parameter")
    elif target.startswith("https:"):
        yield refuse("target", "a webhook's address is a secret, and an image holds none",
                     "put it into an SSM parameter and write `ssm:/NAME`, or let user data say it "
                     "(docs/idle.md)")
    elif target and not _IDLE_TARGET.fullmatch(target):
        yield refuse("target",
                     f"`{target}` is neither the ARN of an SNS topic (no FIFO) nor `ssm:/NAME`")


SHARED = "frameworks_shared_environment"


def _check_frameworks(root: Path, source: YamlFile, definition: Definition) -> Mistakes:
    """Every framework has a recipe that can be read; the role and the list come together."""
    known = recipes.known(root)
    for index, name in enumerate(definition.frameworks):
        if name not in known:
            yield source.error(("frameworks", index),
                               f"unknown framework `{name}`; {nearest(name, known)}")
        elif name in definition.frameworks[:index]:
            yield source.error(("frameworks", index), f"`{name}` stands there twice")
        else:
            recipes.load(root, name)
    if bool(definition.frameworks) != ("frameworks" in definition.roles):
        yield source.error(("frameworks",),
                           "the list `frameworks` and the role `frameworks` need each other")


def _check_shared(source: YamlFile, definition: Definition) -> Mistakes:
    """The environment that frameworks share has a name that a folder may have."""
    shared = definition.variables("frameworks").get(SHARED) or "all"
    # As the role itself asks for, hours later.
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", shared) or shared == "bin":
        yield source.error(("roles", "frameworks", SHARED),
                           f"`{shared}` is no name for a folder of /opt/ml; use small "
                                                            "letters, digits, `-` and `.`, and "
                                                            "not `bin`")


def _check_cuda(source: YamlFile, definition: Definition) -> Mistakes:
    """CUDA's wheels are installed once: where there are frameworks, into the environment that these
    share."""
    given = definition.variables("cuda")
    from_wheels = given.get("cuda_source") == "wheels"
    if given.get("cuda_variant") == "jit" and not from_wheels:
        yield source.error(("roles", "cuda", "cuda_variant"),
                           "`jit` is for cuda_source: wheels only; take `toolkit`")
    if from_wheels and definition.frameworks and not definition.variables("frameworks").get(SHARED):
        yield source.error(("roles", "cuda", "cuda_source"),
                           f"with `wheels` the frameworks share CUDA's environment: set {SHARED}, "
                           "such as `ml`")


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "list": (list,), "dict": (dict,),
    "float": (float, int),
    "path": (str,), "raw": (object,),
}


def _check_type(source: YamlFile, key: Key, option: dict[str, Any], value: Any) -> Mistakes:
    wanted = option.get("type", "str")
    is_number = wanted in ("int", "float")
    matches = isinstance(value, _TYPES.get(wanted, (object,))) and not (
        is_number and isinstance(value, bool)
    )
    if not matches:
        given = "nothing" if value is None else f"{type(value).__name__} {value!r}"
        yield source.error(key, f"expected {wanted}, got {given}{about_quotes(wanted, value)}")
        return
    choices = option.get("choices")
    if isinstance(value, list):
        for index, item in enumerate(value):
            inner = {"type": option.get("elements", "raw"), "choices": choices}
            yield from _check_type(source, (*key, index), inner, item)
    elif choices and value not in choices:
        yield source.error(key,
                           f"unknown value `{value}`; {nearest(str(value), map(str, choices))}")
