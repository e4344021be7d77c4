"""verify-metrics, regress, and wrong edits that they must notice."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import os
import re
import sys
import traceback
from pathlib import Path

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.errors import DataError
from benchmark.core.types import METHODS
from benchmark.inspection.crosscheck import regress, verify
from benchmark.inspection.crosscheck.cases import CASES, OTHERS
from benchmark.inspection.crosscheck.checks import DIFFERENCES, Check
from benchmark.scoring.metrics import METRICS, TEN, ten
from tests.processes import ended, fork

SOURCE = Path(regress.__file__).parent.parent


@pytest.fixture(scope="module")
def checks():
    pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
    return verify.verify()


@pytest.mark.slow
def test_every_metric_is_within_tolerance_of_every_reference(checks):
    for check in checks:
        assert check.passed, check
    for name in OTHERS:
        assert any(check.reference == "plain loops" for check in checks if check.metric == name)
    for name in TEN:
        own = [check for check in checks if check.metric.split()[0] == name]
        assert {check.precision for check in own} >= {"float64", "float32"}
        assert any(check.reference == "plain loops" for check in own)
        assert any(check.reference != "plain loops" and check.tolerance <= 1e-10 for check in own)
    loose = {
        check.tolerance for check in checks if check.precision == "float64" and "few digits" not in check.reference
    }
    assert loose == {1e-10}
    assert max(check.tolerance for check in checks if check.precision == "float32") == 5e-5


def test_verify_metrics_prints_a_verdict_and_fails_on_a_difference(monkeypatch, capsys):
    pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
    checks = [Check(name, "a reference", "float64", 3, 1e-12, 1e-10) for name in METRICS]
    monkeypatch.setattr(verify, "verify", lambda: checks)
    assert main(["verify-metrics"]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok\n") == len(checks)
    for name in DIFFERENCES:
        assert name in out
    wrong = Check("DEL", "a reference", "float64", 3, float("nan"), 1e-10)
    monkeypatch.setattr(verify, "verify", lambda: [*checks, wrong])
    assert main(["verify-metrics", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][-1]["passed"] is False


@pytest.mark.parametrize("absent", [True, False])
def test_without_the_extra_it_says_what_to_install(absent, monkeypatch, capsys):
    if absent:
        monkeypatch.setitem(sys.modules, "quantus", None)
    else:
        pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
        monkeypatch.delattr("numpy.trapz", raising=False)
    assert main(["verify-metrics"]) == 3
    assert "pip install 'deepfaith-benchmark[crosscheck]'" in capsys.readouterr().err


def test_a_ratio_far_beyond_1_may_move_by_its_own_rounding():
    golden, near, far = ({"case": {"SENS": [score]}} for score in (8.9e12, 8.9e12 + 0.07, 8.9e12 + 2e5))
    assert not regress.compare(golden, near)
    assert regress.compare(golden, far)


def test_regress_finds_nothing_moved(capsys):
    assert main(["regress"]) == 0
    assert "nothing moved" in capsys.readouterr().out


def test_golden_values_cover_what_they_must():
    golden = regress.read()
    regress.check(golden)
    for case in CASES:
        assert set(METRICS) < set(golden.values[case.name])
        assert "rows shared" in golden.values[case.name]
    assert {f"method {name}" for name in regress.deterministic()} < set(golden.values)
    assert {"saliency", "deeplift", "integrated_gradients", "exact_banzhaf", "random"} <= set(regress.deterministic())


def test_cases_meet_what_metrics_must_tell_apart():
    """Among the cases: classes that flip and that do not, ties, padding, groups of several features."""
    gaps, padded = 0, False
    for case in CASES:
        if not case.others:
            continue
        task = case.task()
        scores = case.evaluator(task).score(case.attributions(task)).scores
        gaps += int((scores["POS"] != scores["DEL"]).sum())
        padded |= not bool(task.removal.valid(task.test.x).all())
    assert 5 <= gaps < 30
    assert padded


def written(tmp_path, **changed):
    """Write the committed golden values with some of their parts replaced; return the path."""
    golden = regress.read()
    regress.write(
        regress.Golden(changed.get("values", golden.values), changed.get("history", golden.history)),
        path := tmp_path / "golden.json",
    )
    return path


@pytest.fixture
def measured(monkeypatch):
    """Measure once: what a command finds is the committed values, changed by the test."""
    found = copy.deepcopy(regress.read().values)
    monkeypatch.setattr(regress, "measure", lambda _device="cpu": found)
    return found


def test_update_says_what_changed_and_keeps_the_rest_to_the_last_digit(tmp_path, capsys, measured, monkeypatch):
    path, name = written(tmp_path), CASES[0].name
    measured[name]["rows shared"][0] += 1
    measured["method saliency"]["DEL"][2] += 1e-6
    measured[name]["DEL"][1] += 1e-11
    assert main(["regress", "--golden", str(path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"method saliency / DEL \[2\]: .* -> .* \(moved 1e-06, tolerance 1e-09\)", out)
    assert "rows shared [0]" in out
    assert main(["regress", "--golden", str(path), "--update"]) == 0
    capsys.readouterr()
    assert main(["regress", "--golden", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert regress.read(path).values[name]["DEL"] == regress.read().values[name]["DEL"]
    assert regress.read(path).history == regress.read().history


@pytest.mark.parametrize("column", ["DEL", "DEL with ties", "FC reason"])
def test_scores_of_a_metric_change_with_its_version_or_not_at_all(column, tmp_path, capsys, measured, replace_metric):
    path, metric = written(tmp_path), column.split()[0]
    case = next(case.name for case in CASES if column in measured[case.name])
    measured[case][column][0] += 1
    before = path.read_bytes()
    assert main(["regress", "--golden", str(path), "--update"]) == 1
    assert f"scores of {metric} moved" in capsys.readouterr().err
    assert path.read_bytes() == before
    replace_metric(metric, dataclasses.replace(METRICS[metric], version=2))
    assert main(["regress", "--golden", str(path)]) == 1
    assert f"no golden scores of {metric} are recorded under its version 2" in capsys.readouterr().err
    assert main(["regress", "--golden", str(path), "--update"]) == 0
    assert main(["regress", "--golden", str(path)]) == 0
    history = regress.read(path).history[metric]
    assert history["1"] == regress.read().history[metric]["1"]
    assert {name for name in history["1"] if history["1"][name] != history["2"][name]} == {case}
    replace_metric(metric, dataclasses.replace(METRICS[metric], version=1))
    assert main(["regress", "--golden", str(path), "--update"]) == 1


def test_cases_are_added_under_the_same_version_but_not_lost(tmp_path, measured, capsys):
    path, case = written(tmp_path), CASES[0].name
    measured["a new case"] = copy.deepcopy(measured[case])
    assert main(["regress", "--golden", str(path), "--update"]) == 0
    assert regress.read(path).history["POS"]["1"]["a new case"] == regress.read().history["POS"]["1"][case]
    del measured["a new case"]
    assert main(["regress", "--golden", str(path), "--update"]) == 1
    assert "a new case / FC [0]" in capsys.readouterr().err


def test_golden_scores_changed_by_hand_are_noticed(tmp_path, measured, capsys):
    measured[CASES[1].name]["RP"][3] += 1e-3
    path = written(tmp_path, values=measured)
    assert main(["regress", "--golden", str(path)]) == 1
    assert f"not those recorded under its version 1 ({CASES[1].name})" in capsys.readouterr().err
    assert main(["regress", "--golden", str(path), "--update"]) == 1


def test_golden_values_can_be_made_anew_in_a_file_of_their_own_only(tmp_path, measured, monkeypatch, capsys):
    path = tmp_path / "new.json"
    assert main(["regress", "--golden", str(path), "--update"]) == 0
    made, committed = regress.read(path), regress.read()
    assert made.values == committed.values
    for name, versions in made.history.items():  # a new file knows no earlier versions
        assert versions == {(now := str(METRICS[name].version)): committed.history[name][now]}
    monkeypatch.setattr(regress, "GOLDEN", tmp_path / "gone.json")
    assert main(["regress", "--update"]) == 3
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", "null", '"text"', "{}", '{"values": {}}', '{"values": [], "history": {}}', "[" * 100_000, "\ud800",
     '{"values": {"case": {"DEL": 1}}, "history": {}}', '{"values": {"case": {"DEL": ["1"]}}, "history": {}}',
     '{"values": {"case": [1]}, "history": {}}', '{"values": {}, "history": {"DEL": 1}}', '{"values": {}, "history": {"DEL": {"1": []}}}'],
)  # fmt: skip
def test_damaged_golden_values(text, tmp_path, capsys):
    path = tmp_path / "golden.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    assert main(["regress", "--golden", str(path)]) == 3
    error = capsys.readouterr().err
    assert str(path) in error
    assert "regress --golden FILE --update" in error
    assert error.count("\n") == 1
    with pytest.raises(DataError):
        regress.read(tmp_path / "none.json")


# Wrong edits: (file, what stands there, what it becomes)

MUTATIONS = {
    "drop has the wrong sign": ("scoring.metrics.effects", "return r.clean.unsqueeze(-1) - r.prob", "return r.prob - r.clean.unsqueeze(-1)"),
    "DEL counts the end twice": ("scoring.metrics.aggregates", "return _unflagged(values.mean(-1))", "return _unflagged((values.sum(-1) + values[..., -1]) / (values.shape[-1] + 1))"),
    "RP divides by K": ("scoring.metrics.aggregates", "return _unflagged(values.sum(-1) / (values.shape[-1] + 1))", "return _unflagged(values.mean(-1))"),
    "k = 0 is counted": ("scoring.metrics.aggregates", '"""Score by the mean over k = 1..K of effects (M, B, K)."""', 'values = values + r.clean.unsqueeze(-1) / values.shape[-1]'),
    "the flip itself is left out": ("scoring.metrics.aggregates", "until = (flips.cumsum(-1) - flips.long()) == 0", "until = (flips.cumsum(-1) == 0) | (flips.cumsum(-1).cumsum(-1) == flips.cumsum(-1)) & (flips.long().cumsum(-1) < 0)"),
    "POS is never cut": ("scoring.metrics.aggregates", "until = (flips.cumsum(-1) - flips.long()) == 0", "until = flips.cumsum(-1) >= 0"),
    "IROF is not relative": ("scoring.metrics.effects", "return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)", "return 1 - r.prob"),
    "MC takes signed mass": ("scoring.metrics.aggregates", "_correlation(spearman, mass_of(r).abs(), values, r)", "_correlation(spearman, mass_of(r), values, r)"),
    "MC takes the signed change": ("scoring.metrics.effects", "levelled(drop(r).abs(), ROUNDING * spread, r.exists)\n    return (change / r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2", "levelled(drop(r), ROUNDING * spread, r.exists)\n    return change / r.clean.clamp(min=EPS).unsqueeze(-1)"),
    "MC ranks rounding": ("scoring.metrics.effects", "ROUNDING = 1e-5", "ROUNDING = 0.0"),
    "MC ties what rounding cannot": ("scoring.metrics.effects", "ROUNDING = 1e-5", "ROUNDING = 2e-5"),
    "equal effects have no reason": ("scoring.metrics.aggregates", " | is_constant(values, r.exists)", ""),
    "MC averages over the batch": ("scoring.metrics.effects", "r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2", "r.clean.clamp(min=EPS).unsqueeze(-1)).pow(2).mean(-2, keepdim=True).expand_as(r.prob)"),
    "MC is Pearson": ("scoring.metrics.aggregates", "_correlation(spearman, mass_of(r).abs(), values, r)", "_correlation(pearson, mass_of(r).abs(), values, r)"),
    "INS reads the MoRF curve": ("scoring.metrics.ten", 'title="Insertion", probe=INSERT', 'title="Insertion", probe=MORF'),
    "NEG reads the MoRF curve": ("scoring.metrics.ten", 'title="Negative perturbation", probe=LERF', 'title="Negative perturbation", probe=MORF'),
    "FC reads the Bernoulli subsets": ("scoring.metrics.ten", 'title="Faithfulness correlation", probe=FIXED', 'title="Faithfulness correlation", probe=BERNOULLI'),
    "ranks are an argsort": ("statistics.correlation", "return torch.zeros_like(x).scatter(-1, order, shared)", "return x.masked_fill(~mask, float('inf')).argsort(-1).to(x.dtype)"),
    "ties are ranked in order": ("statistics.correlation", "shared = (first_of_run + last_of_run).to(x.dtype) / 2 + 1", "shared = place.to(x.dtype) + 1"),
    "eps inside the roots": ("statistics.correlation", "spread.masked_fill(constant, 1.0).sqrt()", "(spread.masked_fill(constant, 1.0) + 1e-5).sqrt()"),
    "the mean is not taken off": ("statistics.correlation", "x = (x - mean).masked_fill(~mask, 0)", "x = x.masked_fill(~mask, 0)"),
    "least relevant first": ("scoring.ordered_sets", "keyed.argsort(dim=1, descending=True, stable=True)", "keyed.argsort(dim=1, descending=False, stable=True)"),
    "ties fall by index": ("scoring.ordered_sets", "return random_bits(seeds.unsqueeze(1), torch.arange(features, device=seeds.device)).argsort(dim=1)", "return torch.arange(features).repeat(len(seeds), 1)"),
    "MoRF is one step short": ("scoring.ordered_sets", "high = ordering.bounds[:, first:-1]\n    return OrderedSets(ordering, torch.zeros_like(high)", "high = ordering.bounds[:, first - 1 : -2]\n    return OrderedSets(ordering, torch.zeros_like(high)"),
    "LeRF is one step long": ("scoring.ordered_sets", "(steps - k).clamp(min=0)", "(steps - k - 1).clamp(min=0)"),
    "steps are rounded down": ("scoring.ordered_sets", "torch.minimum(exact.round().long()", "torch.minimum((exact - 0.5).round().long().clamp(min=0)"),
    "padding is removed": ("scoring.random_sets", "masks if self.unpadded else masks & self.valid", "masks if True else masks & self.valid"),
    "padding is ordered with the rest": ("scoring.ordered_sets", 'scores.double().masked_fill(~valid, -float("inf"))', "scores.double()"),
    "one subset for all samples": ("scoring.random_sets", "self.seeds.index_select(0, sample)", "self.seeds[:1].expand(len(sample))"),
    "subsets of one feature too many": ("scoring.random_sets", "size[sample].unsqueeze(1)", "size[sample].unsqueeze(1) + 1"),
    "the wrong class is watched": ("scoring.masked_model", "gather(along, target.unsqueeze(along))", "gather(along, (target.unsqueeze(along) + 1) % logits.shape[1])"),
    "logits instead of probabilities": ("scoring.masked_model", "prob = by_class.softmax(along).gather", "prob = by_class.gather"),
    "removed and kept are swapped": ("scoring.masked_model", "masks.to(kind)", "(~masks).to(kind)"),
    "groups overlap by one": ("scoring.ordered_sets", "return OrderedSets(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:]", "return OrderedSets(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:] + 1"),
    "runs stop too late": ("scoring.ordered_sets", "torch.lt(rank, high,", "torch.le(rank, high,"),
    "the value table is read one off": ("scoring.ordered_sets", "return added.gather(1, high) - added.gather(1, low)", "return added.gather(1, high) - added.gather(1, low) ^ 1"),
    "methods are mixed up": ("scoring.evaluator", "scores={name: column[i]", "scores={name: column[i - 1]"),
    "the sets' sizes are forgotten": ("statistics.linear_pearson", "spread = sets * both - counts * counts.mT", "spread = sets * both"),
    "mass leaves out the last feature": ("scoring.ordered_sets", "* (place < end)).sum(-1)", "* (place < end - 1)).sum(-1)"),
    "insertion uses the removal baseline": ("scoring.ordered_queries", 'ordered_sets.insertions(ordering), rows, shared, "insertion")', 'ordered_sets.insertions(ordering), rows, shared, "removal")'),
    "the curve ends in the whole input": ("scoring.ordered_queries", 'curves["morf"] = _curve(head, asked["morf"], shared.everything_removed, ordering)', 'curves["morf"] = _curve(head, asked["morf"], Predictions(shared.clean.unsqueeze(1), shared.everything_removed.same_class), ordering)'),
    "the target is the label": ("scoring.shared_queries", "classes, clean, asked[\"empty\"] = self.model.clean_and_empty(x, self._given(rows))", "_, clean, asked[\"empty\"] = self.model.clean_and_empty(x); classes = self.task.test.y[rows]"),
    "the model is asked twice": ("scoring.ordered_queries", "predictions = self._query(sets, rows, shared)", "self._query(sets, rows, shared); predictions = self._query(sets, rows, shared)"),
    "the baseline is zero": ("modalities.removal", "return self.means.to(x).unsqueeze(0)", "return 0 * self.means.to(x).unsqueeze(0)"),
    # these were not noticed once, or by unit tests alone
    "neighbouring sets share bits": ("scoring.random_sets", "counter = which.unsqueeze(1) * words +", "counter = which.unsqueeze(1) +"),
    "a subset's words are the same": ("scoring.random_sets", "torch.arange(words, device=which.device)", "torch.zeros(words, dtype=torch.long)"),
    "a millionth is constant": ("statistics.correlation", "CONSTANT = 1e-12", "CONSTANT = 1e-6"),
    "a billionth is constant": ("statistics.correlation", "CONSTANT = 1e-12", "CONSTANT = 1e-9"),
    "rounding is not constant": ("statistics.correlation", "CONSTANT = 1e-12", "CONSTANT = 0.0"),
    "IROF divides by a tenth at least": ("scoring.metrics.effects", "1 - r.prob / r.clean.clamp(min=EPS)", "1 - r.prob / r.clean.clamp(min=0.1)"),
    "subsets ignore the seed": ("scoring.shared_queries", "probe_seed(self.seed, self.task.name, purpose)", "probe_seed(0, self.task.name, purpose)"),
    "subsets are drawn by place": ("scoring.shared_queries", "random_bits(base, self.indices[rows])", "random_bits(base, torch.arange(len(self.indices))[rows])"),
    "ties fall by the seeds of FC": ("scoring.ordered_queries", 'common.seeds("ties", rows)', 'common.seeds("fixed", rows)'),
    "tables are scaled by all rows": ("modalities.table", "features[rows].mean(0), features[rows].std(0)", "features.mean(0), features.std(0)"),
    "channels cancel in saliency": ("methods.gradient", "pooled(task, x, slopes.abs())", "pooled(task, x, slopes).abs()"),
    "numbers of a word cancel or not": ("modalities.removal", "return raw.sum(-1)", "return raw.abs().sum(-1)"),
    "a tie is a change of class": ("scoring.masked_model", "highest <= own)", "by_class.argmax(along) == predicted)"),
    "groups are bounded by floor": ("scoring.ordered_sets", "exact.round().long()", "exact.floor().long()"),
    "uneven groups of LeRF like MoRF": ("scoring.ordered_sets", "low = ordering.bounds.gather(1, (steps - k).clamp(min=0))", "low = ordering.bounds[:, -1:] - ordering.bounds[:, first:-1]"),
    "groups have mean mass": ("scoring.ordered_sets", "* (place < end)).sum(-1)", "* (place < end)).sum(-1) / (place < end).sum(-1)"),
    "small attributions are constant": ("scoring.evaluator", "is_constant(scores, None if self.queries.unpadded else self.valid[rows])", "is_constant(scores, None if self.queries.unpadded else self.valid[rows], floor=1.0)"),
    "small answers are not constant": ("scoring.shared_queries", "is_constant(predictions.prob, None, floor=1.0)", "is_constant(predictions.prob, None)"),
    "constant answers are those of the first batch": ("scoring.shared_queries", "key = kind, rows.start, rows.stop", "key = kind"),
    "covariances are those of the first batch": ("scoring.shared_queries", "key = metric.name, rows.start, rows.stop", "key = metric.name"),
    "constant attributions go before constant answers": ("scoring.metrics.aggregates", "undefined = _required(r.constant_response)\n    zero = (_required(r.constant_attribution) | constant_mass) & ~undefined", "zero = _required(r.constant_attribution) | constant_mass\n    undefined = _required(r.constant_response) & ~zero"),
    "constant attributions have no reason": ("scoring.metrics.aggregates", "reasons.masked_fill(zero, CONSTANT_ATTRIBUTION)", "reasons"),
    "garbage at padding counts": ("scoring.evaluator", "(attributions.isfinite() | ~valid).all(-1)", "attributions.isfinite().all(-1)"),
    "ranks count padding": ("statistics.correlation", "mid_ranks(a, mask), mid_ranks(b, mask), mask", "mid_ranks(a, None), mid_ranks(b, None), mask"),
    "subsets have no least size": ("scoring.random_sets", "round().long().clamp(min=budget.subset_minimum)", "round().long().clamp(min=1)"),
    "large shifts cost digits": ("statistics.linear_pearson", "self.one_size = bool((spread.sum((1, 2)) == 0).all())", "self.one_size = False"),
    "SUFF keeps one feature more": ("metrics.sufficiency", ".round().clamp(min=1)", ".round().clamp(min=1).add(1)"),
    "SUFF rounds down": ("metrics.sufficiency", ".round().clamp(min=1)", ".floor().clamp(min=1)"),
    "SUFF counts padding": ("metrics.sufficiency", "samples.valid.sum(1, keepdim=True)", "samples.valid.size(1) + 0 * samples.valid.sum(1, keepdim=True)"),
    "SUFF is the prediction kept": ("metrics.sufficiency", "mean(drop(response), response)", "mean(response.prob, response)"),
    "KL is taken the other way round": ("metrics.divergence", "(before.exp() * (before - after))", "(after.exp() * (after - before))"),
    "KL counts sets that do not exist": ("metrics.divergence", "return mean(divergence, response)", "return mean(divergence, type(response)(response.prob, response.same_class, response.clean))"),
    "KL is in bits": ("metrics.divergence", "return mean(divergence, response)", "return mean(divergence / 0.6931471805599453, response)"),
    "SENS takes the mean": ("metrics.sensitivity", "largest = largest.maximum((moved - subject.attribution).norm(dim=1))", "largest = largest + (moved - subject.attribution).norm(dim=1) / DRAWS"),
    "SENS is absolute": ("metrics.sensitivity", "largest / norm.masked_fill(norm == 0, 1.0)", "largest"),
    "SENS draws once": ("metrics.sensitivity", 'f"draw {draw}"', '"draw 0"'),
    "logits of samples are mixed up": ("scoring.access.answers", "parts.view(sets, batch, *parts.shape[1:]).transpose(0, 1)", "parts.view(batch, sets, *parts.shape[1:])"),
    "noise is of one sign": ("scoring.metrics.subject", "bits.double() * 2.0**-52", "bits.double().abs() * 2.0**-52"),
    "noise knows no sample": ("scoring.metrics.subject", "self.seeds(purpose).unsqueeze(1)", "0 * self.seeds(purpose).unsqueeze(1)"),
}  # fmt: skip


def loops(start):
    return lambda: verify.by_loops([case for case in CASES if case.name.startswith(start)])


def scores(start):
    return lambda: verify.by_rules([case for case in CASES if case.name.startswith(start)])


def draws(name, kind):
    return lambda: verify.of_draws(name, kind)


WITHOUT_GOLDEN = {  # what notices an edit, be the golden values what they may
    "neighbouring sets share bits": draws("INF", "bernoulli"),
    "a subset's words are the same": draws("INF", "bernoulli"),
    "subsets ignore the seed": draws("FC", "fixed"),
    "subsets are drawn by place": scores("ties"),
    "a millionth is constant": loops("mlp30"),
    "a billionth is constant": loops("mlp30"),
    "rounding is not constant": loops("mlp30"),
    "small attributions are constant": loops("mlp30"),
    "small answers are not constant": loops("mlp30"),
    "constant attributions go before constant answers": loops("mlp30"),
    "large shifts cost digits": loops("mlp30"),
    "IROF divides by a tenth at least": loops("mlp100, 300 classes, another"),
    "a tie is a change of class": loops("ties"),
    "groups are bounded by floor": loops("ties"),
    "groups have mean mass": loops("ties"),
    "uneven groups of LeRF like MoRF": loops("mlp11"),
    "garbage at padding counts": loops("tokens with padding, 8"),
    "tables are scaled by all rows": verify.of_tables,
    "channels cancel in saliency": verify.of_saliency,
}
VERIFIED = {  # golden scores, which know no scale and one way through memory, cannot tell
    "channels are averaged": (("modalities.removal", "return raw.sum(1).flatten(1)", "return raw.mean(1).flatten(1)"), verify.of_saliency),
    "numbers of a word are averaged": (("modalities.removal", "return raw.sum(-1)", "return raw.mean(-1)"), verify.of_saliency),
    "bits are packed backwards": (("scoring.removal_sets", "packed = packed * 2 + bits[..., i]", "packed = packed + bits[..., i] * 2"), scores("ties")),
    "tiny masses are squared as they are": (("statistics.correlation", "return x / largest.masked_fill(largest == 0, 1.0)", "return x"), scores("ties")),
    "tiny scores are squared as they are": (("statistics.linear_pearson", "scores = scores / largest.masked_fill(largest == 0, 1.0)", "scores = scores"), scores("ties")),
    "evidence is that of the first rows": (("scoring.evaluator", "self.task.evidence[self.queries.indices]", "self.task.evidence[: len(self.queries.indices)]"), scores("cnn 3x")),
}  # fmt: skip


def mutate(name, old, new):
    """Replace `old` by `new` in a module, in this process, wherever its objects are in use."""
    module = importlib.import_module(name if name.startswith("methods.") else f"benchmark.{name}")
    text = Path(module.__file__).read_text()
    assert text.count(old) >= 1, f"{old!r} no longer stands in {name}: mend the mutation"
    for registry in (METHODS, METRICS):
        forget(registry, module)
    before = dict(vars(module))
    exec(compile(text.replace(old, new), module.__file__, "exec"), vars(module))
    for other in [m for key, m in sys.modules.items() if key.startswith(("benchmark", "methods"))]:
        for key, value in list(vars(other).items()):
            if key in before and before[key] is value and value is not None and other is not module:
                setattr(other, key, vars(module)[key])
    if name.startswith("scoring.metrics.") and module is not ten:  # whose rows hold effects, aggregates and probes
        forget(METRICS, ten)
        exec(compile(Path(ten.__file__).read_text(), ten.__file__, "exec"), vars(ten))


def forget(registry, module):
    """Forget the objects that a module has registered: it does so anew."""
    for name in [name for name in registry.names() if registry.entry(name).module == module.__name__]:
        registry._objects.pop(name, None)


def moved():
    """Return whether regress notices anything; it stops at the first case that moved."""
    golden = regress.read().values
    return any(regress.compare({case: golden[case]}, {case: found}) for case, found in regress.measurements())


def caught(mutation, notices=moved):
    """Return whether `notices` does, of a mutation made in a fork of this process: a failed check, or that it fails."""
    pid = fork()
    if pid == 0:
        code = 2
        try:
            mutate(*mutation)
            try:
                found = notices()
            except Exception:
                os._exit(1)  # it does not even run: noticed
            checks = found if isinstance(found, list) else []
            code = int(not all(check.passed for check in checks)) if checks else int(found)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return ended(pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    "notices", [moved, draws("INF", "bernoulli"), scores("ties"), loops("mlp30"), verify.of_tables, verify.of_saliency]
)
def test_a_mutation_that_changes_nothing_is_not_caught(notices):
    assert (
        caught(
            (
                "scoring.metrics.aggregates",
                '"""Score by the mean over k = 1..K of effects (M, B, K)."""',
                '"""The same."""',
            ),
            notices,
        )
        == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_wrong_edits_are_caught_by_regress(name):
    assert caught(MUTATIONS[name]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_GOLDEN)
def test_wrong_edits_are_caught_by_verify_metrics(name):
    assert caught(MUTATIONS[name], WITHOUT_GOLDEN[name]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIED)
def test_wrong_edits_without_effect_on_golden_scores_are_caught_by_verify_metrics(name):
    assert caught(*VERIFIED[name]) == 1


def test_there_are_enough_mutations():
    assert len(MUTATIONS) >= 60
    assert torch.get_num_threads() == 1
