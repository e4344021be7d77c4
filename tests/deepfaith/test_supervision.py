"""Which explanations are copied, on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.core.types import METHODS
from benchmark.models.metering import Meter
from benchmark.scoring.metrics import TEN
from deepfaith.supervision import HIGHER, Supervision, deduplicate, passing, supervise
from tests import toys

NAN = float("nan")


def test_the_first_of_a_kind_is_kept():
    a = torch.tensor([[1.0, 0, 0], [2.0, 0.1, 0], [0, 1.0, 0], [1.0, 1.0, 0], [0, 0, -3.0]])
    assert deduplicate(a, 0.9).tolist() == [True, False, True, True, True]
    assert deduplicate(a, 0.7).tolist() == [True, False, True, False, True]
    assert deduplicate(a.flip(0), 0.7).tolist() == [True, True, False, False, False]


def test_opposites_and_scales():
    a = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [1e-20, 2e-20], [1e20, 2e20]])
    assert deduplicate(a, 0.9).tolist() == [True, True, False, False]
    assert deduplicate(a, 2.0).all(), "above 1 nothing is dropped"
    assert deduplicate(a, 1.0).tolist() == [True, True, False, False], "at 1 copies are"


def test_what_says_nothing_is_dropped():
    a = torch.tensor([[0.0, 0.0], [NAN, 1.0], [float("inf"), 1.0], [1.0, 0.0]])
    assert deduplicate(a, 0.9).tolist() == [False, False, False, True]


def slow_passing(scores, quantile, higher):
    good = []
    for candidate in scores.tolist():
        fine = True
        for metric, value in enumerate(candidate):
            column = scores[:, metric].numpy()
            if np.isnan(column).all():
                continue
            if np.isnan(value):
                fine = False
            elif higher[metric]:
                fine &= value >= np.nanquantile(column, quantile) - 1e-12
            else:
                fine &= value <= np.nanquantile(column, 1 - quantile) + 1e-12
        good.append(fine)
    return good


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("quantile", [0.0, 0.2, 0.5, 1.0])
def test_filter_equals_its_slow_twin(seed, quantile):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.normal(size=(rng.integers(1, 9), 10)).round(1))
    scores[torch.tensor(rng.random(tuple(scores.shape)) < 0.05)] = NAN
    assert passing(scores, quantile).tolist() == slow_passing(scores, quantile, HIGHER.tolist())


def test_direction_counts():
    higher = torch.tensor([True, False])
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    assert passing(scores, 0.5, higher).tolist() == [True, False, True]
    assert passing(scores, 1.0, higher).tolist() == [True, False, False]
    assert passing(scores, 1.0, ~higher).tolist() == [False, True, False]
    assert HIGHER.tolist() == [name not in ("DEL", "POS") for name in TEN]


def test_ties_one_candidate_all_filtered_and_none():
    same = torch.ones(4, 10)
    assert passing(same, 0.9).all(), "ties pass together"
    assert passing(torch.zeros(1, 10), 0.9).tolist() == [True], "one candidate is its own quantile"
    crossed = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert not passing(crossed, 0.9, torch.tensor([True, True])).any()
    assert passing(torch.zeros(0, 10), 0.5).shape == (0,)


def test_undefined_metrics():
    both = torch.tensor([True, True])
    assert passing(torch.tensor([[NAN, 0.0], [NAN, 1.0]]), 0.5, both).tolist() == [False, True], "takes no part"
    assert passing(torch.tensor([[NAN, 1.0], [0.5, 1.0]]), 0.2, both).tolist() == [False, True], "alone undefined"
    assert passing(torch.full((2, 2), NAN), 0.2, both).all()


def made(names=("saliency", "occlusion", "feature_ablation", "constant")):
    task = toys.table()
    priors = [(name, METHODS.get(name)()) for name in names]
    return task, priors, supervise(task, task.test.x, priors, seed=0)


def test_scores_are_the_evaluators_own():
    from benchmark.scoring.evaluator import Evaluator

    task, priors, found = made()
    assert found.attributions.shape == (len(task.test.x), 4, task.n_features)
    evaluator = Evaluator(task, seed=0)
    for column, (name, method) in enumerate(priors):
        expected = evaluator.evaluate(method, name)
        for place, metric in enumerate(TEN):
            torch.testing.assert_close(found.scores[:, column, place], expected.scores[metric], equal_nan=True)


def test_deduplication_comes_before_the_filter():
    _, _, found = made()
    chosen = found.choose(0.9, 0.2)
    assert not chosen[:, 2].any(), "with one column at a time occlusion and ablation are one"
    row = 0
    unique = deduplicate(found.attributions[row], 0.9)
    expected = torch.zeros_like(unique)
    expected[unique] = passing(found.scores[row][unique], 0.2)
    assert torch.equal(chosen[row], expected)
    assert found.choose(2.0, 0.0).all()
    assert found.choose(2.0, 0.5).sum() < found.choose(2.0, 0.0).sum()


def test_work_is_kept_prior_by_prior(tmp_path, monkeypatch):
    task, priors, whole = made()
    calls = []
    from benchmark.scoring.evaluator import Evaluator

    real = Evaluator.evaluate

    def counted(self, method, name):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, method, name)

    monkeypatch.setattr(Evaluator, "evaluate", counted)

    def path(name, _method):
        return tmp_path / f"{name}.safetensors"

    meter = Meter()
    with pytest.raises(KeyboardInterrupt), meter.phase("killed", task.model):
        supervise(task, task.test.x, priors, 0, path)
    with meter.phase("resumed", task.model):
        again = supervise(task, task.test.x, priors, 0, path)
    assert calls == ["saliency", "occlusion", "feature_ablation", "feature_ablation", "constant"]
    torch.testing.assert_close(again.scores, whole.scores, equal_nan=True)
    assert torch.equal(again.attributions, whole.attributions)
    with meter.phase("whole", task.model):
        supervise(task, task.test.x, priors, 0)
    with meter.phase("kept", task.model):
        supervise(task, task.test.x, priors, 0, path)
    counts = {name: (cost.forwards, cost.backwards) for name, cost in meter.phases.items()}
    assert counts["kept"] == counts["whole"]
    assert counts["resumed"] == counts["whole"], "what was kept costs what it cost"


def test_mean_rank_among_priors():
    scores = torch.zeros(1, 2, 10).where(HIGHER, torch.ones(1))
    scores[:, 1] = 1 - scores[:, 1]  # the second prior is better in all ten
    found = Supervision(torch.zeros(1, 3), torch.zeros(1), torch.zeros(1, 2, 3), scores, ("worse", "better"))
    assert found.mean_rank(scores[:, 1]) == 1.5
    assert found.mean_rank(scores[:, 0]) == 2.5
    best = scores[:, 1] + torch.where(HIGHER, 1.0, -1.0)
    assert found.mean_rank(best) == 1
