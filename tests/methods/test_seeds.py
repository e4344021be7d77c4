"""What methods draw has nothing to do with what judges them, also where both follow from one seed of a person's."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.core import seeding
from benchmark.core.seeding import content_seeds, method_seed, probe_seed
from benchmark.core.types import METHODS
from benchmark.scoring import ordered_queries
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import METRICS
from benchmark.scoring.removal_sets import MaskSets
from benchmark.scoring.shared_queries import SharedQueries
from deepfaith.method import DeepFaith
from deepfaith.training import train
from methods import controls
from methods.kernel_shap import shapley_subsets
from methods.lime import subsets
from tests import toys

PURPOSES = ("fixed", "bernoulli", "ties")
DRAWING = {
    "lime": {"n_samples": 40},
    "lime, captum": {"n_samples": 40, "estimator": "captum"},
    "kernel_shap": {"n_samples": 40},
    "kernel_shap, captum": {"n_samples": 40, "estimator": "captum"},
    "gradient_shap": {},
    "expected_gradients": {},
    "random": {},
    "fastshap": {"iterations": 4},
    "l2x": {"iterations": 4},
    "deepfaith": {"iterations": 4},
}
"""Methods that draw."""


def named(label):
    return METHODS.get(label.split(",")[0])(**DRAWING[label])


def single(task):
    """Return a task in single precision, as trained explainers have it."""
    rows = replace(task.test, x=task.test.x.float())
    return replace(task, model=task.model.float(), train=rows, test=rows)


@pytest.fixture
def drawn(monkeypatch):
    """Return the seeds of all generators from here on, torch's and our own; those of probes stand apart."""
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


def probe_seeds(evaluator):
    """Return all seeds that an evaluator judges by: of purposes, and of each sample for a purpose."""
    task = evaluator.task.name
    of_samples = [evaluator.queries.seeds(purpose, slice(None)).tolist() for purpose in PURPOSES]
    return {probe_seed(evaluator.seed, task, purpose) for purpose in PURPOSES} | set(itertools.chain(*of_samples))


@pytest.mark.parametrize("label", DRAWING)
def test_no_generator_of_a_method_begins_where_one_of_a_probe_does(label, drawn):
    evaluator = Evaluator(single(toys.table(13, samples=40)))
    drawn.clear()
    evaluator.evaluate(named(label), label.split(",")[0])
    assert drawn
    assert not drawn & probe_seeds(evaluator)


def test_an_explainer_trained_under_the_same_seed_is_not_judged_by_its_own_probes(drawn, monkeypatch):
    """Not even while it is trained, where an evaluator ranks it among the methods that it copies."""
    task, judged = single(toys.table(13, samples=40)), set()

    def seeds(self, purpose, rows, before=SharedQueries.seeds):
        made = before(self, purpose, rows)
        judged.update(made.tolist())
        return made

    monkeypatch.setattr(SharedQueries, "seeds", seeds)
    train(task, DeepFaith(iterations=4).recipe("table"), 0, [("occlusion", METHODS.get("occlusion")())])
    monkeypatch.undo()
    assert judged
    assert not (judged | drawn) & probe_seeds(Evaluator(task, seed=0))


def test_names_cannot_bring_seeds_of_methods_and_probes_together():
    names = ["a", "b", "a b", "fixed", "ties", "0", "", 'a", "b', "1"]
    made = [probe_seed(0, task, purpose) for task in names for purpose in names]
    made += [method_seed(0, task, name, repeat) for task in names for name in names for repeat in range(3)]
    assert len(set(made)) == len(made)
    assert len({seed for base in range(3) for seed in (probe_seed(base, "a", "b"), method_seed(base, "a", "b"))}) == 6


@pytest.mark.parametrize("kind", ["fixed", "bernoulli"])
@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_subsets_of_methods_and_probes_are_uncorrelated(kind, method):
    """Row by row, as both draw them for one sample under one seed."""
    task = toys.table(13, samples=60)
    evaluator = Evaluator(task)
    sets = evaluator.subsets(kind, slice(0, 60))
    assert isinstance(sets, MaskSets)
    pairs = []
    for row, seed in enumerate(content_seeds(method_seed(0, task.name, method), task.test.x)):
        mine = subsets("table", 100, 13, seed)[1:] if method == "lime" else shapley_subsets(13, 100, seed)[0]
        count = min(len(mine), sets.shape[1])
        pairs.append((mine[:count], sets.masks[:count, row]))
    a, b = (torch.cat(side).double() for side in zip(*pairs, strict=True))
    a, b = a - a.mean(0), b - b.mean(0)  # a size is drawn, or the same in all sets: columns are not independent
    r = [float((x * y).sum() / (x.norm() * y.norm())) for x, y in zip(a.T, b.T, strict=True)]
    assert np.abs(r).max() < 4.5 / len(a) ** 0.5


