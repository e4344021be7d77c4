"""Metrics: what one is, what it may need, the ten of the paper, and the registry of all.

A metric needs one of two things:

- removal sets (`ProbeMetric`): its `probe` says which features are removed together, its `reading` what is kept of the
  model's answers - the target's probability, all logits, what layers give. It is handed a `Response` and makes a score
  a sample of it, most often as an effect of each removal (effects.py) and an aggregate of these (aggregates.py);
- the explainer (`ExplainerMetric`): it is handed a `Subject`, which explains other inputs, or the inputs of another
  model.

The ten stand here (ten.py); every other is one file of `benchmark/metrics/`, of a package, or for `--include`.

Shapes: M methods, B samples, S removal sets a sample.
"""

from benchmark.scoring.metrics.aggregates import (
    absolute_rank_correlation,
    correlation,
    flagged,
    mass_of,
    mean,
    mean_until_flip,
    mean_with_start,
)
from benchmark.scoring.metrics.effects import EPS, drop, probability, share_lost, squared_relative_change
from benchmark.scoring.metrics.metric import EffectMetric, ExplainerMetric, Metric, ProbeMetric
from benchmark.scoring.metrics.probes import (
    BERNOULLI,
    FIXED,
    GROUPS,
    INSERT,
    LERF,
    MORF,
    OrderedProbe,
    Probe,
    Samples,
    SharedProbe,
)
from benchmark.scoring.metrics.readings import LOGITS, PROBABILITY, Reading, activations
from benchmark.scoring.metrics.registry import METRICS, OWN, PAPER, MetricRegistry, select_from, select_metrics
from benchmark.scoring.metrics.response import (
    CONSTANT_ATTRIBUTION,
    CONSTANT_RESPONSE,
    MODEL_NON_FINITE,
    NO_EXPLAINER,
    NON_FINITE,
    NOT_APPLICABLE,
    OK,
    REASONS,
    UNDEFINED,
    Response,
    Scores,
    all_logits,
)
from benchmark.scoring.metrics.ten import TEN

METRICS.discover("benchmark.metrics")

__all__ = [
    "BERNOULLI", "CONSTANT_ATTRIBUTION", "CONSTANT_RESPONSE", "EPS", "FIXED", "GROUPS", "INSERT", "LERF", "LOGITS",
    "METRICS", "MODEL_NON_FINITE", "MORF", "NON_FINITE", "NOT_APPLICABLE", "NO_EXPLAINER", "OK", "OWN", "PAPER",
    "PROBABILITY", "REASONS", "TEN", "UNDEFINED", "EffectMetric", "ExplainerMetric", "Metric", "MetricRegistry",
    "OrderedProbe", "Probe", "ProbeMetric", "Reading", "Response", "Samples", "Scores", "SharedProbe",
    "absolute_rank_correlation", "activations", "all_logits", "correlation", "drop", "flagged", "mass_of", "mean",
    "mean_until_flip", "mean_with_start", "probability", "select_from", "select_metrics", "share_lost",
    "squared_relative_change",
]  # fmt: skip
