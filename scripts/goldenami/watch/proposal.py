"""New locks as a branch on a server, with the push options by which GitLab opens a merge request.

https://docs.gitlab.com/topics/git/commit/#push-options-for-merge-requests
"""

from __future__ import annotations

import os
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import BadInput, StageFailed
from goldenami.core.records import Record
from goldenami.core.web_address import without_login

BRANCH = "golden/watch"
SUBJECT = "packer: Lock what `make watch` found"
URL = "GOLDEN_PUSH_URL"
"""Environment variable with the address to push to, its token included; else the remote
`origin`."""


class Proposal(Record):
    """What will be pushed: the changed files, to which branch, to be merged into which other
    one."""

    files: list[str]
    branch: str
    target: str
    title: str
    message: str


def changed(root: Path, ref: str) -> set[str]:
    """Names of the images whose lock differs from that of the commit `ref`, or is not in it;
    BadInput where the clone has no such commit."""
    try:
        shell.output(["git", "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}"], cwd=root)
    except shell.CommandFailed as error:  # its words, if any, are of another cause: a clone that git does not trust
        raise BadInput(f"there is no commit `{ref}` in this clone", tail=error.tail,
                       hint="correct CHANGED, or fetch it: a shallow clone has the newest alone") from None
    text = shell.output(["git", "diff", "--name-only", ref, "--", "packer/locks"], cwd=root)
    text += shell.output(["git", "ls-files", "--others", "--exclude-standard", "--",
                          "packer/locks"], cwd=root)
    return {Path(line).name.removesuffix(".lock.json") for line in text.splitlines()
            if line.endswith(".lock.json")}


def plan(root: Path, *, target: str, title: str, summary: str) -> Proposal | None:
    """The proposal of the changed files below packer/; None where nothing changed."""
    text = shell.output(["git", "status", "--porcelain", "--untracked-files=all", "--", "packer"],
                        cwd=root)
    files = sorted(line[3:] for line in text.splitlines())
    if not files:
        return None
    return Proposal(files=files, branch=BRANCH, target=target, title=" ".join(title.split()),
                    message=f"{SUBJECT}\n\n{summary}")


def push(root: Path, proposal: Proposal, url: str) -> None:
    """Commit the files on the proposal's branch and push it over an earlier proposal; the working
    tree stays on it."""
    identity = ["-c", "user.name=golden watch", "-c", "user.email=golden@localhost"]
    shell.output(["git", "switch", "--quiet", "--force-create", proposal.branch], cwd=root)
    shell.output(["git", "add", "--", *proposal.files], cwd=root)
    shell.output(["git", *identity, "commit", "--quiet", "--cleanup=verbatim", "--file=-"],
                 cwd=root,
                 stdin=proposal.message)
    options = ["merge_request.create", f"merge_request.target={proposal.target}",
               f"merge_request.title={proposal.title}", "merge_request.remove_source_branch"]
    address, token = _without_token(url or "origin")
    argv = ["git", "push", "--force", *(f"--push-option={option}" for option in options), address,
            f"HEAD:refs/heads/{proposal.branch}"]
    try:
        shell.output(argv, cwd=root, env=token)
    except shell.CommandFailed as error:
        # git's own words name the server without name and token
        raise StageFailed(f"the branch {proposal.branch} could not be pushed", tail=error.tail,
                          hint=f"check {URL}: does its token have the scope write_repository?") from None


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
