"""The Python interface: every way in gives the evaluator's scores, and nothing else of the process changes."""

from __future__ import annotations

import random
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from torch import nn

import benchmark as fb
from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.seeding import seeded
from benchmark.core.types import Budget, Method, Split, Task
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import TEN
from tests.benchmark.test_wrapping import Words

ROOT = Path(__file__).resolve().parents[2]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


with seeded(0):
    MLP = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    CNN = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    DROPPING = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))
X, TRAIN = drawn(12, 6), drawn(40, 6, seed=1)
PIXELS = drawn(5, 3, 8, 8)
IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0], [4, 5, 0, 0]])


def by_hand(model=MLP, x=X, removal=None, modality="table", budget=None, target="predicted"):
    """The task as one writes it without the interface."""
    model = model.eval().requires_grad_(False)
    features = (removal or ColumnRemoval(TRAIN.mean(0))).n_features
    return Task(
        name="own",
        modality=modality,
        source="real",
        model=model,
        train=Split(TRAIN, torch.zeros(40, dtype=torch.long)),
        test=Split(x, torch.zeros(len(x), dtype=torch.long)),
        removal=removal or ColumnRemoval(TRAIN.mean(0)),
        budget=budget or Budget(features),
        feature_names=tuple(f"feature {i + 1}" for i in range(features)),
        class_names=("class 0", "class 1", "class 2"),
        target=target,
    )


def own(**settings):
    return fb.task(MLP, X, background=TRAIN, **settings)


def equal(evaluation, scores):
    """Whether scores, by metric, are those of an evaluation to the last bit."""
    given = {name: torch.from_numpy(np.array(column)) for name, column in scores.items()}
    return given.keys() == evaluation.scores.keys() and all(
        torch.equal(given[name].nan_to_num(9), column.nan_to_num(9)) for name, column in evaluation.scores.items()
    )


def of(result, label="mine"):
    return {name: table[label] for name, table in result.scores.items()}


ATTRIBUTIONS = drawn(12, 6, seed=2)
WAYS = {
    "tensor": ATTRIBUTIONS,
    "array": ATTRIBUTIONS.numpy(),
    "lists": ATTRIBUTIONS.double().tolist(),
    "table": pd.DataFrame(ATTRIBUTIONS.numpy()),
    "tensor that requires a gradient": ATTRIBUTIONS.clone().requires_grad_(),
    "values of shap": types.SimpleNamespace(values=ATTRIBUTIONS.numpy(), base_values=np.zeros(12)),
    "callable": lambda x, target: ATTRIBUTIONS,
    "callable that gives arrays": lambda x, target: ATTRIBUTIONS.numpy(),
    "callable of inputs alone": lambda x: ATTRIBUTIONS,
    "callable with target by name": lambda x, *, target: ATTRIBUTIONS,
    "function of Quantus": lambda model, inputs, targets, **more: ATTRIBUTIONS.numpy(),
    "object of Captum": types.SimpleNamespace(attribute=lambda inputs, baselines=None, target=None: (ATTRIBUTIONS,)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_scores_as_the_evaluator_does(way):
    expected = Evaluator(by_hand()).score(ATTRIBUTIONS)
    task = own()
    assert equal(expected, of(fb.evaluate(task, {"mine": WAYS[way]})))
    assert np.array_equal(fb.score("DEL", task, WAYS[way]), expected.scores["DEL"].numpy())


def test_methods_score_as_the_evaluator_does_whatever_their_label():
    method = fb.method("integrated_gradients", steps=5)
    expected = Evaluator(by_hand()).evaluate(method, "integrated_gradients")
    result = fb.evaluate(own(), {"mine": method, "noise": fb.method("random")})
    assert equal(expected, of(result))
    noise = Evaluator(by_hand()).evaluate(fb.method("random"), "random")
    assert equal(noise, of(result, "noise"))


def test_columns_of_a_table_are_found_by_name():
    names = list("fedcba")
    table = pd.DataFrame(ATTRIBUTIONS.numpy(), columns=names)
    task = fb.task(MLP, pd.DataFrame(X.numpy(), columns=names), background=pd.DataFrame(TRAIN.numpy(), columns=names))
    turned = pd.DataFrame(TRAIN.numpy(), columns=names)[list("abcdef")]
    assert torch.equal(fb.task(MLP, pd.DataFrame(X.numpy(), columns=names), background=turned).train.x, TRAIN)
    assert task.feature_names == tuple(names)
    expected = Evaluator(by_hand()).score(ATTRIBUTIONS)
    assert equal(expected, of(fb.evaluate(task, {"mine": table[list("abcdef")]})))


@pytest.mark.parametrize("form", ["module", "function of tensors", "function of arrays"])
def test_a_black_box_scores_as_its_module_does(form):
    asked = MLP.eval().requires_grad_(False)
    models = {
        "module": MLP,
        "function of tensors": asked.forward,
        "function of arrays": lambda rows: asked(torch.from_numpy(np.array(rows, copy=True))).numpy(),
    }
    task = fb.task(models[form], X, background=TRAIN)
    assert equal(Evaluator(by_hand()).score(ATTRIBUTIONS), of(fb.evaluate(task, {"mine": ATTRIBUTIONS})))
    method = fb.method("kernel_shap", n_samples=30)
    expected = Evaluator(by_hand()).evaluate(method, "kernel_shap")
    assert equal(expected, of(fb.evaluate(task, {"mine": method})))


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "deeplift", "gradient_shap"])
def test_gradient_methods_on_a_black_box_are_refused_in_a_sentence(name):
    estimator = LogisticRegression().fit(TRAIN.numpy(), (TRAIN[:, 0] > 0).long().numpy())
    with pytest.raises(BenchmarkError, match=r"^ig: the model is a black box \(LogisticRegression\), .* lime"):
        fb.evaluate(fb.task(estimator, X.numpy(), background=TRAIN.numpy()), {"ig": fb.method(name)})


