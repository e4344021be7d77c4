"""Ranks, intervals and tests against slow twins, other libraries, and cases whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scikit_posthocs
from scipy.stats import rankdata, wilcoxon

from benchmark.core.errors import BenchmarkError
from benchmark.scoring.metrics import METRICS
from leaderboards import overall as together
from leaderboards.bootstrap import LEVEL, across_tasks, chance_to_be_best, groups, rank_uncertainty, resampled
from leaderboards.overall import FAILED, MISSING, NOT_APPLICABLE, overall
from leaderboards.rank import rank, rankings
from leaderboards.score_array import better_first, mid_ranks, score_array
from leaderboards.significance import (
    all_pairs,
    critical_difference,
    friedman,
    holm,
    least_p,
    one_against_each,
    rank_biserial,
)
from leaderboards.tables import write
from tests.leaderboards.generated import NAMES, board, made, several

RNG = np.random.default_rng(0)


# Ranks


def test_mid_ranks_equal_scipy():
    values = RNG.integers(0, 5, (9, 4, 6)).astype(float)
    for axis in range(3):
        np.testing.assert_allclose(mid_ranks(values, axis), rankdata(values, axis=axis), atol=1e-12)
    values[2, 1, 3] = np.nan
    np.testing.assert_allclose(mid_ranks(values), rankdata(values, axis=0, nan_policy="omit"), atol=1e-12)


def slow_ranks(records):
    """Return mean ranks of means, and means of ranks on samples, by loops over plain dictionaries."""
    labels = sorted({record.label for record in records})
    scores = {}
    for record in records:
        for row in record.scores.itertuples():
            if row.valid:
                scores.setdefault((record.label, row.metric), {})[record.cell.seed, row.sample] = row.score
    of_means, of_samples = {label: [] for label in labels}, {label: [] for label in labels}
    for name in NAMES:
        sign = -1 if METRICS[name].higher_is_better else 1
        means = [np.mean(list(scores[label, name].values())) for label in labels]
        for label, place in zip(labels, rankdata(np.round(sign * np.array(means), 12)), strict=True):
            of_means[label].append(place)
        units = set.intersection(*(set(scores[label, name]) for label in labels))
        each = [rankdata([sign * scores[label, name][unit] for label in labels]) for unit in units]
        for label, place in zip(labels, np.mean(each, 0), strict=True):
            of_samples[label].append(place)
    return ({k: np.mean(v) for k, v in found.items()} for found in (of_means, of_samples))


def test_a_board_equals_its_slow_twin():
    records, _ = several(1, 5, 2, 12)
    broken = records[3].scores.copy()
    broken.loc[[0, 5, 17], "valid"] = False
    records[3] = replace(records[3], scores=broken)
    of_means, of_samples = slow_ranks(records)
    for row in board(records).rows:
        assert row.mean_rank == pytest.approx(of_means[row.method], abs=1e-12)
        assert row.sample_rank == pytest.approx(of_samples[row.method], abs=1e-12)


def test_relabelling_reordering_and_scaling_change_nothing():
    records, _ = several(1, 5, 2, 12)
    plain = {row.method: (row.mean_rank, row.low, row.high, row.group) for row in board(records).rows}
    assert board(records[::-1]) == board(records)
    names = {f"m{i:02d}": f"m{(i + 2) % 5:02d}" for i in range(5)}
    again = [made(r.scores["score"].to_numpy().reshape(10, -1), names[r.label], "t00", r.cell.seed) for r in records]
    renamed = {row.method: (row.mean_rank, row.low, row.high, row.group) for row in board(again).rows}
    assert {names[m]: found for m, found in plain.items()} == renamed
    scaled = [replace(r, scores=r.scores.assign(score=r.scores["score"] * 3)) for r in records]
    ranks = {row.method: (row.mean_rank, row.low, row.high, row.group) for row in board(scaled).rows}
    assert ranks == plain


def test_two_orders_that_disagree_are_noted():
    """One method is a little better on most samples and much worse on one: best by samples, worst by means."""
    base = RNG.normal(size=(10, 20))
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
    odd = base + 0.1
    odd[:, 0] -= 100
    records = [made(signs * (base - 0.01 * i), f"m{i}") for i in range(3)] + [made(signs * odd, "odd")]
    found = board(records)
    rows = {row.method: row for row in found.rows}
    assert rows["odd"].mean_rank == 4
    assert rows["odd"].sample_rank < 1.2
    assert any("ranks on each sample order these methods differently" in note for note in found.notes)
    assert not any("order these" in note for note in board(records[:3]).notes)


def test_families_that_disagree_are_noted():
    """One method leads in the three metrics of one family, another in two that are families of their own."""
    families = [METRICS[name].family for name in NAMES]
    kin = np.array([family == METRICS["DEL"].family for family in families])
    alone = np.isin(NAMES, [name for name in NAMES if families.count(METRICS[name].family) == 1][:2])
    assert (kin.sum(), alone.sum()) == (3, 2)
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
    base = RNG.normal(size=(10, 20))

    def ranked_by(gains):
        made_board = board([made(signs * (base + gain[:, None]), name) for name, gain in gains.items()])
        noted = any("families of metrics count once" in note for note in made_board.notes)
        return [row.method for row in made_board.rows], noted

    assert ranked_by({"of one family": kin * 1.0, "of two": alone * 1.0}) == (["of one family", "of two"], True)
    assert ranked_by({"of one family": kin * 1.0, "of none": kin * 0.0}) == (["of one family", "of none"], False)


# Intervals


def test_resampling_weighs_as_repetition_does():
    records, _ = several(1, 3, 2, 7, 10)
    found = rank(records).scores
    draws = resampled(found, 50, seed=4)
    rng = np.random.default_rng(4)
    of_seeds, of_samples = rng.multinomial(2, [0.5, 0.5], 50), rng.multinomial(7, np.full(7, 1 / 7), 50)
    for draw in (0, 17, 49):
        seeds, samples = np.repeat(range(2), of_seeds[draw]), np.repeat(range(7), of_samples[draw])
        slow = found.scores[:, seeds][:, :, :, samples].mean((1, 3))
        np.testing.assert_allclose(draws[draw], slow, atol=1e-12)


def test_intervals_by_a_loop():
    records, _ = several(1, 4, 1, 15)
    found = rank(records).scores
    draws = resampled(found, 200)
    sure = rank_uncertainty(draws, found.higher, better_first(found.means, found.higher, 0).mean(1))
    for m in range(4):
        low, high = [], []
        for k in range(10):
            sign = 1 if found.higher[k] else -1
            ahead = [np.mean(sign * (draws[:, o, k] - draws[:, m, k]) > 0) >= LEVEL for o in range(4) if o != m]
            after = [np.mean(sign * (draws[:, o, k] - draws[:, m, k]) < 0) >= LEVEL for o in range(4) if o != m]
            low.append(1 + sum(ahead))
            high.append(4 - sum(after))
        assert sure.low[m] == np.mean(low)
        assert sure.high[m] == np.mean(high)


@pytest.mark.parametrize(("spread", "shared"), [(0.02, 0.0), (0.02, 0.9), (0.1, 0.9), (0.4, 0.5)])
def test_intervals_cover_the_true_rank(spread, shared):
    """Methods hardly different, somewhat, and clearly, alike or not in all metrics; the truth is known."""
    rng, hits = np.random.default_rng(1), []
    for _ in range(40):
        records, truth = several(1, 8, 1, 60, spread=spread, rng=rng, shared=shared)
        true = better_first(truth[0], np.ones(10, bool), 0).mean(1)
        rows = sorted(board(records).rows, key=lambda row: row.method)
        hits += [row.low - 1e-9 <= at <= row.high + 1e-9 for row, at in zip(rows, true, strict=True)]
    assert np.mean(hits) >= 0.9


def test_chances_and_groups_by_hand():
    ranks = np.array([[1.0, 2, 3], [1, 1, 3], [2, 1, 3], [1, 2, 3]])
    np.testing.assert_allclose(chance_to_be_best(ranks), [2.5 / 4, 1.5 / 4, 0])
    nobody = np.full((3, 3), np.nan)  # draws of undefined samples alone
    np.testing.assert_allclose(chance_to_be_best(np.vstack([ranks, nobody])), [2.5 / 4, 1.5 / 4, 0])
    assert np.isnan(chance_to_be_best(nobody)).all()
    assert groups(ranks, np.array([1.2, 1.5, 3.0])).tolist() == [1, 1, 2]
    assert groups(np.tile([[1.0, 2, 3]], (10, 1)), np.array([1.0, 2, 3])).tolist() == [1, 2, 3]
    assert groups(np.tile([[2.0, 2, 2]], (10, 1)), np.array([2.0, 2, 2])).tolist() == [1, 1, 1]


def test_clear_differences_have_narrow_intervals_and_none_has_wide_ones():
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
    noise = [RNG.normal(size=(10, 50)) for _ in range(3)]
    rows = board([made(signs * (noise[i] - 10 * i), f"m{i}") for i in range(3)]).rows
    assert [(row.low, row.high, row.best, row.group) for row in rows] == [(1, 1, 1, 1), (2, 2, 0, 2), (3, 3, 0, 3)]
    same = board([made(signs * noise[0], f"m{i}") for i in range(3)]).rows
    assert [(row.mean_rank, row.low, row.high, row.group) for row in same] == [(2, 1, 3, 1)] * 3
    assert [row.best for row in same] == pytest.approx([1 / 3] * 3)


def test_one_method_one_metric_one_sample():
    alone = board([made(RNG.normal(size=(10, 5)), "m")]).rows[0]
    assert (alone.mean_rank, alone.low, alone.high, alone.best, alone.group) == (1, 1, 1, 1, 1)
    assert len(board([made(RNG.normal(size=(1, 5)), m) for m in "ab"]).metrics) == 1
    single = board([made(RNG.normal(size=(10, 1)), m) for m in "ab"])
    assert "one sample: no intervals" in single.notes
    assert all(np.isnan(row.low) and row.group == 0 for row in single.rows)
    assert "– " in write_board(single)


def write_board(found):
    from leaderboards.tables import table_of

    return write(table_of(found), "table")


def test_unequal_samples_are_refused():
    records = [made(RNG.normal(size=(10, 5)), "a"), made(RNG.normal(size=(10, 6)), "b")]
    with pytest.raises(BenchmarkError, match="hold different samples: a has 5, b has 6 or others"):
        board(records)


# Tests


def test_holm_equals_scikit_posthocs():
    import pandas as pd

    samples = RNG.normal(size=(12, 4)) + np.array([0, 0.3, 1.0, 2.0])
    frame = pd.DataFrame(samples, columns=list("abcd"))
    theirs = scikit_posthocs.posthoc_wilcoxon(
        frame.melt(), val_col="value", group_col="variable", p_adjust="holm", method="exact"
    )
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    raw = np.array([wilcoxon(samples[:, i], samples[:, j], method="exact").pvalue for i, j in pairs])
    np.testing.assert_allclose(holm(raw), [theirs.iloc[i, j] for i, j in pairs], atol=1e-12)
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).max() == 1.0


def test_one_against_each_equals_scipy():
    ranks = np.stack([RNG.permutation(4) + 1.0 for _ in range(12)]) + RNG.normal(size=(12, 4)) / 10
    ranks[:, 0] -= 1.5
    found = one_against_each(ranks, list("abcd"), "a")
    p = holm(np.array([wilcoxon(ranks[:, i], ranks[:, 0]).pvalue for i in (1, 2, 3)]))
    np.testing.assert_allclose([pair.p for pair in found], p, atol=1e-12)
    assert [(pair.one, pair.other) for pair in found] == [("a", "b"), ("a", "c"), ("a", "d")]
    assert all(pair.effect > 0 for pair in found)


@pytest.mark.parametrize(
    ("tasks", "methods", "possible"), [(2, 3, False), (7, 3, True), (6, 19, False), (12, 19, True)]
)
def test_a_test_that_cannot_reject_is_not_made(tasks, methods, possible):
    ranks = RNG.normal(size=(tasks, methods))
    found = one_against_each(ranks, [str(i) for i in range(methods)], "0")
    assert isinstance(found, list) == possible
    if not possible:
        assert found.startswith("no test possible: with")
        assert least_p(tasks) * (methods - 1) > 0.05


def test_friedman_and_effects_by_hand():
    assert friedman(np.ones((1, 5))).startswith("no test possible")
    assert friedman(np.ones((5, 2))).startswith("no test possible")
    statistic, p = friedman(np.tile([1.0, 2, 3], (6, 1)))
    assert statistic == pytest.approx(12)
    assert p == pytest.approx(np.exp(-6))
    assert rank_biserial(np.array([1.0, 2, 3])) == 1
    assert rank_biserial(np.array([-1.0, 0, 0])) == -1
    assert rank_biserial(np.array([3.0, -1, -2])) == 0
    assert rank_biserial(np.zeros(3)) == 0


def test_critical_differences_of_the_literature():
    assert critical_difference(19, 12) == pytest.approx(8.1, abs=0.05)
    assert critical_difference(5, 30) == pytest.approx(2.728 * np.sqrt(5 * 6 / 180), abs=2e-3)


def test_all_pairs_within_a_task():
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
    base = RNG.normal(size=(10, 40))
    records = [made(signs * (base + shift + 0.2 * RNG.normal(size=(10, 40))), name)
               for name, shift in (("good", 1.0), ("fair", 0.0), ("twin", 0.0))]  # fmt: skip
    found = {(pair.one, pair.other): pair for pair in all_pairs(rank(records).scores)}
    assert found["fair", "good"].significant
    assert found["fair", "good"].effect == pytest.approx(-1)
    assert not found["fair", "twin"].significant
    assert (
        all_pairs(rank([replace(r, scores=r.scores[r.scores["sample"] < 3], n_total=3) for r in records]).scores)[:16]
        == "no test possible"
    )
    ranks = score_array(records, sorted(r.label for r in records), (0,)).sample_ranks
    units = ranks.mean((1, 3))
    differences = [np.round(units[j] - units[i], 12) for i, j in ((0, 1), (0, 2), (1, 2))]  # fair, good, twin
    expected = holm(np.array([wilcoxon(difference, method="approx").pvalue for difference in differences]))
    assert [found[pair].p for pair in (("fair", "good"), ("fair", "twin"), ("good", "twin"))] == pytest.approx(expected)


# Several tasks


def test_over_tasks_only_what_is_on_all():
    records, _ = several(3, 4, 1, 20)
    records = [r for r in records if (r.label, r.cell.task) != ("m01", "t02")]
    records = [replace(r, status="failed", scores=None, reason="it broke") if (r.label, r.cell.task) == ("m02", "t01")
               else r for r in records]  # fmt: skip

    elsewhere = [replace(r, explains=["table"]) if r.label == "m01" else r for r in records]
    elsewhere = [replace(r, facts=r.facts | {"modality": "text"}) if r.cell.task == "t02" else r for r in elsewhere]
    found = overall(rankings(elsewhere, partial=True))
    rows = {row.method: row for row in found.rows}
    assert rows["m01"].cells["t02"] == NOT_APPLICABLE
    assert rows["m02"].cells["t01"] == FAILED
    assert np.isnan(rows["m01"].mean_rank)
    assert np.isnan(rows["m02"].mean_rank)
    for name in ("m00", "m03"):
        assert rows[name].mean_rank == pytest.approx(np.mean(list(rows[name].cells.values())))
        assert rows[name].low <= rows[name].mean_rank <= rows[name].high
    assert overall(rankings(records, partial=True)).rows[2].cells["t02"] == MISSING
    text = write(together.table_of(found), "table")
    assert "N/A" in text
    assert "failed" in text
    assert "no test possible" in text


def test_over_many_tasks_there_are_tests():
    records, _ = several(12, 4, 1, 15, spread=0.2)
    signs = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])
    records = [made(r.scores["score"].to_numpy().reshape(10, -1) + 3 * signs[:, None], "deepfaith", r.cell.task)
               if r.label == "m00" else r for r in records]  # fmt: skip
    found = overall(rankings(records))
    assert [pair.other for pair in found.pairs] == ["m01", "m02", "m03"]
    assert all(pair.significant and pair.effect == 1 for pair in found.pairs)
    assert found.rows[0].method == "deepfaith"
    assert found.rows[0].best == 1
    assert found.tests[0].startswith("Friedman's test over 12 tasks and 4 methods")


def test_an_overall_board_needs_two_tasks_of_one_kind():
    records, _ = several(2, 3, 1, 10)
    with pytest.raises(BenchmarkError, match="two tasks at least"):
        overall(rankings([r for r in records if r.cell.task == "t00"]))
    mixed = [replace(r, cell=replace(r.cell, source="synthetic")) if r.cell.task == "t01" else r for r in records]
    with pytest.raises(BenchmarkError, match="different source, precision, device, preset, limit or group of metrics"):
        overall(rankings(mixed))


def test_tasks_are_resampled_with_their_samples():
    one, other = np.full((5000, 2), [1.0, 2.0]), np.full((5000, 2), [3.0, 1.0])
    draws = across_tasks([one, other])
    values, counts = np.unique(draws[:, 0], return_counts=True)
    assert values.tolist() == [1, 2, 3]
    np.testing.assert_allclose(counts / 5000, [0.25, 0.5, 0.25], atol=0.03)
    assert rank(several(1, 3, 1, 8)[0]).uncertainty.ranks.shape == (1000, 3)
