"""Settings chosen on training rows: equally many tries, by a method's own scores, without a look at a test row."""

from __future__ import annotations

import dataclasses
import gc
import json
import types

import numpy as np
import pytest
import torch

from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.core.parameters import configured
from benchmark.core.sources import Sources
from benchmark.core.types import FIXED, METHODS, TASKS, Split
from benchmark.learning.budget import TrainingBudget
from benchmark.modalities.table import TableTask
from benchmark.records.store import RecordStore
from benchmark.running.built import forget_tasks
from benchmark.running.jobs import Outcome
from benchmark.running.plan import MethodChoice, method_for, parse_methods, plan_task, spec_of
from benchmark.scoring.isolation import HELD_OUT, for_methods, for_tuning
from benchmark.tuned.classes import CLASSES
from benchmark.tuned.files import OWN, Choice, Trial, read, write
from benchmark.tuning.configurations import configurations
from benchmark.tuning.judging import chosen, scaled
from leaderboards.rank import rank
from tests.benchmark.test_tuned import trial, tuned
from tests.tiers import QUICK_TASKS

TUNABLE = [name for name in METHODS.names() if METHODS.entry(name).facts["kind"] not in FIXED]
SYNTHETIC = Sources("synthetic", None, True, False)


def tune(*words, methods="saliency,kernel_shap", configurations="3"):
    return main(
        ["tune", "--task", "nap_mlp", "--methods", methods, "--source", "synthetic", "--jobs", "1", "--device", "cpu",
         "--configurations", configurations, *words]
    )  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# spaces and configurations


@pytest.mark.parametrize("modality", ["table", "text", "image"])
@pytest.mark.parametrize("name", TUNABLE)
def test_every_method_declares_a_space_of_values_that_it_takes(name, modality):
    cls = METHODS.get(name)
    combined = [given for rows in CLASSES for given in cls.space.combinations(modality, rows)]
    for given in combined:
        configured(cls, name, given)
    assert len({json.dumps(given, sort_keys=True) for given in combined}) > 1, "there is something to choose"


@pytest.mark.parametrize("task", ["nap_mlp", "agnews_lstm", "digits_cnn"])
@pytest.mark.parametrize("name", TUNABLE)
def test_configurations_are_different_and_as_many_as_asked_for(name, task):
    spec = spec_of(task)
    for rows in CLASSES:
        few, many = (configurations(name, spec, rows, count, 0) for count in (4, 10**6))
        assert len(few) == min(4, len(many))
        params = [json.dumps(one, sort_keys=True) for one in many.values()]
        assert len(set(params)) == len(params)
        assert list(few) == list(many)[: len(few)], "more tries add to fewer"


def test_the_first_configuration_is_the_default_at_the_budget_of_the_class():
    spec = spec_of("nap_mlp")
    defaults = dataclasses.asdict(METHODS.get("lime")().resolved(spec))
    first = next(iter(configurations("lime", spec, 60, 5, 3).values()))
    assert first == defaults | {"n_samples": 60}
    first = next(iter(configurations("saliency", spec, 60, 5, 3).values()))
    assert first == dataclasses.asdict(METHODS.get("saliency")().resolved(spec))


def test_a_method_enters_the_classes_that_its_space_names():
    spec = spec_of("nap_mlp")
    assert [rows for rows in CLASSES if configurations("lime", spec, rows, 2, 0)] == [60, 500, None]
    assert [rows for rows in CLASSES if configurations("saliency", spec, rows, 2, 0)] == [5, 60, 500, None]


def test_classes_of_one_space_try_the_same():
    spec = spec_of("nap_mlp")
    tried = [list(configurations("saliency", spec, rows, 5, 0)) for rows in CLASSES]
    assert all(one == tried[0] for one in tried)
    assert list(configurations("saliency", spec, 5, 5, 1)) != tried[0], "another seed draws others"


