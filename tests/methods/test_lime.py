"""LIME: the regression equals scikit-learn's, kernels those of the authors' package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances

from methods.lime import Lime, kernel, ridge, subsets
from tests import toys


@pytest.mark.parametrize("penalty", [0.0, 1.0, 30.0])
def test_the_ridge_is_that_of_scikit_learn(penalty):
    generator = np.random.default_rng(0)
    z, y, weights = generator.random((80, 6)) < 0.5, generator.normal(size=80), generator.random(80)
    theirs = Ridge(alpha=penalty, fit_intercept=True).fit(z, y, sample_weight=weights).coef_
    ours = ridge(torch.tensor(z)[None].double(), torch.tensor(y)[None], torch.tensor(weights)[None], penalty)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("modality", "metric", "scale", "width"),
    [("table", "euclidean", 1, 0.75 * 9**0.5), ("text", "cosine", 100, 25), ("image", "cosine", 1, 0.25)],
)
def test_kernels_are_those_of_the_package(modality, metric, scale, width):
    """Its kernel is the root of exp(-d^2 / width^2), d from the whole input, in hundredths for texts."""
    present = subsets(modality, 60, 9, [3])[0]
    z = present.double().numpy()
    distance = scale * pairwise_distances(z, z[:1], metric=metric).ravel()
    np.testing.assert_allclose(kernel(modality, present), np.sqrt(np.exp(-(distance**2) / width**2)), atol=1e-12)


def test_subsets():
    table = subsets("table", 4000, 9, [0])[0]
    assert table[0].all()
    np.testing.assert_allclose(table[1:].double().mean(), 0.5, atol=0.01)
    text = subsets("text", 4000, 9, [0])[0]
    removed = (~text[1:]).sum(1)
    assert sorted(set(removed.tolist())) == list(range(1, 10))
    np.testing.assert_allclose(removed.double().mean(), 5, atol=0.15)
    assert torch.equal(text, subsets("text", 4000, 9, [0])[0])
    assert not torch.equal(text, subsets("text", 4000, 9, [1])[0])


def test_an_additive_output_is_found():
    task = toys.table()
    weights = torch.tensor([[1.0, -2, 0, 3, 0.5, 0, 4]]).double().repeat(3, 1)
    model = torch.nn.Linear(7, 3).double()
    model.weight.data = weights
    task = type(task)(**{**vars(task), "model": model.requires_grad_(False)})
    x = task.test.x
    made = Lime(n_samples=3000, penalty=0.0).prepare(task, 0)(x, torch.zeros(len(x), dtype=torch.long))
    torch.testing.assert_close(made.double(), weights[:1] * (x - task.removal.means), atol=1e-4, rtol=1e-4)
