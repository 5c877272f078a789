from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core.errors import BadInput, ExitCode
from goldenami.model.definitions import definition, definition_file
from goldenami.model.supported import hardware, vendor_archives
from support.rules import trees

IMAGE = "debian-13-ml-cpu"


def refused(root: Path, image: str = IMAGE) -> str:
    """The one-line complaint about a definition, or the first, without the folder that it is in."""
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, definition_file.path_of(root, image))
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    assert "\n" not in caught.value.message
    first = (caught.value.tail or caught.value.message).splitlines()[0]
    return first.replace(f"{root}/packer/images/", "")


def edit(root: Path, old: str, new: str, image: str = IMAGE) -> None:
    path = root / f"packer/images/{image}.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_definition_of_the_checkout_is_good(root: Path) -> None:
    for path in trees.scanned(8, root, "packer/images/*.yml"):
        found = definition_file.load(root, path)
        named = {*found.roles, *([definition.IMMUTABLE] if found.immutable else [])}
        assert found.role_names == [role for role in definition.ROLE_ORDER if role in named]
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
    ("release: trixie", "release: trixi",
     f"{IMAGE}.yml:5: base.release: unknown release of debian `trixi`; did you mean `trixie`?"),
    ("release: trixie", "release: noble", f"{IMAGE}.yml:5: base.release: unknown release of debian `noble`; "),
    ("release: trixie", "release: 12",
     f"{IMAGE}.yml:5: base.release: input should be a valid string (got 12); put it in quotes: \"12\""),
    ("disk_size_gib: 4", 'disk_size_gib: "4"',
     f"{IMAGE}.yml:7: disk_size_gib: input should be a valid integer (got '4'); take the quotes away"),
    ("kernel: cloud\n", "kernel: cloud\nimmutable: 'true'\n",
     f"{IMAGE}.yml:7: immutable: input should be a valid boolean (got 'true'); take the quotes away"),
    ("kernel: cloud", "kernel: clowd", f"{IMAGE}.yml:6: kernel: input should be 'cloud' or 'aws' (got 'clowd')"),
    ("[c7i, m7i, c7a, m7a]", "[c7i, m7j]", f"{IMAGE}.yml:8: hardware.2: unknown family `m7j`; did you mean `m7i`?"),
    ("[c7i, m7i, c7a, m7a]", "[]", f"{IMAGE}.yml:8: hardware: list should have at least 1 item"),
    ("[c7i, m7i, c7a, m7a]", "c7i", f"{IMAGE}.yml:8: hardware: input should be a valid list"),
    ("  network_tuning:", "  network_tunning:",
     f"{IMAGE}.yml:13: roles.network_tunning: unknown role; did you mean `network_tuning`?"),
    ("  seal:\n", "", f"{IMAGE}.yml:9: roles: `seal` is missing"),
    ("  limits:", "  immutable:", f"{IMAGE}.yml:12: roles.immutable: is no role to list"),
    ("kernel: cloud\n", "kernel: cloud\nimmutable: 1\n", f"{IMAGE}.yml:7: immutable: input should be a valid boolean"),
    ("release: trixie\nkernel:", "release: bookworm\nimmutable: true\nkernel:",
     f"{IMAGE}.yml:6: immutable: is for Debian 13, not for Debian 12"),
    ("  limits:", "  limits: yes", f"{IMAGE}.yml:12: roles.limits: input should be a valid dictionary"),
    ("base:\n", "base: &b\n", None),
    (f"image: {IMAGE}", "image: other", f"{IMAGE}.yml:1: image: is `other` but the file is named `{IMAGE}`"),
    (f"image: {IMAGE}", "image: Bad_Name", f"{IMAGE}.yml:1: image: string should match pattern"),
    ("kernel: cloud", "kernel: cloud\nkernel: aws", f"{IMAGE}.yml:7: kernel: given twice (first on line 6)"),
])
def test_a_definition_that_is_wrong(root: Path, old: str, new: str, complaint: str | None) -> None:
    edit(root, old, new)
    if complaint is None:
        assert definition_file.load(root, definition_file.path_of(root, IMAGE)).image == IMAGE
    else:
        assert refused(root).startswith(complaint)