@pytest.mark.parametrize(
    ("budget", "key", "amount"),
    [(TrainingBudget("seconds", 7.0), "seconds", 7.0), (TrainingBudget("iterations", 9), "iterations", 9)],
)
def test_a_training_budget_takes_the_place_of_the_iterations_of_a_space(budget, key, amount):
    spec = spec_of("nap_mlp")
    for name in TUNABLE:
        learned = METHODS.entry(name).facts["kind"] == "learned"
        plain, within = (configurations(name, spec, None, 10**6, 0, given) for given in (None, budget))
        if not learned:
            assert within == plain
            continue
        assert all(one[key] == amount for one in within.values())
        assert not any("iterations" in dict(choice.given) for choice in within if key == "seconds")
        assert 1 < len(within) <= len(plain)


def test_what_is_tuned_within_a_training_budget_runs_within_it(here, capsys):
    assert tune("--training-budget", "9", methods="l2x", configurations="2") == 0
    found = read("nap_mlp")
    assert [trial.params["iterations"] for trial in found.trials["l2x"]] == [9, 9]
    assert found.of("l2x", None).params["iterations"] == 9
    assert found.training_budget == "9 iterations"


def test_iterations_that_are_given_count_more_than_seconds_that_were_chosen():
    chosen = {"k": 2, "iterations": 2000, "seconds": 1.0}
    method = method_for(MethodChoice("l2x", (("iterations", "7"), ("tuned", "any"))), tuned=chosen)
    assert (method.k, method.iterations, method.seconds) == (2, 7, None)
    assert method_for(MethodChoice("l2x", (("tuned", "any"),)), tuned=chosen).seconds == 1.0
    assert method_for(MethodChoice("l2x", (("seconds", "3"), ("tuned", "any"))), tuned=chosen).seconds == 3.0


def test_a_training_budget_that_is_no_use_is_refused(here, capsys):
    assert tune("--training-budget", "60s") == 2
    assert "is for learned methods, and none of --methods is" in capsys.readouterr().err
    assert tune("--training-budget", "soon", methods="l2x") == 2
    assert "expects iterations, such as 2000, or seconds" in capsys.readouterr().err


# judging


def test_a_value_is_0_for_random_and_1_for_the_best_in_each_metric():
    tried = [trial(FC=0.0, DEL=0.6), trial(FC=0.8, DEL=0.4), trial(FC=0.4, DEL=0.2)]
    assert scaled(tried, {"FC": 0.0, "DEL": 0.6}) == pytest.approx([0.0, (1 + 0.5) / 2, (0.5 + 1) / 2])


def test_what_is_worse_than_random_counts_below_zero():
    assert scaled([trial(FC=-0.5), trial(FC=0.5)], {"FC": 0.0}) == pytest.approx([-1, 1])
    assert scaled([trial(FC=-0.5), trial(FC=0.0)], {"FC": 0.0}) == pytest.approx([-1, 0])
    assert scaled([trial(FC=0.1), trial(FC=0.1)], {"FC": 0.1}) == pytest.approx([0, 0])


def test_a_metric_without_a_score_counts_as_random():
    assert scaled([trial(FC=0.5), trial(FC=0.5, DEL=0.1)], {"FC": 0.0, "DEL": 0.6}) == pytest.approx([0.5, 1])


def test_the_scale_of_a_metric_does_not_matter():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 2))
    one = scaled([trial(FC=a, DEL=b) for a, b in values], {"FC": 0.1, "DEL": 0.2})
    other = scaled([trial(FC=5 * a, DEL=0.01 * b) for a, b in values], {"FC": 0.5, "DEL": 0.002})
    assert one == pytest.approx(other)


def test_each_class_takes_the_best_that_fits_it():
    tried = [trial(4.0, FC=0.3), trial(40.0, FC=0.5), trial(400.0, FC=0.4), trial(4000.0, FC=0.9)]
    found = chosen(tried, {"FC": 0.0})
    assert {rows: choice.rows for rows, choice in found.items()} == {"5": 4, "60": 40, "500": 40, "any": 4000}


