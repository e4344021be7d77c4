"""verify-metrics, regress, and twenty-odd wrong edits that they must notice."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from pathlib import Path

import pytest
import torch

from benchmark.__main__ import main
from benchmark.crosscheck import regress, verify
from benchmark.crosscheck.cases import CASES
from benchmark.errors import DataError
from benchmark.evaluator import Evaluator
from benchmark.metrics import METRICS

SOURCE = Path(regress.__file__).parent.parent


@pytest.fixture(scope="module")
def checks():
    pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
    return verify.verify()


def test_every_metric_is_within_tolerance_of_every_reference(checks):
    for check in checks:
        assert check.passed, check
    assert {check.metric.split()[0] for check in checks} == set(METRICS)
    assert {check.precision for check in checks} == {"float64", "float32"}
    assert max(check.tolerance for check in checks if check.precision == "float64") == 1e-10
    assert max(check.tolerance for check in checks) == 5e-5


def test_verify_metrics_prints_a_verdict_and_fails_on_a_difference(checks, monkeypatch, capsys):
    monkeypatch.setattr(verify, "verify", lambda: checks)
    assert main(["verify-metrics"]) == 0
    out = capsys.readouterr().out
    assert out.count(" ok\n") == len(checks)
    for name in verify.DIFFERENCES:
        assert name in out
    wrong = verify.Check("DEL", "a reference", "float64", 3, float("nan"), 1e-10)
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


def test_regress_finds_nothing_moved(capsys):
    assert main(["regress"]) == 0
    assert "nothing moved" in capsys.readouterr().out


def test_golden_values_cover_what_they_must():
    golden = regress.read()
    for case in CASES:
        assert set(METRICS) < set(golden[case.name])
        assert "rows shared" in golden[case.name]
    assert {f"method {name}" for name in regress.deterministic()} < set(golden)
    assert {"saliency", "deeplift", "integrated_gradients", "exact_banzhaf", "random"} <= set(regress.deterministic())


def test_cases_meet_what_metrics_must_tell_apart():
    """Among the cases: classes that flip and that do not, ties, padding, groups of several features."""
    gaps, padded = 0, False
    for case in CASES:
        task = case.task()
        scores = Evaluator(task, value_table=case.lookup).score(case.attributions(task)).scores
        gaps += int((scores["POS"] != scores["DEL"]).sum())
        padded |= not bool(task.removal.valid(task.test.x).all())
    assert 5 <= gaps < 30
    assert padded


def test_update_says_what_changed(tmp_path, capsys):
    path = tmp_path / "golden.json"
    golden = regress.read()
    name = CASES[0].name
    golden[name]["DEL"][2] += 1e-6
    golden[name]["rows shared"][0] += 1
    del golden[name]["RP"]
    regress.write(golden, path)
    assert main(["regress", "--golden", str(path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"/ DEL \[2\]: .* -> .* \(moved 1e-06, tolerance 1e-09\)", out)
    assert "rows shared [0]" in out
    assert "/ RP [0]: None ->" in out
    assert main(["regress", "--golden", str(path), "--update"]) == 0
    capsys.readouterr()
    assert main(["regress", "--golden", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert regress.compare(regress.read(), regress.read(path)) == []


def test_damaged_golden_values(tmp_path, capsys):
    (tmp_path / "golden.json").write_text("{")
    assert main(["regress", "--golden", str(tmp_path / "golden.json")]) == 3
    assert "make them with regress --update" in capsys.readouterr().err
    with pytest.raises(DataError):
        regress.read(tmp_path / "none.json")


# Wrong edits: (file, what stands there, what it becomes)

MUTATIONS = {
    "drop has the wrong sign": ("metrics", "return r.clean.unsqueeze(-1) - r.prob", "return r.prob - r.clean.unsqueeze(-1)"),
    "DEL counts the end twice": ("metrics", "return _unflagged(values.mean(-1))", "return _unflagged((values.sum(-1) + values[..., -1]) / (values.shape[-1] + 1))"),
    "RP divides by K": ("metrics", "return _unflagged(values.sum(-1) / (values.shape[-1] + 1))", "return _unflagged(values.mean(-1))"),
    "k = 0 is counted": ("metrics", '"""Mean over k = 1..K."""', 'values = values + r.clean.unsqueeze(-1) / values.shape[-1]'),
    "the flip itself is left out": ("metrics", "until = (flips.cumsum(-1) - flips.long()) == 0", "until = (flips.cumsum(-1) == 0) | (flips.cumsum(-1).cumsum(-1) == flips.cumsum(-1)) & (flips.long().cumsum(-1) < 0)"),
    "POS is never cut": ("metrics", "until = (flips.cumsum(-1) - flips.long()) == 0", "until = flips.cumsum(-1) >= 0"),
    "IROF is not relative": ("metrics", "return 1 - r.prob / r.clean.clamp(min=EPS).unsqueeze(-1)", "return 1 - r.prob"),
    "MC takes signed mass": ("metrics", "_correlation(spearman, r.mass.abs(), values, r)", "_correlation(spearman, r.mass, values, r)"),
    "MC is not squared": ("metrics", "r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2", "r.clean.clamp(min=EPS).unsqueeze(-1))"),
    "MC averages over the batch": ("metrics", "r.clean.clamp(min=EPS).unsqueeze(-1)) ** 2", "r.clean.clamp(min=EPS).unsqueeze(-1)).pow(2).mean(-2, keepdim=True).expand_as(r.prob)"),
    "MC is Pearson": ("metrics", "_correlation(spearman, r.mass.abs(), values, r)", "_correlation(pearson, r.mass.abs(), values, r)"),
    "INS reads the MoRF curve": ("metrics", '"INS", "Insertion", INSERT', '"INS", "Insertion", MORF'),
    "NEG reads the MoRF curve": ("metrics", '"NEG", "Negative perturbation", LERF', '"NEG", "Negative perturbation", MORF'),
    "FC reads the Bernoulli subsets": ("metrics", '"FC", "Faithfulness correlation", FIXED', '"FC", "Faithfulness correlation", BERNOULLI'),
    "ranks are an argsort": ("statistics", "return torch.zeros_like(x).scatter(-1, order, shared)", "return x.masked_fill(~counted, float('inf')).argsort(-1).to(x.dtype)"),
    "ties are ranked in order": ("statistics", "shared = (first_of_run + last_of_run).to(x.dtype) / 2 + 1", "shared = place.to(x.dtype) + 1"),
    "eps inside the roots": ("statistics", "spread.masked_fill(flat, 1.0).sqrt()", "(spread.masked_fill(flat, 1.0) + 1e-5).sqrt()"),
    "the mean is not taken off": ("statistics", "x = (x - mean).masked_fill(~counted, 0)", "x = x.masked_fill(~counted, 0)"),
    "least relevant first": ("probes", "keyed.argsort(dim=1, descending=True, stable=True)", "keyed.argsort(dim=1, descending=False, stable=True)"),
    "ties fall by index": ("probes", "return random_bits(seeds.unsqueeze(1), torch.arange(features, device=seeds.device)).argsort(dim=1)", "return torch.arange(features).repeat(len(seeds), 1)"),
    "MoRF is one step short": ("probes", "high = ordering.bounds[:, first:-1]\n    return Runs(ordering, torch.zeros_like(high)", "high = ordering.bounds[:, first - 1 : -2]\n    return Runs(ordering, torch.zeros_like(high)"),
    "LeRF is one step long": ("probes", "(steps - k).clamp(min=0)", "(steps - k - 1).clamp(min=0)"),
    "steps are rounded down": ("probes", "torch.minimum(exact.round().long()", "torch.minimum((exact - 0.5).round().long().clamp(min=0)"),
    "padding is removed": ("probes", "masks if self.even else masks & valid", "masks if True else masks & valid"),
    "padding is ordered with the rest": ("probes", 'scores.double().masked_fill(~valid, -float("inf"))', "scores.double()"),
    "one subset for all samples": ("probes", "seeds, valid = self.seeds.index_select(0, sample)", "seeds, valid = self.seeds[:1].expand(len(sample))"),
    "subsets of one feature too many": ("probes", "self.size[sample].unsqueeze(1)", "self.size[sample].unsqueeze(1) + 1"),
    "the wrong class is watched": ("prober", "target.unsqueeze(along)", "(target.unsqueeze(along) + 1) % logits.shape[1]"),
    "logits instead of probabilities": ("prober", "Answers(classes.softmax(along).gather", "Answers(classes.gather"),
    "removed and kept are swapped": ("prober", "masks.to(kind)", "(~masks).to(kind)"),
    "groups overlap by one": ("probes", "return Runs(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:]", "return Runs(ordering, ordering.bounds[:, :-1], ordering.bounds[:, 1:] + 1"),
    "runs stop too late": ("probes", "torch.lt(rank, high,", "torch.le(rank, high,"),
    "the value table is read one off": ("probes", "return added.gather(1, high) - added.gather(1, low)", "return added.gather(1, high) - added.gather(1, low) ^ 1"),
    "methods are mixed up": ("evaluator", "scores={name: column[i]", "scores={name: column[i - 1]"),
    "the sets' sizes are forgotten": ("statistics", "spread = sets * counts[:, :features, :features] - alone * alone.mT", "spread = sets * counts[:, :features, :features]"),
    "mass leaves out the last feature": ("probes", "* (place < end)).sum(-1)", "* (place < end - 1)).sum(-1)"),
    "insertion uses the removal baseline": ("evaluator", 'probes.insertions(ordering), rows, shared, "insertion")', 'probes.insertions(ordering), rows, shared, "removal")'),
    "the curve ends in the whole input": ("evaluator", 'found["morf"] = _curve(head, found["morf"], shared.empty, ordering)', 'found["morf"] = _curve(head, found["morf"], Answers(shared.clean.unsqueeze(1), shared.empty.kept), ordering)'),
    "the target is the label": ("evaluator", "target, clean, asked[\"empty\"] = self.prober.clean_and_empty(x)", "_, clean, asked[\"empty\"] = self.prober.clean_and_empty(x); target = self.task.test.y[rows]"),
    "the model is asked twice": ("evaluator", "answers = self._ask(runs, rows, shared)", "self._ask(runs, rows, shared); answers = self._ask(runs, rows, shared)"),
    "the baseline is zero": ("tasks.removal", "return self.means.to(x).unsqueeze(0)", "return 0 * self.means.to(x).unsqueeze(0)"),
}  # fmt: skip


def mutate(name, old, new):
    """Replace `old` by `new` in benchmark.<name>, in this process, wherever its objects are in use."""
    module = sys.modules[f"benchmark.{name}"]
    text = Path(module.__file__).read_text()
    assert text.count(old) >= 1, f"{old!r} no longer stands in {name}: mend the mutation"
    before = dict(vars(module))
    exec(compile(text.replace(old, new), module.__file__, "exec"), vars(module))
    for other in [m for key, m in sys.modules.items() if key.startswith(("benchmark", "methods"))]:
        for key, value in list(vars(other).items()):
            if key in before and before[key] is value and value is not None and other is not module:
                setattr(other, key, vars(module)[key])


def caught(mutation):
    """Return whether regress, or else verify-metrics, notices a mutation, made in a fork of this process."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            mutate(*mutation)
            golden = regress.read()
            try:
                found = regress.measure()
            except Exception:
                os._exit(1)  # it does not even run: noticed
            code = 1 if regress.compare(golden, found) else 0
            if code == 0:
                code = int(not all(check.passed for check in verify.verify()))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_mutation_that_changes_nothing_is_not_caught():
    assert caught(("metrics", '"""Mean over k = 1..K."""', '"""The same."""')) == 0


@pytest.mark.parametrize("name", MUTATIONS)
def test_wrong_edits_are_caught(name):
    pytest.importorskip("quantus", reason="the extra crosscheck is not installed")
    assert caught(MUTATIONS[name]) == 1


def test_there_are_enough_mutations():
    assert len(MUTATIONS) >= 20
    assert torch.get_num_threads() == 1
