"""What a machine says of itself against what its image declares: the program really runs,
differences are named."""

from __future__ import annotations

import base64
import json
import subprocess
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import BadInput, Unreachable
from goldenami.fleet.drift.disk import policy
from goldenami.fleet.drift.inside import expected, instance_program, running_check
from goldenami.fleet.drift.inside.expected import Running
from goldenami.fleet.drift.inside.running_check import Facts
from goldenami.local.reader.path_state import PathState
from goldenami.model.definitions import definition_file
from support.builds import builds
from support.builds.builds import IMAGE

RELEASE, GRUB = "6.1.0-cloud-amd64", expected.GRUB
TEXTS = {
    GRUB: "set timeout=0\nmenuentry x {\n  linux /vmlinuz root=UUID=1 ro quiet\n}\n",
    "/etc/sysctl.d/60-golden.conf": "# x\nvm.swappiness = 10\nnet.ipv4.tcp_rmem = 4096 131072  6291456\n",
    "/usr/lib/sysctl.d/50-default.conf": "kernel.sysrq = 0x01b6\n-net.none.x = 1\nvm.swappiness = 60\nnet.*.y = 1\n",
    instance_program.CONTAINERS: '[{"name": "docker.io/library/redis:7", "config": "c0ffee"}]',
    "/etc/systemd/system.conf.d/60-golden.conf": "[Manager]\nDefaultLimitNOFILE=1024:65536\nDefaultLimitMEMLOCK=64M\n",
}
MODULES = f"/usr/lib/modules/{RELEASE}/kernel/drivers"
SAID: dict[str, Any] = {
    "nonce": "n", "manifest_sha256": "m", "texts": TEXTS, "release": RELEASE,
    "command_line": "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet",
    "modules": [{"name": "nvme", "users": []}, {"name": "nvme_core", "users": ["nvme"]}],
    "wanted": ["nvme"],
    "sysctl": {"vm.swappiness": "10", "net.ipv4.tcp_rmem": "4096 131072 6291456",
               "kernel.sysrq": "438",
               "net.none.x": ""},
    "manager": {"NOFILE": "65536", "MEMLOCK": "67108864"},
    "services": [{"unit": "a.service", "limits": {"NOFILE": "65536", "MEMLOCK": "infinity"},
                  "actual": {"NOFILE": "1048576", "MEMLOCK": "unlimited"}}],
    "containers": {"docker.io/library/redis:7": "c0ffee"},
    "listeners": [{"port": "tcp/22", "address": "::", "program": "/usr/sbin/sshd",
                   "unit": "ssh.service"}],
    "mounts": [{"point": "/", "part": "/", "device": "8:1", "kind": "ext4", "source": "/dev/x"},
               {"point": "/run/user/1000", "part": "/", "device": "0:9", "kind": "tmpfs",
                "source": "tmpfs"}],
}
EVIL: dict[str, Any] = {"port": "tcp/4444", "address": "0.0.0.0", "program": "/tmp/x",
                        "unit": "x.service"}
OVER: dict[str, Any] = {"point": "/usr/sbin/sshd", "part": "/tmp/x", "device": "8:1",
                        "kind": "ext4",
                        "source": "/dev/x"}


def state(path: str, text: str = "") -> PathState:
    return PathState(path, "file", 0o644, 0, 0, len(text), records.sha256_text(text))


PATHS = {**{path: state(path, text) for path, text in TEXTS.items()},
         **{path: state(path) for path in (
             "/", f"/boot/vmlinuz-{RELEASE}", f"{MODULES}/nvme/nvme.ko.xz",
             f"{MODULES}/nvme/nvme-core.ko.xz",
             f"{MODULES}/net/dummy.ko.xz", "/usr/sbin/sshd")}}


def named(
    allowed: Callable[[str], str] = lambda _: "", paths: dict[str, PathState] = PATHS,
    declared: str = "",
    **changes: Any,
) -> list[str]:
    said = Facts.model_validate({**SAID, **changes})
    return [f"{row.kind} {row.name}: {row.what}"
            for row in running_check.compare(said, paths, Running.read(), allowed, declared)]


def test_a_machine_that_runs_what_is_declared_has_no_difference() -> None:
    assert named() == []


