"""New locks as a branch on a server, with the push options by which GitLab opens a merge request.

https://docs.gitlab.com/topics/git/commit/#push-options-for-merge-requests
"""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.web_address import without_login

BRANCH = "golden/watch"
SUBJECT = "packer: Lock what `make watch` found"
URL = "GOLDEN_PUSH_URL"
"""Environment variable with the address to push to, its token included; else the remote
`origin`."""


def changed(root: Path, ref: str) -> set[str]:
    """Names of the images whose lock differs from that of the commit `ref`, or is not in it;
    BadInput where the clone has no such commit."""
    try:
        shell.output(["git", "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}"], cwd=root)
    except (
        shell.CommandFailed
    ) as error:  # its words, if any, are of another cause: a clone that git does not trust
        raise BadInput(
            f"there is no commit `{ref}` in this clone",
            tail=error.tail,
            hint="correct CHANGED, or fetch it: a shallow clone has the newest alone",
        ) from None
    text = shell.output(["git", "diff", "--name-only", ref, "--", "packer/locks"], cwd=root)
    text += shell.output(
        ["git", "ls-files", "--others", "--exclude-standard", "--", "packer/locks"], cwd=root
    )
    return {
        Path(line).name.removesuffix(".lock.json")
        for line in text.splitlines()
        if line.endswith(".lock.json")
    }


def files(root: Path) -> list[str]:
    """The changed files below packer/."""
    text = shell.output(
        ["git", "status", "--porcelain", "--untracked-files=all", "--", "packer"], cwd=root
    )
    return sorted(line[3:] for line in text.splitlines())


def commit(root: Path, changes: list[str], summary: str) -> None:
    """Commit the files on the branch, which the working tree stays on."""
    identity = ["-c", "user.name=golden watch", "-c", "user.email=golden@localhost"]
    shell.output(["git", "switch", "--quiet", "--force-create", BRANCH], cwd=root)
    shell.output(["git", "add", "--", *changes], cwd=root)
    argv = ["git", *identity, "commit", "--quiet", "--cleanup=verbatim", "--file=-"]
    shell.Command(argv, cwd=root).output(stdin=f"{SUBJECT}\n\n{summary}")


def push(root: Path, url: str, *, target: str, title: str) -> None:
    """Push the branch over an earlier one, to be merged into `target`."""
    options = [
        "merge_request.create",
        f"merge_request.target={target}",
        f"merge_request.title={' '.join(title.split())}",
        "merge_request.remove_source_branch",
    ]
    address, token = _without_token(url or "origin")
    argv = [
        "git",
        "push",
        "--force",
        *(f"--push-option={option}" for option in options),
        address,
        f"HEAD:refs/heads/{BRANCH}",
    ]
    try:
        shell.output(argv, cwd=root, env=token)
    except shell.CommandFailed as error:
        # git's own words name the server without name and token
        raise StageFailed(
            f"the branch {BRANCH} could not be pushed",
            tail=error.tail,
            hint=f"check {URL}: does its token have the scope write_repository?",
        ) from None


def _without_token(url: str) -> tuple[str, dict[str, str]]:
    """The address for a command line, which every user of this machine may read; and what gives git
    its login.

    https://git-scm.com/docs/git-config#ENVIRONMENT
    """
    address, login = without_login(url)
    given = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return address, {
        "GIT_CONFIG_COUNT": str(given + 1),
        f"GIT_CONFIG_KEY_{given}": "http.extraHeader",
        f"GIT_CONFIG_VALUE_{given}": f"Authorization: {login}",
        "GIT_TERMINAL_PROMPT": "0",
    } if login else {}