@pytest.mark.parametrize(("role", "variable", "complaint"), [
    ("limits", "limits_nofiles: 5", "limits_nofiles: unknown role variable; did you mean `limits_nofile`?"),
    ("limits", "limits_nofile: many", "limits_nofile: expected int, got str 'many'"),
    ("limits", "limits_nofile: '5000'", "limits_nofile: expected int, got str '5000'; take the quotes away"),
    ("limits", "limits_memlock: 64", "limits_memlock: expected str, got int 64; put it in quotes: \"64\""),
    ("limits", "limits_nofile: true", "limits_nofile: expected int, got bool True"),
    ("limits", "limits_nofile:", "limits_nofile: expected int, got nothing"),
    ("network_tuning", "network_tuning_transparent_hugepage: alway",
     "network_tuning_transparent_hugepage: unknown value `alway`; did you mean `always`?"),
    ("kernel", "kernel_release: x", "kernel_release: is derived by `lock` and cannot be set"),
    ("os_updates", "os_updates_extra_packages: htop", "os_updates_extra_packages: expected list, got str 'htop'"),
    ("os_updates", "os_updates_extra_packages: [htop, 5]",
     "os_updates_extra_packages.2: expected str, got int 5; put it in quotes: \"5\""),
    ("os_updates", "os_updates_extra_packages: [htop, ]", None),
])
def test_a_role_variable_that_is_wrong(root: Path, role: str, variable: str, complaint: str | None) -> None:
    edit(root, f"  {role}:\n", f"  {role}:\n    {variable}\n")
    if complaint is None:
        assert definition_file.load(root, definition_file.path_of(root, IMAGE)).roles[role]
    else:
        line = {"os_updates": 11, "kernel": 12, "limits": 13, "network_tuning": 14}[role]
        assert refused(root) == f"{IMAGE}.yml:{line}: roles.{role}.{complaint}"


REGIONS = "  regions: [us-east-1, us-west-2]"


@pytest.mark.parametrize(("new", "complaint"), [
    ("  region: [us-east-1]", "19: publish.region: unknown key; did you mean `regions`?"),
    ("  keep_last: 3", "18: publish.regions: is required and missing"),
    ("  regions: []", "19: publish.regions: list should have at least 1 item"),
    ("  regions: [us-east-1, frankfurt]", "19: publish.regions.2: string should match pattern"),
    ("  regions: [us-east-1, us-east-1]", "19: publish.regions.2: `us-east-1` is given twice"),
    (f"{REGIONS}\n  keep_last: 0", "20: publish.keep_last: input should be greater than or equal to 1 (got 0)"),
    (f"{REGIONS}\n  share_with: [123456789012]", "20: publish.share_with.1: input should be a valid string (got 1234"),
    (f"{REGIONS}\n  share_with: ['12345']", "20: publish.share_with.1: string should match pattern"),
    (f"{REGIONS}\n  kms_key: alias/aws/ebs", "20: publish.kms_key: AWS manages that key"),
    (f"{REGIONS}\n  launch_template:\n    iop: 4000",
     "21: publish.launch_template.iop: unknown key; did you mean `iops`?"),
    (f"{REGIONS}\n  launch_template: {{volume_type: gp4}}",
     "20: publish.launch_template.volume_type: input should be 'gp3'"),
    (f"{REGIONS}\n  launch_template: {{throughput: 1000}}",
     "20: publish.launch_template.throughput: gp3 gives 1 MiB/s for 4 IOPS: 1000 MiB/s need 4000"),
    (f"{REGIONS}\n  launch_template: {{initialization_rate: 50}}",
     "20: publish.launch_template.initialization_rate: input should be greater than or equal to 100"),
    (f"{REGIONS}\n  launch_template: {{volume_size_gib: 3}}",
     "20: publish.launch_template.volume_size_gib: 3 GiB cannot hold the disk of 4"),
    (f"{REGIONS}\n  launch_template: {{instance_type: c7j.large}}",
     "20: publish.launch_template.instance_type: `c7j` is not in `hardware`; did you mean `c7"),
    (f"{REGIONS}\n  launch_template: {{name: web, id: lt-0123abcd}}",
     "20: publish.launch_template.id: and `name` are both given"),
    (f"{REGIONS}\n  launch_template: {{id: lt-0123abcd}}",
     "20: publish.launch_template.id: is of one region, and `regions` names several"),
    (f"{REGIONS}\n  launch_template: {{name: golden-{IMAGE}}}",
     "20: publish.launch_template.name: is the template that the pipeline makes by itself"),
    (f"{REGIONS}\n  launch_template: {{source_version: default}}",
     "20: publish.launch_template.source_version: is for a template of your own"),
    (f"{REGIONS}\n  launch_template: {{name: web, source_version: 3}}",
     "20: publish.launch_template.source_version: input should be 'latest' or 'default'"),
    (f"{REGIONS}\n  launch_template: {{security_groups: [web, sg-0a]}}",
     "20: publish.launch_template.security_groups.2: `sg-0a` is of one region"),
    (f"{REGIONS}\n  launch_template: {{user_data_file: no.sh}}",
     "20: publish.launch_template.user_data_file: `no.sh` is no file of this repository"),
    (f"{REGIONS}\n  launch_template: {{metadata_options: {{hop_limit: 65}}}}",
     "20: publish.launch_template.metadata_options.hop_limit: input should be less than or equal to 64"),
    (f"{REGIONS}\n  instance_refresh:\n    group: [web]",
     "21: publish.instance_refresh.group: unknown key; did you mean `groups`?"),
    (f"{REGIONS}\n  instance_refresh: {{groups: []}}",
     "20: publish.instance_refresh.groups: list should have at least 1"),
])
def test_a_publish_section_that_is_wrong(root: Path, new: str, complaint: str) -> None:
    edit(root, REGIONS, new)
    assert refused(root).startswith(f"{IMAGE}.yml:{complaint}")


