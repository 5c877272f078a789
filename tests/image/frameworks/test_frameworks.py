"""The image's frameworks: exactly the lock's, usable without rights, within the CPUs that they were
compiled for."""

from typing import Any

import pytest
from goldenami.local.vm import cpu
from goldenami.model.supported.instruction_sets import NO_SPEEDUP

SIGILL = 132
"""What a shell or `runuser` returns for a program that died of an illegal instruction: 128 + 4."""


@pytest.fixture(scope="module")
def lacking(ran: dict[str, Any], lock: dict[str, Any]) -> list[str]:
    """Instruction sets of the declared hardware that this machine has not."""
    wanted = set(lock["frameworks_cpu_features"]) - NO_SPEEDUP
    return sorted(wanted - cpu.shown(ran["flags"], wanted))


@pytest.mark.no_boot
def test_environments_hold_exactly_the_lock_s_wheels(
    files: dict[str, Any], lock: dict[str, Any]
) -> None:
    wanted = dict[str, dict[str, str]]()
    for one in _groups(lock):
        wheels = {name: wheel["version"] for name, wheel in one["wheels"].items()}
        wanted.setdefault(one["environment"], {}).update(wheels)
    assert files["distributions"] == wanted


@pytest.mark.no_boot
def test_packages_of_each_environment_fit(files: dict[str, Any]) -> None:
    assert {
        name: done["out"] + done["err"] for name, done in files["check"].items() if done["rc"]
    } == {}


@pytest.mark.no_boot
def test_frameworks_work_for_a_user_without_rights(
    ran: dict[str, Any],
    lock: dict[str, Any],
    lacking: list[str],
) -> None:
    """What the index's wheels hold runs on any machine; what was compiled here, on the declared
    hardware."""
    compiled = {one["name"] for one in lock["frameworks_installed"] if one["origin"] == "source"}
    failed = {name: done for name, done in ran["smoke"].items() if done["rc"]}
    foreign = {
        name
        for name, done in failed.items()
        if name in compiled and done["rc"] == SIGILL and lacking
    }
    assert {name: done for name, done in failed.items() if name not in foreign} == {}
    if foreign:
        pytest.skip(
            "not asked: this CPU is none of the declared hardware, it lacks "
            f"{', '.join(lacking)}, which "
            f"{', '.join(sorted(foreign))} may use"
        )


@pytest.mark.no_boot
def test_python_packages_are_imported_by_a_user_without_rights(
    ran: dict[str, Any],
    lock: dict[str, Any],
    lacking: list[str],
) -> None:
    """With what was compiled here for the declared hardware, where this machine can run that."""
    asked = {name for one in lock["frameworks_python_packages"] for name in one["projects"]}
    assert ran["imported"].keys() == asked
    allowed = {0, SIGILL} if lacking else {0}
    assert {name: done for name, done in ran["imported"].items() if done["rc"] not in allowed} == {}


@pytest.mark.no_boot
def test_what_runs_can_be_compiled(files: dict[str, Any], lock: dict[str, Any]) -> None:
    """Triton, and so torch.compile, compiles its launchers with g++ and Python's headers."""
    if not lock["frameworks_compiler_enabled"]:
        pytest.skip("not asked: frameworks_compiler_enabled is false")
    assert {name: done["err"] for name, done in files["compiled"].items() if done["rc"]} == {}


@pytest.mark.no_boot
def test_record_says_what_the_lock_says(files: dict[str, Any], lock: dict[str, Any]) -> None:
    assert files["record"] == lock["frameworks_installed"]


@pytest.mark.no_boot
def test_everything_is_root_s_and_everybody_can_read_it(files: dict[str, Any]) -> None:
    assert files["closed"] == []