def test_groups_of_one_column_each_score_as_columns():
    expected = Evaluator(by_hand()).score(ATTRIBUTIONS)
    assert equal(expected, of(fb.evaluate(own(groups=np.arange(6)), {"mine": ATTRIBUTIONS})))


def test_groups_take_their_own_attributions_or_sums_of_single_ones():
    task = own(groups=[0, 0, 1, 1, 2, 2])
    sums = ATTRIBUTIONS.view(12, 3, 2).sum(2)
    assert task.n_features == 3
    assert equal(Evaluator(task).score(sums), of(fb.evaluate(task, {"mine": sums})))
    assert equal(Evaluator(task).score(sums), of(fb.evaluate(task, {"mine": ATTRIBUTIONS})))


REMOVALS = {
    "zero": (0.0, 0),
    "name": (0.0, "zero"),
    "number": (2.0, 2.0),
    "setting": (2.0, "value[value=2]"),
    "row": (2.0, np.full(6, 2.0)),
    "object": (2.0, ColumnRemoval(torch.full((6,), 2.0))),
}


@pytest.mark.parametrize("way", REMOVALS)
def test_removals_are_names_numbers_rows_or_objects(way):
    value, removal = REMOVALS[way]
    expected = Evaluator(by_hand(removal=ColumnRemoval(torch.full((6,), value)))).score(ATTRIBUTIONS)
    assert equal(expected, of(fb.evaluate(own(removal=removal), {"mine": ATTRIBUTIONS})))


def image_by_hand():
    budget = Budget(48, subset_fraction=1 / 48, subset_minimum=1)
    removal = PixelRemoval(PIXELS.mean((0, 2, 3)), 8, 8, sigma=8 / 20)
    return by_hand(CNN, PIXELS, removal, "image", budget)


MAPS = drawn(5, 3, 8, 8, seed=3)


@pytest.mark.parametrize("maps", [MAPS, MAPS.sum(1), MAPS.sum(1).flatten(1), MAPS.sum(1, keepdim=True).numpy()])
def test_maps_are_summed_over_channels(maps):
    expected = Evaluator(image_by_hand()).score(MAPS.sum(1).flatten(1))
    assert equal(expected, of(fb.evaluate(fb.task(CNN, PIXELS), {"mine": maps})))


