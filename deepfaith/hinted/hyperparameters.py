"""What a hinted explainer's training follows from beside the task and the seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmark.learning.fitting import Fitting
from benchmark.learning.hints import Hints


@dataclass(frozen=True)
class HintedHyperparameters:
    """Everything that makes a hinted explainer but the task and the seed.

    Args:
        hints: what is weighed.
        fitting: the training loop.
        gains, additive, separate: see `HintedExplainer`.
        start: `best`, or `nothing` where all gains begin at 0.
        loss: over `groups`, or over as many sets of `mixed` sizes in one correlation.
        width, depth, heads, dropout: of the encoder.
        batch: inputs a step.
        sets: removal sets of each group and input.
        noise: see `Groups`.
        ordering: see `group_loss`.
        mix: share of an input's features that come from another training row.
        fresh: inputs whose removal sets are drawn and asked together, in the order of the explainer as it is then.
        every: iterations between two such draws.
        pool: inputs whose answers are kept, the latest ones, and no fewer than `batch`; on large inputs as many as
            `POOL_BYTES` hold.
        validation: training inputs that are not trained on and validate.
    """

    hints: Hints
    fitting: Fitting
    gains: bool
    additive: bool
    separate: bool
    start: str
    loss: str
    width: int
    depth: int
    heads: int
    dropout: float
    batch: int
    sets: int
    noise: float
    ordering: float
    mix: float
    fresh: int
    every: int
    pool: int
    validation: int

    def plain(self) -> dict[str, Any]:
        """Return this recipe as plain data."""
        return asdict(self)
