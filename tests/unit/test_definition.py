from __future__ import annotations

from pathlib import Path

import pytest
from goldenami import definition
from goldenami.errors import BadInput, ExitCode

IMAGE = "debian-12-ml-cpu"


def refused(root: Path, image: str = IMAGE) -> str:
    """The one-line complaint about a definition, without the folder that it is in."""
    with pytest.raises(BadInput) as caught:
        definition.load(root, definition.path_of(root, image))
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert "\n" not in caught.value.message
    return caught.value.message.replace(f"{root}/packer/images/", "")


def edit(root: Path, old: str, new: str, image: str = IMAGE) -> None:
    path = root / f"packer/images/{image}.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_definition_of_the_checkout_is_good(root: Path) -> None:
    for path in (root / "packer/images").glob("*.yml"):
        found = definition.load(root, path)
        assert found.role_names == [role for role in definition.ROLE_ORDER if role in found.roles]
        assert found.role_names[-1] == "seal"


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("hardware:", "hardwear:", f"{IMAGE}.yml:8: hardwear: unknown key; did you mean `hardware`?"),
    ("  release:", "  relase:", f"{IMAGE}.yml:5: base.relase: unknown key; did you mean `release`?"),
    ("kernel: cloud\n", "", f"{IMAGE}.yml:1: kernel: is required and missing"),
    ("  distribution: debian\n", "", f"{IMAGE}.yml:3: base.distribution: is required and missing"),
    ("disk_size_gib: 4", "disk_size_gib: four", f"{IMAGE}.yml:7: disk_size_gib: input should be a valid integer"),
    ("disk_size_gib: 4", "disk_size_gib: true", f"{IMAGE}.yml:7: disk_size_gib: input should be a valid integer"),
    ("disk_size_gib: 4", "disk_size_gib: 1",
     f"{IMAGE}.yml:7: disk_size_gib: input should be greater than or equal to 2"),
    ("distribution: debian", "distribution: debain", f"{IMAGE}.yml:4: base.distribution: input should be 'debian' or"),
    ("release: bookworm", "release: bookwurm",
     f"{IMAGE}.yml:5: base.release: unknown release of debian `bookwurm`; did you mean `bookworm`?"),
    ("release: bookworm", "release: noble", f"{IMAGE}.yml:5: base.release: unknown release of debian `noble`; "),
    ("release: bookworm", "release: 12", f"{IMAGE}.yml:5: base.release: input should be a valid string (got 12)"),
    ("kernel: cloud", "kernel: clowd", f"{IMAGE}.yml:6: kernel: input should be 'cloud' or 'aws' (got 'clowd')"),
    ("[c7i, m7i, c7a, m7a]", "[c7i, m7j]", f"{IMAGE}.yml:8: hardware.1: unknown family `m7j`; did you mean `m7i`?"),
    ("[c7i, m7i, c7a, m7a]", "[]", f"{IMAGE}.yml:8: hardware: list should have at least 1 item"),
    ("[c7i, m7i, c7a, m7a]", "c7i", f"{IMAGE}.yml:8: hardware: input should be a valid list"),
    ("  network_tuning:", "  network_tunning:",
     f"{IMAGE}.yml:12: roles.network_tunning: unknown role; did you mean `network_tuning`?"),
    ("  seal:\n", "", f"{IMAGE}.yml:9: roles: `seal` is missing"),
    ("  limits:", "  limits: yes", f"{IMAGE}.yml:11: roles.limits: input should be a valid dictionary"),
    ("base:\n", "base: &b\n", None),
    (f"image: {IMAGE}", "image: other", f"{IMAGE}.yml:1: image: is `other` but the file is named `{IMAGE}`"),
    (f"image: {IMAGE}", "image: Bad_Name", f"{IMAGE}.yml:1: image: string should match pattern"),
    ("kernel: cloud", "kernel: cloud\nkernel: aws", f"{IMAGE}.yml:7: kernel: given twice (first on line 6)"),
])
def test_a_definition_that_is_wrong(root: Path, old: str, new: str, complaint: str | None) -> None:
    edit(root, old, new)
    if complaint is None:
        assert definition.load(root, definition.path_of(root, IMAGE)).image == IMAGE
    else:
        assert refused(root).startswith(complaint)


@pytest.mark.parametrize(("role", "variable", "complaint"), [
    ("limits", "limits_nofiles: 5", "limits_nofiles: unknown role variable; did you mean `limits_nofile`?"),
    ("limits", "limits_nofile: many", "limits_nofile: expected int, got str 'many'"),
    ("limits", "limits_nofile: true", "limits_nofile: expected int, got bool True"),
    ("limits", "limits_nofile:", "limits_nofile: expected int, got nothing"),
    ("limits", "limits_container_engine: dockr",
     "limits_container_engine: unknown value `dockr`; did you mean `docker`?"),
    ("os_updates", "os_updates_kernel_release: x", "os_updates_kernel_release: is derived by `lock` and cannot be set"),
    ("os_updates", "os_updates_extra_packages: htop", "os_updates_extra_packages: expected list, got str 'htop'"),
    ("os_updates", "os_updates_extra_packages: [htop, 5]", "os_updates_extra_packages.1: expected str, got int 5"),
    ("os_updates", "os_updates_extra_packages: [htop, ]", None),
])
def test_a_role_variable_that_is_wrong(root: Path, role: str, variable: str, complaint: str | None) -> None:
    edit(root, f"  {role}:\n", f"  {role}:\n    {variable}\n")
    if complaint is None:
        assert definition.load(root, definition.path_of(root, IMAGE)).roles[role]
    else:
        line = 11 if role == "os_updates" else 12
        assert refused(root) == f"{IMAGE}.yml:{line}: roles.{role}.{complaint}"


def test_null_is_a_value_where_it_is_the_default(root: Path) -> None:
    edit(root, "    nvidia_driver_source:", "    nvidia_driver_gsp_enabled: null\n    nvidia_driver_source:",
         "debian-12-ml-gpu")
    definition.load(root, definition.path_of(root, "debian-12-ml-gpu"))
    edit(root, "nvidia_driver_gsp_enabled: null", "nvidia_driver_gsp_enabled: 3", "debian-12-ml-gpu")
    assert refused(root, "debian-12-ml-gpu").endswith("nvidia_driver_gsp_enabled: expected bool, got int 3")


def test_a_family_of_another_architecture(root: Path) -> None:
    edit(root, "[c7i,", "[c7g,")
    assert refused(root) == f"{IMAGE}.yml:8: hardware.0: `c7g` is arm64, the image amd64"
    with pytest.raises(BadInput) as caught:
        definition.load(root, definition.path_of(root, IMAGE))
    assert caught.value.hint.startswith("no program runs on both: split the image")


@pytest.mark.parametrize(("content", "complaint"), [
    (b"", ":1: the file is empty"), (b"image: debian-12-ml-cpu\nbase: {distribution: deb", ":2: not valid YAML"),
    (b"image: \xff\n", ":1: not UTF-8 text"),
])
def test_a_file_that_is_no_definition(root: Path, content: bytes, complaint: str) -> None:
    (root / f"packer/images/{IMAGE}.yml").write_bytes(content)
    assert refused(root).startswith(f"{IMAGE}.yml{complaint}")


def test_an_image_that_does_not_exist(root: Path) -> None:
    assert refused(root, "debian-12-ml-gpus") == "no image `debian-12-ml-gpus`: did you mean `debian-12-ml-gpu`?"
    assert refused(root, "../hardware").startswith("../hardware.yml:15: sources: unknown key")