def test_superpixels_sum_maps_and_take_perturbation_and_gradient_methods():
    regions = torch.arange(64).view(8, 8) // 16
    task = fb.task(CNN, PIXELS, groups=regions)
    sums = torch.stack([MAPS.sum(1)[:, regions == each].sum(1) for each in range(4)], 1)
    result = fb.evaluate(task, {"mine": MAPS, "ig": fb.method("integrated_gradients"), "lime": fb.method("lime")})
    torch.testing.assert_close(result.evaluations["mine"].attributions, sums)
    assert result.evaluations["ig"].attributions.shape == (5, 4)
    with pytest.raises(BenchmarkError, match="l2x cannot explain this task: it is trained on single features"):
        fb.evaluate(task, {"l2x": fb.method("l2x")})


def test_captum_explains_the_given_model_and_is_counted():
    from captum.attr import IntegratedGradients, Saliency

    task = own()
    result = fb.evaluate(task, {"ig": IntegratedGradients(MLP).attribute, "saliency": Saliency(MLP)})
    target = task.model(X).argmax(1)
    expected = Saliency(MLP).attribute(X.clone().requires_grad_(), target=target)
    assert torch.equal(result.evaluations["saliency"].attributions, expected)
    costs = {record.label: record.costs["attribute"] for record in result.records}
    assert (costs["ig"]["forwards"], costs["saliency"]["backwards"]) == (12 * 50, 12)


def of_label(x, label=None):
    return x * label.unsqueeze(1)


TAKES = {
    "by another name": (lambda x, y: x * y.unsqueeze(1), True),
    "by name with a default": (of_label, True),
    "second": (lambda x, which: x * which.unsqueeze(1), True),
    "any number": (lambda *given: given[0] * given[1].unsqueeze(1), True),
    "by name after others": (lambda x, n=3, targets=None: x * targets.unsqueeze(1), True),
    "another default": (lambda x, steps=7: x * steps, False),
    "inputs called so": (lambda y: y * 7, False),
    "more by name": (lambda x, **more: x * 7 if not more else None, False),
}


@pytest.mark.parametrize("way", TAKES)
def test_a_callable_gets_the_target_where_it_says_so(way):
    function, takes = TAKES[way]
    target = torch.arange(12) % 3
    given = fb.evaluate(own(target=target), {"mine": function}, metrics="DEL").evaluations["mine"].attributions
    assert torch.equal(given, X * (target.unsqueeze(1) if takes else 7))


class ShapExplainer:
    """Called as explainers of `shap` are; gives values of all classes, an array (N, G, C)."""

    shap_values = None

    def __call__(self, x):
        assert isinstance(x, np.ndarray)
        values = np.stack([x * each for each in (1, 2, 3)], -1)
        return types.SimpleNamespace(values=values, base_values=np.zeros((len(x), 3)))


def test_values_of_all_classes_are_those_of_the_target():
    target = torch.arange(12) % 3
    task = own(target=target)
    result = fb.evaluate(task, {"mine": ShapExplainer()})
    assert torch.equal(result.evaluations["mine"].attributions, X * (target + 1).unsqueeze(1))
    assert result.to_frame()["target"].tolist()[:12] == target.tolist()


def test_texts_take_lists_of_a_number_for_each_token():
    task = fb.task(Words(), IDS, mask_id=1)
    budget = Budget(4, subset_fraction=1 / 20, subset_minimum=1)
    assert isinstance(task.removal, TokenRemoval)
    assert (task.removal.pad_id, task.modality, task.budget) == (0, "text", budget)
    lists = [[1.0, 4.0, 2.0, 3.0], [3.0, 1.0, 2.0], np.array([1, 2])]
    padded = torch.tensor([[1.0, 4, 2, 3], [3, 1, 2, 0], [1, 2, 0, 0]], dtype=torch.float64)
    assert equal(Evaluator(task).score(padded), of(fb.evaluate(task, {"mine": lists})))
    methods = {name: fb.method(name) for name in ("integrated_gradients", "saliency", "occlusion")}
    assert set(fb.evaluate(task, methods).evaluations) == set(methods)


class Tokenizer:
    mask_token_id, pad_token_id = 1, 0
    words = ("[PAD]", "[MASK]", "good", "bad", "film")

    def __call__(self, texts, padding, truncation):
        rows = [[self.words.index(word) for word in text.split()] for text in texts]
        return {"input_ids": [row + [0] * (max(map(len, rows)) - len(row)) for row in rows]}

    def convert_ids_to_tokens(self, ids):
        return [self.words[each] for each in ids]


