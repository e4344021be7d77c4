"""Every metric as a recipe, whose parts a variant replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from benchmark.inspection.crosscheck.cases import Case
from benchmark.scoring.evaluator import Evaluator
from benchmark.testing.golden import Golden
from benchmark.testing.variants import correlations, curves, parts
from benchmark.testing.variants.correlations import Correlation
from benchmark.testing.variants.curves import Curve


class Recipe(Protocol):
    """A dataclass whose fields are the parts of a score."""

    def score(self, golden: Golden, row: int) -> float:
        """Return the score of one sample of a case."""


@dataclass(frozen=True)
class Evaluated:
    """A metric of which nothing is known but its scores: what goes in and what comes out can be changed alone.

    Attributes:
        metric: its name.
        attribution: as what the attributions are taken.
        finish: how the score is reported.
    """

    metric: str
    attribution: Callable[[np.ndarray], np.ndarray] = parts.signed
    finish: Callable[[float], float] = parts.as_it_is

    def score(self, golden: Golden, row: int) -> float:
        """Return the score of one sample of a case."""
        key = "evaluated", self.attribution
        if key not in golden.kept:
            case: Case = golden.case
            evaluator = Evaluator(golden.task, case.seed, case.samples, metrics=[self.metric], value_table=case.lookup)
            changed = torch.as_tensor(self.attribution(golden.attributions.numpy()))
            golden.kept[key] = evaluator.score(changed).scores[self.metric].numpy()
        scores = golden.kept[key]
        assert isinstance(scores, np.ndarray)
        return float(self.finish(float(scores[row])))


RECIPES: dict[str, Recipe] = {
    "FC": Correlation(),
    "FE": Correlation(sets=correlations.groups),
    "MC": Correlation(
        sets=correlations.groups, mass=correlations.magnitude_of_sum, effect=parts.tied_lost_share,
        statistic=correlations.spearman,
    ),
    "INF": Correlation(sets=correlations.halves),
    "DEL": Curve(),
    "INS": Curve(path=curves.inserted),
    "NEG": Curve(path=curves.least_relevant, cut=curves.at_the_flip),
    "POS": Curve(cut=curves.at_the_flip),
    "RP": Curve(effect=parts.drop, first=0),
    "IROF": Curve(effect=parts.lost_share),
}  # fmt: skip
"""The ten; written once more from their formulas, beside the table of metrics and the slow twins."""


def recipe_of(metric: str) -> Recipe:
    """Return the recipe of a registered metric.

    Example:
        >>> recipe_of("IROF").effect.__name__
        'lost_share'
    """
    return RECIPES.get(metric) or Evaluated(metric)
