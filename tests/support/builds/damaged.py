"""A scenario: what a machine says of a file whose block was changed on its disk, or how its boot
ends."""

from __future__ import annotations

from goldenami.core.errors import GoldenError

from support.builds import guest

UNREAD = "/usr/share/common-licenses/GPL-3"
"""A file that no boot reads, of one extent."""


def main() -> None:
    """The facts: of the file, of the root, and of another file; or the error."""
    folder = guest.prepare()
    try:
        with guest.booted(folder) as machine:
            told = {
                "read": machine.ssh(f"cat {UNREAD} 2>&1 >/dev/null || true"),
                "status": machine.ssh("sudo veritysetup status root"),
                "other": machine.ssh("cat /usr/share/common-licenses/GPL-2 | wc -l"),
            }
    except GoldenError as error:
        told = {"error": error.message}
    guest.tell(folder, **told)


if __name__ == "__main__":
    main()
