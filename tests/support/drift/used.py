"""A scenario: a machine after its first boot, some use and the work of its timers; its disk stays
as `used.qcow2`.

But for fstrim, which EBS does not know.
"""

from __future__ import annotations

import shutil

from goldenami.local.vm import vm

from support.builds import guest

USE = """
for timer in $(systemctl list-timers --all --no-legend | grep -o '[^ ]*[.]service' | grep -v fstrim | sort -u); do
  sudo systemctl start $timer || true
done
python3 -m venv --without-pip ~/env
for number in $(seq 200); do echo $number > ~/file-$number; done
head -c 20000000 /dev/urandom > ~/data
logger used; sync
"""


def main() -> None:
    """Only the disk matters."""
    folder = guest.prepare()
    with guest.booted(folder) as machine:
        machine.ssh(USE, timeout_s=1800)
        vm.power_off(machine)
        shutil.copyfile(folder / "vm/root.qcow2", folder / "used.qcow2")
    guest.tell(folder)


if __name__ == "__main__":
    main()
