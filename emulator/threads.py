"""Work spread over threads: how many, and the pool they are kept in. Nothing computed depends on their number."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from .errors import BadOperand

__all__ = ["spread", "thread_count"]


def thread_count(threads: int | None = None) -> int:
    """Threads for what is large: `threads`, else EMULATOR_THREADS, else one per core. Raises BadOperand."""
    name = "threads"
    if threads is None:
        text, name = os.environ.get("EMULATOR_THREADS", ""), "EMULATOR_THREADS"
        if not text:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not text.isdigit():
            raise BadOperand(f"EMULATOR_THREADS is {text!r}; it takes a number of threads")
        threads = int(text)
    if threads < 1:
        raise BadOperand(f"{name} is {threads}; it takes 1 or more")
    return threads


_thread = threading.local()         # pooled: this thread is one of a pool's


@lru_cache(4)
def _pool(workers: int) -> ThreadPoolExecutor:
    """Kept, because a thread takes longer to start than a million numbers to convert."""
    return ThreadPoolExecutor(workers, "emulator", lambda: setattr(_thread, "pooled", True))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)           # a child has none of its parent's threads


def spread(work: Callable[[Any], Any], over: list[Any], threads: int | None = None) -> list[Any]:
    """What `work` makes of each, in as many threads as `thread_count` says; in this one if it is a pool's itself."""
    workers = min(thread_count(threads), len(over))
    if workers < 2 or getattr(_thread, "pooled", False):
        return [work(each) for each in over]
    return list(_pool(workers).map(work, over))
