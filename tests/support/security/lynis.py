"""A scenario: Lynis asks a booted image, as root. `tools` of the folder holds it, unpacked.

It counts a booted machine's kernel, services and processes; of a tree alone it says little. Under emulation its
thousands of small programs take a quarter of an hour.
"""

from __future__ import annotations

import re

from support.builds import guest

PLACE = "/var/tmp/lynis"
LIMIT_S = 7200.0
ASK = (f"cd {PLACE}/usr/share/lynis && sudo env LYNIS_HOME={PLACE} sh {PLACE}/usr/sbin/lynis audit system --quick "
       f"--quiet --no-colors --profile {PLACE}/etc/lynis/default.prf --plugindir {PLACE}/etc/lynis/plugins 2>&1 | "
       "tail -n 40; sudo cat /var/log/lynis-report.dat; "
       "sudo grep -oE 'Performing test ID [A-Z0-9-]+|having [0-9]+ points [(]out of [0-9]+' /var/log/lynis.log")


def lost(log: str) -> dict[str, int]:
    """Points that each test could have given and did not, by its name."""
    found, test, got, most = dict[str, int](), "", 0, 0
    for name, points, of in re.findall(r"test ID (\S+)|having (\d+) points \(out of (\d+)", log):
        test = name or test
        if points:
            found[test] = found.get(test, 0) + int(of) - most - int(points) + got
            got, most = int(points), int(of)
    return {name: count for name, count in found.items() if count}


def main() -> None:
    """The facts: index, number of tests, points lost, warnings and suggestions, by their tests' names."""
    folder = guest.prepare()
    with guest.booted(folder) as machine:
        guest.put(machine, folder / "tools", PLACE)
        report = machine.ssh(ASK, timeout_s=LIMIT_S)
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([a-z_]+)(?:\[\])?=(.*)$", report, re.MULTILINE):
        found.setdefault(name, []).append(value)
    assert "hardening_index" in found, report
    guest.tell(folder, index=int(found["hardening_index"][0]), version=found["lynis_version"][0],
               tests=int(found["lynis_tests_done"][0]), lost=lost(report),
               warnings=[text.split("|")[:2] for text in found.get("warning", [])],
               suggestions=[text.split("|")[:2] for text in found.get("suggestion", [])])


if __name__ == "__main__":
    main()
