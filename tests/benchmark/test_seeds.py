"""What methods draw and what metrics draw follows from different seeds, and scores do not hang on the probe's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

import benchmark as fb
import deepfaith
from benchmark.core import seeding
from benchmark.core.parameters import configure
from benchmark.core.seeding import content_seeds, method_seed, probe_seed
from benchmark.core.types import METHODS, Method, Split
from benchmark.modalities.removal import ColumnRemoval
from benchmark.running.plan import parse_methods
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS, TEN, ExplainerMetric
from benchmark.scoring.shared_queries import RANDOM, SharedQueries
from deepfaith.method import DeepFaith
from deepfaith.training import train
from methods import controls
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


@pytest.fixture
def begun(monkeypatch):
    """Return the seeds that all generators begin with from here on, torch's and our own but for those of probes."""
    seeds = set()

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            seeds.add(seed)
            return super().manual_seed(seed)

    def manual_seed(seed, before=torch.manual_seed):
        seeds.add(seed)
        return before(seed)

    def random_bits(seed, counter, before=seeding.random_bits):
        seeds.update(seed.flatten().tolist())
        return before(seed, counter)

    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    monkeypatch.setattr(controls, "random_bits", random_bits)
    return seeds


def made(words):
    """Return the registered name and the method that words of the command line mean."""
    (choice,) = parse_methods(words)
    return choice.name, configure(METHODS.get(choice.name), choice.name, dict(choice.given))


DRAWING = ["lime", "lime[estimator=captum]", "kernel_shap[n_samples=400]", "kernel_shap[estimator=captum]"]
"""Methods that draw subsets of features."""
ASKING = [
    *DRAWING, "gradient_shap", "fastshap[iterations=3,batch=8]",
    "deepfaith[iterations=4,rows=6,batch=4,subsets=4,width=8,depth=1]",
    "deepfaith_hinted[iterations=4,batch=4,sets=4,width=8,depth=1]",
]  # fmt: skip
"""Methods that draw what they ask the model."""

# The seeds


def test_names_cannot_bring_seeds_of_methods_and_probes_together():
    names = ["a", "b", "a b", "fixed", "ties", "0", "", 'a", "b', "1"]
    found = [probe_seed(0, task, purpose) for task in names for purpose in names]
    found += [method_seed(0, task, name, repeat) for task in names for name in names for repeat in range(3)]
    assert len(set(found)) == len(found)
    assert len({seed for base in range(3) for seed in (probe_seed(base, "a", "b"), method_seed(base, "a", "b"))}) == 6


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


@pytest.mark.parametrize("words", [*ASKING, "expected_gradients", "random", "l2x[iterations=4]"])
def test_no_generator_of_a_method_begins_where_one_of_the_probe_does(words, begun, monkeypatch):
    evaluator = Evaluator(table())
    name, method = made(words)
    begun.clear()
    evaluator.evaluate(method, name)
    assert begun
    assert not begun & (bases(monkeypatch, evaluator) | probe_seeds(evaluator))


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


def test_an_explainer_trained_under_the_same_seed_is_not_judged_by_its_own_probes(begun, monkeypatch):
    """Not even while it is trained, where an evaluator ranks it among the methods that it copies."""
    task, judging = table(40), set()

    def seeds(self, purpose, rows, before=SharedQueries.seeds):
        found = before(self, purpose, rows)
        judging.update(found.tolist())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(SharedQueries, "seeds", seeds)
        train(task, DeepFaith(iterations=4).recipe("table"), 0, [("occlusion", METHODS.get("occlusion")())])
    assert judging
    judge = Evaluator(task, seed=0)
    assert not (judging | begun) & (bases(monkeypatch, judge) | probe_seeds(judge))


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

    The largest, of all features together and of each: within a set they are not independent, where its size is given
    or drawn. The sets of a sample are paired in the order in which they are asked, and one and two places later.
    """
    probe, found = probe_sets(evaluator, kind).double(), []
    mine = [removed[whose[:, i] & (whose.sum(1) == 1)].double() for i in range(len(probe))]
    for lag in range(3):
        pairs = [(a[lag : lag + b.shape[0]], b[: max(0, len(a) - lag)]) for a, b in zip(mine, probe, strict=True)]
        a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
        assert len(a) > 1000
        found += [
            float(torch.corrcoef(torch.stack(columns))[0, 1]) * len(columns[0]) ** 0.5
            for columns in ((a.flatten(), b.flatten()), *zip(a.T, b.T, strict=True))
        ]
    return max(map(abs, found))


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
    "words",
    [
        pytest.param(words, marks=[pytest.mark.slow] * (words in SLOW))
        for words in [*DRAWING, "gradient_shap", "random"]
    ],
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


STEADY = ["lime", "kernel_shap", "occlusion", "input_x_gradient", "saliency", "random"]


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


@pytest.mark.parametrize("metric", ["FC", "INF", "MC", "DEL"])
def test_methods_that_differ_clearly_keep_their_order(metric, judges):
    attributions = [explained(judges[0], words) for words in STEADY]
    scores = torch.stack(
        [torch.stack([one.scores[metric] for one in judge.score_all(attributions)]) for judge in judges]
    )
    ahead = scores.unsqueeze(2) - scores.unsqueeze(1)  # (seeds, methods, methods, N)
    clearly = ahead[0].mean(-1) > SPREADS * ahead[0].std(-1) / SAMPLES**0.5
    assert int(clearly.sum()) >= len(STEADY) - 1
    assert bool((ahead.mean(-1) > 0)[:, clearly].all())
