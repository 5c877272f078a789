"""Image definitions that are wrong, each with its line, and what they may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.definitions import definition, definition_file
from goldenami.model.roles import role_order
from goldenami.model.supported import hardware
from support import trees
from support.builds.definitions import (
    IMAGE,
    PINNED,
    edit,
    edited,
    load,
    refused,
    with_variable,
    write_pinned,
)

FRAMEWORKS = "debian-13-ml-frameworks"
GPU = PINNED
HUB = "debian-13-jupyterhub"
UBUNTU = "ubuntu-24.04-ml-gpu"


@pytest.fixture(scope="module")
def shared(lockable: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout for all cases that put back what they edit."""
    root = lockable(tmp_path_factory.mktemp("definitions") / "checkout")
    write_pinned(root)
    return root


def test_every_definition_of_the_checkout_is_good(shared: Path) -> None:
    for path in trees.scanned(8, shared, "packer/images/*.yml"):
        found = definition_file.load(shared, path)
        named = {*found.roles, *([definition.IMMUTABLE] if found.immutable else [])}
        assert found.role_names == [role for role in role_order.ROLE_ORDER if role in named]
        assert found.role_names[-1] == "seal"


def test_an_image_has_no_role_s_name(root: Path) -> None:
    path = definition_file.path_of(root, IMAGE)
    text = path.read_text(encoding="utf-8").replace(f"image: {IMAGE}", "image: limits")
    path.with_name("limits.yml").write_text(text, encoding="utf-8")
    assert refused(root, "limits").startswith("limits.yml:1: image: is a role's name, too")


AGENT = (
    f"  - {{name: agent, source: {{url: 'https://localhost/a.tar.gz', sha256: '{'0' * 64}'}}}}\n"
)
FAMILIES = "[c7i, m7i, c7a, m7a]"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("hardware:", "hardwear:", "8: hardwear: unknown key; did you mean `hardware`?"),
        ("  distribution: debian\n", "", "3: base.distribution: is required and missing"),
        (
            "disk_size_gib: 4",
            'disk_size_gib: "4"',
            "7: disk_size_gib: input should be a valid integer (got '4'); take the quotes away",
        ),
        (
            "release: trixie",
            "release: 12",
            '5: base.release: input should be a valid string (got 12); put it in quotes: "12"',
        ),
        (
            "release: trixie",
            "release: noble",
            "5: base.release: unknown release of debian `noble`; ",
        ),
        (
            "roles:",
            "drift: {listen: [9100]}\nroles:",
            "9: drift: `listen` stands beside `roles`, with `port` and `unit` of each row",
        ),
        (
            "roles:",
            "listen: [{port: 9100, unit: agent, addresses: [localhost]}]\nroles:",
            "9: listen.1.unit: string should match pattern",
        ),
        (
            "roles:",
            "listen: [{port: 9100, unit: a.service, addresses: [localhost]}]\nroles:",
            "9: listen.1.addresses.1: `localhost` is no IP address, such as 127.0.0.1",
        ),
        (FAMILIES, "[c7i, m7j]", "8: hardware.2: unknown family `m7j`; did you mean `m7i`?"),
        (FAMILIES, "[c7g]", "8: hardware.1: `c7g` is arm64, the image amd64"),
        (
            "  network_tuning:",
            "  network_tunning:",
            "13: roles.network_tunning: unknown role; did you mean `network_tuning`?",
        ),
        ("  seal:\n", "", "9: roles: `seal` is missing"),
        ("  limits:", "  immutable:", "12: roles.immutable: is no role to list"),
        (
            "distribution: debian\n  release: trixie\n",
            "distribution: ubuntu\n  release: noble\nimmutable: true\n",
            "6: immutable: is for Debian 13, not for Ubuntu 24",
        ),
        (
            f"image: {IMAGE}",
            f"image: {IMAGE}\nkernel_modules: [{{name: a1, packages: x}}]",
            "2: kernel_modules.1.packages: unknown key; did you mean `package`?",
        ),
        (
            f"image: {IMAGE}",
            f"image: {IMAGE}\nkernel_modules: [{{name: a1}}]",
            "2: kernel_modules.1: wants `package` or `source`, one of them",
        ),
        (
            f"image: {IMAGE}",
            f"image: {IMAGE}\nkernel_modules:\n{2 * AGENT}",
            "4: kernel_modules.2.name: `agent` is taken",
        ),
        (
            f"image: {IMAGE}",
            "image: other",
            f"1: image: is `other` but the file is named `{IMAGE}`",
        ),
    ],
)
def test_a_definition_that_is_wrong(shared: Path, old: str, new: str, complaint: str) -> None:
    with edited(shared, old, new):
        assert refused(shared).startswith(f"{IMAGE}.yml:{complaint}")


