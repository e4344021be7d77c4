"""The two losses against loops, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from deepfaith.losses import local_correlation, pattern_consistency


def cases(seed=0, batch=5, features=6, subsets=9):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(batch, features, generator=generator, dtype=torch.float64)
    removed = torch.rand(batch, subsets, features, generator=generator) < 0.4
    drops = torch.randn(batch, subsets, generator=generator, dtype=torch.float64)
    return scores, removed, drops


def slow_local_correlation(scores, removed, drops):
    """Section 3.2, sample by sample: 1/2 - 1/2 * mean of tau."""
    taus = []
    for phi, sets, delta in zip(scores.tolist(), removed.tolist(), drops.tolist(), strict=True):
        if max(delta) - min(delta) <= 1e-12:
            continue
        mass = [sum(v for v, gone in zip(phi, own, strict=True) if gone) for own in sets]
        taus.append(0.0 if max(mass) == min(mass) else stats.pearsonr(mass, delta).statistic)
    return 0.5 - 0.5 * sum(taus) / max(1, len(taus))


@pytest.mark.parametrize("seed", range(5))
def test_local_correlation_equals_its_slow_twin(seed):
    scores, removed, drops = cases(seed)
    drops[1] = 0.25  # the model says nothing here
    scores[2] = 0  # and the explainer nothing there
    assert float(local_correlation(scores, removed, drops)) == pytest.approx(
        slow_local_correlation(scores, removed, drops), abs=1e-12
    )


def test_local_correlation_knows_its_ends():
    scores, removed, _ = cases()
    drops = (removed.double() @ scores.unsqueeze(-1)).squeeze(-1)
    assert float(local_correlation(scores, removed, drops)) == pytest.approx(0, abs=1e-12)
    assert float(local_correlation(-scores, removed, drops)) == pytest.approx(1, abs=1e-12)
    assert float(local_correlation(scores * 1e-6, removed, 3 * drops - 1)) == pytest.approx(0, abs=1e-9)


def test_parts_of_a_batch_change_nothing(monkeypatch):
    scores, removed, drops = cases()
    whole = local_correlation(scores, removed, drops)
    monkeypatch.setattr("deepfaith.losses.CHUNK_NUMBERS", 2 * removed[0].numel())
    torch.testing.assert_close(local_correlation(scores, removed, drops), whole, atol=1e-14, rtol=0)
    monkeypatch.setattr("deepfaith.losses.CHUNK_NUMBERS", 1)
    torch.testing.assert_close(local_correlation(scores, removed, drops), whole, atol=1e-14, rtol=0)


def test_removed_mass_counts_and_kept_mass_does_not():
    scores, removed, _ = cases()
    drops = (removed.double() @ scores.unsqueeze(-1)).squeeze(-1)
    assert float(local_correlation(scores, ~removed, drops)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_pattern_consistency_equals_its_slow_twin(seed):
    scores, _, _ = cases(seed)
    chosen = cases(seed + 10)[0]
    valid = torch.arange(6).unsqueeze(0) < torch.tensor([6, 4, 3, 6, 5]).unsqueeze(1)
    chosen[3] = 2.0
    rows = [row for row in range(5) if row != 3]
    slow = 1 - sum(
        stats.pearsonr(scores[row, valid[row]], chosen[row, valid[row]]).statistic for row in rows
    ) / len(rows)  # fmt: skip
    assert float(pattern_consistency(scores, chosen, valid)) == pytest.approx(slow, abs=1e-12)
    noisy = chosen.masked_fill(~valid, 1e6)
    assert float(pattern_consistency(scores, noisy, valid)) == pytest.approx(slow, abs=1e-12)


def test_pattern_consistency_is_not_half_of_itself():
    scores, _, _ = cases()
    assert float(pattern_consistency(scores, -scores)) == pytest.approx(2)
    assert float(pattern_consistency(scores, 2 * scores + 1)) == pytest.approx(0, abs=1e-12)


def test_gradients():
    scores, removed, drops = cases()
    chosen = cases(3)[0]
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: local_correlation(s, removed, drops), scores)
    assert torch.autograd.gradcheck(lambda s: pattern_consistency(s, chosen), scores)


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_constant_scores_have_finite_gradients(constant):
    _, removed, drops = cases()
    scores = torch.full((5, 6), constant, dtype=torch.float64, requires_grad=True)
    loss = local_correlation(scores, removed, drops) + pattern_consistency(scores, cases(3)[0])
    loss.backward()
    assert math.isfinite(loss.item())
    assert scores.grad.isfinite().all()


def test_neither_loss_knows_scale_order_or_names():
    scores, removed, drops = cases()
    loss = local_correlation(scores, removed, drops)
    rows, columns, sets = torch.randperm(5), torch.randperm(6), torch.randperm(9)
    torch.testing.assert_close(local_correlation(scores[rows], removed[rows], drops[rows]), loss)
    torch.testing.assert_close(local_correlation(scores[:, columns], removed[:, :, columns], drops), loss)
    torch.testing.assert_close(local_correlation(scores, removed[:, sets], drops[:, sets]), loss)
    torch.testing.assert_close(local_correlation(7 * scores, removed, drops * 3 + 1), loss)
