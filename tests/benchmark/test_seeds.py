"""What methods draw and what metrics draw follows from different seeds, and scores do not hang on the probe's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import benchmark as fb
import deepfaith
from benchmark.core.parameters import configure
from benchmark.core.seeding import content_seeds
from benchmark.core.types import METHODS, Method, Split
from benchmark.modalities.removal import ColumnRemoval
from benchmark.running.plan import parse_methods
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN, ExplainerMetric
from benchmark.scoring.ordered_sets import shuffle
from benchmark.scoring.shared_queries import RANDOM
from tests import toys

FEATURES = 40
"""So many that no two random sets are equal by chance."""
SPREADS = 4
"""Standard errors within which a mean that should be 0 stays, whatever the seed."""


def table(samples=toys.SAMPLES):
    """Return a table in float32, as trained methods need it; FC and INF ask random sets, since there is no value table.

    No number of it is a column's mean, so that what is removed shows in a row.
    """
    task = toys.table(FEATURES, samples)
    rows = Split(task.test.x.float(), task.test.y)
    removal = ColumnRemoval(task.removal.means.float())
    return replace(task, model=task.model.float(), train=rows, test=rows, removal=removal)


def all_of(evaluator):
    return slice(0, len(evaluator.samples))


def probe_sets(evaluator, kind):
    """Return the removal sets (N, R, G) bool that FC or INF asks."""
    sets = evaluator.subsets(kind, all_of(evaluator))
    which = torch.arange(sets.shape[1])
    return torch.stack([sets.removed(torch.full_like(which, i), which) for i in range(sets.shape[0])])


def probe_seeds(evaluator, purposes=(*RANDOM, "ties")):
    """Return every seed of the probe: those of its purposes, and of each sample."""
    seeds = set()
    for purpose in purposes:
        seeds |= set(evaluator.queries.seeds(purpose, all_of(evaluator)).tolist())
    return seeds


def bases(monkeypatch, evaluator, purposes=(*RANDOM, "ties")):
    """Return the seeds that those of the samples are made of, as they are handed to the generator."""
    found = []

    def caught(seed, counter):
        found.append(int(seed))
        return counter

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.scoring.shared_queries.random_bits", caught)
        probe_seeds(evaluator, purposes)
    return set(found)


@dataclass(frozen=True)
class Watched(Method):
    """Keeps the seeds that it is given."""

    given: tuple[list, ...] = ([],)
    repeats = 5

    def prepare(self, task, seed):
        self.given[0].append(seed)
        return lambda x, target: torch.zeros(len(x), task.n_features)


# The seeds


@pytest.mark.parametrize("name", ["lime", "fixed", "bernoulli", "ties"])
def test_methods_get_other_seeds_than_the_probe(name, monkeypatch):
    """Also one that is called as a purpose of the probe is, in each of its repeats."""
    evaluator, method = Evaluator(table(), seed=3), Watched(([],))
    evaluator.evaluate(method, name)
    given = method.given[0]
    of_samples = {seed for base in given for seed in content_seeds(base, evaluator.x)}
    assert len({*given, *of_samples}) == 5 + 5 * toys.SAMPLES
    of_probe = bases(monkeypatch, evaluator) | probe_seeds(evaluator)
    assert len(of_probe) == 3 + 3 * toys.SAMPLES
    assert not {3, *given, *of_samples} & of_probe


def test_a_method_prepared_for_a_metric_gets_other_seeds_than_the_probe(monkeypatch):
    """Also for a metric that is called as a purpose of the probe is."""

    class Anew(ExplainerMetric):
        higher_is_better = True

        def score(self, subject):
            subject.explain_model(subject.task.model)
            return subject.attribution.sum(1)

    METRICS.register("ties", group="own")(Anew)
    evaluator, method = Evaluator(table(), metrics=["ties", "FC"]), Watched(([],))
    evaluator.evaluate(method, "watched")
    assert len(method.given[0]) == 2 * 5
    assert not set(method.given[0]) & bases(monkeypatch, evaluator)


def test_an_explainer_of_a_persons_own_model_is_not_validated_on_the_sets_that_judge_it(monkeypatch):
    """Both are of a task called `own`, from seed 0, unless they are told otherwise."""
    validating = []
    real = Evaluator.__init__

    def kept(self, *given, **named):
        real(self, *given, **named)
        validating.append(self)

    x, model = table().test.x, table().model
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__init__", kept)
        tiny = {"iterations": 4, "rows": 6, "batch": 4, "subsets": 4, "width": 8, "depth": 1}
        deepfaith.fit(model, x, priors=("occlusion",), **tiny)
    assert len(validating) == 2, "one scores the prior methods, one the explainer"
    judge = Evaluator(fb.task(model, x))
    assert {evaluator.task.name for evaluator in validating} == {judge.task.name}
    for evaluator in validating:
        assert not probe_seeds(evaluator) & probe_seeds(judge)


# The sets


class Listening(nn.Module):
    """A model that keeps what it is asked."""

    heard: ClassVar[list[torch.Tensor]] = []

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        self.heard.append(x.detach().clone())
        return self.model(x)


@dataclass(frozen=True, eq=False)
class Cheating(Method):
    """Explains each of `inputs` (N, G) by a regression on the probe's own removal sets (N, R, G)."""

    inputs: torch.Tensor
    removed: torch.Tensor

    @classmethod
    def on(cls, evaluator, kind):
        return cls(evaluator.x, probe_sets(evaluator, kind))

    def prepare(self, task, seed):
        @torch.no_grad()
        def explain_one(one, of):
            sets = self.removed[int((self.inputs == one).all(1).nonzero()[0])]
            kept = task.model(task.remove(one.expand(len(sets), -1), sets)).softmax(1)[:, of].double()
            design = torch.cat([sets, torch.ones(len(sets), 1)], 1).double()
            return torch.linalg.lstsq(design, -kept, driver="gelsd").solution[:-1]

        return lambda x, target: torch.stack([explain_one(*pair) for pair in zip(x, target, strict=True)])


