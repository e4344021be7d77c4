"""Every registered method: what it promises, and what is known exactly."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from itertools import combinations
from math import factorial

import pytest
import torch

from benchmark.core.parameters import parameters
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.isolation import BadAttributionError, check_attribution
from benchmark.scoring.removal_sets import all_subsets
from methods.oracles import ExactBanzhaf, ExactShapley
from tests import toys

KINDS = {"baseline", "control", "oracle", "learned"}


@pytest.fixture(scope="module")
def task():
    spec = TASKS.get("wcd_mlp")()
    return spec.build(spec.locate(Sources("synthetic")), "wcd_mlp", "cpu")


LEFT = {
    "occlusion": {}, "lime": {}, "kernel_shap": {},
    "l2x": {"iterations": 2}, "fastshap": {"iterations": 2}, "cxplain": {"iterations": 2, "rows": 12},
    "vert": {"rows": 12, "steps": 2, "iterations": 2, "search": 2},
    "vert_amortised": {"rows": 12, "steps": 2, "iterations": 2},
    "deepfaith": {"iterations": 4, "rows": 6, "subsets": 4, "priors": "quick"},
    "deepfaith_hinted": {"iterations": 4},
}  # fmt: skip
"""What is given of a method that leaves the rest to the task; what is trained is trained for a moment."""


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_keeps_its_promises(name, task, tmp_path, monkeypatch):
    """What tables show; tests/methods/test_pairs.py has every method on every family of models it explains."""
    entry, cls = METHODS.entry(name), METHODS.get(name)
    assert entry.facts["kind"] in KINDS
    assert set(entry.facts["modalities"]) <= {"table", "text", "image"}
    assert entry.summary.endswith((".", ")")) or ":" in entry.summary
    assert dataclasses.is_dataclass(cls)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().anything = 1
    if "table" not in entry.facts["modalities"]:
        return
    method = cls(**LEFT.get(name, {}))
    explain = method.prepare(task, seed=3)
    x, target = task.test.x[:6], torch.tensor([0, 1, 0, 1, 1, 0])
    before = torch.random.get_rng_state()
    attribution = check_attribution(explain(x, target), (6, 7))
    assert torch.equal(before, torch.random.get_rng_state()), "a method must leave the global generator alone"
    assert attribution.isfinite().all()
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))  # so that what is trained is trained again, not read
    again = method.prepare(task, seed=3)(x, target)
    assert torch.equal(attribution, again), "the same seed must give the same attribution"
    shuffled = explain(x[[4, 0]], target[[4, 0]])
    torch.testing.assert_close(shuffled, attribution[[4, 0]], rtol=1e-4, atol=1e-5, msg="neighbours must not matter")
    assert not any(p.requires_grad for p in task.model.parameters())


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_the_task_may_as_well_be_spelled_out(name, task, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    left = METHODS.get(name)(**LEFT[name])
    whole = left.resolved(task)
    assert None in parameters(left).values()
    assert {name for name, value in parameters(whole).items() if value is None} <= {"seconds"}, "no limit"
    assert whole.resolved(task) == whole
    x, target = task.test.x[:3], torch.tensor([0, 1, 0])
    found = left.prepare(task, 1)(x, target)
    made = sorted((tmp_path / "explainers").glob("*.safetensors"))
    assert torch.equal(whole.prepare(task, 1)(x, target), found)
    assert sorted((tmp_path / "explainers").glob("*.safetensors")) == made, "kept under the same key"


@pytest.mark.parametrize("name", ["occlusion", "lime", "kernel_shap"])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_default_follows_the_modality(name, modality):
    task = toys.TASKS[modality]()
    left, x, target = METHODS.get(name)(), task.test.x[3:5], torch.tensor([0, 1])
    assert parameters(left.resolved(task)) != parameters(left.resolved(toys.table()))
    found = left.prepare(task, 1)(x, target)
    assert torch.equal(left.resolved(task).prepare(task, 1)(x, target), found)


@pytest.mark.slow
def test_methods_are_listed_without_torch_and_planned_without_captum():
    code = (
        "import sys; from benchmark.core.types import METHODS; METHODS.discover('methods', 'deepfaith');"
        "[METHODS.entry(n) for n in METHODS.names()]; assert 'torch' not in sys.modules, 'torch';"
        "[METHODS.get(n)() for n in METHODS.names()]; assert 'captum' not in sys.modules, 'captum'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_built_in():
    from benchmark.core.registry import Entry

    assert all(METHODS.entry(name).built_in for name in ("saliency", "deepfaith"))
    for module in ("included_mine_1234", "methods_of_mine.first", "another.methods"):
        assert not Entry("mine", module, "", {}).built_in


def linear(samples=9):
    weights = torch.tensor([0.03, -0.02, 0.05, 0.01, -0.015], dtype=torch.float64)
    x = torch.rand(samples, 5, dtype=torch.float64) + 0.5
    from benchmark.core.types import Budget
    from benchmark.modalities.removal import ColumnRemoval

    task = toys.make(toys.Linear(weights), x, ColumnRemoval(torch.zeros(5).double()), Budget(5), "table")
    return task, x * weights


@pytest.mark.parametrize(
    "name", ["feature_ablation", "occlusion", "kernel_shap", "lime", "exact_shapley", "exact_banzhaf"]
)
def test_a_linear_probability_is_recovered(name):
    task, exact = linear()
    cls = METHODS.get(name)
    given = {"n_samples": 400} if "n_samples" in {f.name for f in dataclasses.fields(cls)} else {}
    if "output" in {f.name for f in dataclasses.fields(cls)}:
        given["output"] = "probability"
    if name == "lime":
        given["penalty"] = 1e-6
    target = torch.zeros(len(exact), dtype=torch.long)
    found = cls(**given).prepare(task, 0)(task.test.x, target).double()
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-3)


def test_integrated_gradients_and_deeplift_are_complete(task):
    x, target = task.test.x[:8], torch.zeros(8, dtype=torch.long)
    gap = (task.model(x) - task.model(torch.zeros_like(x)))[:, 0]
    for name in ("integrated_gradients", "deeplift"):
        found = METHODS.get(name)().prepare(task, 0)(x, target)
        torch.testing.assert_close(found.sum(1), gap, rtol=0.05, atol=0.02)


def test_saliency_is_the_absolute_gradient(task):
    x = task.test.x[:8].clone().requires_grad_()
    task.model(x)[:, 1].sum().backward()
    found = METHODS.get("saliency")().prepare(task, 0)(x.detach(), torch.ones(8, dtype=torch.long))
    torch.testing.assert_close(found, x.grad.abs())


def values_of(task, x, target):
    """Return v(S kept) for every subset of kept features, asked one by one."""
    values = {}
    for removed in all_subsets(task.n_features):
        with torch.no_grad():
            p = task.model(task.remove(x.unsqueeze(0), removed.unsqueeze(0))).softmax(-1)[0, target]
        values[frozenset((~removed).nonzero().flatten().tolist())] = p.item()
    return values


def test_oracles_equal_their_definitions():
    task = toys.table(5, samples=3)
    target = task.model(task.test.x).argmax(-1)
    shapley = ExactShapley().prepare(task, 0)(task.test.x, target)
    banzhaf = ExactBanzhaf().prepare(task, 0)(task.test.x, target)
    for row in range(3):
        v = values_of(task, task.test.x[row], int(target[row]))
        for i in range(5):
            others = [j for j in range(5) if j != i]
            subsets = [frozenset(c) for size in range(5) for c in combinations(others, size)]
            gains = {s: v[s | {i}] - v[s] for s in subsets}
            weights = {s: factorial(len(s)) * factorial(4 - len(s)) / factorial(5) for s in subsets}
            assert shapley[row, i].item() == pytest.approx(sum(weights[s] * gains[s] for s in subsets), abs=1e-12)
            assert banzhaf[row, i].item() == pytest.approx(sum(gains.values()) / 16, abs=1e-12)


def test_shapley_values_are_efficient():
    task = toys.table()
    evaluator = Evaluator(task)
    found = ExactShapley().prepare(task, 0)(task.test.x, evaluator.shared.target)
    whole, nothing = evaluator.shared.clean, evaluator.shared.empty.prob[:, 0]
    torch.testing.assert_close(found.sum(1), whole - nothing, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_banzhaf_attains_the_maximum_of_inf(size):
    task = toys.table()
    evaluator = Evaluator(task, metrics=["INF"])
    best = ExactBanzhaf().prepare(task, 0)(task.test.x, evaluator.shared.target)
    top = evaluator.score(best).scores["INF"]
    for seed in range(40):
        other = best + size * best.abs().mean() * toys.scores(task, seed)
        assert (evaluator.score(other).scores["INF"] <= top + 1e-12).all()


def test_oracles_refuse_many_features():
    class Wide:
        n_features = 13

    assert "at most 12 features, the task has 13" in ExactShapley().unsupported(Wide())


def test_random_is_uniform_and_averaged(task):
    cls = METHODS.get("random")
    assert cls.repeats > 1
    found = cls().prepare(task, 0)(task.test.x, None)
    assert -1 <= found.min() < -0.8
    assert 0.8 < found.max() < 1
    assert abs(found.mean()) < 0.1
    evaluation = Evaluator(task, samples=range(20), metrics=["FC", "DEL"]).evaluate(cls(), "random")
    assert evaluation.scores["FC"].shape == (20,)


def test_attributions_are_checked():
    good = torch.randn(3, 7)
    assert check_attribution(good.double(), (3, 7)).dtype == torch.float64
    assert check_attribution(good.half(), (3, 7)).dtype == torch.float32
    for wrong in (good[:, :6], good.long(), good.numpy(), None, good.to(torch.complex64)):
        with pytest.raises(BadAttributionError, match="expected"):
            check_attribution(wrong, (3, 7))
