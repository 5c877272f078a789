"""Boot a disk and open a session in it on the terminal: `python -m
goldenami.local.programs.open_session PLAN`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import GoldenError, space
from goldenami.core.terminal.meter import Meter
from goldenami.local.machine import ssh
from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel
from goldenami.model.builds.plans import BootPlan


def main() -> int:
    """Boot, log in, and power off when the session ends. Return 0, or the exit code of what kept
    the session from beginning."""
    plan = records.read(Path(sys.argv[1]), BootPlan)
    work, disk = plan.work, plan.disk
    try:
        key = ssh.new_key(work / "launch_key", "golden-shell")
        meter = Meter(print)
        with meter.working("probe"):
            kvm_works = vm.kvm_works(disk, work / "probe")
        print(
            f"booting {disk} ({'KVM' if kvm_works else 'emulated, about a minute'})",
            file=sys.stderr,
        )
        config = vm.VmConfig(
            disk=disk,
            scratch=work / "vm",
            private_key=key,
            user=plan.user,
            firmware=vm.Firmware.UEFI,
            accelerator=Accel.KVM if kvm_works else Accel.TCG,
            ssh_limit_s=plan.boot_limit_s,
        )
        with space(work), contextlib.ExitStack() as stack:
            with meter.working("boot", plan.expected_s):
                machine = stack.enter_context(vm.running(config))
            print(
                f"SSH after {machine.seconds_to_ssh:.0f} s; what you change is thrown away",
                file=sys.stderr,
            )
            return session(of_its_own(machine.ssh_config, work))
    except GoldenError as error:
        print(
            f"{error.tail}\ngolden: error: {error.message}\ngolden: to do: {error.hint}",
            file=sys.stderr,
        )
        return int(error.exit_code)


def of_its_own(config: Path, work: Path) -> Path:
    """Write into `work` the settings of `config` for a connection of its own, and return their
    path: sshd greets only the first session of a connection."""
    path = work / "session_config"
    path.write_text(f"ControlPath none\nInclude {config}\n", encoding="utf-8")
    return path


def session(config: Path) -> int:
    """Open a session on the caller's terminal. Return 0, because ssh's own status is that of the
    last command in it."""
    shell.interactive(["ssh", "-t", "-F", str(config), "golden"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
