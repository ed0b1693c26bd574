"""Measuring: CPU time of several calls in turn, so that a busy machine slows all alike."""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def seconds(calls: Mapping[str, Callable[[], object]], times: int = 5, *, collecting: bool = False) -> dict[str, float]:
    """Return the median CPU time of each call [s]; the calls take turns, with the garbage collector off unless told."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(times):
        for name, call in calls.items():
            gc.collect()
            if not collecting:
                gc.disable()
            try:
                start = time.process_time()
                call()
                taken[name].append(time.process_time() - start)
            finally:
                gc.enable()
    return {name: statistics.median(values) for name, values in taken.items()}


SAID: list[str] = []
"""Every line of the report so far, for the summary at the end of the run."""


def say(text: str) -> None:
    """Print a line of the report, and keep it for the summary."""
    SAID.append(text)
    print(f"\n{text}")