@pytest.mark.parametrize(
    ("variable", "complaint"),
    [
        ("limits_nofiles: 5", "unknown role variable; did you mean `limits_nofile`?"),
        ("limits_nofile: '5000'", "input should be a valid integer (got '5000'); take the quotes"),
        ("limits_memlock: 64", 'input should be a valid string (got 64); put it in quotes: "64"'),
        ("limits_nofile:", "input should be a valid integer (got None)"),
        (
            "network_tuning_transparent_hugepage: alway",
            "input should be 'always', 'madvise' or 'never'",
        ),
        ("kernel_release: x", "is derived by `lock` and cannot be set"),
        ("os_updates_extra_packages: htop", "input should be a valid list (got 'htop')"),
        ("os_updates_extra_packages: [htop, 5]", "2: input should be a valid string (got 5)"),
        # What the role's own preflight tasks would refuse in the middle of a bake.
        ("limits_nofile: 1023", "is `1023`: it has to be from 1024 to 1048576"),
        (
            "network_tuning_sysctl: {net.core.default_qdisc: fq_codel}",
            "sets net.core.default_qdisc to `fq_codel`, and net.ipv4.tcp_congestion_control is",
        ),
        ("kernel_cmdline: [a=b c]", "has to have plain words such as `hugepages=64`"),
        ("kernel_cmdline: [root=/dev/sda]", "has to have plain words such as"),
        ("first_touch_depth: 257", "is `257`: it has to be between 1 and 256"),
        ("fast_boot_cpu_weight: 0", "is 0, not 1 to 10000"),
        ("hardening_passwords_min_length: 7", "is `7`: it has to be at least"),
        ("container_runtime_log_max_files: 0", "is `0`: it has to"),
        ("golden_health_minutes: 4", "is `4`: it has to be at least 5"),
        ('instance_store_mode: "888"', "is `888`: it has to be three or four octal"),
        (
            "instance_store_container_engine: docker",
            "is `docker`: the image's container engine is `none`; set it to that",
        ),
    ],
)
def test_a_role_variable_that_is_wrong(shared: Path, variable: str, complaint: str) -> None:
    role = next(role for role in role_order.ROLE_ORDER if variable.startswith(f"{role}_"))
    text = definition_file.path_of(shared, IMAGE).read_text(encoding="utf-8")
    with edited(shared, *with_variable(role, variable, text)):
        _, _, said = refused(shared).partition(f": roles.{role}.{variable.partition(':')[0]}")
    assert said[2 if said.startswith(": ") else 1 :].startswith(complaint)


def test_a_kernel_parameter_that_hardening_sets_after_it(shared: Path) -> None:
    said = "network_tuning_sysctl: {vm.swappiness: 1, kernel.panic: 5}"
    text = definition_file.path_of(shared, IMAGE).read_text(encoding="utf-8")
    with edited(shared, *with_variable("network_tuning", said, text)):
        load(shared)
        with edited(shared, "  limits:\n", "  hardening:\n  limits:\n"):
            assert refused(shared).endswith(
                ": roles.network_tuning.network_tuning_sysctl: is `kernel.panic`: this role sets "
                "them after it; write them in `hardening_sysctl`"
            )


REGIONS = "  regions: [us-east-1, us-west-2]"


