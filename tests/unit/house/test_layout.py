"""This checkout keeps the rules of its shape, and each rule is seen to fail on a tree that breaks
it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami import cli, reference
from goldenami.core import shell
from goldenami.model.definitions import definition_keys
from support import trees
from support.aws import account_rights
from support.builds.tools import ROOT
from support.files import write
from support.rules import prose_rules, python_rules, surface_rules, text_rules

LEAST_TEXTS = 1200
RULES: dict[Callable[[Path], list[str]], int] = {
    python_rules.basenames: 320,
    python_rules.folders: 320,
    python_rules.sizes: 750,
    text_rules.sizes: 200,
    text_rules.variables: LEAST_TEXTS,
    text_rules.make_targets: 1,
    text_rules.module_map: 320,
    text_rules.pipelines: 7,
    prose_rules.sentences: 55,
    prose_rules.links: 55,
    surface_rules.typed: 1100,
    account_rights.template: 19,
}
"""How many files each rule looks at, at least: one that looks at none finds nothing wrong."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.__module__}.{rule.__name__}")
def test_checkout_keeps(rule: Callable[[Path], list[str]]) -> None:
    trees.SEEN.clear()
    assert "\n".join(rule(ROOT)) == ""
    assert len(trees.SEEN) >= RULES[rule]


def test_no_file_names_a_mirror_of_this_machine() -> None:
    trees.SEEN.clear()
    assert "\n".join(text_rules.mirror_hosts(ROOT, text_rules.machine_hosts())) == ""
    assert len(trees.SEEN) >= LEAST_TEXTS


def test_no_file_holds_a_path_of_this_machine() -> None:
    trees.SEEN.clear()
    assert "\n".join(text_rules.machine_paths(ROOT, ROOT, Path.home())) == ""
    assert len(trees.SEEN) >= LEAST_TEXTS


def test_reference_is_what_the_code_says() -> None:
    found, made = (ROOT / reference.PAGE).read_text(encoding="utf-8"), reference.page(ROOT)
    other = "\n".join(difflib.unified_diff(found.splitlines(), made.splitlines(), lineterm="", n=0))
    assert other == "", f"run scripts/reference, which writes {reference.PAGE}"


def test_every_command_that_somebody_is_told_is_found() -> None:
    assert len(list(surface_rules.told(ROOT))) > 350


def test_no_help_names_the_program() -> None:
    """It is not rendered, and the program has another name where it is installed."""
    texts = [
        text
        for name in cli.MODULES
        for command in [cli.command(name)]
        for text in (
            command.help,
            *(getattr(parameter, "help", "") for parameter in command.params),
        )
    ]
    assert len(texts) > 140
    assert [text for text in texts if "golden " in (text or "")] == []


def test_every_key_of_a_definition_has_a_meaning() -> None:
    """It is the string below the field."""
    assert not [
        f"{path}.{key.name}"
        for path, keys in definition_keys.sections()
        for key in keys
        if not key.meaning
    ]


def test_commit_subjects() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git history here")
    subjects = shell.output(["git", "log", "--format=%s"], cwd=ROOT, check=False).splitlines()
    assert not text_rules.commit_subjects(subjects)


# --- each rule has been seen to fail ---

