"""Judges configurations of one method by its own scores alone, so that no choice depends on company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.scoring.metrics import METRICS
from benchmark.tuned.classes import CLASSES, name_of
from benchmark.tuned.files import Choice, Trial


def chosen(trials: Sequence[Trial], random: Mapping[str, float]) -> dict[str, Choice]:
    """Return the best configuration in each class of costs that any enters, by the class's name.

    A class is entered by what was tried for it and asks no more rows, and by the choice of the class below.
    """
    found: dict[str, Choice] = {}
    below: Trial | None = None
    for rows in CLASSES:
        fitting = [one for one in trials if one.rows is not None and (rows is None or one.rows <= rows)]
        entered = [one for one in fitting if name_of(rows) in one.classes or one is below]
        if entered:
            values = scaled(entered, random)
            at = int(np.argmax(values))
            below = entered[at]
            found[name_of(rows)] = Choice(below.params, below.rows or 0.0, float(values[at]), len(entered))
    return found


def scaled(trials: Sequence[Trial], random: Mapping[str, float]) -> np.ndarray:
    """Return the value (n,) of each trial: the mean over metrics of its score, 0 for `random` and 1 for the best here.

    A metric in which none is better than `random` counts 0 for all that equal it, and less for those below, -1 for the
    worst.
    """
    columns = []
    for name, chance in random.items():
        sign = 1.0 if METRICS[name].higher_is_better else -1.0
        gains = np.array([sign * (one.scores.get(name, chance) - chance) for one in trials])
        span = gains.max() if gains.max() > 0 else np.abs(gains).max()
        columns.append(gains / span if span > 0 else gains)
    return np.mean(columns, axis=0)