@pytest.mark.parametrize(
    ("new", "complaint"),
    [
        ("  regions: [us-east-1, us-east-1]", "regions.2: `us-east-1` is given twice"),
        ("kms_key: alias/aws/ebs", "kms_key: AWS manages that key"),
        (
            "launch_template:\n    iop: 4000",
            "launch_template.iop: unknown key; did you mean `iops`?",
        ),
        (
            "launch_template: {throughput: 1000}",
            "launch_template.throughput: gp3 gives 1 MiB/s for 4 IOPS: 1000 MiB/s need 4000",
        ),
        (
            "launch_template: {volume_size_gib: 3}",
            "launch_template.volume_size_gib: 3 GiB cannot hold the disk of 4",
        ),
        (
            "launch_template: {instance_type: c7j.large}",
            "launch_template.instance_type: `c7j` is not in `hardware`; did you mean `c7",
        ),
        (
            "launch_template: {instance_type: c7i.metal-24xl}",
            "launch_template.instance_type: EC2 would not launch the image on `c7i.metal-24xl`",
        ),
        (
            "launch_template: {security_groups: [web, sg-0a]}",
            "launch_template.security_groups.2: `sg-0a` is of one region",
        ),
        ("tags: {'goldenami:image': x}", "tags.goldenami:image: AWS or goldenami sets such tags"),
        ("tags: {'goldenami:selftest': x}", "tags.goldenami:selftest: AWS or goldenami sets such"),
        ("tags: {'AWS:x': x}", "tags.AWS:x: AWS or goldenami sets such tags"),
        (f"tags: {{{'k' * 128}: x}}", f"tags.{'k' * 128}"),
        (f"tags: {{k: {'v' * 256}}}", "tags.k: "),
        (
            "tags: {cost center: x}\n  launch_template: {metadata_options: {instance_tags: true}}",
            "tags.cost center: `instance_tags` tells it, and then EC2 takes letters",
        ),
    ],
)
def test_a_publish_section_that_is_wrong(shared: Path, new: str, complaint: str) -> None:
    added = new if new.startswith(" ") else f"{REGIONS}\n  {new}"
    with edited(shared, REGIONS, added):
        assert f": publish.{complaint}" in refused(shared)


@pytest.mark.parametrize("wanted", ["key", "../../../../../../../../etc/passwd", "link.sh"])
def test_user_data_is_of_the_repository(root: Path, tmp_path: Path, wanted: str) -> None:
    """It goes to AWS, where every instance reads it: no key of the machine that publishes."""
    (outside := tmp_path / "key").write_text("secret\n", encoding="utf-8")
    (root / "packer/link.sh").symlink_to(outside)
    name = {"key": str(outside), "link.sh": "packer/link.sh"}.get(wanted, wanted)
    edit(root, REGIONS, f"{REGIONS}\n  launch_template: {{user_data_file: {name}}}")
    assert f"user_data_file: `{name}` is no file of this repository" in refused(root)


@pytest.mark.parametrize("text", ["Bücher, ", "'' #", "x" * 255, ">\n  "])
def test_a_description_that_ec2_refuses(shared: Path, text: str) -> None:
    """Whether or not the image is published: the description is in its lock."""
    with edited(shared, f"publish:\n{REGIONS}\n", ""):
        assert load(shared).publish is None
        with edited(shared, "description: ", f"description: {text}"):
            assert ": description: EC2 takes one line of 1 to 255 ASCII" in refused(shared)


def test_newer_names_of_regions_are_taken(shared: Path) -> None:
    with edited(shared, REGIONS, "  regions: [eusc-de-east-1]"):
        assert load(shared).regions == ["eusc-de-east-1"]


def test_user_data_has_a_limit_and_is_found_from_anywhere(root: Path) -> None:
    edit(root, REGIONS, f"{REGIONS}\n  launch_template: {{user_data_file: packer/start.sh}}")
    path = root / "packer/start.sh"
    path.write_text("#" * (16 * 1024 + 1), encoding="utf-8")
    assert "packer/start.sh has 16385 bytes, EC2 takes 16384" in refused(root)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    found = load(root).publish
    assert found is not None and found.launch_template.user_data_file == str(path)


CONTAINERS = (
    "  container_runtime:\n    container_runtime_engine: {}\n    container_runtime_gpu_source: {}\n"
).format
DISKS = "  instance_store:\n    instance_store_container_engine: {}\n".format
USERS = "    jupyterhub_users: [debian, admin]\n"
ADMINS = "    jupyterhub_admins: [debian, admin]\n"
CLUSTER = (
    "    jupyterhub_spawner: {}\n    jupyterhub_cluster_image: {}\n"
    "    jupyterhub_cluster_types: {}\n    jupyterhub_cluster_home_gib: {}\n"
).format
WARM = "    jupyterhub_cluster_warm: {}\n".format
SHARED = "  frameworks:\n    frameworks_shared_environment: {}\n".format
EFA = "  kernel:\n    kernel_efa_enabled: true\n"