def test_a_tokenizer_reads_texts_and_tells_their_words(tmp_path):
    task = fb.task(Words(), ["good film", "bad bad film"], tokenizer=Tokenizer())
    assert task.test.x.tolist() == [[2, 4, 0], [3, 3, 4]]
    assert task.words(task.test.x[0]) == ["good", "film"]
    result = fb.evaluate(task, {"mine": [[1, 2], [3, 1, 2]]})
    assert [sample["words"] for sample in result.examples[0]] == [["good", "film"], ["bad", "bad", "film"]]
    assert {sample["label"] for sample in result.examples[0]} == {"unknown"}


def test_an_estimators_own_labels_and_classes_are_used():
    y = np.where(TRAIN[:, 0] > 0, "yes", "no")
    estimator = LogisticRegression().fit(TRAIN.numpy(), y)
    labels = np.where(X[:, 0] > 0, "yes", "no")
    task = fb.task(estimator, X.numpy(), background=TRAIN.numpy(), labels=labels, target="label")
    assert task.class_names == ("no", "yes")
    assert task.test.y.tolist() == (X[:, 0] > 0).long().tolist()
    assert task.provenance.model.accuracy == pytest.approx((estimator.predict(X.numpy()) == labels).mean())
    assert Evaluator(task).score(ATTRIBUTIONS).target == task.test.y.tolist()


def test_models_of_timm_are_plain_modules():
    import timm

    with torch.random.fork_rng():
        model = timm.create_model("resnet10t", num_classes=3, in_chans=3).train()
    task = fb.task(model, drawn(3, 3, 32, 32), spatial="layer4")
    assert model.training
    result = fb.evaluate(task, {"cam": fb.method("grad_cam"), "saliency": fb.method("saliency")}, metrics="DEL,INS")
    assert result.scores["DEL"].shape == (3, 2)


class OwnMethod(Method):
    def prepare(self, task, seed):
        return lambda x, target: x - task.train.x.mean(0)


def test_a_method_of_ones_own_needs_no_name(tmp_path):
    result = fb.evaluate(own(), {"mine": OwnMethod()})
    assert equal(Evaluator(by_hand()).score(X - TRAIN.mean(0)), of(result))
    result.save(tmp_path)
    assert fb.load(tmp_path).labels == ["mine"]


def test_an_error_of_a_callable_names_its_line():
    def broken(x, target):
        return x / (1 / 0)

    with pytest.raises(BenchmarkError, match=r"mine: it failed: ZeroDivisionError: .* \(test_api.py, line \d+\)"):
        fb.evaluate(own(), {"mine": broken})


def test_attributions_that_are_not_finite_are_flagged_sample_by_sample():
    holed = ATTRIBUTIONS.clone()
    holed[3, 1] = float("nan")
    result = fb.evaluate(own(), {"mine": holed, "other": ATTRIBUTIONS})
    assert result.scores["DEL"]["mine"].isna().tolist() == [at == 3 for at in range(12)]
    frame = result.to_frame()
    assert set(frame[~frame["valid"]]["reason"]) == {"the attribution is not finite"}
    assert "mine*: the attribution of 1 of 12 samples is not finite" in str(result)


def test_some_samples_are_explained():
    result = fb.evaluate(own(), {"mine": ATTRIBUTIONS[[4, 2]]}, samples=[4, 2])
    assert equal(Evaluator(by_hand(), samples=[4, 2]).score(ATTRIBUTIONS[[4, 2]]), of(result, "mine"))