def test_a_class_is_entered_by_its_own_tries_and_the_choice_of_the_class_below():
    tried = [trial(4.0, ("5",), FC=0.3), trial(3.0, ("5",), FC=0.2), trial(40.0, ("60",), FC=0.1)]
    found = chosen(tried, {"FC": 0.0})
    assert (found["60"].rows, found["60"].tried) == (4.0, 2), "the other of five rows was not tried for sixty"


def test_failures_and_what_costs_too_much_enter_no_class():
    assert chosen([Trial({}, ("5",), None, {}, "no luck")], {"FC": 0.0}) == {}
    assert list(chosen([trial(7.0, ("5", "60"), FC=0.1)], {"FC": 0.0})) == ["60", "500", "any"]


# the command, and running what it chose


def test_tuning_is_resumed_and_runs(here, capsys):
    assert tune() == 0
    out = capsys.readouterr().out
    assert "nap_mlp: synthetic data, judged on 100 training rows" in out
    assert "written to tuned/nap_mlp.json" in out
    first = (here / "tuned" / "nap_mlp.json").read_bytes()
    records = {path: path.stat().st_mtime_ns for path in (here / "results" / "tuning").rglob("run.json")}
    assert tune() == 0
    assert (here / "tuned" / "nap_mlp.json").read_bytes() == first
    again = {path: path.stat().st_mtime_ns for path in (here / "results" / "tuning").rglob("run.json")}
    assert records == again, "nothing is computed again"
    capsys.readouterr()

    words = ["--source", "synthetic", "--limit", "8", "--jobs", "1", "--device", "cpu"]
    assert main(["run", "--task", "nap_mlp", "--methods", "tuned=60,!saliency,kernel_shap,random", *words]) == 0
    said = capsys.readouterr().out
    assert "kernel_shap[tuned=60]" in said
    assert "lime[tuned=60], occlusion[tuned=60]" in said, "in one line"
    assert ": was not tuned on nap_mlp, but kernel_shap, saliency: run python -m benchmark tune" in said
    unfit = next(line for line in said.splitlines() if "grad_cam[tuned=60]" in line)
    assert unfit.endswith(": explains image, not table"), "tuning it would not help"
    stored, problems = RecordStore(here / "results").scan("synthetic", "nap_mlp")
    assert not problems
    by_label = {record.label: record for record in stored}
    assert set(by_label) == {"kernel_shap[tuned=60]", "kernel_shap", "random"}
    choice = read("nap_mlp", [here / "tuned"]).of("kernel_shap", 60)
    assert by_label["kernel_shap[tuned=60]"].cell.params == choice.params
    costs = by_label["kernel_shap[tuned=60]"].costs["attribute"]
    assert (costs["forwards"] + costs["backwards"]) / 8 == choice.rows <= 60


def test_a_record_of_before_does_not_stand_for_what_failed_now(here, capsys, monkeypatch):
    """Its worker died: what lies there is of other code, or it would have been kept."""
    assert tune(methods="saliency") == 0
    fails = ["random"]

    def run_all(plans, *_):
        died = [Outcome(cell, cell.method, "failed", "its worker process died") for cell, _ in plans[0].cells]
        return [outcome for outcome in died if outcome.cell.method in fails], []

    monkeypatch.setattr("benchmark.tuning.tune.run_all", run_all)
    before = (here / "tuned" / "nap_mlp.json").read_bytes()
    assert tune(methods="saliency") == 1
    assert "the control random has no scores on nap_mlp: its worker process died" in capsys.readouterr().err
    assert (here / "tuned" / "nap_mlp.json").read_bytes() == before
    fails[0] = "saliency"
    assert tune(methods="saliency") == 1
    assert [(trial.rows, trial.reason) for trial in read("nap_mlp").trials["saliency"]] == [
        (None, "its worker process died")
    ] * 3


def test_texts_and_images_are_judged_on_all_that_is_held_out(here, capsys):
    words = ["--source", "synthetic", "--jobs", "1", "--device", "cpu", "--configurations", "2"]
    assert main(["tune", "--task", "imdb_lstm", "--methods", "saliency", *words]) == 0
    assert "judged on 40 training rows" in capsys.readouterr().out