@pytest.mark.no_boot
def test_pip_of_a_login_is_its_python3_s(files: dict[str, Any], lock: dict[str, Any]) -> None:
    """By each of its names: it lists the frameworks, and says in one line where packages of one's
    own go."""
    _one_environment(lock)
    listed = {name: done["out"] for name, done in files["pips"].items() if name.endswith("freeze")}
    assert len(listed) == 3 and len(set(listed.values())) == 1, listed
    projects = {
        line.partition("==")[0].lower() for line in next(iter(listed.values())).splitlines()
    }
    assert set(_groups(lock)[0]["wheels"]) - {name.replace("_", "-") for name in projects} == set()
    refused = {name: done for name, done in files["pips"].items() if not name.endswith("freeze")}
    assert len(refused) == 6
    for name, done in refused.items():
        assert done["rc"] == 1 and len(done["err"].splitlines()) == 1, f"{name}: {done}"
        assert "ml env NAME" in done["err"], f"{name}: {done}"


@pytest.mark.no_boot
def test_an_environment_of_one_s_own_sees_the_frameworks(
    ran: dict[str, Any], lock: dict[str, Any], lacking: list[str]
) -> None:
    """Its last command imports them, on whichever CPU the bake has."""
    _one_environment(lock)
    assert ran["own"]["rc"] in ({0, SIGILL} if lacking else {0}), ran["own"]


@pytest.mark.no_boot
def test_the_doctor_finds_the_frameworks_whole(ran: dict[str, Any], lock: dict[str, Any]) -> None:
    """Whatever else it says of the machine that this runs on."""
    _one_environment(lock)
    wrong = (
        "does not work",
        "bytes",
        "hides",
        "was built with",
        "ended",
        "says it is",
        "comes before",
    )
    found = [
        line for line in ran["doctor"]["out"].splitlines() if any(word in line for word in wrong)
    ]
    assert (found, ran["doctor"]["err"]) == ([], "")


def _one_environment(lock: dict[str, Any]) -> None:
    if len({one["environment"] for one in _groups(lock)}) > 1:
        pytest.skip("not asked: of several environments a login has none")


def _groups(lock: dict[str, Any]) -> list[dict[str, Any]]:
    """What has wheels: each framework, and the packages beside them."""
    return [*lock["frameworks_installed"], *lock["frameworks_python_packages"]]


def test_login_shells_know_the_programs_and_the_threads(facts: dict[str, Any]) -> None:
    assert facts["login"]["out"].splitlines() == [str(facts["cpus"]), "/opt/ml/bin/ml-run"], facts[
        "login"
    ]


@pytest.mark.no_boot
def test_frameworks_are_imported_as_the_login_s_message_says(
    ran: dict[str, Any], lacking: list[str]
) -> None:
    allowed = {0, SIGILL} if lacking else {0}
    assert ran["entered"]
    assert {
        command: done for command, done in ran["entered"].items() if done["rc"] not in allowed
    } == {}


def test_frameworks_work_for_whoever_logs_in(user: Any, lock: dict[str, Any]) -> None:
    """As the user of this connection, who is shown the message: a login shell's Python finds every
    framework."""
    installed = lock["frameworks_installed"]
    pam = user.check_output("grep pam_motd.so /etc/pam.d/sshd").splitlines()
    assert any("motd=" not in line for line in pam), "sshd shows no /etc/motd.d"
    enters = {one["module"]: f"ml {one['environment']} && " for one in installed}
    if len({one["environment"] for one in installed}) == 1:
        told = user.file("/etc/motd.d/60-golden-frameworks").content_string
        assert told.startswith("python3 has " + ", ".join(one["name"] for one in installed))
        enters = dict.fromkeys(enters, "")
    # An import takes ten times as long under emulation, and is made in the root tree.
    find = (
        "python3 -c 'import importlib.util, sys; "
        "print(importlib.util.find_spec(sys.argv[1]).origin)'"
    )
    for module, enter in enters.items():
        done = user.run("bash -lc %s", f"{enter}{find} {module}")
        assert "/opt/ml/" in done.stdout, f"{module}: {done.stdout}{done.stderr}"


@pytest.mark.usefixtures("needs_boot")
def test_threads_of_a_unit_are_those_of_its_quota(facts: dict[str, Any]) -> None:
    """CPUQuota=100% is one thread, however many CPUs the machine has: by ml-run, and by an
    environment's Python alone."""
    assert facts["unit"]["out"] == "1\n1", facts["unit"]