def made(words):
    """Return the registered name and the method that words of the command line mean."""
    (choice,) = parse_methods(words)
    return choice.name, configure(METHODS.get(choice.name), choice.name, dict(choice.given))


def asked(task, make):
    """Return which features were removed (n, G) in each row that a method asks, by which inputs, and the evaluator."""
    evaluator = Evaluator(replace(task, model=Listening(task.model).eval()), metrics=["FC", "INF"])
    name, method = make(evaluator)
    Listening.heard.clear()
    evaluator.evaluate(method, name)
    rows = torch.cat(Listening.heard)
    removed = rows == task.removal.baseline(task.test.x)[:1]
    whose = (removed.unsqueeze(1) | (rows.unsqueeze(1) == task.test.x)).all(2)  # (n, N): of all where all are removed
    return removed, whose, evaluator


def equal_sets(removed, evaluator):
    """Return how many of the sets that were asked (n, G) are some of the probe's, of any sample."""
    own = {tuple(row) for row in removed.int().tolist()}
    return sum(tuple(row) in own for kind in RANDOM for row in probe_sets(evaluator, kind).flatten(0, 1).int().tolist())


def correlation(removed, whose, evaluator, kind):
    """Return Pearson's r of what is removed in the sets that are asked and in the probe's, in its standard errors.

    The sets of a sample are paired in the order in which they are asked, and one and two places later.
    """
    probe, found = probe_sets(evaluator, kind).double(), []
    mine = [removed[whose[:, i] & (whose.sum(1) == 1)].double() for i in range(len(probe))]
    for lag in range(3):
        pairs = [(a[lag : lag + b.shape[0]], b[: max(0, len(a) - lag)]) for a, b in zip(mine, probe, strict=True)]
        both = torch.stack([torch.cat(side).flatten() for side in zip(*pairs, strict=True)])
        assert both.shape[1] > 1000 * FEATURES
        found.append(float(torch.corrcoef(both)[0, 1]) * both.shape[1] ** 0.5)
    return max(map(abs, found))