@pytest.mark.parametrize(("changes", "found"), [
    ({"modules": [*SAID["modules"], {"name": "dummy", "users": []}]}, "module dummy: is loaded"),
    ({"modules": [*SAID["modules"], {"name": "rootkit", "users": []}], "wanted": ["nvme", "rootkit"]},
     "module rootkit: is loaded"),
    ({"sysctl": {**SAID["sysctl"], "vm.swappiness": "60"}}, "sysctl vm.swappiness: is 60"),
    ({"manager": {**SAID["manager"], "NOFILE": "1024"}}, "limit DefaultLimitNOFILE: is 1024"),
    ({"services": [{"unit": "a.service", "limits": {"NOFILE": "9"}, "actual": {"NOFILE": "8"}}]},
     "limit NOFILE of a.service: is 8"),
    ({"listeners": [EVIL]}, "listener tcp/4444 on 0.0.0.0: /tmp/x of x.service listens"),
    ({"listeners": [{**SAID["listeners"][0], "program": "/tmp/x"}]},
     "listener tcp/22 on ::: /tmp/x of ssh.service listens"),
    ({"listeners": [{**EVIL, "program": "", "unit": ""}]},
     "listener tcp/4444 on 0.0.0.0: nobody known of no unit listens"),
    ({"mounts": [*SAID["mounts"], OVER]}, "mount /usr/sbin/sshd: /tmp/x of /dev/x (ext4) is mounted over it"),
    ({"mounts": [SAID["mounts"][0]] * 2}, "mount /: / of /dev/x (ext4) is mounted over it"),
    ({"command_line": "root=UUID=1 ro init=/bin/sh"},
     "command line /proc/cmdline: added: init=/bin/sh; missing: quiet"),
    ({"texts": {**TEXTS, "/etc/sysctl.d/60-golden.conf": ""}},
     "declaration /etc/sysctl.d/60-golden.conf: the file is not as baked"),
    ({"texts": {path: text for path, text in TEXTS.items() if "grub" not in path}},
     "declaration /boot/grub/grub.cfg: the file is not as baked"),
    ({"containers": {"docker.io/library/redis:7": "bad"}},
     "container docker.io/library/redis:7: is bad"),
    ({"containers": {"docker.io/library/redis:7": ""}},
     "container docker.io/library/redis:7: is not in the engine"),
])
def test_each_difference_is_named(changes: dict[str, Any], found: str) -> None:
    assert found in named(**changes)


def test_a_folder_bound_over_itself_hides_nothing_and_one_of_another_disk_does() -> None:
    itself = {**OVER, "part": OVER["point"]}
    assert named(mounts=[SAID["mounts"][0], itself]) == []
    assert named(mounts=[SAID["mounts"][0], {**itself, "device": "8:2", "source": "/dev/y"}]) == [
        "mount /usr/sbin/sshd: /usr/sbin/sshd of /dev/y (ext4) is mounted over it"]


def test_another_kernel_and_its_modules_are_named() -> None:
    assert named(release="6.6.6") == ["kernel 6.6.6: runs", "module nvme: is loaded",
                                      "module nvme_core: is loaded"]


def test_a_definition_allows_a_port_until_a_day(tmp_path: Path) -> None:
    root = builds.copy_definitions(tmp_path)
    path = definition_file.path_of(root, IMAGE)
    with path.open("a", encoding="utf-8") as text:
        text.write("drift:\n  listen:\n  - {port: tcp/4444, reason: our model server, until: "
                   "2027-01-31}\n")
    definition = definition_file.load(root, path)
    assert named(policy.allowed_ports(definition, date(2027, 1, 31)), listeners=[EVIL]) == []
    with pytest.raises(BadInput,
                       match=r"listen\.1\.until: tcp/4444 was allowed to be heard until 2027-01-31"):
        policy.allowed_ports(definition, date(2027, 2, 1))


