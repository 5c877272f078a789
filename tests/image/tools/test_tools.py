"""Each group's commands answer where the group is asked for, and are not there where it is not."""

from __future__ import annotations

from typing import Any

import pytest

COMMANDS: dict[str, dict[str, str]] = {
    "shell": {
        "bash-completion": "bash -c '. /usr/share/bash-completion/bash_completion && "
        "complete -p -D'",
        "htop": "htop --version",
        "jq": "echo '{\"a\": 7}' | jq -e '.a == 7'",
        "rsync": "rsync --version",
        "tmux": "tmux -V",
        "unzip": "unzip -v",
        "wget": "wget --version",
        "vim": "vi --version",
        "tree": "tree --version",
        "lsof": "lsof -v",
        "make": "make --version",
        "screen": "screen --version",
        "strace": "strace --version",
        "zsh": "zsh -lc golden-no-such 2>&1 | grep customize_packages",
        "nowhere": "bash -lc golden-no-such 2>&1 | grep customize_packages",
    },
    "git": {
        "git": "cd $(mktemp -d) && git init -q . && "
        "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x",
        "git-lfs": "git lfs version",
    },
    "aws": {"aws": "aws --version", "ec2-metadata": "command -v ec2-metadata"},
    "vim": {"syntax": "ls /usr/share/vim/vim*/syntax/python.vim"},
    "gpu": {"nvtop": "nvtop --version"},
    "diagnostics": {
        "dig": "dig -v",
        "ethtool": "ethtool --version",
        "gdb": "gdb --version",
        "iostat": "iostat -V",
        "iperf3": "iperf3 --version",
        "numactl": "command -v numactl",
    },
    "compiler": {
        "compiler": "cd $(mktemp -d) && echo 'int main(void) { return 7; }' > a.c && "
        "cc -o a a.c && ./a; test $? = 7",
        "headers": "python3-config --includes",
        "cmake": "cmake --version",
    },
    "shared_file_systems": {"nfs": "command -v mount.nfs4"},
}
"""Group -> what is asked for -> a command that works without rights, network or GPU."""
NOT_IN_UBUNTU = {"aws"}
NOBODY_S_DEPENDENCY = {"aws", "nvtop"}
"""Only their groups bring them; a compiler, say, also comes with CUDA's toolkit."""


@pytest.mark.no_boot
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in COMMANDS for name in COMMANDS[group]]
)
def test_command_is_there_where_its_group_is(
    user: Any, lock: dict[str, Any], group: str, name: str
) -> None:
    ran = user.run(f"export PATH=$PATH:/usr/sbin:/sbin; {COMMANDS[group][name]}")
    ubuntu = user.system_info.distribution == "ubuntu"
    if lock[f"tools_{group}_enabled"] and not (ubuntu and name in NOT_IN_UBUNTU):
        assert ran.succeeded, ran.stdout + ran.stderr
    elif name in NOBODY_S_DEPENDENCY:
        assert ran.failed, "there, and not asked for"


@pytest.mark.usefixtures("needs_boot")
def test_a_user_s_own_units_run(user: Any, lock: dict[str, Any]) -> None:
    """By the user's bus, which a login starts."""
    if not lock["tools_shell_enabled"]:
        pytest.skip("not asked: tools_shell_enabled is false")
    ran = user.run("systemd-run --user --quiet --wait --collect true")
    assert ran.succeeded, ran.stderr


def test_no_tool_listens_or_failed(host: Any, needs_boot: None) -> None:
    """sysstat collects nothing unless it is asked to, and rpcbind's port would be open to the
    network."""
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
    assert host.check_output("ss -Hlntu sport = :111") == ""
    assert not host.service("sysstat-collect.timer").is_running