def test_a_publish_section_may_say_everything(root: Path) -> None:
    edit(root, REGIONS, f"""{REGIONS}
  keep_last: 5
  share_with: ["210987654321"]
  kms_key: alias/golden
  soak_hours: 24
  launch_template: {{iops: 6000, throughput: 500, initialization_rate: 300, instance_type: c7i.large}}
  instance_refresh: {{groups: [web], checkpoint_percent: 20, alarms: [errors]}}""")
    found = definition_file.load(root, definition_file.path_of(root, IMAGE)).publish
    assert found is not None
    assert (found.regions, found.keep_last, found.max_age_days) == (["us-east-1", "us-west-2"], 5, 180)
    assert found.instance_refresh is not None
    assert found.instance_refresh.min_healthy_percent == 90


def test_user_data_has_a_limit_and_is_found_from_anywhere(root: Path) -> None:
    edit(root, REGIONS, f"{REGIONS}\n  launch_template: {{user_data_file: packer/start.sh}}")
    path = root / "packer/start.sh"
    path.write_text("#" * (16 * 1024 + 1), encoding="utf-8")
    assert "packer/start.sh has 16385 bytes, EC2 takes 16384" in refused(root)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    found = definition_file.load(root, definition_file.path_of(root, IMAGE)).publish
    assert found is not None and found.launch_template.user_data_file == str(path)


def test_user_data_is_of_the_repository(root: Path, tmp_path: Path) -> None:
    """It goes to AWS, where every instance reads it: no key of the machine that publishes."""
    (outside := tmp_path / "key").write_text("secret\n", encoding="utf-8")
    (root / "packer/link.sh").symlink_to(outside)
    path = root / f"packer/images/{IMAGE}.yml"
    text = path.read_text(encoding="utf-8")
    for name in (outside, "../../../../../../../../etc/passwd", "packer/link.sh"):
        path.write_text(text.replace(REGIONS, f"{REGIONS}\n  launch_template: {{user_data_file: {name}}}"), "utf-8")
        assert f"user_data_file: `{name}` is no file of this repository" in refused(root)


