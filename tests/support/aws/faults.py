"""microburst in front of a server, on a port that the kernel chooses: `faults.py UPSTREAM` prints
the address.

Its own command line takes a fixed port only.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from microburst.app import make_app
from microburst.core.pipeline import Microburst


async def serve(upstream: str) -> None:
    """Serve until the process is ended."""
    runner = web.AppRunner(make_app(Microburst(upstream, rules=[], resign=False)))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