def test_an_immutable_image_declares_what_lies_over_its_root() -> None:
    text = "# x\noverlay /etc\nplain /var/lib/docker\n"
    paths = {**PATHS, **{path: state(path, text) for path in (
        expected.PERSISTENT, "/etc", "/etc/apt", "/var/lib/docker")}}
    over = [{"point": "/etc", "part": "/", "device": "0:5", "kind": "overlay", "source": "overlay"},
            {"point": "/var/lib/docker", "part": "/plain/var/lib/docker", "device": "8:2",
             "kind": "ext4",
             "source": "/dev/x"}]
    bound = {"point": "/etc/apt", "part": "/apt", "device": "0:5", "kind": "overlay",
             "source": "overlay"}

    def found(texts: dict[str, str], *mounts: dict[str, str]) -> list[str]:
        said = named(paths=paths, texts=texts, mounts=[SAID["mounts"][0], *mounts])
        return [line.partition(":")[0] for line in said]

    declared = {**TEXTS, expected.PERSISTENT: text}
    assert found(declared, *over) == []
    assert found(declared, *over, bound) == [], "a folder bound over itself"
    for other in ({**bound, "device": "0:6"}, {**bound, "part": "/cron.d"}):  # another overlay's
        assert found(declared, *over, other) == ["mount /etc/apt"]
    assert found(declared, {**over[1], "part": "/plain/etc"}) == ["mount /var/lib/docker"]
    assert found(TEXTS, *over) == [f"declaration {expected.PERSISTENT}", "mount /etc",
                                   "mount /var/lib/docker"]


def test_the_command_line_of_an_immutable_image_is_in_its_manifest() -> None:
    """Its menu is on the EFI partition; what a grub.cfg of the root says is not what boots it."""
    declared = "root=/dev/mapper/root golden.hash=ab ro"
    right = f"BOOT_IMAGE=/vmlinuz {declared}"
    assert named(declared=declared, command_line=right) == []
    assert named(declared=declared, command_line=right.replace("=ab", "=cd")) == [
        "command line /proc/cmdline: added: golden.hash=cd; missing: golden.hash=ab"]


def test_a_menu_of_several_entries_boots_the_first() -> None:
    menu = f"{TEXTS[GRUB]}menuentry y {{\n  linux /vmlinuz root=UUID=1 ro single\n}}\n"
    paths, texts = {**PATHS, GRUB: state(GRUB, menu)}, {**TEXTS, GRUB: menu}
    assert named(paths=paths, texts=texts) == []
    assert named(paths=paths, texts=texts, command_line="root=UUID=1 ro single") == [
        "command line /proc/cmdline: added: single; missing: quiet"]


# --- the question and its answer --------------------------------------------------------------------------------------

ASKED = {"nonce": "n", "manifest_sha256": "m", "files": sorted(TEXTS)}


def test_the_program_runs_as_it_is_sent_and_leaves_nothing(tmp_path: Path) -> None:
    said = subprocess.run(["sh", "-c", f"echo welcome; {running_check.command(ASKED)}"],
                          capture_output=True, text=True,
                          cwd=tmp_path, check=True).stdout
    answer = running_check.read(said, ASKED)
    assert (answer.texts.keys(), answer.release) == (TEXTS.keys(),
                                                     Path("/proc/sys/kernel/osrelease").read_text(
                                                         encoding="utf-8").strip())
    assert any(mount.point == "/proc" and mount.kind == "proc" for mount in answer.mounts)
    assert list(tmp_path.iterdir()) == []


def line(said: Any) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(said).encode())).decode()
    return instance_program.MARK + packed


@pytest.mark.parametrize(("said", "cause"), [
    ("", "no answer"), ("Permission denied", "no answer"), (f"{line(SAID)}\n{line(SAID)}", "more than one answer"),
    (line(SAID)[:-20], "is broken"), (f"{instance_program.MARK}x", "is broken"), (line({"nonce": "n"}), "is broken"),
    (line({**SAID, "modules": [{"name": 1, "users": []}]}), "is broken"),
    (line({**SAID, "nonce": "o"}), "another question"), (line({**SAID, "manifest_sha256": "o"}), "another question"),
])
def test_what_is_no_answer_to_this_question_is_no_look(said: str, cause: str) -> None:
    with pytest.raises(Unreachable, match=cause):
        running_check.read(said, ASKED)


def test_files_count_in_the_order_of_their_names_wherever_they_are() -> None:
    assert expected.limits({"/etc/systemd/system.conf.d/60.conf": "DefaultLimitCORE=0\n",
                            "/usr/lib/systemd/system.conf.d/10.conf": "DefaultLimitCORE=0:infinity\n"}) == {"CORE": "0"}
    assert expected.sysctls({"/etc/sysctl.d/60.conf": "x=1", "/usr/lib/sysctl.d/99-a.conf": "x=2",
                             "/etc/sysctl.conf": "x=3"}) == {"x": "3"}