def test_parameters_can_be_given_beside_what_was_chosen(here):
    assert tune(methods="saliency") == 0
    chosen_form = read("nap_mlp", [here / "tuned"]).of("saliency", None).params
    other = "absolute" if chosen_form["form"] != "absolute" else "signed"
    choices = parse_methods(f"saliency[tuned,form={other}],saliency[tuned=any]")
    plan = plan_task("nap_mlp", choices, SYNTHETIC, 0, 8)
    given = {choice.label: cell.params for cell, choice in plan.cells}
    assert given["saliency[tuned=any]"] == chosen_form
    assert given[f"saliency[form={other},tuned=any]"] == chosen_form | {"form": other}


def test_tuned_names_all_that_can_be_tuned():
    assert parse_methods("tuned") == [MethodChoice(name, (("tuned", "any"),)) for name in TUNABLE]
    assert {choice.name for choice in parse_methods("tuned=5,!li*")} == {n for n in TUNABLE if not n.startswith("li")}
    assert parse_methods("lime[tuned]") == [MethodChoice("lime", (("tuned", "any"),))]
    assert parse_methods("lime[tuned=60,penalty=0.1]") == [MethodChoice("lime", (("penalty", "0.1"), ("tuned", "60")))]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("lime[tuned=7]", "expected a class of costs, the most rows an explanation: 5, 60, 500, any; got '7'"),
        ("tuned=7", "expected a class of costs"),
        ("random[tuned]", "random cannot be tuned, since its kind is control"),
        ("tuned,!*", "leaves no method"),
    ],
)
def test_a_class_that_there_is_not_is_refused(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_methods(words)


def test_settings_that_were_not_read_are_not_made_up():
    with pytest.raises(UsageError, match=r"lime\[tuned=60\]: settings that tune chose are for commands that read them"):
        method_for(parse_methods("lime[tuned=60]")[0])


def test_settings_of_other_data_are_refused(here):
    write(tuned(source="real"), here / "tuned")
    with pytest.raises(UsageError, match="are of real data, and these are synthetic: run tune with the same --source"):
        plan_task("nap_mlp", parse_methods("lime[tuned]"), SYNTHETIC, 0, 8)


def test_a_task_without_data_does_not_keep_others_from_being_tuned(here, capsys, monkeypatch):
    def gone(*_):
        raise DataError("the file is gone")

    monkeypatch.setattr(type(spec_of("wcd_mlp")), "locate", lambda self, sources, locate=TableTask.locate: (
        gone() if self == spec_of("wcd_mlp") else locate(self, sources)))  # fmt: skip
    words = ["--source", "synthetic", "--jobs", "1", "--device", "cpu", "--configurations", "1"]
    assert main(["tune", "--task", "wcd_mlp,nap_mlp", "--methods", "saliency", *words]) == 3
    assert "error: wcd_mlp: the file is gone" in capsys.readouterr().err
    assert read("nap_mlp", [here / "tuned"]).chosen["saliency"]


def test_controls_cannot_be_tuned(here, capsys):
    assert tune(methods="random,constant") == 2
    assert "names nothing that can be tuned: controls and oracles cannot" in capsys.readouterr().err
    assert not list(here.iterdir())


def test_parameters_are_not_given_to_tune(here, capsys):
    assert tune(methods="lime[n_samples=5]") == 2
    assert "expects names and globs without [...], got 'lime[n_samples=5]'" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_tried(here, capsys):
    (here / "file").write_text("")
    assert tune("--to", "file") == 2
    assert "--to expects a folder, got 'file'" in capsys.readouterr().err
    (here / "tuned" / "nap_mlp.json").mkdir(parents=True)
    assert tune() == 2
    assert "cannot write 'tuned/nap_mlp.json': it is a folder" in capsys.readouterr().err
    assert not (here / "results").exists()
    with pytest.raises(DataError, match=r"tuned/nap_mlp\.json cannot be read \(IsADirectoryError"):
        read("nap_mlp")


def test_a_chosen_parameter_that_there_is_not_is_said_with_its_file(here, capsys):
    write(tuned(chosen={"lime": {"60": Choice({"n_samplez": 60}, 60.0, 1.0, 1)}}, source="synthetic"), OWN)
    assert main(["run", "--task", "nap_mlp", "--methods", "lime[tuned=60]", "--source", "synthetic"]) == 2
    assert "tuned/nap_mlp.json: lime has no parameter 'n_samplez'" in capsys.readouterr().err


def test_without_a_file_the_command_to_run_is_said(here, capsys):
    assert main(["run", "--task", "imdb_lstm", "--methods", "lime[tuned]", "--source", "synthetic"]) == 3
    assert "run python -m benchmark tune --task imdb_lstm first" in capsys.readouterr().err


def test_records_of_training_rows_make_no_board(here):
    assert tune(methods="saliency") == 0
    records, _ = RecordStore(here / "results" / "tuning").scan("synthetic", "nap_mlp")
    with pytest.raises(BenchmarkError, match="training rows that settings were chosen on"):
        rank(records)


# no test row is read


def built(name):
    spec = TASKS.get(name)()
    return spec.build(spec.locate(SYNTHETIC), name, "cpu")


def tensors_of(root):
    """Yield all tensors that can be reached from an object, through attributes, containers and closures."""
    seen, todo = set(), [root]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (type, types.ModuleType)):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            yield one
        if isinstance(one, types.FunctionType):
            todo += [cell.cell_contents for cell in one.__closure__ or ()]
        else:
            todo += gc.get_referents(one)


