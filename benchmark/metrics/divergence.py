"""KL: how far the probabilities of all classes move as the most relevant features go."""

from __future__ import annotations

from benchmark.scoring.metrics import LOGITS, METRICS, MORF, ProbeMetric, Response, Scores, all_logits, mean


@METRICS.register("KL", group="faithfulness", higher_is_better=True)
class Divergence(ProbeMetric):
    """Divergence of all class probabilities as the most relevant features are removed."""

    title = "Divergence of the class probabilities"
    probe, reading = MORF, LOGITS
    low, high = 0.0, float("inf")
    formula = (
        "mean over k = 1..K of the sum over classes c of p_0(c) log(p_0(c) / p_k(c)), p_k being the probabilities with "
        "the k most relevant groups removed, p_0 those of the whole input"
    )
    meaning = "How far does the whole prediction move when the most relevant features go first?"
    blind_to = "Whether the target gains or loses. A model that is very sure makes scores large: few samples may rule."
    redundancy = "Near RP, but for what happens among the other classes."
    source = "the curve of Samek et al. 2017 with the divergence of Kullback and Leibler 1951 in place of the drop"

    def score(self, response: Response) -> Scores:
        """Return the mean divergence along the curve."""
        logits, clean = all_logits(response)
        after, before = logits.log_softmax(-1), clean.log_softmax(-1).unsqueeze(1)
        divergence = (before.exp() * (before - after)).sum(-1).clamp(min=0)  # under 0 by rounding alone
        return mean(divergence, response)
