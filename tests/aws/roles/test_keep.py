"""golden-keep as a process, with the emulated account's bucket."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.aws.emulator import Emulator
from support.idle import machine
from support.idle.machine import REGION
from support.keep.machine import BUCKET, PREFIX, KeepMachine, objects
from support.keep.proxy import Proxy
from support.waiting import until

HERE, NEXT = "i-0a00000000000000a", "i-0b00000000000000b"


@pytest.fixture
def bucket(aws: Emulator) -> Emulator:
    boto3.client("s3", REGION).create_bucket(Bucket=BUCKET)
    return aws


@pytest.fixture
def here(bucket: Emulator, tmp_path: Path) -> Iterator[KeepMachine]:
    with machine.metadata_service(HERE) as imds:
        yield KeepMachine(tmp_path / "here", imds)


def test_each_file_is_a_plain_object_and_nothing_is_copied_twice(
    here: KeepMachine, bucket: Emulator
) -> None:
    here.write("run.py", "print(1)")
    here.write("deep/er/ümläut name.bin", bytes(20 << 20))
    here.write("empty")
    status = here.copy()
    assert status["trouble"] == "" and status["waiting_files"] == 0, status
    assert objects() == {
        "run.py": b"print(1)",
        "deep/er/ümläut name.bin": bytes(20 << 20),
        "empty": b"",
    }
    calls = len(bucket.calls())
    again = here.copy()
    assert again["safe_since"] > status["safe_since"] and again["safe_files"] == 3
    assert len(bucket.calls()) == calls, "a round without work asks nothing"


@pytest.fixture
def there(bucket: Emulator, tmp_path: Path) -> Iterator[KeepMachine]:
    """The owner's next machine."""
    with machine.metadata_service(NEXT) as imds:
        yield KeepMachine(tmp_path / "there", imds)