DRAWING = ["lime", "lime[estimator=captum]", "kernel_shap[n_samples=400]", "kernel_shap[estimator=captum]"]
ASKING = [
    *DRAWING, "gradient_shap", "fastshap[iterations=3,batch=8]",
    "deepfaith[iterations=4,rows=6,batch=4,subsets=4,width=8,depth=1]",
]  # fmt: skip


@pytest.mark.parametrize("words", ASKING)
def test_no_method_asks_a_set_of_the_probe(words):
    """Not in training either, whose rows are the test rows here."""
    removed, whose, evaluator = asked(table(), lambda _: made(words))
    assert len(removed) > 100
    assert equal_sets(removed, evaluator) == 0
    if words in DRAWING:
        for kind in RANDOM:
            assert correlation(removed, whose, evaluator, kind) < SPREADS


@pytest.mark.parametrize("kind", RANDOM)
def test_a_method_that_asks_the_sets_of_the_probe_is_found(kind):
    removed, whose, evaluator = asked(table(), lambda evaluator: ("cheating", Cheating.on(evaluator, kind)))
    assert equal_sets(removed, evaluator) == 100 * toys.SAMPLES
    assert correlation(removed, whose, evaluator, kind) > 10 * SPREADS


# The scores

SAMPLES = 80


@pytest.fixture(scope="module")
def judges():
    """Return evaluators of one task under four seeds."""
    task = table(SAMPLES)
    return [Evaluator(task, seed, metrics=TEN) for seed in range(4)]


def explained(evaluator, words):
    """Return the attributions (N, G) of a method, or of one that cheats on FC or INF, under an evaluator's seed."""
    if words in RANDOM:
        return evaluator.evaluate(Cheating.on(evaluator, words), "cheating").attributions
    return evaluator.evaluate(*reversed(made(words))).attributions


def gains(judges, words):
    """Return by how many standard errors FC and INF of a method are higher where it and the probe have one seed.

    Each method's seed meets each of the probe's, so that neither being lucky plays a part.
    """
    attributions = [explained(judge, words) for judge in judges]
    scored = [judge.score_all(attributions) for judge in judges]
    same = torch.eye(len(judges), dtype=torch.bool)
    found = {}
    for metric in ("FC", "INF"):
        scores = torch.stack([torch.stack([one.scores[metric] for one in row]) for row in scored])
        gained = scores[same].mean(0) - scores[~same].mean(0)
        found[metric] = float(gained.mean() / gained.std() * len(gained) ** 0.5)
    return found


SLOW = {"lime[estimator=captum]", "kernel_shap[estimator=captum]"}


@pytest.mark.parametrize(
    "words", [pytest.param(words, marks=[pytest.mark.slow] * (words in SLOW)) for words in [*DRAWING, "gradient_shap"]]
)
def test_one_seed_for_method_and_probe_gains_nothing(words, judges):
    assert all(abs(gain) < SPREADS for gain in gains(judges, words).values())


@pytest.mark.parametrize(("kind", "metric"), [("fixed", "FC"), ("bernoulli", "INF")])
def test_what_a_method_gains_by_the_sets_of_the_probe_is_found(kind, metric, judges):
    assert gains(judges, kind)[metric] > 2 * SPREADS


def moved(judges, attributions, metric):
    """Return by how many standard errors a mean score moves at most under the probe's other seeds."""
    first, *others = (judge.score(attributions).scores[metric] for judge in judges)
    error = first.std() / len(first) ** 0.5
    return max(float((other.mean() - first.mean()).abs() / error) for other in others)


STEADY = ["lime", "kernel_shap", "occlusion", "input_x_gradient", "random"]


@pytest.mark.parametrize("words", STEADY)
def test_scores_stay_under_another_seed_of_the_probe(words, judges):
    attributions = explained(judges[0], words)
    for metric in ("FC", "INF"):
        assert moved(judges, attributions, metric) < 2
    assert all(len(set(row)) == FEATURES for row in attributions.tolist()), "a tie would be broken otherwise"
    first, *others = (judge.score(attributions).scores for judge in judges)
    for metric in set(TEN) - {"FC", "INF"}:
        assert all(torch.equal(first[metric], other[metric]) for other in others)


