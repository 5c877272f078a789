"""packer/hardware.yml against what EC2 says (the copy of its answer that moto ships), and rows that
are wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from goldenami.core.errors import BadInput
from goldenami.model import program_files
from goldenami.model.definitions import definition_file
from goldenami.model.supported import hardware
from support.builds import builds
from support.ec2 import hardware_facts
from support.ec2.instance_types import described
from support.files import write

ROOT = Path(__file__).resolve().parents[3]


def gpu(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["GpuInfo"]["Gpus"][0].update(changes)


def sizes(family: str) -> list[dict[str, Any]]:
    return [entry for entry in described() if entry["InstanceType"].startswith(f"{family}.")]


@pytest.mark.parametrize(
    ("family", "change", "expected"),
    [
        ("g6", gpu(Name="L40S"), "g6: GPU: hardware.yml has NVIDIA L4, EC2 has NVIDIA L40S"),
        (
            "p5e",
            lambda entry: entry.pop("InstanceStorageInfo"),
            "p5e: GPUs and local disks of sizes: "
            "hardware.yml has 48xlarge 8+8, EC2 has 48xlarge 8+0",
        ),
        (
            "c7a",
            lambda entry: entry.update(SupportedBootModes=["uefi"]),
            "c7a: boot modes: hardware.yml has legacy-bios, uefi, EC2 has uefi",
        ),
    ],
)
def test_a_row_that_ec2_contradicts(
    family: str, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    entries = copy.deepcopy(sizes(family))
    for entry in entries:
        change(entry)
    row = hardware.load(ROOT)[family]
    assert expected in hardware_facts.differences(family, row, entries)


def test_every_row_is_what_ec2_says() -> None:
    families = hardware.load(ROOT)
    known = {name: entries for name in families if (entries := sizes(name))}
    assert families.keys() - known.keys() <= {"p3", "g4ad"}
    assert len(known) >= 130
    # EC2's API lists no chips of trn2u; Neuron's documentation does.
    assert [
        text
        for name, entries in known.items()
        for text in hardware_facts.differences(name, families[name], entries)
    ] == ["trn2u: accelerator: hardware.yml has Trainium2, EC2 has none"]


def in_use(family: str) -> bool:
    """Whether definitions may want the family: it has an accelerator or is of EC2's current
    generations. One that EC2's copied answer lacks is newer than that, or has a GPU."""
    if re.match(r"(gr?|p|inf|trn)\d", family):
        return True
    entries = sizes(family)
    return bool(re.match(r"[mcrt]\d", family)) and all(row["CurrentGeneration"] for row in entries)


def nameless(families: set[str]) -> list[str]:
    """Families in use that have neither a row nor a named refusal."""
    rows = hardware.load(ROOT)
    return sorted(
        name
        for name in families
        if in_use(name) and name not in rows and not hardware.refusal(ROOT, name)
    )


def test_every_family_that_ec2_s_api_knows_has_a_row_or_a_named_refusal() -> None:
    model = botocore.session.get_session().get_service_model("ec2")
    families = {name.partition(".")[0] for name in model.shape_for("InstanceType").enum}
    seen = {name for name in families if in_use(name)}
    assert len(families) >= 210 and len(seen) >= 127, (len(families), len(seen))
    assert nameless(families) == [], f"of {len(seen)} families in use, {len(families)} in all"


def test_a_new_family_is_named_and_an_old_one_is_not() -> None:
    planted = {"g8", "p7e-vr200", "trn9", "inf3", "m10g", "t9i", "m4", "c1", "mac9", "u9-1tb"}
    assert nameless(planted) == ["g8", "inf3", "m10g", "p7e-vr200", "t9i", "trn9"]


@pytest.mark.parametrize("section", ["sources", "families"])
def test_a_section_that_is_missing_or_no_mapping(tmp_path: Path, section: str) -> None:
    """In a clone: another repository's table need not be whole."""
    path = tmp_path / "packer/hardware.yml"
    write(tmp_path, {program_files.PLAYBOOK: "", "packer/hardware.yml": ""})
    whole = yaml.safe_load((ROOT / "packer/hardware.yml").read_text(encoding="utf-8"))
    for rows, said in (
        ({}, "is required and missing"),
        ({section: None}, "input should be a valid dictionary (got None)"),
        ({section: ["g5"]}, "input should be a valid dictionary (got ['g5'])"),
    ):
        others = {name: entry for name, entry in whole.items() if name != section}
        path.write_text(yaml.safe_dump(others | rows), encoding="utf-8")
        hardware.load.cache_clear()
        with pytest.raises(BadInput, match=re.escape(f": {section}: {said}")):
            hardware.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("families:\n", "familes:\n", "familes: unknown key; did you mean `families`?"),
        (
            "g5: {cpu: znver2",
            "g5: {cpu: znver9",
            "families.g5.cpu: unknown cpu `znver9`; did you mean `znver",
        ),
        ("gpu: A10G", "gpu: A10", "families.g5.gpu: unknown gpu `A10`; did you mean `A10"),
        (
            "counts: [1, 4, 8], gsp_off: true, efa: true, source: ac}\n  g5:",
            "gsp_off: true, source: ac}\n  g5:",
            "families.g4dn: `gpu` and `counts` go together",
        ),
        (
            'T4: {maker: NVIDIA, sm: "75"',
            "T4: {maker: NVIDIA, sm: 7.5",
            "gpus.T4.sm: input should be a valid string",
        ),
        (
            "source: co}\n  c5ad",
            "source: cow}\n  c5ad",
            "families.c5a.source: unknown source; did you mean `co`?",
        ),
        (
            "  znver5: {maker",
            "  znver6: {maker",
            "cpus.znver6: what it can run is not known; did you mean `znver",
        ),
        (
            "  c5a: {cpu: znver2, source: co}",
            "  c5a: znver2",
            "families.c5a: input should be a valid dictionary (got 'znver2')",
        ),
        (
            '"8+2": [metal]',
            '"8": [metal]',
            "machines.g4dn.sizes.8.[key]: string should match pattern",
        ),
        (
            "  p4d:\n    memory_mib: 40960",
            "  p4d:\n    memory_mb: 40960",
            "machines.p4d.memory_mb: unknown key",
        ),
        ("  p5e:\n", "  p5f:\n", "machines.p5f: unknown family; did you mean `p5"),
    ],
)
def test_a_row_that_is_wrong(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (ROOT / "packer/hardware.yml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "packer/hardware.yml"
    path.parent.mkdir()
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        hardware.load(tmp_path)
    # What follows from it comes after it.
    first = (caught.value.tail or caught.value.message).splitlines()[0]
    where, _, said = first.partition(": ")
    assert said.startswith(complaint)
    assert where.startswith(str(path))


def misfit(root: Path, family: str) -> BadInput:
    """What is said of a definition that declares the family."""
    builds.copy_definitions(root)
    path = definition_file.path_of(root, "debian-13-ml-cpu")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[c7i, m7i, c7a, m7a]", f"[c7i, {family}]"), encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, path)
    return caught.value


@pytest.mark.parametrize(
    ("family", "reason"),
    [("p6-b200", "NVLSM and the module ib_umad"), ("p6e-gb200", "NVLSM"), ("t2", "Intel Xeon")],
)
def test_a_refused_family_is_refused_with_its_reason_known_or_not(
    tmp_path: Path, family: str, reason: str
) -> None:
    message = misfit(tmp_path / "checkout", family).message
    assert message.endswith(f": hardware.2: {hardware.refusal(ROOT, family)}")
    assert reason in message
