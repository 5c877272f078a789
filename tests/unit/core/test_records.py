from __future__ import annotations

import itertools
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.core.errors import BadInput
from hypothesis import given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Sample(records.Record):
    name: str
    count: int = 0


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_canonical_round_trip(data: Any) -> None:
    text = records.canonical(data)
    assert json.loads(text) == data
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    text.encode()


def test_canonical_refuses_what_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.canonical({"x": float("nan")})


def test_a_written_record_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep/record.json"
    records.write(path, Sample(name="ä", count=3))
    assert path.read_text(encoding="utf-8") == '{\n  "count": 3,\n  "name": "ä"\n}\n'
    assert records.read(path, Sample) == Sample(name="ä", count=3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the whole file: Invalid JSON"),
        ('{"name": "x"', "the whole file: Invalid JSON"),
        ("[]", "the whole file: "),
        ('{"name": 5}', "name: Input should be a valid string"),
        ("{}", "name: Field required"),
        ('{"name": "x", "nam": 1}', "nam: Extra inputs are not permitted"),
        ('{"name": "x", "count": "3"}', "count: Input should be a valid integer"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        records.read(path, Sample)
    assert caught.value.message.startswith(f"{path}: {complaint}")


def test_a_record_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(BadInput, match="does not exist"):
        records.read(path, Sample)
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(BadInput, match="not UTF-8"):
        records.read(path, Sample)


def test_a_write_that_fails_keeps_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    records.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        records.write_text(path, "half \udc80")
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]
    assert path.read_text(encoding="utf-8") == "old"


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    texts = {letter * 300_000 for letter in "ab"}
    records.write_text(path, min(texts))
    done = threading.Event()
    torn: list[int] = []

    def look() -> None:
        while not done.is_set():
            if (text := path.read_text(encoding="utf-8")) not in texts:
                torn.append(len(text))

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(20):
        for text in texts:
            records.write_text(path, text)
    done.set()
    reader.join()
    assert torn == []


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 3 << 20)), max_size=6),
    stops=st.lists(st.integers(1000, 1 << 20), min_size=1, max_size=20),
)
def test_a_sparse_file_is_hashed_as_far_as_it_is_final(
    pieces: list[tuple[bool, int]], stops: list[int]
) -> None:
    """Behind that, it holds something else yet: data and holes of any size, and ends of what is
    final anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk"
        size = sum(length for _, length in pieces)
        steps = itertools.cycle(stops)
        with path.open("wb") as disk:
            disk.truncate(size)

        def write(start: int, end: int) -> None:
            at = 0
            with path.open("r+b") as disk:
                for is_data, length in pieces:
                    low, high = max(at, start), min(at + length, end)
                    if is_data and low < high:
                        disk.seek(low)
                        disk.write(b"x" * (high - low))
                    at += length

        def final(at: int) -> int:
            until = min(at + next(steps), size)
            write(at, until)
            return until

        followed = records.sha256_sparse(path, final)
        write(0, size)
        assert followed == records.sha256_sparse(path) == records.sha256_file(path)