@pytest.mark.parametrize("text", [
    "image: a\npublish:\n  regions: [x]\nkernel: cloud\n", "publish: {regions: [x]}\nimage: a\nkernel: cloud\n",
    "image: a\nkernel: cloud\npublish:\n  regions:\n    - x\n", "image: a\nkernel: cloud\n",
])
def test_the_text_that_shapes_the_image(text: str) -> None:
    assert definition_file.without_publish(text) == "image: a\nkernel: cloud\n"


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("[numpy, hnswlib,", "[numpy, hnswlibb,", ":9: frameworks.2: unknown framework `hnswlibb`; did you mean"),
    ("[numpy, hnswlib,", "[numpy, numpy,", ":9: frameworks.2: `numpy` stands there twice"),
    ("  frameworks:\n", "", ":9: frameworks: the list `frameworks` and the role `frameworks` need each other"),
    ("frameworks: [numpy, hnswlib, llama-cpp-python, lightgbm, xgboost]\n", "",
     ":1: frameworks: the list `frameworks` and the role `frameworks` need"),
    *(("  frameworks:\n", f"  frameworks:\n    frameworks_shared_environment: {name}\n",
       f":13: roles.frameworks.frameworks_shared_environment: `{name}` is no name for a folder of /opt/ml; use small")
      for name in ("My Env", "../x", "-x", "bin")),
])
def test_frameworks_that_are_wrong(root: Path, old: str, new: str, complaint: str) -> None:
    image = "debian-12-ml-frameworks"
    edit(root, old, new, image)
    assert refused(root, image).startswith(f"{image}.yml{complaint}")


@pytest.mark.parametrize("name", ["all", "ml-2.1", '""'])
def test_frameworks_may_share_an_environment(root: Path, name: str) -> None:
    image = "debian-12-ml-frameworks"
    edit(root, "  frameworks:\n", f"  frameworks:\n    frameworks_shared_environment: {name}\n", image)
    assert definition_file.load(root, definition_file.path_of(root, image)).frameworks


@pytest.mark.parametrize(("image", "engine", "gpus", "complaint"), [
    ("debian-12-ml-gpu-frameworks", "docker", "debian",
     "the docker of bookworm cannot give containers GPUs: it has no CDI"),
    ("debian-12-ml-gpu-frameworks", "docker", "nvidia",
     "the docker of bookworm cannot give containers GPUs: it has no CDI"),
    ("debian-13-ml-cpu", "podman", "debian", "`debian` gives containers GPUs, but the image has no driver"),
    ("debian-13-ml-cpu", "docker", "none", None), ("debian-12-ml-gpu-frameworks", "podman", "debian", None),
    ("debian-13-jupyterhub", "docker", "nvidia", None),
])
def test_gpus_in_containers(root: Path, image: str, engine: str, gpus: str, complaint: str | None) -> None:
    path = definition_file.path_of(root, image)
    asked = "  container_runtime:\n    container_runtime_engine: {}\n    container_runtime_gpu_source: {}\n".format
    old = asked("docker", "debian") if image == "debian-13-jupyterhub" else ""
    edit(root, old or "  kernel:\n", asked(engine, gpus) + ("" if old else "  kernel:\n"), image)
    if complaint is None:
        archives = [vendor.archive for vendor in vendor_archives.of(root, definition_file.load(root, path))]
        assert archives == (["nvidia-container"] if gpus == "nvidia" else [])
    else:
        where = path.read_text(encoding="utf-8").splitlines().index(f"    container_runtime_gpu_source: {gpus}") + 1
        assert refused(root, image) == \
            f"{image}.yml:{where}: roles.container_runtime.container_runtime_gpu_source: {complaint}"


HUB = "debian-13-jupyterhub"
USERS, ADMINS = "    jupyterhub_users: [debian, admin]\n", "    jupyterhub_admins: [debian, admin]\n"


@pytest.mark.parametrize(("old", "new", "complaint"), [
    (USERS + ADMINS, "", "jupyterhub_users: is empty: name the accounts that may log in"),
    (USERS, USERS.replace("debian, admin", ""), "jupyterhub_users: is empty: name the accounts that may log in"),
    (USERS, USERS.replace("admin", "Ann Lee"), "jupyterhub_users.2: `Ann Lee` is no account that may have note"),
    (USERS, USERS.replace("debian", "root"), "jupyterhub_users.1: `root` is no account that may have notebooks"),
    (USERS, USERS.replace("debian", "12"), "jupyterhub_users.1: expected str, got int 12"),
    (ADMINS, ADMINS.replace("admin]", "admni]"), "jupyterhub_admins.2: `admni` is not in jupyterhub_users; did you mean"
                                                 " `admin`?"),
    (ADMINS, "    jupyterhub_bind_address: localhost\n", "jupyterhub_bind_address: 'localhost' does not appear to be"),
    (ADMINS, "    jupyterhub_port: 8081\n", "jupyterhub_port: 8081 is no port from 1 to 65535, or one of"),
    (ADMINS, "    jupyterhub_port: 0\n", "jupyterhub_port: 0 is no port"),
    ("release: trixie", "release: bookworm", "is for Debian 13, not for Debian 12"),
])
def test_notebooks_that_are_wrong(root: Path, old: str, new: str, complaint: str) -> None:
    edit(root, old, new, HUB)
    said = refused(root, HUB)
    assert said.startswith(f"{HUB}.yml:")
    assert said.partition(": ")[2].removeprefix("roles.jupyterhub").lstrip(".: ").startswith(complaint)


