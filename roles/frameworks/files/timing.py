"""The clock of the benchmarks in the folders beside it, which find it by PYTHONPATH."""

import time
from collections.abc import Callable, Mapping


def rates(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Calls a second of CPU time for each name, over at least `seconds` and two calls; a first one
    is not counted."""
    return {name: _rate(call, seconds) for name, call in calls.items()}


def _rate(call: Callable[[], object], seconds: float) -> float:
    call()
    began, calls = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds or calls < 2:
        call()
        calls += 1
    return calls / spent
