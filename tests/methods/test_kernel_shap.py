"""KernelSHAP as the package shap does it: exact where all subsets fit, equal to shap's where whole sizes do."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

from methods.kernel_shap import KernelShap, efficient, shapley_subsets
from methods.oracles import ExactShapley
from tests import toys


def test_all_subsets_give_the_exact_values():
    task = toys.table()
    x = task.test.x
    target = task.model(x).argmax(1)
    made = KernelShap(n_samples=126, output="probability").prepare(task, 0)(x, target)
    torch.testing.assert_close(made, ExactShapley().prepare(task, 0)(x, target), atol=1e-12, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_whole_sizes_come_from_the_outside_in(count):
    present, weights = shapley_subsets(count, 2**count - 2, [0])[0]
    assert len(present) == len(present.unique(dim=0)) == 2**count - 2
    for size in range(1, count):
        of_size = weights[present.sum(1) == size]
        assert len(of_size) == comb(count, size)
        assert of_size.sum() == pytest.approx((count - 1) / (size * (count - size)))


@pytest.mark.parametrize("samples", [1, 2, 5, 14, 15, 16, 40, 100, 125])
def test_no_more_subsets_than_samples_and_each_with_its_complement(samples):
    present, weights = shapley_subsets(7, samples, [0])[0]
    assert 1 <= len(present) <= samples
    assert len(present.unique(dim=0)) == len(present)
    sizes = present.sum(1)
    assert ((sizes > 0) & (sizes < 7)).all()
    assert (weights > 0).all()
    if samples > 1:
        assert {tuple(row) for row in present.tolist()} == {tuple(row) for row in (~present).tolist()}
    total = sum(6 / (size * (7 - size)) for size in range(1, 7))
    assert weights.sum() == pytest.approx(total)


def test_values_are_those_of_shap_where_it_draws_nothing():
    shap = pytest.importorskip("shap")
    task = toys.table()
    x = task.test.x[:4]

    def probabilities(rows):
        return task.model(torch.as_tensor(rows)).softmax(1).numpy()

    theirs = shap.KernelExplainer(probabilities, task.removal.means[None].numpy()).shap_values(
        x.numpy(), nsamples=126, l1_reg=False, silent=True
    )
    target = task.model(x).argmax(1)
    chosen = np.stack([theirs[i, :, int(own)] for i, own in enumerate(target)])
    made = KernelShap(n_samples=126, output="probability").prepare(task, 0)(x, target)
    np.testing.assert_allclose(made, chosen, atol=1e-5)


def test_draws_come_as_often_as_their_weight_says():
    """At 20 of 62 subsets, values are right on average over seeds, and the sum is right each time."""
    generator = torch.Generator().manual_seed(1)
    value = dict(zip(map(tuple, torch.cartesian_prod(*[torch.tensor([0, 1])] * 6).tolist()),
                     torch.randn(64, generator=generator).double().tolist(), strict=True))  # fmt: skip

    def ask(present):
        return torch.tensor([value[tuple(row)] for row in present.long().tolist()]).double()

    ends = ask(torch.tensor([[1] * 6, [0] * 6]))

    def solved(samples, seed):
        present, weights = shapley_subsets(6, samples, [seed])[0]
        of_one = present.double(), ask(present), weights, *ends
        return efficient(*[each.unsqueeze(0) for each in of_one])[0]

    exact = solved(62, 0)
    made = torch.stack([solved(30, seed) for seed in range(400)])
    torch.testing.assert_close(made.sum(1), (ends[0] - ends[1]).expand(400))
    assert (made.mean(0) - exact).abs().max() < 4 * (made.std(0) / 20).max() + 0.05
    assert (made - exact).norm(dim=1).mean() < (torch.stack([solved(14, 0)]) - exact).norm(), "more are better"


def test_captum_draws_with_replacement():
    task = toys.table()
    x = task.test.x
    target = task.model(x).argmax(1)
    exact = ExactShapley().prepare(task, 0)(x, target)
    errors = {
        estimator: (
            KernelShap(n_samples=100, estimator=estimator, output="probability").prepare(task, 0)(x, target) - exact
        ).abs().mean()
        for estimator in ("shap", "captum")
    }  # fmt: skip
    assert errors["shap"] < errors["captum"] / 2