@pytest.mark.parametrize(("old", "new", "complaint"), [
    ("    cuda_source: wheels\n", "", "13: roles.cuda.cuda_variant: `jit` is for cuda_source: wheels only"),
    ("    frameworks_shared_environment: ml\n", "",
     "13: roles.cuda.cuda_source: with `wheels` the frameworks share CUDA's environment: set frameworks_shared"),
])
def test_wheels_of_cuda_have_one_place(root: Path, old: str, new: str, complaint: str) -> None:
    edit(root, old, new, "debian-13-ml")
    assert refused(root, "debian-13-ml").startswith(f"debian-13-ml.yml:{complaint}")


def test_null_is_a_value_where_it_is_the_default(root: Path) -> None:
    edit(root, "    nvidia_driver_source:", "    nvidia_driver_gsp_enabled: null\n    nvidia_driver_source:",
         "debian-13-ml")
    definition_file.load(root, definition_file.path_of(root, "debian-13-ml"))
    edit(root, "nvidia_driver_gsp_enabled: null", "nvidia_driver_gsp_enabled: 3", "debian-13-ml")
    assert refused(root, "debian-13-ml").endswith("nvidia_driver_gsp_enabled: expected bool, got int 3")


@pytest.mark.parametrize(("runtime", "disks", "complaint"), [
    ("docker", "docker", None), ("podman", "none", None),
    ("podman", "docker", "is `docker`, but the image's container engine is `podman`"),
    (None, "podman", "is `podman`, but the image's container engine is `none`"),
])
def test_the_engine_that_gets_the_local_disks(
    root: Path, runtime: str | None, disks: str, complaint: str | None,
) -> None:
    engine = f"  container_runtime:\n    container_runtime_engine: {runtime}\n" if runtime else ""
    edit(root, "  kernel:\n",
         f"{engine}  instance_store:\n    instance_store_container_engine: {disks}\n  kernel:\n")
    if complaint is None:
        assert "instance_store" in definition_file.load(root, definition_file.path_of(root, IMAGE)).roles
    else:
        assert refused(root).endswith(f"roles.instance_store.instance_store_container_engine: {complaint}")


NO_FABRIC_MANAGER = "joins its GPUs by NVSwitches, for which Debian has no fabric manager: CUDA would not start there"


@pytest.mark.parametrize("family", ["p4d", "p5"])
def test_gpus_behind_switches_need_a_fabric_manager(root: Path, family: str) -> None:
    image = "debian-12-ml-gpu-frameworks"
    edit(root, "[g4dn, g5,", f"[g4dn, {family},", image)
    assert refused(root, image) == f"{image}.yml:8: hardware.2: `{family}` {NO_FABRIC_MANAGER}"
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, definition_file.path_of(root, image))
    assert "nvidia_driver_source: nvidia and nvidia_driver_fabricmanager_enabled: true" in caught.value.hint
    edit(root, "nvidia_driver_source: debian", "nvidia_driver_source: nvidia", image)
    assert family in definition_file.load(root, definition_file.path_of(root, image)).hardware


def test_gpus_behind_switches_on_ubuntu(root: Path) -> None:
    image = "ubuntu-24.04-ml-gpu"
    edit(root, "    nvidia_driver_source: nvidia\n", "", image)
    assert "p5" in definition_file.load(root, definition_file.path_of(root, image)).hardware


EFA = "  kernel:\n    kernel_efa_enabled: true\n"


