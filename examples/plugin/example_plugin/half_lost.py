"""A metric: what the prediction loses when the more relevant half of the features is gone."""

from benchmark.scoring.metrics import METRICS, MORF, ProbeMetric, drop


@METRICS.register("HALF", group="own", higher_is_better=True)
class HalfLost(ProbeMetric):
    """What the more relevant half of the features costs when it goes."""

    title = "Half lost"
    probe = MORF  # the most relevant groups of features are removed first: sets k = 1..K
    low, high = -1.0, 1.0
    formula = "v_0 - v_k at k = K / 2 (rounded up), most relevant removed first"
    meaning = "Does the prediction rest on the half that is called relevant?"
    blind_to = "The order within each half, and all values beyond their order."
    redundancy = "Near DEL, of which it is one point."
    source = "An example; no paper."

    def score(self, response):
        """Return a score for each method and sample, (M, B)."""
        lost = drop(response)  # (M, B, K)
        return lost[..., (lost.shape[-1] - 1) // 2]