@pytest.mark.parametrize(("kind", "metric"), [("fixed", "FC"), ("bernoulli", "INF")])
def test_scores_of_a_method_that_knows_the_sets_do_not_stay(kind, metric, judges):
    assert moved(judges, explained(judges[0], kind), metric) > 2


@pytest.mark.parametrize("metric", ["FC", "INF"])
def test_methods_that_differ_clearly_keep_their_order(metric, judges):
    attributions = [explained(judges[0], words) for words in STEADY]
    scores = torch.stack(
        [torch.stack([one.scores[metric] for one in judge.score_all(attributions)]) for judge in judges]
    )
    ahead = scores.unsqueeze(2) - scores.unsqueeze(1)  # (seeds, methods, methods, N)
    clearly = ahead[0].mean(-1) > SPREADS * ahead[0].std(-1) / SAMPLES**0.5
    assert int(clearly.sum()) >= len(STEADY) - 1
    assert bool((ahead.mean(-1) > 0)[:, clearly].all())


# Ties


def tie_orders(evaluator):
    """Return the order (N, G) that equal attributions of each sample keep."""
    return shuffle(evaluator.queries.seeds("ties", all_of(evaluator)), FEATURES)


def test_each_seed_and_sample_has_an_order_of_ties_of_its_own(judges):
    orders = torch.stack([tie_orders(judge) for judge in judges])
    assert (orders.sort(-1).values == torch.arange(FEATURES)).all()
    assert len({tuple(row) for row in orders.flatten(0, 1).tolist()}) == len(judges) * SAMPLES
    alone = Evaluator(judges[1].task, 1, [5, 2], metrics=["DEL"])
    assert torch.equal(tie_orders(alone), orders[1][[5, 2]])


def test_the_order_of_ties_favours_no_feature():
    """Over many samples each feature is as often at each place, and those that FC removes are nowhere sooner."""
    evaluator = Evaluator(table(4000), metrics=["DEL"])
    orders = tie_orders(evaluator)
    counts = torch.stack([torch.bincount(place, minlength=FEATURES) for place in orders.T]).double()
    expected = len(orders) / FEATURES
    chi, freedom = float(((counts - expected) ** 2 / expected).sum()), (FEATURES - 1) ** 2
    assert abs(chi - freedom) < SPREADS * (2 * freedom) ** 0.5
    places = orders.argsort(1).double()
    for kind in RANDOM:
        rows = slice(0, 500)
        sets = evaluator.queries.subsets(kind, rows)
        first = sets.removed(torch.arange(500), torch.zeros(500, dtype=torch.long)).double()
        r = torch.corrcoef(torch.stack([places[rows].flatten(), first.flatten()]))[0, 1]
        assert abs(float(r)) < SPREADS / first.numel() ** 0.5


@pytest.mark.parametrize("metric", TEN)
def test_ties_are_broken_alike_for_all_methods(metric):
    """Whatever the tied numbers are, and whoever else is scored."""
    evaluator = Evaluator(table(), seed=1, metrics=[metric])
    halves = (torch.arange(FEATURES) % 2).double().expand(toys.SAMPLES, -1)
    found = evaluator.score_all([halves, toys.scores(evaluator.task), 3 * halves, halves.float()])
    first, _, *others = (one.scores[metric] for one in found)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-12)
    torch.testing.assert_close(evaluator.score(halves).scores[metric], first, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ["DEL", "INS"])
def test_ties_follow_the_order_that_is_drawn(metric):
    """A constant attribution scores as one does that descends along the order of ties."""
    evaluator = Evaluator(table(), seed=1, metrics=[metric])
    descending = FEATURES - tie_orders(evaluator).argsort(1).double()
    constant, along, against = (
        evaluator.score(scores).scores[metric] for scores in (torch.ones_like(descending), descending, -descending)
    )
    torch.testing.assert_close(constant, along, rtol=0, atol=1e-12)
    assert (constant - against).abs().min() > 1e-6