# attributions are kept, and judged under other seeds


def means(task, attributions, seeds, metrics=("FC", "INF", "MC", "DEL")):
    """Return mean scores (seeds, methods, metrics), oriented so that more is better."""
    signs = np.array([1 if METRICS[metric].higher_is_better else -1 for metric in metrics])
    rows = []
    for seed in seeds:
        found = Evaluator(task, seed, metrics=metrics).score_all(list(attributions))
        rows.append([[float(one.scores[metric].nanmean()) for metric in metrics] for one in found])
    return signs * np.array(rows)


@pytest.fixture(scope="module")
def judged():
    """Return names, and means (seeds, methods, metrics) of attributions made under seed 0: row 0 is its own seed."""
    task = toys.table(13, samples=60)
    evaluator = Evaluator(task)
    names = ["occlusion", "exact by least squares", "lime", "kernel_shap", "saliency", "random", "constant"]
    made = [
        least_squares(evaluator) if " " in name else
        evaluator.evaluate(METHODS.get(name)(**DRAWING.get(name, {})), name).attributions
        for name in names
    ]  # fmt: skip
    return names, means(task, made, range(9))


def least_squares(evaluator):
    """Return attributions (N, G) that are fitted to the very removals that FC judges by under the evaluator's seed."""
    sets = evaluator.subsets("fixed", slice(0, len(evaluator.samples))).masks.double()  # (R, N, G)
    drops = evaluator.shared.clean - evaluator.shared.fixed.prob.T
    solved = torch.linalg.lstsq(sets.transpose(0, 1), drops.T.unsqueeze(-1), driver="gelsd")
    return solved.solution.squeeze(-1)


def favour(scores):
    """Return by how many standard deviations over other seeds a mean score is higher under the method's own seed."""
    return (scores[0] - scores[1:].mean()) / scores[1:].std(ddof=1)


def test_a_method_is_not_favoured_under_its_own_seed(judged):
    names, scores = judged
    for method in ("lime", "kernel_shap", "random", "occlusion", "saliency"):
        for metric in (0, 1):
            assert abs(favour(scores[:, names.index(method), metric])) < 4, (method, metric)
    assert favour(scores[:, names.index("exact by least squares"), 0]) > 6  # so that it would be seen


def test_the_order_of_methods_stays_under_other_seeds(judged):
    names, scores = judged
    noise = scores[1:].std(axis=0, ddof=1)
    clear = 0
    fair = [i for i, name in enumerate(names) if name not in ("constant", "exact by least squares")]
    for a, b in itertools.combinations(fair, 2):
        gap = scores[:, a] - scores[:, b]
        apart = np.abs(gap[1:].mean(0)) > 5 * (noise[a] + noise[b]) + 1e-9
        assert (np.sign(gap[:, apart]) == np.sign(gap[0, apart])).all(), (names[a], names[b])
        clear += int(apart.sum())
    assert clear >= 20


# ties


def permutations(task, seed, samples=None, attributions=None):
    """Return the order (N, G) in which an evaluator takes features that all have one attribution."""
    evaluator = Evaluator(task, seed, samples, metrics=["DEL"])
    rows = slice(0, len(evaluator.samples))
    given = torch.zeros(2, len(evaluator.samples), task.n_features) if attributions is None else attributions
    return ordered_queries.ordering_of(evaluator.queries, given.double(), rows).order


def test_ties_are_drawn_by_seed_and_sample_for_all_methods_alike():
    task = toys.table(5, samples=1200)
    first, second = permutations(task, 0).split(1200)
    assert torch.equal(first, second)
    for value in (-3.0, 7.5):
        assert torch.equal(permutations(task, 0, attributions=torch.full((1, 1200, 5), value)), first)
    some = torch.randperm(1200, generator=torch.Generator().manual_seed(1))[:50]
    assert torch.equal(permutations(task, 0, some.tolist())[:50], first[some])
    other = permutations(task, 1)[:1200]
    assert (other == first).all(1).double().mean() < 0.03  # 1 / 120 by chance
    assert (first[1:] == first[:-1]).all(1).double().mean() < 0.03


def test_ties_favour_no_feature_and_no_place():
    task = toys.table(5, samples=1200)
    order = permutations(task, 0)[:1200]
    counts = torch.stack([(order == feature).sum(0) for feature in range(5)]).double()
    chi = ((counts - 240) ** 2 / 240).sum()
    assert chi < 16 + 4 * (2 * 16) ** 0.5
    inf = Evaluator(task, value_table=False, metrics=["INF"])
    first_removed = inf.subsets("bernoulli", slice(0, 1200)).masks[0].gather(1, order[:, :1]).double().mean()
    assert abs(first_removed - 0.5) < 4 * 0.5 / 1200**0.5  # the order of ties tells nothing of the random sets