def test_what_was_kept_is_back_on_the_next_each_as_it_was(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    tool = here.write("bin/tool", "#!/bin/sh")
    tool.chmod(0o750)
    os.utime(tool, ns=(1_600_000_000_123_456_789,) * 2)
    here.write("big.bin", os.urandom(20_000_000))
    here.copy()
    done = there.run("restore")
    assert (done.returncode, done.stdout) == (0, "restored: 2 files\n"), done.stderr
    back = there.keep / "bin/tool"
    assert back.read_text(encoding="utf-8") == "#!/bin/sh"
    assert back.stat().st_mode & 0o777 == 0o750
    assert back.stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (there.keep / "big.bin").read_bytes() == (here.keep / "big.bin").read_bytes()
    assert not (there.keep / ".golden-keep/new").exists()
    calls = len(bucket.calls())
    assert there.copy()["safe_files"] == 2
    assert len(bucket.calls()) == calls, "what came is known to be safe"
    assert there.run("restore").stdout == "restored: 0 files\n"


def test_the_first_round_since_a_start_restores_and_no_later_one(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    here.write("a", "1")
    here.copy()
    there.end(60)
    assert there.run("restore", "--once").stdout == "", "a machine that ends has no time for it"
    (there.root / "run/golden-idle/end.json").unlink()
    assert there.run("restore", "--once").stdout == "restored: 1 files\n"
    here.write("b", "2")
    here.copy()
    before = len(bucket.calls())
    assert there.run("restore", "--once").stdout == ""
    assert len(bucket.calls()) == before
    there.copy()
    assert "restored: 1 files" in there.run("status").stdout


def test_a_lost_or_broken_index_copies_nothing_again(here: KeepMachine, bucket: Emulator) -> None:
    here.write("a", "a" * 1000)
    here.write("b", bytes(9 << 20))
    here.copy()
    index = here.root / "home/ann/.local/state/golden-keep/index.sqlite"
    for damage in (index.unlink, lambda: index.write_bytes(b"no database" * 1000)):
        damage()
        before = len(bucket.calls())
        assert here.copy()["waiting_files"] == 0
        asked = [name for name, _ in bucket.calls()[before:]]
        assert set(asked) == {"s3:HeadObject"}, asked


def test_two_machines_never_overwrite_each_other(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    for each in (here, there):
        each.write("seed", "equal")
        each.copy()  # from then on it asks for no object before it writes one
    for number, (first, second) in enumerate([(100, 200), (200, 100)]):
        name = f"notes{number}.txt"
        os.utime(here.write(name, f"here {number}"), (first, first))
        os.utime(there.write(name, f"there {number}"), (second, second))
    here.copy()
    status = there.copy()
    assert objects() == {
        "seed": b"equal",
        "notes0.txt": b"there 0",
        f"notes0.{HERE}.txt": b"here 0",
        "notes1.txt": b"here 1",
        f"notes1.{NEXT}.txt": b"there 1",
    }
    assert status["waiting_files"] == 0
    assert sorted(status["beside"]) == [f"notes0.{HERE}.txt", f"notes1.{NEXT}.txt"]
    done = here.run("restore")
    assert "restored: 3 files" in done.stdout, done
    assert (here.keep / "notes0.txt").read_text(encoding="utf-8") == "there 0"
    assert (here.keep / f"notes0.{HERE}.txt").read_text(encoding="utf-8") == "here 0"
    # A file that was changed here stays.
    here.write("notes1.txt", "changed here")
    there.write("notes1.txt", "changed there")
    there.copy()
    done = here.run("restore")
    assert f"notes1.txt is another here; the bucket's is notes1.{NEXT}.txt" in done.stdout, done
    assert (here.keep / "notes1.txt").read_text(encoding="utf-8") == "changed here"


def test_an_end_names_what_it_lost_and_what_was_deleted(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    here.write("old", "old")
    here.write("stays", "stays")
    here.copy()
    (here.keep / "old").unlink()
    here.write("small", "small")
    here.write("huge", bytes(30 << 20))
    status = here.status()
    state = here.runtime / "status.json"
    state.write_text(json.dumps({**status, "rate": 1_000_000}), encoding="utf-8")
    here.end(12)
    assert here.run("copy").returncode == 3
    assert here.status()["waiting"] == ["huge"]
    done = there.run("restore")
    assert f"1 files of {HERE} were not safe at its end (spot, " in done.stdout
    assert done.stdout.splitlines()[0].endswith("): huge")
    assert sorted(path.name for path in there.keep.glob("[!.]*")) == ["small", "stays"]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ({"mode": "refused", "code": "AccessDenied", "status": 403}, "AccessDenied: "),
        ({"mode": "refused", "code": "KMS.DisabledException", "status": 400}, "KMS.Disabled"),
        ({"mode": "throttled"}, "SlowDown: "),
    ],
)
def test_a_bucket_that_refuses_is_one_line_and_the_next_round_copies(
    here: KeepMachine, bucket: Emulator, mode: dict[str, Any], said: str
) -> None:
    here.write("a", "a")
    bucket.late({**mode, "calls": ["s3:PutObject"]})
    status = here.copy()
    assert status["trouble"].startswith(said) and "\n" not in status["trouble"], status
    assert status["waiting"] == ["a"]
    why = here.run("why")
    assert why.returncode == 3 and status["trouble"] in why.stdout
    bucket.late()
    assert here.copy()["trouble"] == "" and objects() == {"a": b"a"}


def test_no_bucket_no_way_and_no_credentials_are_one_line_each(
    here: KeepMachine, bucket: Emulator
) -> None:
    here.write("a", "a")
    assert here.copy(AWS_ENDPOINT_URL="http://127.0.0.1:9")["trouble"].startswith(
        "EndpointConnectionError: "
    )
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert here.copy(**nobody)["trouble"].startswith("NoCredentialsError: ")
    here.set(keep="s3://not-there/vision")
    assert here.copy()["trouble"].startswith("NoSuchBucket: s3://not-there/vision/ann/")
    here.set(keep="")
    done = here.run("copy")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "nothing is kept: set golden_idle_keep" in done.stderr


def test_a_copier_that_is_killed_at_any_request_leaves_whole_objects(
    here: KeepMachine, bucket: Emulator
) -> None:
    here.write("small", "old")
    here.copy()
    contents = {"small": b"new", "next": b"next", "large": os.urandom(9 << 20)}
    for name, content in contents.items():
        here.write(name, content)
    index = here.root / "home/ann/.local/state/golden-keep/index.sqlite"
    known, number, ended = index.read_bytes(), 0, False
    allowed = {"small": {b"old", b"new"}, "next": {b"next"}, "large": {contents["large"]}}
    s3 = boto3.client("s3", REGION)
    while not ended:
        number += 1
        for after in (False, True):
            for path in ("next", "large"):
                s3.delete_object(Bucket=BUCKET, Key=PREFIX + path)
            s3.put_object(Bucket=BUCKET, Key=PREFIX + "small", Body=b"old")
            index.write_bytes(known)
            with Proxy(bucket.url) as proxy:
                # It waits until the test knows whom to kill.
                process = here.start("copy", AWS_ENDPOINT_URL=proxy.url)
                proxy.kill = (process.pid, number, after)
                process.communicate()
                killed = process.returncode == -signal.SIGKILL
            for path, content in objects().items():
                assert content in allowed[path], (number, after, path)
            ended = not killed
            whole = objects()
            before = len(bucket.calls())
            status = here.copy()
            assert status["trouble"] == "" and status["waiting_files"] == 0, status
            assert objects() == contents
            sent = [name for name, _ in bucket.calls()[before:] if name == "s3:UploadPart"]
            assert not sent or whole.get("large") != contents["large"], "it was copied twice"
    assert number > 6, f"it died at {number - 1} requests"


def test_a_bucket_of_another_region_is_followed(here: KeepMachine, bucket: Emulator) -> None:
    def other_region(request: Any) -> tuple[int, bytes, dict[str, str]] | None:
        if "/eu-west-1/s3/" in request.headers["Authorization"]:
            return None
        body = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
        return 301, body, {"x-amz-bucket-region": "eu-west-1"}

    here.write("a", "a")
    here.write("large", bytes(9 << 20))
    with Proxy(bucket.url) as proxy:
        proxy.meet = other_region
        status = here.copy(AWS_ENDPOINT_URL=proxy.url)
    assert status["trouble"] == "" and set(objects()) == {"a", "large"}, status


@pytest.mark.parametrize("size", [3 << 20, 20 << 20])
def test_a_file_that_changes_while_it_is_copied_is_no_object_until_it_rests(
    size: int, here: KeepMachine, bucket: Emulator
) -> None:
    file = here.write("log", bytes(size))
    here.copy()
    file.write_bytes(b"1" * size)

    def append(request: Any) -> None:
        if request.command != "HEAD":
            with file.open("ab") as opened:
                opened.write(b"2")

    with Proxy(bucket.url) as proxy:
        proxy.meet = append
        status = here.copy(AWS_ENDPOINT_URL=proxy.url)
    [content] = objects().values()
    if size > 8 << 20:  # it is sent in parts
        assert status["waiting"] == ["log"] and content == bytes(size)
    else:
        assert content == b"1" * size, "a whole version"
    assert here.copy()["waiting"] == [] and objects() == {"log": file.read_bytes()}
    uploads = boto3.client("s3", REGION).list_multipart_uploads(Bucket=BUCKET)
    assert "Uploads" not in uploads, "what was broken off is taken back"


def test_an_end_copies_what_fits_and_stops_in_time(here: KeepMachine, bucket: Emulator) -> None:
    contents = {f"small{number}": os.urandom(100_000) for number in range(5)}
    for name, content in {**contents, "huge": bytes(200_000_000)}.items():
        here.write(name, content)
    with Proxy(bucket.url, rate=5_000_000) as proxy:
        # Enough for a busy machine, and too little for the huge file at this rate.
        until_s = here.end(30)
        status = here.copy(AWS_ENDPOINT_URL=proxy.url)
    found = objects()
    record = json.loads(found.pop(f".golden-keep/{HERE}.json"))
    assert status["waiting"] == ["huge"] and found == contents
    assert status["at"] < until_s + 5, "whatever the bucket does"
    assert (record["machine"], record["kind"], record["waiting"]) == (HERE, "spot", ["huge"])


def test_an_end_during_a_copy_is_told_and_obeyed(here: KeepMachine, bucket: Emulator) -> None:
    here.write("huge", bytes(300_000_000))
    with Proxy(bucket.url, rate=5_000_000) as proxy:
        process = here.start("copy", AWS_ENDPOINT_URL=proxy.url)
        until("a rate", lambda: (here.runtime / "status.json").exists() and here.status()["rate"])
        until_s = here.end(20)
        process.communicate()
        here.copy(AWS_ENDPOINT_URL=proxy.url)
    assert here.status()["waiting"] == ["huge"] and here.status()["at"] < until_s + 5
    found = objects()
    assert json.loads(found.pop(f".golden-keep/{HERE}.json"))["waiting"] == ["huge"]
    assert found == {}


def test_parts_on_their_way_keep_nothing_waiting_that_fits_an_end(
    here: KeepMachine, bucket: Emulator
) -> None:
    for number in range(8):
        here.write(f"huge{number}", bytes(100_000_000))
    with Proxy(bucket.url, rate=5_000_000) as proxy:
        process = here.start("copy", AWS_ENDPOINT_URL=proxy.url)
        until("a rate", lambda: (here.runtime / "status.json").exists() and here.status()["rate"])
        medium = os.urandom(15_000_000)
        here.write("medium", medium)
        here.end(20)
        process.communicate()
        # As the agent, which starts one after the other.
        status = here.copy(AWS_ENDPOINT_URL=proxy.url)
    found = objects()
    lost = [f"huge{number}" for number in range(8)]
    assert status["waiting"] == lost and found["medium"] == medium
    assert json.loads(found[f".golden-keep/{HERE}.json"])["waiting"] == lost


def test_restore_writes_nothing_outside_the_folder_and_names_what_it_leaves(
    there: KeepMachine, bucket: Emulator
) -> None:
    s3 = boto3.client("s3", REGION)
    for key in (
        "../escape",
        "/absolute",
        "a/../../b",
        "link/file",
        "x" * 300,
        "fine",
        "plain/file",
    ):
        s3.put_object(Bucket=BUCKET, Key=PREFIX + key, Body=b"x")
    outside = there.root / "outside"
    outside.mkdir()
    (there.keep / "link").symlink_to(outside)
    there.write("plain")
    done = there.run("restore")
    assert (there.keep / "fine").read_bytes() == b"x" and not list(outside.iterdir())
    assert done.stdout.count("left out: ") == 6 and done.returncode == 0, done
    assert not (there.root / "home/ann/escape").exists()


def test_an_object_that_changes_during_a_restore_is_left_for_the_next(
    there: KeepMachine, bucket: Emulator
) -> None:
    s3 = boto3.client("s3", REGION)
    s3.put_object(Bucket=BUCKET, Key=PREFIX + "a", Body=b"old")

    def write(request: Any) -> None:
        if request.path.endswith("/a"):
            s3.put_object(Bucket=BUCKET, Key=PREFIX + "a", Body=b"new")

    with Proxy(bucket.url) as proxy:
        proxy.meet = write
        done = there.run("restore", AWS_ENDPOINT_URL=proxy.url)
    assert "left out: a: another machine just wrote it: restore again" in done.stdout, done
    assert there.run("restore").stdout == "restored: 1 files\n"
    assert (there.keep / "a").read_bytes() == b"new"


def test_no_space_for_a_restore_is_one_line_and_nothing_comes(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    here.write("a", "a")
    here.copy()

    def endless(request: Any) -> tuple[int, bytes, dict[str, str]] | None:
        if "list-type" not in request.path:
            return None
        body = (
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents>"
            f"<Key>{PREFIX}a</Key><Size>{1 << 50}</Size><ETag>e</ETag>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
        )
        return 200, body.encode(), {}

    with Proxy(bucket.url) as proxy:
        proxy.meet = endless
        done = there.run("restore", AWS_ENDPOINT_URL=proxy.url)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no space: 1125899.9 GB would come back" in done.stderr
    assert sorted(there.keep.iterdir()) == []


def test_a_restore_that_is_killed_leaves_no_half_file_and_runs_again(
    here: KeepMachine, there: KeepMachine, bucket: Emulator
) -> None:
    contents = {"a": b"a", "b/c": os.urandom(9 << 20)}
    for name, content in contents.items():
        here.write(name, content)
    here.copy()
    number, killed = 0, True
    while killed:
        number += 1
        with Proxy(bucket.url) as proxy:
            process = there.start("restore", AWS_ENDPOINT_URL=proxy.url)
            proxy.kill = (process.pid, number, True)
            process.communicate()
            killed = process.returncode == -signal.SIGKILL
        for name, content in contents.items():
            path = there.keep / name
            assert not path.exists() or path.read_bytes() == content
    assert number >= 3 and there.run("restore").stdout == "restored: 0 files\n"
    assert {name: (there.keep / name).read_bytes() for name in contents} == contents
    assert not (there.keep / ".golden-keep/new").exists()


def test_a_full_disk_keeps_no_file_from_the_bucket(here: KeepMachine, bucket: Emulator) -> None:
    here.write("a", "a")
    (here.root / "home/ann/.local").write_bytes(b"")  # no folder can be made there
    status = here.copy()
    assert objects() == {"a": b"a"} and status["waiting"] == []
    assert "index.sqlite: " in status["trouble"]


def test_status_and_why_say_in_words_what_an_end_would_lose(
    here: KeepMachine, bucket: Emulator
) -> None:
    assert "no copy ran yet: `sudo systemctl start golden-keep@" in here.run("status").stderr
    here.write("a", "12345")
    os.mkfifo(here.keep / "pipe")
    here.copy()
    status = here.run("status")
    assert status.returncode == 0
    assert status.stdout.startswith("safe: 1 files, 5 bytes, in s3://team-keep/vision/ann\nall was")
    assert "an end now would lose 0 files" in status.stdout
    assert "left out: pipe: a pipe" in status.stdout
    assert here.run("why").stdout.startswith("safe: all files were copied ")
