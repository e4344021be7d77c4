"""SUFF: what is lost when only the most relevant features are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.scoring.metrics import METRICS, OrderedProbe, ProbeMetric, Response, Samples, Scores, drop, mean

if TYPE_CHECKING:
    from benchmark.scoring.ordered_sets import Ordering
    from benchmark.scoring.removal_sets import RemovalSets

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Kept(OrderedProbe):
    """All but the most relevant features are removed: of each share of the features at least one is kept."""

    shares: tuple[float, ...]
    kind = "kept"
    cost = f"{len(SHARES)} a method; none where there is a value table"

    def sets(self, samples: Samples, ordering: Ordering) -> RemovalSets:
        """See `OrderedProbe`."""
        import torch  # boards, which read metrics, are made without it

        from benchmark.scoring.ordered_sets import OrderedSets

        count = samples.valid.sum(1, keepdim=True)
        shares = torch.tensor(self.shares, dtype=torch.float64, device=count.device)
        kept = (count * shares).round().clamp(min=1).to(ordering.bounds)
        return OrderedSets(ordering, kept, count.to(ordering.bounds).expand_as(kept), None)


@METRICS.register("SUFF", group="faithfulness", higher_is_better=False)
class Sufficiency(ProbeMetric):
    """Sufficiency of the most relevant features."""

    title = "Sufficiency"
    probe = Kept(SHARES)
    low, high = -1.0, 1.0
    formula = (
        "mean over the shares 1, 5, 10, 20 and 50 % of (v_0 - v with only so many of the most relevant features kept, "
        "at least one), all others at the removal baseline"
    )
    meaning = "Do the few most relevant features alone carry the prediction?"
    blind_to = "The order within a share, all values beyond their order, and the less relevant half of the features."
    redundancy = "Near INS where both baselines are the same, with most of its weight on few features."
    source = "DeYoung et al. 2020, section 4 (ERASER), with its shares; features are replaced, not cut out"

    def score(self, response: Response) -> Scores:
        """Return the mean drop over the shares."""
        return mean(drop(response), response)