@pytest.mark.parametrize("name", QUICK_TASKS)
def test_no_test_row_can_be_reached_from_what_methods_and_tuning_are_given(name):
    task = built(name)
    train = {row.numpy().tobytes() for row in task.train.x}
    secret = {row.numpy().tobytes() for row in task.test.x} - train
    assert len(secret) > 20
    storage = task.test.x.untyped_storage().data_ptr()
    reached = 0
    for given in (for_methods(task), for_tuning(task), for_methods(for_tuning(task))):
        for tensor in tensors_of(given):
            reached += 1
            assert not tensor.numel() or tensor.untyped_storage().data_ptr() != storage
            if tensor.dim() > 1 and tensor.shape[1:] == task.test.x.shape[1:]:
                assert not {row.numpy().tobytes() for row in tensor.detach()} & secret
    assert reached > 20, "the model, the removal and the training rows"


@pytest.mark.parametrize("name", QUICK_TASKS)
def test_rows_that_judge_are_training_rows_that_are_trained_on_no_longer(name):
    task = built(name)
    tuning = for_tuning(task)
    assert len(tuning.test.x) == min(HELD_OUT[task.modality], len(task.train.x) // 3)
    assert len(tuning.test.x) + len(tuning.train.x) == len(task.train.x)
    both = torch.cat([tuning.train.x, tuning.test.x])
    assert sorted(r.numpy().tobytes() for r in both) == sorted(r.numpy().tobytes() for r in task.train.x)
    assert torch.equal(for_tuning(task).test.x, tuning.test.x)


def test_other_test_rows_change_nothing_that_is_chosen(here, monkeypatch):
    methods = "saliency,kernel_shap,fastshap"
    build = TableTask.build

    def poisoned(self, *arguments):
        task = build(self, *arguments)
        return dataclasses.replace(task, test=Split(torch.full_like(task.test.x, 1e3), 1 - task.test.y))

    monkeypatch.setattr(METHODS.get("fastshap"), "space", dataclasses.replace(
        METHODS.get("fastshap").space, values={"iterations": (5, 10)}))  # fmt: skip
    forget_tasks()
    assert tune("--to", "clean", "--out", "one", methods=methods) == 0
    monkeypatch.setattr(TableTask, "build", poisoned)
    forget_tasks()
    assert tune("--to", "poisoned", "--out", "two", methods=methods) == 0
    forget_tasks()
    clean, other = (read("nap_mlp", [here / name]) for name in ("clean", "poisoned"))
    assert clean.trials == other.trials
    assert clean.chosen == other.chosen
    assert "60" in clean.chosen["fastshap"]
