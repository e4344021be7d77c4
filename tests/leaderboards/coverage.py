"""How often intervals of ranks hold the true rank: `python -m tests.leaderboards.coverage`, two minutes."""

from __future__ import annotations

import numpy as np

from leaderboards.bootstrap import rank_uncertainty, resampled
from leaderboards.rank import rank
from leaderboards.score_array import better_first
from tests.leaderboards.generated import several

CASES = 30
"""Simulated boards of each kind, twelve methods each."""


def coverage(spread: float, samples: int) -> dict[str, tuple[float, float]]:
    """Return, for our intervals and for percentiles, how often they hold the true mean rank, and their mean width."""
    rng = np.random.default_rng(1)
    hits: dict[str, list[np.ndarray]] = {"ours": [], "percentiles": []}
    widths: dict[str, list[np.ndarray]] = {"ours": [], "percentiles": []}
    for case in range(CASES):
        records, truth = several(1, 12, 1, samples, spread=spread, rng=rng, shared=0.9)
        true = better_first(truth[0], np.ones(truth.shape[2], bool), 0).mean(1)
        found = rank(records).scores
        observed = better_first(found.means, found.higher, 0).mean(1)
        sure = rank_uncertainty(resampled(found, seed=case), found.higher, observed)
        ends = {"ours": (sure.low, sure.high), "percentiles": tuple(np.quantile(sure.ranks, [0.025, 0.975], axis=0))}
        for name, (low, high) in ends.items():
            hits[name].append((low - 1e-9 <= true) & (true <= high + 1e-9))
            widths[name].append(high - low)
    return {name: (float(np.mean(hits[name])), float(np.mean(widths[name]))) for name in hits}


if __name__ == "__main__":
    print("spread  samples  ours: held  width   percentiles: held  width")
    for spread in (0.02, 0.1, 0.3, 1.0):
        for samples in (50, 400):
            found = coverage(spread, samples)
            (held, width), (held_too, width_too) = found["ours"], found["percentiles"]
            print(f"{spread:6.2f}  {samples:7d}  {held:10.2f}  {width:5.1f}   {held_too:17.2f}  {width_too:5.1f}")