def test_efa_is_refused_where_no_kernel_has_its_driver(root: Path) -> None:
    """A family that has it (g5) needs it not: only who asks for it is refused."""
    assert "g5" in definition_file.load(root, definition_file.path_of(root, "debian-12-ml-gpu-frameworks")).hardware
    edit(root, "  kernel:\n", EFA, "debian-12-ml-gpu-frameworks")
    assert refused(root, "debian-12-ml-gpu-frameworks") == (
        "debian-12-ml-gpu-frameworks.yml:15: roles.kernel.kernel_efa_enabled: Debian's kernels have no EFA driver "
        "(CONFIG_INFINIBAND_EFA is not set)")
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, definition_file.path_of(root, "debian-12-ml-gpu-frameworks"))
    assert "take `distribution: ubuntu` with `kernel: aws`" in caught.value.hint


def test_efa_is_refused_where_no_size_has_one(root: Path) -> None:
    image = "ubuntu-24.04-ml-gpu"
    edit(root, "  kernel:\n", EFA, image)
    definition_file.load(root, definition_file.path_of(root, image))
    edit(root, "[g4dn, g5, g6, p4d, p5]", "[c5, m5]", image)
    assert refused(root, image).endswith("roles.kernel.kernel_efa_enabled: no size of c5, m5 has an EFA")


def test_a_family_of_another_architecture(root: Path) -> None:
    edit(root, "[c7i,", "[c7g,")
    assert refused(root) == f"{IMAGE}.yml:8: hardware.1: `c7g` is arm64, the image amd64"
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, definition_file.path_of(root, IMAGE))
    assert caught.value.hint == "images are made for amd64 only: take a family of that, such as m7i or g6"


def test_all_that_is_wrong_is_said_at_once(root: Path) -> None:
    """Whoever mends one line and starts again, for each of five, has waited five times."""
    for old, new in (("kernel: cloud", "kernal: cloud"), ("disk_size_gib: 4", "disk_size_gib: four")):
        edit(root, old, new)
    assert mistakes(root) == ["6: kernal: unknown key; did you mean `kernel`?",
                              "7: disk_size_gib: input should be a valid integer (got 'four')"]
    edit(root, "kernal: cloud", "kernel: cloud")
    for old, new in (("disk_size_gib: four", "disk_size_gib: 4"), ("release: trixie", "release: trixi"),
                     ("[c7i,", "[c7x, c7g,"), ("  limits:", "  limitss:"), ("[us-east-1,", "[us-esat-1,")):
        edit(root, old, new)
    assert mistakes(root, ["us-east-1", "us-west-2"]) == [
        "5: base.release: unknown release of debian `trixi`; did you mean `trixie`?",
        f"8: hardware.1: unknown family `c7x`; did you mean `c7i`?: {hardware.UNKNOWN}",
        "8: hardware.2: `c7g` is arm64, the image amd64: images are made for amd64 only: take a family of that, such "
        "as m7i or g6",
        "12: roles.limitss: unknown role; did you mean `limits`?",
        "19: publish.regions.1: unknown region `us-esat-1`; did you mean `us-east-1`?: a region newer than the pinned "
        "botocore needs a newer one in requirements/"]


def mistakes(root: Path, regions: list[str] | None = None) -> list[str]:
    """The lines of a definition with several mistakes, without the file's name."""
    path = definition_file.path_of(root, IMAGE)
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, path, regions)
    lines = caught.value.tail.splitlines()
    assert caught.value.message == f"{path} has {len(lines)} mistakes"
    return [line.removeprefix(f"{path}:") for line in lines]


@pytest.mark.parametrize(("content", "complaint"), [
    (b"", ":1: the file is empty"), (b"image: debian-13-ml-cpu\nbase: {distribution: deb", ":2: not valid YAML"),
    (b"image: \xff\n", ":1: not UTF-8 text"),
])
def test_a_file_that_is_no_definition(root: Path, content: bytes, complaint: str) -> None:
    (root / f"packer/images/{IMAGE}.yml").write_bytes(content)
    assert refused(root).startswith(f"{IMAGE}.yml{complaint}")


def test_an_image_that_does_not_exist(root: Path) -> None:
    assert refused(root, "debian-13-mls") == "no image `debian-13-mls`: did you mean `debian-13-ml`?"
    assert refused(root, "../hardware").startswith("IMAGE is a name and no file, but was `../hardware`: known: debian")
