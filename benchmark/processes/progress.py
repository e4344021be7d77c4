"""Progress bars, each of one process alone."""

from __future__ import annotations

from threading import RLock

from tqdm import tqdm

__all__ = ["tqdm"]

# By default tqdm has one lock for a process and all that it forks: one that is killed would hold it for good.
tqdm.set_lock(RLock())
