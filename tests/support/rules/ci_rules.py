"""Rules of the CI definitions, as functions from their parsed text to the list of violations.

What linters know (schemas, injection, permissions, actions that are not pinned) is theirs; here is
what they can't know: that a job calls Make and `scripts/golden` only, that targets and commands
exist, that GitLab's images are pinned with their version beside it, and that no key is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CALL = re.compile(r"(?:sudo -E )?(?P<name>make [a-z-]+)(?: [A-Z_]+=[\w~.-]+)*"
                  r"|(?:sudo -E )?(?P<golden>scripts/golden [a-z-]+)(?: --[a-z-]+(?: (?:[A-Z]+|\"\$[A-Z]+\"))?)*")
"""A line of a job: one Make target with variables, or one command with options, as root on GitHub's
runners."""
IMAGE = re.compile(r"image: [\w./-]+(:[\w.-]+)?@sha256:[0-9a-f]{64} # \S+$")
STORED_KEY = re.compile(r"aws[-_](access[-_]key|secret)|AKIA[0-9A-Z]{16}", re.IGNORECASE)

GITLAB_SETUP = re.compile(
    r"apt-get update -q && apt-get install -y -q --no-install-recommends [a-z -]+"
)
GITLAB_TOKEN = 'umask 077 && printf %s "$AWS_ID_TOKEN" >"$AWS_WEB_IDENTITY_TOKEN_FILE"'
"""The only lines that are neither: a container without make gets it, and a token becomes a file."""


def targets(makefile: str) -> set[str]:
    """The Make targets that exist."""
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))


def calls(makefile: str, names: Iterable[str]) -> set[str]:
    """What a job may call: Make targets, and the commands `names`."""
    return {f"make {name}" for name in targets(makefile)} | {
        f"scripts/golden {name}" for name in names
    }


def commands(
    where: str, lines: Iterable[str], known: set[str], allowed: Iterable[re.Pattern[str]] = ()
) -> list[str]:
    """Each line is one call of a Make target or a command that exists."""
    problems = []
    for line in lines:
        call = CALL.fullmatch(line)
        if call is None and not any(pattern.fullmatch(line) for pattern in allowed):
            problems.append(f"{where} runs `{line}`, which is no Make target and no command")
        elif call is not None and (name := call["name"] or call["golden"]) not in known:
            problems.append(f"{where} calls `{name}`, which does not exist")
    return problems


def _steps(workflow: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, job in workflow["jobs"].items():
        for step in job.get("steps", []):
            yield name, step


def github(workflow: Mapping[str, Any], text: str, known: set[str]) -> list[str]:
    """A workflow bounds each job in time and calls Make targets and commands only."""
    problems = list[str]()
    for name, job in workflow["jobs"].items():
        if "uses" not in job and "timeout-minutes" not in job:
            problems.append(f"{name} has no timeout-minutes")
        if not str(job.get("runs-on", "")).endswith("latest"):
            continue
        problems.append(f"{name} runs on {job['runs-on']}, which is not one version")
    for name, step in _steps(workflow):
        problems += commands(name, step["run"].splitlines(), known) if "run" in step else []
    return problems + stored_keys(text)


def gitlab(pipeline: Mapping[str, Any], text: str, known: set[str]) -> list[str]:
    """The same of a GitLab pipeline."""
    problems, allowed = list[str](), (GITLAB_SETUP, re.compile(re.escape(GITLAB_TOKEN)))
    for name, job in pipeline.items():
        if not isinstance(job, dict):
            continue
        for key in ("before_script", "script", "after_script"):
            problems += commands(name, job.get(key, []), known, allowed)
        if "script" in job and "timeout" not in job:
            problems.append(f"{name} has no timeout")
    return problems + pinned(text) + stored_keys(text)


def pinned(text: str) -> list[str]:
    """An image that others made is named by its content, with the version for a reader."""
    found = [line.strip().removeprefix("- ") for line in text.splitlines()]
    return [f"`{line}` is not pinned" for line in found
            if line.startswith("image: ") and not IMAGE.fullmatch(line)]


def stored_keys(text: str) -> list[str]:
    """Credentials of AWS are only ever those that a token was exchanged for, by a step of the same
    job."""
    return [f"a stored key: `{line.strip()}`" for line in text.splitlines()
            if STORED_KEY.search(line) and "${{ steps." not in line]


def matrix(pipeline: Mapping[str, Any], name: str, images: Iterable[str]) -> list[str]:
    """GitLab's matrix `name`, which has to be written out, has exactly `images`."""
    stated = pipeline[name]["parallel"]["matrix"][0]["IMAGE"]
    known = sorted(images)
    return (
        []
        if stated == known
        else [f"{name} of .gitlab-ci.yml has the images {stated}, packer/ {known}"]
    )