@pytest.mark.parametrize(
    ("image", "old", "new", "complaint"),
    [
        (
            FRAMEWORKS,
            "[numpy, hnswlib,",
            "[numpy, hnswlibb,",
            "9: frameworks.2: unknown framework `hnswlibb`; did you mean",
        ),
        (
            FRAMEWORKS,
            "[numpy, hnswlib,",
            "[numpy, numpy,",
            "9: frameworks.2: `numpy` is given twice",
        ),
        (
            FRAMEWORKS,
            "  frameworks:\n",
            "",
            "9: frameworks: the list `frameworks` and the role `frameworks` need each other",
        ),
        (
            FRAMEWORKS,
            "frameworks: [numpy, hnswlib, llama-cpp-python, lightgbm, xgboost]\n",
            "",
            "1: frameworks: the list `frameworks` and the role `frameworks` need each other",
        ),
        *(
            (
                FRAMEWORKS,
                "  frameworks:\n",
                SHARED(name),
                f"frameworks_shared_environment: or a framework is named `{name}`, "
                "which is no name",
            )
            for name in ("My Env", "../x", "bin", "model")
        ),
        (
            IMAGE,
            "  kernel:\n",
            f"{CONTAINERS('podman', 'debian')}  kernel:\n",
            "is `debian`: it gives containers GPUs, but the image has no driver; add the role",
        ),
        (
            GPU,
            "  kernel:\n",
            f"{CONTAINERS('podman', 'none')}{DISKS('docker')}  kernel:\n",
            "is `docker`: the image's container engine is `podman`",
        ),
        (HUB, USERS, "", "is `[]`: name the accounts that may log in"),
        (
            HUB,
            USERS,
            USERS.replace("admin", "Ann Lee"),
            "jupyterhub_users: is `Ann Lee`: no account that may have note",
        ),
        (
            HUB,
            ADMINS,
            ADMINS.replace("admin]", "admni]"),
            "jupyterhub_admins: is `admni`: not in jupyterhub_users, which has debian, admin",
        ),
        (HUB, ADMINS, "    jupyterhub_bind_address: localhost\n", "is `localhost`: it has to be"),
        *(
            (HUB, ADMINS, CLUSTER(*values), complaint)
            for values, complaint in (
                (("clusters", HUB, "[g6.xlarge]", 20), "or 'cluster' (got 'clusters')"),
                (("cluster", '""', "[g6.xlarge]", 20), "is ``: name the image that servers run on"),
                (("cluster", HUB, "[]", 20), "is ``: name the instance types to choose from"),
                (("cluster", HUB, "[g6]", 20), "is `g6`: name the instance types to choose from"),
                (("cluster", HUB, "[g6.xlarge]", 0), "is `0`: a volume has 1 to 16384 GiB"),
            )
        ),
        *(
            (HUB, ADMINS, CLUSTER("cluster", HUB, "[g6.xlarge]", 20) + WARM(warm), complaint)
            for warm, complaint in (
                ("{g5.xlarge: 1}", "is `{'g5.xlarge': 1}`: name a number for types of jupyter"),
                ("{g6.xlarge: many}", "is `{'g6.xlarge': 'many'}`: name a number for types"),
            )
        ),
        (
            HUB,
            "distribution: debian\n  release: trixie\n",
            "distribution: ubuntu\n  release: noble\n",
            "is for Debian 13, not for Ubuntu 24",
        ),
        (
            "debian-13-ml",
            "    cuda_source: wheels\n",
            "",
            "14: roles.cuda.cuda_variant: is `jit`, which is for cuda_source: wheels only",
        ),
        (
            HUB,
            "    frameworks_shared_environment: ml\n",
            "",
            "13: roles.cuda.cuda_source: is `wheels`, with which the frameworks share CUDA's",
        ),
        (
            "debian-13-ml",
            "    nvidia_driver_source:",
            "    nvidia_driver_gsp_enabled: 3\n    nvidia_driver_source:",
            "input should be a valid boolean",
        ),
        (
            GPU,
            "[g4dn, g5,",
            "[g4dn, p4d,",
            "8: hardware: has no fabric manager for the NVSwitches of `p4d`",
        ),
        (
            "debian-13-nvidia",
            "[g5, g6,",
            "[g5, p5,",
            "8: hardware: has no fabric manager for the NVSwitches of `p5`",
        ),
        (
            UBUNTU,
            "nvidia_driver_fabricmanager_enabled: true",
            "nvidia_driver_fabricmanager_enabled: false",
            "12: hardware: has no fabric manager for the NVSwitches of `p4d`, `p5`",
        ),
        (GPU, "  kernel:\n", EFA, "kernel_efa_enabled: is true, but Debian's kernels have no EFA"),
    ],
)
def test_parts_that_do_not_go_together(
    shared: Path,
    image: str,
    old: str,
    new: str,
    complaint: str,
) -> None:
    with edited(shared, old, new, image):
        said = refused(shared, image)
    assert said.startswith(f"{image}.yml:") and complaint in said


