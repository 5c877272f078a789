from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from goldenami.core import yaml_lines
from goldenami.core.errors import BadInput
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
TREES = st.recursive(
    st.integers(0, 9),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=4),
    max_leaves=12,
)


def write(
    tree: Any,
    depth: int,
    gaps: Any,
    text: list[str],
    lines: dict[tuple[str, ...], int],
    at: tuple[str, ...],
) -> None:
    """Write `tree` as block YAML with comments strewn in, noting the line of every key."""
    for name, value in tree.items():
        text.extend(["# a comment", ""][: gaps.draw(st.integers(0, 2))])
        text.append(f"{'  ' * depth}{name}:" + ("" if isinstance(value, dict) else f" {value}"))
        lines[(*at, name)] = len(text)
        if isinstance(value, dict):
            write(value, depth + 1, gaps, text, lines, (*at, name))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=st.dictionaries(KEYS, TREES, min_size=1, max_size=4), gaps=st.data())
def test_every_key_knows_its_line(tmp_path: Path, tree: dict[str, Any], gaps: Any) -> None:
    text: list[str] = []
    lines: dict[tuple[str, ...], int] = {}
    write(tree, 0, gaps, text, lines, ())
    path = tmp_path / "x.yml"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    found = yaml_lines.load(path)
    assert found.data == tree
    assert found.lines == lines
    for key, line in lines.items():
        assert found.error(key, "bad").message == f"{path}:{line}: {'.'.join(key)}: bad"
        assert found.error((*key, "absent"), "bad").message.startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"# nothing\n", "1: the file is empty"),
        (b"just words\n", "1: expected a mapping"),
        (b"a: [1,\nb: 2\n", "3: not valid YAML: expected ',' or ']'"),
        (b"a: 1\nb: 'open\n", "3: not valid YAML: found unexpected end of stream"),
        (b"a: 1\n\tb: 2\n", "2: not valid YAML: "),
        (b"a: \xff\xfe\n", "1: not UTF-8 text"),
        (b"a: 1\nb: 2\na: 3\n", "3: a: given twice (first on line 1)"),
        (b"a:\n  b: 1\n  b: 2\n", "3: b: given twice (first on line 2)"),
        (b"a: 1\n---\nb: 2\n", "2: not valid YAML: "),
        (b"a: !nonsense 1\n", "1: not valid YAML: could not determine a constructor"),
        (b"? [1, 2]\n: 3\n", "1: not valid YAML: found unhashable key"),
        (b"a: 2026-13-45\n", "1: not usable YAML: month"),
        (b"a: \x07\n", "1: not valid YAML: "),
        (b"a: &x [*x]\n", "1: an alias stands inside its own anchor"),
        (
            b"a: &a [1, 1, 1, 1, 1, 1, 1, 1]\n"
            + b"".join(
                b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % ((name, name) + 7 * (name - 1,))
                for name in b"bcdefghijklmn"
            ),
            "1: has more than 10000 keys, those of aliases",
        ),
        (b"a: " + b"[" * 600, "1: not usable YAML: maximum recursion depth"),
    ],
)
def test_what_is_no_usable_yaml(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        yaml_lines.load(path)
    assert caught.value.message.startswith(f"{path}:{complaint}")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("012345670123", 1402433619),
        ("0755", 493),
        ("0x1F", 31),
        ("0b11", 3),
        ("190:20:30", 685230),
        ("1_0:30.5", 630.5),
    ],
)
def test_a_number_that_yaml_reads_as_another_is_refused(
    tmp_path: Path, written: str, read: float
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(f"a: 1\nb:\n  - c: {written}\n", encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        yaml_lines.load(path)
    assert caught.value.message == (
        f"{path}:3: b.1.c: YAML reads {written} as another number, {read}"
    )
    assert f'"{written}"' in caught.value.hint
    path.write_text(
        f"a: '{written}'\nb: [0, -1, 10, 1.5, 2026-01-01, 08, 1_000]\n", encoding="utf-8"
    )
    assert yaml_lines.load(path).data["a"] == written


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("a:\n\tb: 2\n", "indent with spaces: YAML takes no tabs there"),
        ("a: [1,\n", "is the file truncated, or a quote or bracket open?"),
        (
            "a: b: c\n",
            "look at the indentation, colons, quotes and brackets of this line and the one above",
        ),
    ],
)
def test_what_to_do_about_what_is_no_yaml(tmp_path: Path, content: str, hint: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        yaml_lines.load(path)
    assert caught.value.hint == hint


def test_the_nearest_word_or_all_of_them() -> None:
    assert yaml_lines.nearest("relese", ["release", "kernel"]) == "did you mean `release`?"
    assert (
        yaml_lines.nearest("us-esat-1", ["us-west-1", "us-east-1"]) == "did you mean `us-east-1`?"
    )
    assert yaml_lines.nearest("xyzzy", map(str, range(10, 30))).endswith("20, 21 and 8 more")
    assert yaml_lines.nearest("xyzzy", ["release", "kernel"]) == "known: kernel, release"
