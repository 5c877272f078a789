"""Command line of the emulator, `python -m ec2_emulator [--port N]`: it prints what to export and
serves until interrupted."""

from __future__ import annotations

import argparse
import contextlib
import gc
import signal
import sys

# moto's modules are never garbage. Searching them for it would take a third of the start, and a
# fifth of each call.
gc.disable()

from ec2_emulator import server  # noqa: E402 - see above
from ec2_emulator.state import STATE, EmulatorSettings  # noqa: E402 - see above


def _stop(signum: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main() -> int:
    """Serve on loopback."""
    options = argparse.ArgumentParser(
        prog="ec2_emulator", description="EC2 and its neighbours on loopback."
    )
    options.add_argument(
        "--port", type=int, default=5000, help="0: the kernel chooses (default: %(default)s)"
    )
    options.add_argument(
        "--backdate-days",
        type=float,
        default=0.0,
        metavar="N",
        help="AMIs and snapshots seem N days older than they are, so that `retire` finds something",
    )
    arguments = options.parse_args()
    STATE.settings = EmulatorSettings(backdate_days=arguments.backdate_days)
    # SIGTERM ends the server as Ctrl-C does.
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(KeyboardInterrupt):
        http_server = server.make(arguments.port)
        # Later collections leave out all that is loaded by now, and look only at what calls make.
        gc.freeze()
        gc.enable()
        print(
            f"export AWS_ENDPOINT_URL=http://127.0.0.1:{http_server.server_port}\n"
            "export AWS_ACCESS_KEY_ID=emulator AWS_SECRET_ACCESS_KEY=emulator "
            "AWS_REGION=us-east-1 "
            "AWS_DEFAULT_REGION=us-east-1",
            flush=True,
        )
        http_server.serve_forever(poll_interval=0.02)
    return 0


if __name__ == "__main__":
    sys.exit(main())
