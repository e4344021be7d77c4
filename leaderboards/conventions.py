"""Conventions that decide ranks: what may be done otherwise, why one might want to, and what a board does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmark.records.record import Record
from benchmark.scoring.metrics import TEN
from leaderboards.orders import (
    family_ranks,
    first_half,
    mean_ranks,
    median_ranks,
    sample_ranks,
    scaled_means,
    shared_best,
    without_copies,
    without_kinds,
)
from leaderboards.rank import Ranking
from leaderboards.selection import narrowed

Settings = Mapping[str, Mapping[str, str]]
"""By method, parameters as text."""


@dataclass(frozen=True)
class Convention:
    """One thing that may be done otherwise than a board does it.

    Attributes:
        name: of it, in a few words.
        objection: to what a board does, in a sentence.
        board: what a board does, in a sentence.
        settings: parameters given to methods, each in its own place on the board.
        by_modality: more of them, for one modality alone.
        asked: what of a whole run is otherwise: `seed` and `model` are added to those asked for; `precision`.
        part: what of each record counts.
        company: which methods of the board take part.
        order: what methods are ordered by, smaller is better.
    """

    name: str
    objection: str
    board: str
    settings: Settings = field(default_factory=dict)
    by_modality: Mapping[str, Settings] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    part: Callable[[Record], Record] | None = None
    company: Callable[[Ranking], Collection[str]] | None = None
    order: Callable[[Ranking], dict[str, float]] = mean_ranks

    @property
    def ranks_alone(self) -> bool:
        """Tell whether it needs no other records than those of the board."""
        return not (self.settings or self.by_modality or self.asked)

    def given(self, modality: str) -> dict[str, dict[str, str]]:
        """Return the parameters that methods are given on inputs of a modality, by method."""
        return _merged(self.settings, self.by_modality.get(modality, {}))


def _merged(*settings: Settings) -> dict[str, dict[str, str]]:
    """Return settings together, the later ones over the earlier."""
    together: dict[str, dict[str, str]] = defaultdict(dict)
    for each in settings:
        for method, given in each.items():
            together[method] |= given
    return dict(together)


def _all(methods: Collection[str], **given: str) -> dict[str, dict[str, str]]:
    return dict.fromkeys(methods, given)


GRADIENTS = ("integrated_gradients", "gradient_shap", "expected_gradients", "deeplift", "deeplift_shap", "saliency",
             "input_x_gradient", "guided_backprop", "lrp", "grad_cam", "grad_cam_plus_plus", "score_cam")  # fmt: skip
REMOVING = ("lime", "kernel_shap", "occlusion", "feature_ablation")
EXPLAINING = (*GRADIENTS, *REMOVING, "fastshap", "cxplain")
"""The methods that have an `output` to explain."""
CAPTUM = {"estimator": "captum"}
AUTHORS: dict[str, Settings] = {
    "table": {"lime": {"n_samples": "5000"}, "kernel_shap": {"n_samples": "2500"}},
    "text": {"lime": {"n_samples": "5000"}, "kernel_shap": {"n_samples": "2500"}},
    "image": {"kernel_shap": {"n_samples": "2500"}},
}
"""What the packages take by themselves: lime 5000 (1000 for an image), shap 2 n + 2048 for n players."""

CONVENTIONS = (
    Convention(
        "logits for all",
        "FastSHAP and CXPlain learn the probability and its logarithm, the baselines explain the logit.",
        "Each method explains what its paper explains.",
        _all(EXPLAINING, output="logit"),
    ),
    Convention(
        "probability for all",
        "All metrics ask the probability; who explains the logit answers another question.",
        "The baselines explain the logit; `output` is a parameter of each, and tuning chooses it.",
        _all(EXPLAINING, output="probability"),
    ),
    Convention(
        "log odds for all",
        "The probability is a function of the log odds alone, not of the logit.",
        "As above.",
        _all(EXPLAINING, output="log_odds"),
    ),
    Convention(
        "ablation of the probability",
        "FE and MC remove single features and read the probability: ablation of the probability is their answer.",
        "Ablation and occlusion explain the logit, as all baselines do.",
        _all(("feature_ablation", "occlusion"), output="probability"),
    ),
    Convention(
        "CXPlain on the probability",
        "CXPlain learns the loss, which grows without bound where the probability hardly moves.",
        "CXPlain learns the loss, as in its paper.",
        {"cxplain": {"output": "probability"}},
    ),
    Convention(
        "KernelSHAP as Captum",
        "Many use Captum's KernelSHAP, which draws subsets with replacement.",
        "Subsets are those of the package shap.",
        {"kernel_shap": CAPTUM},
    ),
    Convention(
        "LIME as Captum",
        "Many use Captum's LIME: a lasso, another kernel.",
        "Kernel and ridge are those of the authors' package.",
        {"lime": CAPTUM},
    ),
    Convention(
        "released code",
        "The code released with DeepFaith gives LIME and KernelSHAP 20 rows, in Captum's form.",
        "They have 100 rows on tables, 400 on texts, 1000 on images; preset `paper` gives 20.",
        _all(("lime", "kernel_shap"), n_samples="20", **CAPTUM),
    ),
    Convention(
        "budgets of the packages",
        "LIME and KernelSHAP have a fraction of the rows that their packages take by themselves.",
        "As above; the column of forward passes says what each has.",
        by_modality=AUTHORS,
    ),
    Convention(
        "budgets times four",
        "Sampling methods would gain places with more rows.",
        "One budget by modality for each method.",
        {
            "integrated_gradients": {"steps": "200"},
            "gradient_shap": {"samples": "200"},
            "expected_gradients": {"samples": "200"},
            "deeplift_shap": {"background": "40"},
        },
        {
            "table": _all(("lime", "kernel_shap"), n_samples="400"),
            "text": _all(("lime", "kernel_shap"), n_samples="1600"),
            "image": _all(("lime", "kernel_shap"), n_samples="4000"),
        },
    ),
    Convention(
        "60 rows for each",
        "Methods are compared at different costs.",
        "Costs stand beside the rank; tuned boards compare within classes of costs.",
        {
            "lime": {"n_samples": "60"},
            "kernel_shap": {"n_samples": "58"},
            "integrated_gradients": {"steps": "30"},
            "gradient_shap": {"samples": "30"},
            "expected_gradients": {"samples": "30"},
            "deeplift_shap": {"background": "15"},
        },
    ),
    Convention(
        "budgets of the packages on the probability",
        "A fair baseline has its own budget and explains what the metrics ask, both at once.",
        "Neither; tuning may choose both.",
        _all(EXPLAINING, output="probability"),
        AUTHORS,
    ),
    Convention(
        "references of zero",
        "Many take zero as the reference of gradients.",
        "The reference is what the task puts in place of a removed feature.",
        _all(("integrated_gradients", "deeplift"), reference="zero"),
    ),
    Convention(
        "training rows as references",
        "One reference is arbitrary: average over training rows, as GradientSHAP does.",
        "As above, but for GradientSHAP and expected gradients.",
        {"integrated_gradients": {"reference": "background"}},
    ),
    Convention(
        "GradientSHAP from the mean",
        "GradientSHAP alone starts from training rows, while features are removed to one value.",
        "It starts from training rows, as in its paper.",
        {"gradient_shap": {"reference": "mean"}, "expected_gradients": {"reference": "mean"}},
    ),
    Convention(
        "saliency with its sign",
        "Without its sign saliency cannot do well where signed mass is compared: FC, FE, INF.",
        "Saliency is the size of the gradient, as in its paper.",
        {"saliency": {"form": "signed"}},
    ),
    Convention(
        "saliency times input",
        "Removal goes a way, so the slope should be multiplied by it.",
        "As above; on images `input_x_gradient` is a method of its own.",
        {"saliency": {"form": "signed", "times_input": "true"}},
    ),
    Convention(
        "saliency by its norm",
        "Sizes of many numbers may be summed, squared, or the largest taken.",
        "They are summed.",
        by_modality={"text": {"saliency": {"form": "l2"}}, "image": {"saliency": {"form": "l2"}}},
    ),
    Convention(
        "saliency by its largest",
        "As above: the paper takes the largest.",
        "As above.",
        by_modality={"text": {"saliency": {"form": "largest"}}, "image": {"saliency": {"form": "largest"}}},
    ),
    Convention(
        "another window",
        "The size of the window decides the place of occlusion.",
        "One column, or 3 words; here 2 columns, or one word.",
        by_modality={"table": {"occlusion": {"window": "2"}}, "text": {"occlusion": {"window": "1"}}},
    ),
    Convention(
        "removal by zeros",
        "Methods that remove know how the metrics remove; Captum by itself removes to zero.",
        "Methods remove as the task and the metrics do.",
        _all(REMOVING, removal="zero"),
    ),
    Convention(
        "words deleted",
        "As above: the package lime deletes words.",
        "As above.",
        by_modality={"text": _all(REMOVING, removal="deletion")},
    ),
    Convention(
        "DeepFaith not told the prediction",
        "DeepFaith is given class and margin of the prediction, which the paper's is not.",
        "It is given both, at the cost of the one row that finds the class.",
        {"deepfaith": {"conditioning": "nothing"}},
    ),
    Convention(
        "DeepFaith without sign",
        "The paper's DeepFaith lies in [0, 1].",
        "It is signed.",
        {"deepfaith": {"form": "unit"}},
    ),
    Convention(
        "L2X at a higher temperature",
        "At a low temperature L2X does not find columns that its paper finds.",
        "What `show l2x` says; here 0.5.",
        by_modality={"table": {"l2x": {"temperature": "0.5"}}},
    ),
    Convention(
        "another seed",
        "Training, drawn subsets and the order of tied features follow one seed.",
        "Published boards say their seeds.",
        asked={"seed": 1},
    ),
    Convention(
        "another model",
        "One network a task: a rank may belong to that network.",
        "One network; `run --models` has others.",
        asked={"model": 1},
    ),
    Convention(
        "16-bit forwards",
        "Models are used in 16 bits.",
        "Forwards of the metrics are in 32 bits; boards of both never mix.",
        asked={"precision": "bf16"},
    ),
    Convention(
        "families count once",
        "DEL, RP and IROF, and INS and NEG, are nearly functions of one another and count several times.",
        "`rank` counts each metric, as the paper does; `fam. rank` stands beside it.",
        order=family_ranks,
    ),
    Convention(
        "deletion counts once",
        "As above: RP and IROF are functions of DEL on each sample.",
        "As above.",
        part=partial(narrowed, metrics=tuple(name for name in TEN if name not in ("RP", "IROF"))),
    ),
    Convention(
        "correlations alone",
        "FC, FE, MC and INF ask for values, the others for an order: they are two questions.",
        "All ten count alike.",
        part=partial(narrowed, metrics=("FC", "FE", "MC", "INF")),
    ),
    Convention(
        "curves alone",
        "As above, the other way round.",
        "As above.",
        part=partial(narrowed, metrics=("DEL", "INS", "NEG", "POS", "RP", "IROF")),
    ),
    Convention(
        "samples ranked first",
        "A method should be best on most samples, and not on the mean.",
        "`rank` is that of means; `smp. rank` stands beside it.",
        order=sample_ranks,
    ),
    Convention(
        "scores in place of ranks",
        "Ranks make a difference of a thousandth as large as one of a half.",
        "Ranks, as in the paper; here means between the worst and the best of the board.",
        order=scaled_means,
    ),
    Convention(
        "median of ranks",
        "One bad metric should not decide.",
        "The mean of ranks.",
        order=median_ranks,
    ),
    Convention(
        "ties to the better",
        "Methods of equal scores might all have the best of their ranks.",
        "They share the mean.",
        order=shared_best,
    ),
    Convention(
        "equal methods once",
        "On tables ablation and occlusion are one method, and push others down by two places in place of one.",
        "Both are on the board.",
        company=without_copies,
    ),
    Convention(
        "without oracles",
        "Oracles ask for every removal set, which no method may, and take ranks from others.",
        "They are on the board and marked.",
        company=partial(without_kinds, ("oracle",)),
    ),
    Convention(
        "without controls",
        "Controls explain nothing, and stand before a method wherever its scores are worse than chance.",
        "They are on the board and marked.",
        company=partial(without_kinds, ("control",)),
    ),
    Convention(
        "untrained methods alone",
        "Learned methods saw training rows and millions of answers of the model.",
        "All are on one board; costs of training stand beside the rank.",
        company=partial(without_kinds, ("learned", "oracle")),
    ),
    Convention(
        "half of the samples",
        "The samples are few.",
        "All that the preset takes, with intervals.",
        part=first_half,
    ),
)
"""All of them: first those that replace methods, then those that run all again, then those that only rank otherwise."""


def described() -> str:
    """Return all conventions as a Markdown table."""
    lines = ["| convention | objection | on a board |", "|---|---|---|"]
    lines += [f"| {each.name} | {each.objection} | {each.board} |" for each in CONVENTIONS]
    return "\n".join(lines)