@pytest.mark.parametrize(
    ("image", "old", "new"),
    [
        (FRAMEWORKS, "  frameworks:\n", SHARED("ml-2.1")),
        (FRAMEWORKS, "  frameworks:\n", SHARED('""')),
        (IMAGE, "  kernel:\n", f"{CONTAINERS('docker', 'none')}  kernel:\n"),
        (GPU, "  kernel:\n", f"{CONTAINERS('podman', 'debian')}{DISKS('podman')}  kernel:\n"),
        (HUB, CONTAINERS("docker", "debian"), CONTAINERS("docker", "nvidia")),
        (
            "debian-13-ml",
            "    nvidia_driver_source:",
            "    nvidia_driver_gsp_enabled: null\n    nvidia_driver_source:",
        ),
        ("debian-13-ml", "flavour: any", "flavour: proprietary"),
        (UBUNTU, "    nvidia_driver_source: nvidia\n", ""),
        (UBUNTU, "  kernel:\n", EFA),
        (IMAGE, "  limits:\n", "  limits:\n    limits_nofile: 1048576\n    limits_memlock: '64'\n"),
        (
            IMAGE,
            REGIONS,
            f"{REGIONS}\n  soak_hours: 24\n"
            "  launch_template: {throughput: 500, iops: 6000}\n"
            "  instance_refresh: {groups: [web], checkpoint_percent: 20, alarms: [errors]}",
        ),
    ],
)
def test_what_may_be_said(shared: Path, image: str, old: str, new: str) -> None:
    with edited(shared, old, new, image):
        assert load(shared, image).image == image


def test_efa_is_refused_where_no_size_has_one(root: Path) -> None:
    edit(root, "  kernel:\n", EFA, UBUNTU)
    edit(root, "[g4dn, g5, g6, p4d, p5]", "[c5, m5]", UBUNTU)
    assert "kernel_efa_enabled: is true, but no size of c5, m5 has an" in refused(root, UBUNTU)


def test_all_that_is_wrong_is_said_at_once(root: Path) -> None:
    """Whoever mends one line and starts again, for each of five, has waited five times."""
    for old, new in (
        ("kernel: cloud", "kernal: cloud"),
        ("disk_size_gib: 4", "disk_size_gib: four"),
    ):
        edit(root, old, new)
    assert mistakes(root) == [
        "6: kernal: unknown key; did you mean `kernel`?",
        "7: disk_size_gib: input should be a valid integer (got 'four')",
    ]
    edit(root, "kernal: cloud", "kernel: cloud")
    for old, new in (
        ("disk_size_gib: four", "disk_size_gib: 4"),
        ("release: trixie", "release: trixi"),
        ("[c7i,", "[c7x,"),
        ("  limits:", "  limitss:"),
        ("[us-east-1,", "[us-esat-1,"),
    ):
        edit(root, old, new)
    assert mistakes(root, ["us-east-1", "us-west-2"]) == [
        "5: base.release: unknown release of debian `trixi`; did you mean `trixie`?",
        f"8: hardware.1: unknown family `c7x`; did you mean `c7i`?: {hardware.UNKNOWN}",
        "12: roles.limitss: unknown role; did you mean `limits`?",
        "19: publish.regions.1: unknown region `us-esat-1`; did you mean `us-east-1`?: a region "
        "newer than the pinned botocore needs a newer one in requirements/",
    ]


def mistakes(root: Path, regions: list[str] | None = None) -> list[str]:
    """The lines of a definition with several mistakes, without the file's name."""
    path = definition_file.path_of(root, IMAGE)
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, path, regions)
    lines = caught.value.tail.splitlines()
    assert caught.value.message == f"{path} has {len(lines)} mistakes"
    return [line.removeprefix(f"{path}:") for line in lines]
