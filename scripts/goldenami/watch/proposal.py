"""Push new locks as a branch, with the push options by which GitLab opens a merge request.

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
"""Environment variable with the address to push to, including its token. Without it, the remote
`origin` is used."""


def changed(root: Path, ref: str) -> set[str]:
    """Return the names of images whose lock differs from that of the commit `ref`, or is not in it.
    Raises BadInput if the clone has no such commit."""
    try:
        shell.output(["git", "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}"], cwd=root)
    # Git says nothing about a missing commit; its output is of another cause, as of a clone that it
    # does not trust.
    except shell.CommandFailed as error:
        raise BadInput(
            f"there is no commit `{ref}` in this clone",
            tail=error.tail,
            hint="correct CHANGED, or fetch it: a shallow clone has the newest alone",
        ) from None
    text = shell.output(["git", "diff", "--name-only", ref, "--", "packer/locks"], cwd=root)
    text += shell.output(
        ["git", "ls-files", "--others", "--exclude-standard", "--", "packer/locks"], cwd=root
    )
    paths = [Path(line) for line in text.splitlines() if line.endswith(".lock.json")]
    return {path.name.removesuffix(".lock.json") for path in paths}


def files(root: Path) -> list[str]:
    """Return the changed files below packer/, by their paths from the top of the repository."""
    text = shell.output(
        ["git", "status", "--porcelain", "--untracked-files=all", "--", "packer"], cwd=root
    )
    # A line is a status of two characters, a space and the path.
    return sorted(line[3:] for line in text.splitlines())


def commit(root: Path, changes: list[str], summary: str) -> None:
    """Commit the files on the branch, and stay on it."""
    # A CI runner has no identity for git.
    identity = ["-c", "user.name=golden watch", "-c", "user.email=golden@localhost"]
    shell.output(["git", "switch", "--quiet", "--force-create", BRANCH], cwd=root)
    shell.output(["git", "add", "--", *(f":/{path}" for path in changes)], cwd=root)
    # The summary is Markdown: with `commit.cleanup = strip` in a user's configuration, git would
    # drop its headings as comments.
    argv = ["git", *identity, "commit", "--quiet", "--cleanup=verbatim", "--file=-"]
    shell.Command(argv, cwd=root).output(stdin=f"{SUBJECT}\n\n{summary}")


def push(root: Path, url: str, *, target: str, title: str) -> None:
    """Push the branch over an earlier one; its merge request has `target` as its target branch."""
    options = [
        "--push-option=merge_request.create",
        f"--push-option=merge_request.target={target}",
        f"--push-option=merge_request.title={' '.join(title.split())}",
        "--push-option=merge_request.remove_source_branch",
    ]
    address, token = _without_token(url or "origin")
    argv = ["git", "push", "--force", *options, address, f"HEAD:refs/heads/{BRANCH}"]
    try:
        shell.output(argv, cwd=root, env=token)
    except shell.CommandFailed as error:
        # Git's output names the server without user and token, so it may be shown.
        raise StageFailed(
            f"the branch {BRANCH} could not be pushed",
            tail=error.tail,
            hint=f"check {URL}: does its token have the scope write_repository?",
        ) from None


def _without_token(url: str) -> tuple[str, dict[str, str]]:
    """Return the address without its login, and the environment variables that give git the login.

    https://git-scm.com/docs/git-config#ENVIRONMENT
    """
    # Every user of this machine can read the command line, so the login goes by the environment.
    address, login = without_login(url)
    if not login:
        return address, {}
    # Settings that the environment already has must stay, so this one is added behind them.
    config_count = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    return address, {
        "GIT_CONFIG_COUNT": str(config_count + 1),
        f"GIT_CONFIG_KEY_{config_count}": "http.extraHeader",
        f"GIT_CONFIG_VALUE_{config_count}": f"Authorization: {login}",
        "GIT_TERMINAL_PROMPT": "0",
    }