PACKAGE = "scripts/goldenami"
ACCOUNT = {
    account_rights.TEMPLATE: "    Metadata: {Commands: [a]}\n    Properties:\n        Statement:\n"
    "          - Sid: Odd\n",
    f"{account_rights.POLICIES}/a.json": (
        '{"Statement": [{"Effect": "Allow", "Action": ["a:B"], "Resource": "*"}]}'
    ),
}
BAD_TREES = [
    (
        python_rules.basenames,
        {f"{PACKAGE}/image/a.py": "", f"{PACKAGE}/local/a.py": ""},
        "goldenami/local/a.py has the name of goldenami/image/a.py",
    ),
    (
        python_rules.folders,
        {f"{PACKAGE}/local/a{number}.py": "" for number in range(16)},
        "goldenami/local/ has 16 modules, at most 15",
    ),
    (python_rules.sizes, {"tests/a.py": "x = 1\n" * 501}, "tests/a.py: 501 lines, at most 500"),
    (
        text_rules.sizes,
        {"roles/a/tasks/main.yml": "#\n" * 61},
        "roles/a/tasks/main.yml: 61 lines, at most 60",
    ),
    (
        text_rules.variables,
        {"scripts/a": "$GOLDEN_ODD", text_rules.ENVIRONMENT: "GOLDEN_ODDITY"},
        "GOLDEN_ODD (scripts/a) is not in",
    ),
    (
        text_rules.make_targets,
        {"Makefile": ".PHONY: a\na: b\n\t@true\n"},
        "make a has no help text",
    ),
    (
        text_rules.make_targets,
        {"Makefile": "".join(f"t{n}: ## x\n" for n in range(25))},
        "25 Make targets, at most 24",
    ),
    (
        prose_rules.links,
        {"README.md": "# A\n\n[x](no/such.md)"},
        "README.md:3: broken link no/such.md",
    ),
    (
        prose_rules.sentences,
        {"README.md": "Short.\n\n* Even `a b`.\n* " + "word " * 30 + "`last word`."},
        "README.md:4: 31 words, at most 30: word",
    ),
    (text_rules.sizes, {"README.md": "x\n" * 131}, "README.md: 131 lines, at most 130"),
    (
        text_rules.module_map,
        {f"{PACKAGE}/odd/a.py": ""},
        "ARCHITECTURE.md does not say what odd/ is for",
    ),
    (
        account_rights.template,
        {**ACCOUNT, f"{account_rights.POLICIES}/b.json": "{}"},
        "account.yml has no policy with the rights of b.json",
    ),
    (
        account_rights.template,
        {account_rights.TEMPLATE: ACCOUNT[account_rights.TEMPLATE]},
        "account.yml names a.json, which does not exist",
    ),
    (
        account_rights.template,
        ACCOUNT,
        "account.yml has other rights than scripts/goldenami/aws/policies: run scripts/",
    ),
    (
        text_rules.pipelines,
        {".gitlab-ci.yml": "default:\n  image: debian:bookworm # bookworm\n"},
        "`image: debian:bookworm # bookworm` is not pinned",
    ),
    (text_rules.pipelines, {".github/workflows/a.yml": "env: {AWS_SECRET_X: x}"}, "a stored key"),
    *[
        (
            surface_rules.typed,
            {name: text, "Makefile": "bake:\n"},
            f"{name}: {said} cannot be typed",
        )
        for name, text, said in (
            ("a.md", "`golden status`", "golden status"),
            ("a.md", "    scripts/golden publsih IMAGE", "scripts/golden publsih"),
            ("a.md", "    $ AWS_REGION=x scripts/golden sweep --dry", "scripts/golden sweep --dry"),
            ("a.md", "run `make bkae IMAGE=x`", "make bkae"),
            (f"{PACKAGE}/a.py", "'`golden bake {image} --froce`'", "golden bake --froce"),
            (f"{PACKAGE}/a.py", "'`scripts/golden bake`'", "scripts/golden bake"),
            (".gitlab-ci.yml", "a:\n  script:\n    - make bkae", "make bkae"),
        )
    ],
]


@pytest.mark.parametrize(("rule", "tree", "message"), BAD_TREES, ids=[bad[2] for bad in BAD_TREES])
def test_rule_sees(
    tmp_path: Path, rule: Callable[[Path], list[str]], tree: dict[str, str], message: str
) -> None:
    write(tmp_path, tree)
    assert any(message in problem for problem in rule(tmp_path)), rule(tmp_path)


def test_a_scan_that_sees_too_little_fails(tmp_path: Path) -> None:
    write(tmp_path, {"a/one.yml": ""})
    assert [path.name for path in trees.scanned(1, tmp_path, "*/*.yml")] == ["one.yml"]
    with pytest.raises(AssertionError, match=r"\*/\*.yml are 1 files here, and were 2"):
        trees.scanned(2, tmp_path, "*/*.yml")


def test_every_rule_has_a_bad_tree() -> None:
    assert {bad[0] for bad in BAD_TREES} == set(RULES)


def test_mirror_host_is_seen(tmp_path: Path) -> None:
    write(tmp_path, {"packer/a.yml": "uri: https://mirror.example.org/debian\n"})
    assert text_rules.mirror_hosts(tmp_path, ["mirror.example.org"]) == [
        "packer/a.yml names the mirror mirror.example.org"
    ]
    assert not text_rules.mirror_hosts(tmp_path, ["example.org", "mirror.example.or"])


def test_hosts_come_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", "http://cache.example.net:3142/debian")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:word@wheels.example.net/simple")
    assert {"cache.example.net", "wheels.example.net"} <= set(text_rules.machine_hosts())


HOMES = "/home"  # in two parts, so that this file does not break the rule


@pytest.mark.parametrize(
    "text", ["in /srv/checkout/a", f"{HOMES}/jane/x", "=/Users" + "/jane/x", '"/srv/jane/.cache"']
)
def test_machine_path_is_seen(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"a.md": text})
    assert text_rules.machine_paths(tmp_path, Path("/srv/checkout"), Path("/srv/jane"))


@pytest.mark.parametrize(
    "text", ["/root/x", f"{HOMES}/ubuntu/x", "home/*/x", "{x}/srv/checkout", "/srv/checkouts"]
)
def test_other_paths_are_no_machines(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"a.md": text})
    assert not text_rules.machine_paths(tmp_path, Path("/srv/checkout"), Path("/root"))


@pytest.mark.parametrize("subject", ["Fix it", "bake: fix it", "bake: Fixed it", "bake: Fix it."])
def test_commit_subject_is_seen(subject: str) -> None:
    assert text_rules.commit_subjects([subject])


@pytest.mark.parametrize(
    "subject", ["bake: Feed it", "roles/seal, tests: Remove leases", "Merge branch 'x'"]
)
def test_commit_subject_is_accepted(subject: str) -> None:
    assert not text_rules.commit_subjects([subject])
