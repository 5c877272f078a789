"""Image definitions: packer/images/*.yml, the only facts that a person writes.

Everything else is derived from them or refused. A role variable is checked against the role's own
argument_specs, because Ansible itself accepts an unknown extra variable silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from goldenami import hardware, isa, yamlfile
from goldenami.errors import BadInput
from goldenami.records import Record
from goldenami.yamlfile import YamlFile, nearest

STEPS = (("os_updates",), ("cuda",), ("nvidia_driver",), ("limits", "network_tuning"), ("provenance", "seal"))
"""The steps of a bake, each a layer: from what costs or changes least often to what is cheap or always changes."""
ROLE_ORDER = tuple(role for step in STEPS for role in step)
"""The order of ansible/bake.yml, `seal` last."""
REQUIRED_ROLES = ("os_updates", "provenance", "seal")


class Distribution(StrEnum):
    """Distributions that goldenami knows how to resolve and boot."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"


@dataclass(frozen=True)
class Platform:
    """The distribution as Ansible names it, `Debian`, 12, and the version of its own GCC."""

    distribution: str
    major: int
    gcc: isa.Version

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


class Definition(Record):
    """One image, as written by a person."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
    description: str
    base: Base
    kernel: Annotated[KernelFlavour, Field(strict=False)]
    disk_size_gib: Annotated[int, Field(ge=2, le=1024)]
    hardware: Annotated[list[str], Field(min_length=1)]
    roles: dict[str, dict[str, Any] | None]

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
    source = yamlfile.load(path)
    try:
        definition = Definition.model_validate(source.data)
    except ValidationError as error:
        raise _first_problem(source, error) from None
    if definition.image != path.stem:
        raise source.error(("image",), f"is `{definition.image}` but the file is named `{path.stem}`")
    _check_release(source, definition.base)
    _check_hardware(root, source, definition)
    _check_roles(root, source, definition)
    return definition


def _first_problem(source: YamlFile, error: ValidationError) -> BadInput:
    # A misspelt key is both unknown and missing: that it is unknown, and what it may mean, says more.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    key = tuple(part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        model: type[Record] = Base if key[0] == "base" else Definition
        return source.error(key, f"unknown key; {nearest(str(key[-1]), model.model_fields)}")
    if first["type"] == "missing":
        return source.error(key, "is required and missing")
    problem = first["msg"][0].lower() + first["msg"][1:]
    return source.error(key, f"{problem} (got {first['input']!r})")


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
    for role in REQUIRED_ROLES:
        if role not in definition.roles:
            raise source.error(("roles",), f"`{role}` is missing; every image needs {', '.join(REQUIRED_ROLES)}")


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "bool": (bool,), "list": (list,), "dict": (dict,), "float": (float, int),
    "path": (str,), "raw": (object,),
}


def _check_type(source: YamlFile, key: yamlfile.Key, option: dict[str, Any], value: Any) -> None:
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
