"""The score of hardening: what OpenSCAP says of a tree, what is waived, and what a publish makes of
it."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core import records, shell
from goldenami.core.errors import BadInput, NotVerified
from goldenami.image.verify import hardening
from goldenami.local.checks import hardening_scan
from goldenami.model import program_files
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.hardening_records import (
    HARDENING_FILE,
    HardeningRecord,
    HardeningRule,
    HardeningScan,
    RuleOutcome,
)
from goldenami.model.definitions import definition_file
from goldenami.model.definitions.definition import Definition, HardeningGate, Security
from goldenami.model.locked import lockfile
from goldenami.model.supported.scales import HardeningLevel
from goldenami.release.publish import release_gate
from support.builds import builds
from support.builds.tools import need

IMAGE = "debian-13-ml"
BUILD = "0123456789ab"
KEPT, BROKEN, UNREAD = RuleOutcome.PASS, RuleOutcome.FAIL, RuleOutcome.UNREACHABLE
SCAN = HardeningScan(
    content="a guide",
    rules=[
        HardeningRule(id=f"rule_{number}", title=f"Rule {number}", level=level, outcome=outcome)
        for number, (level, outcome) in enumerate(
            [
                (HardeningLevel.MINIMAL, KEPT),
                (HardeningLevel.MINIMAL, BROKEN),
                (HardeningLevel.INTERMEDIARY, KEPT),
                (HardeningLevel.INTERMEDIARY, UNREAD),
                (HardeningLevel.ENHANCED, BROKEN),
            ]
        )
    ],
)
FILE = (
    "rules: {minimal: 2, intermediary: 4, enhanced: 5}\n"
    "waived:\n  rule_1: it would lock everybody out\n  rule_0: is kept after all\n"
)


KERNEL = """Package: linux-base
Status: install ok installed
Architecture: all
Version: 4.12
Maintainer: nobody
Description: by which the guide knows that there is a kernel

