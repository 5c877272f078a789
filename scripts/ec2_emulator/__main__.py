"""`python -m ec2_emulator [--port N]`: runs until interrupted and prints what to export."""

from __future__ import annotations

import argparse
import contextlib
import gc
import signal
import sys

# moto's modules are never garbage: looking for it is a third of the start, and a fifth of each
# call.
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
    given = options.parse_args()
    STATE.settings = EmulatorSettings(backdate_days=given.backdate_days)
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(KeyboardInterrupt):
        served = server.make(given.port)
        gc.freeze()
        gc.enable()
        print(
            f"export AWS_ENDPOINT_URL=http://127.0.0.1:{served.server_port}\n"
            "export AWS_ACCESS_KEY_ID=emulator AWS_SECRET_ACCESS_KEY=emulator "
            "AWS_REGION=us-east-1 "
            "AWS_DEFAULT_REGION=us-east-1",
            flush=True,
        )
        served.serve_forever(poll_interval=0.02)
    return 0


if __name__ == "__main__":
    sys.exit(main())