def test_a_result_is_a_table_a_board_a_figure_and_records(tmp_path, capsys):
    result = fb.evaluate(own(labels=[0] * 12), {"mine": ATTRIBUTIONS, "random": fb.method("random")})
    frame = result.to_frame()
    assert list(frame.columns) == ["method", "sample", "target", "metric", "score", "valid", "reason"]
    assert len(frame) == 2 * 12 * 10
    assert list(result.scores) == list(TEN)
    board = result.board()
    assert {row.method for row in board.rows} == {"mine", "random"}
    assert set(board.quality) == {"accuracy", "balanced_accuracy"}
    print(result)
    text = capsys.readouterr().out
    assert "random (control)" in text
    assert "no control" not in text
    assert repr(result) == f"Result(own: mine, random; metrics {', '.join(TEN)})"
    result.save(tmp_path / "records")
    loaded = fb.load(tmp_path / "records", task="own")
    pd.testing.assert_frame_equal(loaded.scores["DEL"][["mine", "random"]], result.scores["DEL"])
    assert str(loaded) == str(result)
    assert main(["leaderboard", "--out", str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out.strip() == str(result)
    page = tmp_path / "page.html"
    assert main(["report", "--out", str(tmp_path / "records"), "--page", str(page)]) == 0
    assert "mine" in page.read_text()


def test_drawn_data_are_called_synthetic():
    result = fb.evaluate(own(source="synthetic"), {"mine": ATTRIBUTIONS}, metrics="DEL")
    assert result.records[0].cell.source == "synthetic"
    assert "SYNTHETIC" in str(result)
    assert "real data" not in str(result)


def test_a_budget_has_no_more_steps_than_there_are_features():
    assert own(budget=50).budget.steps == X.shape[1]


def test_a_board_without_a_control_says_how_to_add_one():
    assert 'add "random": benchmark.method("random")' in str(fb.evaluate(own(), {"mine": ATTRIBUTIONS}))


def test_metrics_of_other_groups_have_boards_of_their_own():
    result = fb.evaluate(own(), {"mine": ATTRIBUTIONS, "saliency": fb.method("saliency")}, metrics="ten,SENS")
    assert result.board().metrics.keys() == set(TEN)
    assert list(result.board("stability").metrics) == ["SENS"]
    assert result.scores["SENS"]["mine"].isna().all()
    assert result.plot("stability").axes
    with pytest.raises(BenchmarkError, match="no board of the metrics 'stabilty'; did you mean 'stability'"):
        result.board("stabilty")


def test_several_tasks_are_loaded_together_or_one_at_a_time(tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("two", 1)):
        fb.evaluate(own(name=name), {"mine": ATTRIBUTIONS}, seed=seed, metrics="DEL").save(tmp_path)
    both = fb.load(tmp_path)
    assert both.scores["DEL"].index.names == ["task", "seed", "sample"]
    with pytest.raises(BenchmarkError, match=r"holds boards of 2 runs \(one, two\): load one"):
        both.board()
    assert fb.load(tmp_path, task="two").board().seeds == (0, 1)


def test_calling_it_changes_nothing_of_the_process(tmp_path):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    threads, handlers, backend = torch.get_num_threads(), list(__import__("logging").root.handlers), mpl.get_backend()
    settings, states = dict(mpl.rcParams), (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    model = DROPPING.train()
    task = fb.task(model, X, background=TRAIN)
    noise = {"random": fb.method("random"), "lime": fb.method("lime"), "mine": lambda x, target: torch.rand(12, 6)}
    result = fb.evaluate(task, noise)
    result.plot().savefig(tmp_path / "board.png")
    fb.score("INF", task, ATTRIBUTIONS)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert list(__import__("logging").root.handlers) == handlers
    assert (dict(mpl.rcParams), mpl.get_backend(), plt.get_fignums()) == (settings, backend, [])
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert (tmp_path / "board.png").stat().st_size > 5000


def test_importing_it_loads_nothing():
    code = """
import sys, time
before, start = set(sys.modules), time.perf_counter()
import benchmark
took = time.perf_counter() - start
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not new & {"torch", "numpy", "pandas"}, new
assert "task" in dir(benchmark)
names = benchmark.list_methods(), benchmark.list_metrics(), benchmark.list_tasks()
assert "torch" not in sys.modules, "names are read from source"
print(took)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(done.stdout) < 0.2


def test_what_there_is_has_names():
    assert fb.list_metrics()[:10] == list(TEN)
    assert {"lime", "saliency"} <= set(fb.list_methods("table")) < set(fb.list_methods())
    assert "nap_mlp" in fb.list_tasks()
    assert fb.list_removals() == ["mean", "zero", "value", "blur", "marginal", "mask"]
    with pytest.raises(AttributeError, match="module 'benchmark' has no attribute 'scor'; it exports .*score"):
        _ = fb.scor


def test_targets_reach_the_scores():
    for target in ("predicted", 1, torch.arange(12) % 3, np.arange(12) % 3):
        expected = Evaluator(by_hand(target=torch.as_tensor(target) if isinstance(target, np.ndarray) else target))
        assert equal(expected.score(ATTRIBUTIONS), of(fb.evaluate(own(target=target), {"mine": ATTRIBUTIONS})))
    labelled = own(labels=np.arange(12) % 3, target="label")
    expected = Evaluator(replace(by_hand(), target=torch.arange(12) % 3)).score(ATTRIBUTIONS)
    assert equal(expected, of(fb.evaluate(labelled, {"mine": ATTRIBUTIONS})))


def test_what_holds_tensors_is_said_in_a_line():
    from benchmark.api.explainers import Callback
    from benchmark.models.others.wrapping import wrap

    x = torch.randn(200, 40)
    model = nn.Sequential(nn.Linear(40, 9), nn.ReLU(), nn.Linear(9, 3))
    own = fb.task(model, x, groups=np.arange(40) // 2, target=torch.zeros(200, dtype=torch.long))
    result = fb.evaluate(own, {"mine": torch.randn(200, 20)}, metrics="DEL")
    marginal = fb.task(model, x, removal="marginal").removal
    held = [
        own, own.test, own.removal, own.removal.inner, marginal, wrap(model, x), Callback(model), Callback(lambda x: x),
        result, *result.records, *result.evaluations.values(),
    ]  # fmt: skip
    said = list(map(repr, held))
    assert not [each for each in said if "\n" in each or len(each) > 200]
    assert said[0] == "Task(own: table, 200 of 20 features, 3 classes; Sequential, GroupedRemoval, 20 steps)"
    assert said[2] == "GroupedRemoval(inner=ColumnRemoval(means=Tensor (40,)), groups=Tensor (40,))"
    assert said[6] == "Callback(function=Sequential)"


def broken(x, target):
    return x / (1 / 0)


class Spoils(Method):
    """Changes what the task shares with methods, which cannot be put back."""

    def prepare(self, task, seed):
        task.removal.means.add_(1)
        return lambda x, target: x


def test_what_fails_takes_nothing_from_the_rest():
    given = {"first": broken, "ig": fb.method("saliency"), "none": lambda x: None, "mine": ATTRIBUTIONS}
    with pytest.raises(fb.SomeFailedError) as raised:
        fb.evaluate(own(), given, metrics="DEL,FC")
    failed, result = raised.value.failures, raised.value.result
    assert list(failed) == ["first", "none"]
    assert failed["first"].startswith("it failed: ZeroDivisionError")
    assert str(raised.value) == (
        f"first: {failed['first']}; none: {failed['none']}; the scores of ig, mine are in the error's .result"
    )
    assert result.labels == ["ig", "mine"] == list(result.evaluations)
    alone = fb.evaluate(own(), {"mine": ATTRIBUTIONS}, metrics="DEL,FC")
    assert np.array_equal(result.scores["FC"]["mine"], alone.scores["FC"]["mine"])
    with pytest.raises(fb.SomeFailedError, match="^broken: it failed: ZeroDivisionError[^;]*$") as raised:
        fb.evaluate(own(), {"broken": broken})
    assert raised.value.result is None


def test_a_task_that_a_method_spoilt_gives_no_scores_any_more():
    given = {"a": fb.method("saliency"), "spoils": Spoils(), "b": fb.method("random"), "c": ATTRIBUTIONS}
    with pytest.raises(fb.SomeFailedError) as raised:
        fb.evaluate(own(), given, metrics="DEL")
    assert list(raised.value.failures) == ["spoils", "b"]
    expected = fb.evaluate(own(), {"a": given["a"], "c": ATTRIBUTIONS}, metrics="DEL")
    pd.testing.assert_frame_equal(raised.value.result.scores["DEL"], expected.scores["DEL"])
    assert raised.value.result.records[1].identity == expected.records[1].identity


def test_wrong_attributions_are_refused_before_anything_is_evaluated():
    asked = []

    def slow(x, target):
        asked.append(len(x))
        return x

    with pytest.raises(UsageError, match="mine has the shape"):
        fb.evaluate(own(), {"slow": slow, "mine": ATTRIBUTIONS[:3]})
    assert not asked
