"""Images of containers: whole in the image, and in the engine before anybody logs in."""

from __future__ import annotations

from typing import Any

import pytest

FOLDER, UNIT = "/usr/local/share/golden-containers", "golden-containers.service"
PROGRAM = """
import hashlib, json, pathlib, sys
files = {path.name: path for path in pathlib.Path(sys.argv[1]).iterdir()}
images = json.loads(files.pop("images.json").read_text())
found = {}
for name, path in files.items():
    with path.open("rb") as file:
        found[name] = hashlib.file_digest(file, "sha256").hexdigest()
named = lambda row: row["digest"].partition(":")[2]
manifests = {image["name"]: json.loads(files[image["manifest"]].read_text()) for image in images}
print(json.dumps({"blobs": found, "images": images, "manifests": {
    name: [named(one["config"]), *map(named, one["layers"])] for name, one in manifests.items()}}))
"""


@pytest.mark.no_boot
def test_blobs_are_those_of_the_lock(run_program: Any, lock: dict[str, Any]) -> None:
    """A manifest has its own digest, and names the configuration and the layers that are there."""
    found, images = run_program(PROGRAM, FOLDER), lock["containers_images"]
    assert found["images"] == images
    wanted = {image["name"]: [image["config"], *image["layers"]] for image in images}
    assert found["manifests"] == wanted
    digests = {image["manifest"] for image in images}.union(*wanted.values())
    assert found["blobs"] == {digest: digest for digest in digests}


def test_engine_gets_them_before_logins(host: Any) -> None:
    unit = host.service(UNIT)
    assert unit.is_enabled
    before = unit.systemd_properties["Before"].split()
    assert "systemd-user-sessions.service" in before


@pytest.mark.usefixtures("needs_boot")
def test_engine_has_them_without_a_pull(
    host: Any, lock: dict[str, Any], settled: str, record_figure: Any
) -> None:
    engine = lock["containers_engine"]
    for image in lock["containers_images"]:
        found = host.check_output(f"{engine} image inspect --format '{{{{.Id}}}}' {image['name']}")
        assert found.removeprefix("sha256:") == image["config"], image["name"]
    times = [
        int(host.check_output(f"systemctl show -P {name} {unit}"))
        for name, unit in (
            ("ExecMainStartTimestampMonotonic", UNIT),
            ("ExecMainExitTimestampMonotonic", UNIT),
            ("ExecMainStartTimestampMonotonic", "systemd-user-sessions.service"),
        )
    ]
    assert times == sorted(times), "somebody could log in before"
    record_figure("containers loaded", f"{(times[1] - times[0]) / 1e6:.1f} s")