"""


@pytest.fixture
def build(tmp_path: Path) -> BuildFolder:
    """A build of a checkout whose file waives one broken rule."""
    builds.copy_definitions(tmp_path)
    (tmp_path / hardening.PATH).write_text(FILE, encoding="utf-8")
    folder = BuildFolder(tmp_path / "build" / IMAGE / BUILD)
    folder.path.mkdir(parents=True)
    return folder


def judged(build: BuildFolder, scan: HardeningScan = SCAN) -> HardeningRecord:
    return hardening.judge(build.path.parents[2], build, scan)


def test_a_broken_rule_is_waived_by_its_name_and_a_kept_one_is_kept(build: BuildFolder) -> None:
    record = judged(build)
    assert [(rule.outcome, rule.reason) for rule in record.rules] == [
        (KEPT, ""),
        (RuleOutcome.WAIVED, "it would lock everybody out"),
        (KEPT, ""),
        (UNREAD, ""),
        (BROKEN, ""),
    ]
    assert str(record) == "minimal 1/2, intermediary 2/4, enhanced 2/5"


@pytest.mark.parametrize(
    ("scan", "problem"),
    [
        (SCAN.model_copy(update={"rules": SCAN.rules[:-1]}), "4 of 5 enhanced rules were asked"),
        (HardeningScan(problem="no oscap"), "no oscap"),
    ],
)
def test_fewer_rules_or_none_are_no_score(
    build: BuildFolder, scan: HardeningScan, problem: str
) -> None:
    record = judged(build, scan)
    assert (record.problem, str(record)) == (problem, f"unreachable: {problem}")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("minimal", "smallest", ":1: rules.smallest"),
        ("it would lock everybody out", "no", ":3: waived.rule_1"),
    ],
)
def test_a_wrong_file_is_named_by_its_line(
    build: BuildFolder, old: str, new: str, complaint: str
) -> None:
    path = build.path.parents[2] / hardening.PATH
    path.write_text(FILE.replace(old, new), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        judged(build)
    assert complaint in caught.value.message


def test_publishing_waits_for_as_many_rules_as_the_definition_asks(build: BuildFolder) -> None:
    root = build.path.parents[2]
    path = definition_file.path_of(root, IMAGE)
    text = path.read_text(encoding="utf-8")
    one = definition_file.load(root, path)
    release_gate.check_hardening(one, build)
    asked = f"{text}security: {{hardening: {{minimum: 2}}}}\n"
    path.write_text(asked, encoding="utf-8")
    two = definition_file.load(root, path)
    assert lockfile.digests(root, two) == lockfile.digests(root, one), "stale"
    three = two.model_copy(update={"security": Security(hardening=HardeningGate(minimum=3))})

    def refused(definition: Definition, said: str) -> None:
        with pytest.raises(NotVerified, match=said):
            release_gate.check_hardening(definition, build)

    refused(two, "has no record of its hardening")
    records.write(build.path / HARDENING_FILE, judged(build))
    release_gate.check_hardening(two, build)
    refused(three, "keeps 2 intermediary rules of the guide to hardening, not 3")
    records.write(build.path / HARDENING_FILE, judged(build, HardeningScan(problem="no oscap")))
    refused(two, "no oscap")
    records.write(
        build.path / HARDENING_FILE, judged(build).model_copy(update={"build_id": "f" * 12})
    )
    refused(two, "is of build ffffffffffff")


def test_the_checkout_s_file_is_right(build: BuildFolder) -> None:
    """Its numbers are more than five, so the score of a scan of five is none."""
    source = Path(__file__).resolve().parents[3] / hardening.PATH
    (build.path.parents[2] / hardening.PATH).write_text(
        source.read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert "5 of 208 enhanced rules were asked" in judged(build).problem


def test_another_repository_adds_to_goldenami_s(build: BuildFolder) -> None:
    root = build.path.parents[2]
    (root / program_files.PLAYBOOK).unlink()
    (root / hardening.PATH).unlink()
    left = [rule.id for rule in judged(build).rules if rule.outcome is BROKEN]
    (root / hardening.PATH).write_text(f"waived: {{{left[0]}: it is what our people need}}\n")
    record = judged(build)
    assert [rule.id for rule in record.rules if rule.outcome is BROKEN] == left[1:]
    assert "it is what our people need" in [rule.reason for rule in record.rules]
    assert "of 208 enhanced rules were asked" in record.problem
    (root / hardening.PATH).write_text("rule: {minimal: 0}\n")
    with pytest.raises(BadInput, match=rf"^{root / hardening.PATH}:1: rule: unknown key"):
        judged(build)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a Debian 13 as the rules of three parameters read."""
    root = tmp_path / "tree"
    for name, text in {
        "etc/debian_version": "13.2\n",
        "etc/sysctl.d/60-x.conf": "kernel.kptr_restrict = 2\nkernel.sysrq = 0\n"
        "net.ipv4.tcp_syncookies = 1\n",
        "var/lib/dpkg/status": KERNEL,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    (root / "proc").mkdir()
    return root


@pytest.mark.slow
def test_rules_are_asked_of_files_and_of_what_the_kernel_said(tree: Path, tmp_path: Path) -> None:
    """The file asks for all three; one the kernel did not take, one it does not have."""
    need("oscap", "mount")
    if not hardening_scan.CONTENT.exists():
        pytest.skip("this machine has no rules for Debian 12 (a Debian 13 has)")
    found = hardening_scan.scan(
        tree, "kernel/kptr_restrict:1\nnet/ipv4/tcp_syncookies:1\n../../x:1\n", tmp_path
    )
    said = {rule.id: (rule.outcome, rule.level) for rule in found.rules}
    assert found.problem == "" and found.content.startswith("SCAP Security Guide 0.")
    assert said["sysctl_net_ipv4_tcp_syncookies"] == (KEPT, HardeningLevel.INTERMEDIARY)
    assert said["sysctl_kernel_kptr_restrict"][0] is BROKEN
    assert said["sysctl_kernel_sysrq"][0] in (BROKEN, UNREAD)
    assert (tree / "etc/debian_version").read_text(encoding="utf-8") == "13.2\n"
    assert list((tree / "proc").iterdir()) == [] and not (tmp_path / "x").exists()
    assert str(tree) not in shell.output(["findmnt", "-rno", "TARGET"])
