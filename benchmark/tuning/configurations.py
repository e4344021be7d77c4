"""Which configurations of a method are tried: a number of its search space, the same for every method."""

from __future__ import annotations

import random
from typing import Any

from benchmark.core.seeding import seed_for
from benchmark.core.types import METHODS, Modality
from benchmark.tuned.classes import name_of


def configurations(name: str, modality: Modality, rows: int | None, count: int, seed: int) -> list[dict[str, Any]]:
    """Return the parameters of configurations of a method in a class of costs: its defaults, then others, drawn.

    Args:
        name: of the method.
        modality: of the task.
        rows: the most rows an explanation, see `benchmark.tuned.classes`.
        count: how many, at most; all where the space has no more.
        seed: they are drawn from.
    """
    combinations = METHODS.get(name).space.combinations(modality, rows)
    order = random.Random(seed_for(seed, "configurations", name, modality, name_of(rows))).sample(
        combinations, len(combinations)
    )
    defaults: dict[str, Any] = {}
    return [defaults, *(one for one in order if one)][:count]
