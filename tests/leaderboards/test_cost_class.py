"""Boards of a class of costs, and figures of what was tuned."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.core.parameters import parameters
from benchmark.core.types import METHODS
from benchmark.records.store import RecordStore
from benchmark.running.plan import spec_of
from benchmark.scoring.metrics import METRICS
from benchmark.tuned.files import OWN, Choice, Tuned, write
from leaderboards.board import GapError
from leaderboards.check import differences
from leaderboards.class_figures import rows_figure, spread, tuned_figure
from leaderboards.cost_class import class_rankings, in_default, settings_rankings
from leaderboards.publish import heading, name_of
from leaderboards.rank import rank
from leaderboards.tables import render, title, to_csv
from tests.leaderboards.generated import IDENTITY, NAMES, made

TASK = "nap_mlp"
SIGNS = np.array([1 if METRICS[name].higher_is_better else -1 for name in NAMES])[:, None]
SAMPLES = 12
CHOSEN = {
    "saliency": {"any": ({"form": "signed"}, 2), "5": ({"form": "signed"}, 2), "60": ({"form": "signed"}, 2),
                 "500": ({"form": "signed"}, 2)},
    "lime": {"60": ({"n_samples": 60}, 60), "500": ({"n_samples": 500, "output": "probability"}, 500),
             "any": ({"n_samples": 5000}, 5000)},
    "kernel_shap": {"60": ({"n_samples": 58}, 60), "500": ({"n_samples": 498}, 128), "any": ({"n_samples": 498}, 128)},
    "fastshap": {"5": ({}, 0), "60": ({}, 0), "500": ({}, 0), "any": ({}, 0)},
}  # fmt: skip


def params(method, **given):
    """Return all parameters of a method on the task."""
    return parameters(METHODS.get(method)(**given).resolved(spec_of(TASK)))


def tuned(chosen=None, task=TASK, source="real"):
    """Return what was chosen on the task."""
    found = {
        method: {name: Choice(params(method, **given), rows, 0.5, 3) for name, (given, rows) in by_class.items()}
        for method, by_class in (CHOSEN if chosen is None else chosen).items()
    }
    return Tuned(task, source, 100, 0, IDENTITY, {"FC": 0.0}, {}, found)


def record(method, rows, quality=0.0, kind=None, seed=0, task=TASK, model=0, **given):
    """Return a record whose explanations took some rows; better for a higher quality."""
    kind = kind or METHODS.entry(method).facts["kind"]
    rng = np.random.default_rng([int(10 * quality) + 100, seed, model])
    found = made(SIGNS * (rng.normal(size=(10, SAMPLES)) + quality), method, task, seed, kind)
    costs = found.costs | {"attribute": {"forwards": rows * SAMPLES, "backwards": 0, "seconds": 0.1}}
    label = method + ("[" + ",".join(f"{key}={value}" for key, value in given.items()) + "]" if given else "")
    settings = params(method, **given) if kind in ("baseline", "learned") else {}
    cell = replace(found.cell, params=settings, model=model)
    identity = IDENTITY | ({"model": f"m{model}"} if model else {})
    return replace(found, cell=cell, label=label, costs=costs, identity=identity)


def records(**more):
    """Return the records of all settings in `CHOSEN`, defaults, controls and an oracle."""
    return [
        record("saliency", 2, 1, form="signed", **more),
        record("lime", 60, 2, n_samples=60, **more),
        record("lime", 500, 3, n_samples=500, output="probability", **more),
        record("lime", 5000, 4, n_samples=5000, **more),
        record("kernel_shap", 60, 3, n_samples=58, **more),
        record("kernel_shap", 128, 5, n_samples=498, **more),
        record("fastshap", 0, 3.5, **more),
        record("lime", 100, 2.2, **more),
        record("kernel_shap", 102, 3.2, **more),
        record("saliency", 1, 0.5, **more),
        record("random", 0, -2, **more),
        record("constant", 0, -3, **more),
        record("exact_shapley", 128, 6, **more),
    ]


def board_of(found, name="60", chosen=None, **more):
    """Return the one board of a class."""
    return next(ranking.board for ranking in class_rankings(found, {TASK: tuned(chosen)}, name, **more))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with what was chosen and its records."""
    monkeypatch.chdir(tmp_path)
    write(tuned(), OWN)
    keep(records())
    return tmp_path


def keep(found, folder="results"):
    store = RecordStore(OWN.parent / folder).open()
    for each in found:
        store.write(each)


def leaderboard(*words):
    return main(["leaderboard", "--task", TASK, *words])


def test_a_board_of_a_class_has_what_was_chosen_for_it():
    made = board_of(records())
    passes = {row.method: row.forwards for row in made.rows}
    assert passes == {"saliency": 2, "lime": 60, "kernel_shap": 60, "fastshap": 0, "random": 0, "constant": 0}
    assert made.rows[0].method == "fastshap"
    assert {row.method: row.forwards for row in board_of(records(), "any").rows} == {
        "saliency": 2, "lime": 5000, "kernel_shap": 128, "fastshap": 0, "random": 0, "constant": 0,
        "exact_shapley": 128,
    }  # fmt: skip
    assert "tuned for at most 60 rows an explanation" in title(made)
    assert "tuned for any number of rows an explanation" in title(board_of(records(), "any"))


def test_the_training_budget_of_tuning_is_said():
    found = class_rankings(records(), {TASK: replace(tuned(), training_budget="60 seconds")}, "60")[0].board
    assert "every configuration of a learned method was trained for 60 seconds" in found.notes
    assert not any("learned method" in note for note in board_of(records()).notes)


def test_what_was_chosen_stands_beneath():
    lines = render([board_of(records())], "md").splitlines()
    lines = [line.strip() for line in lines]
    assert "lime: n_samples=60; 60.0 rows" in lines
    assert "saliency: form=signed; 2.0 rows" in lines
    assert "fastshap: defaults; 0.0 rows" in lines
    assert not any(line.startswith("random:") for line in lines)
    assert any("settings chosen by tune on 100 held-out training rows of real data, seed 0" in line for line in lines)
    stated = json.loads(render([board_of(records(), "500")], "json"))[0]["cost_class"]
    assert stated["name"] == "500"
    assert stated["settings"]["lime"] == {"n_samples": 500, "output": "probability"}


def test_a_chosen_method_without_a_record_is_a_gap():
    found = [each for each in records() if each.label != "lime[n_samples=60]"]
    with pytest.raises(
        GapError, match=r"lime: no record for seed 0.*run --task nap_mlp --methods 'tuned=60' --source real"
    ):
        board_of(found)
    made = board_of(found, partial=True)
    gaps = {row.method: row.gaps for row in made.rows if row.gaps}
    assert gaps == {"lime": ("no record for seed 0",)}
    assert "lime: n_samples=60; no costs" in render([made], "table")
    assert len(board_of(found, methods="!lime").rows) == 5, "what is not asked for is no gap"
    with pytest.raises(GapError, match="kernel_shap: no record for seed 1; lime: no record for seed 0, 1"):
        board_of([*found, record("saliency", 2, 1, form="signed", seed=1)])


def test_what_has_no_choice_is_named_in_a_note():
    found = [*records(), record("occlusion", 8, 1)]
    notes = board_of(found, "5").notes
    assert "not here, since no settings were chosen for it: occlusion" in notes
    assert "not here, since each configuration tried asks more than 5 rows: kernel_shap, lime" in notes
    assert "not here, since they ask more than 5 rows: exact_shapley" in notes
    notes = board_of(records(), "500", {**CHOSEN, "occlusion": {}}).notes
    assert "not here, since no settings were chosen for it: occlusion" in notes
    assert not any("more than" in note for note in notes), "the oracle asks 128 rows"


def test_a_method_that_does_not_enter_the_class_is_said_and_not_unknown():
    with pytest.raises(UsageError, match="^lime stands on no board of the class 5: no settings were chosen there$"):
        class_rankings(records(), {TASK: tuned()}, "5", methods="lime")
    assert [row.method for row in board_of(records(), "5", methods="lime,saliency").rows] == ["saliency"]
    with pytest.raises(UsageError, match="unknown method 'limes'"):
        class_rankings(records(), {TASK: tuned()}, "5", methods="limes")


def test_a_selection_without_records_says_what_to_run():
    without = [each for each in records() if each.cell.method != "fastshap"]
    with pytest.raises(UsageError, match=rf"--task {TASK} --methods 'fastshap\[tuned=60\]' --source real first$"):
        class_rankings(without, {TASK: tuned()}, "60", methods="fastshap")


def test_a_task_where_no_selected_method_was_tuned_has_no_board():
    there = {name: by_class for name, by_class in CHOSEN.items() if name != "lime"}
    both = {TASK: tuned(), "wcd_mlp": replace(tuned(there), task="wcd_mlp")}
    found = [*records(), *records(task="wcd_mlp")]
    assert [each.board.task for each in class_rankings(found, both, "60", methods="lime")] == [TASK]


def test_rows_beyond_the_class_are_said():
    found = [each for each in records() if each.label != "lime[n_samples=60]"]
    made = board_of([*found, record("lime", 61, 2, n_samples=60)])
    assert "lime was tuned for at most 60 rows and took 61.0 on these samples" in made.notes
    assert not any("was tuned for" in note for note in board_of(records()).notes)


def test_a_parameter_that_a_method_has_gained_since_has_its_default():
    chosen = tuned()
    fewer = {key: value for key, value in params("lime", n_samples=60).items() if key != "penalty"}
    chosen.chosen["lime"]["60"] = replace(chosen.chosen["lime"]["60"], params=fewer)
    made = class_rankings(records(), {TASK: chosen}, "60")[0].board
    assert "lime" in {row.method for row in made.rows}
    chosen.chosen["lime"]["60"] = replace(chosen.chosen["lime"]["60"], params=fewer | {"lost": 1})
    with pytest.raises(UsageError, match="lime has no parameter 'lost'"):
        class_rankings(records(), {TASK: chosen}, "60")


def test_a_choice_of_another_source_or_model_is_said():
    with pytest.raises(UsageError, match="chosen on synthetic data, and its records here are of real data"):
        class_rankings(records(), {TASK: tuned(source="synthetic")}, "60")
    synthetic = [replace(each, cell=replace(each.cell, source="synthetic")) for each in records()]
    assert len(class_rankings([*records(), *synthetic], {TASK: tuned()}, "60")) == 1
    other = [replace(each, identity=IDENTITY | {"model": "other"}) for each in records()]
    assert any("another model than these records explain" in note for note in board_of(other).notes)
    assert not any("model" in note for note in board_of(records()).notes)
    several = board_of([*records(), *records(model=1)])
    assert any(note.endswith("seed 0, for model 0 alone") for note in several.notes)


def test_boards_without_a_chosen_record_are_none():
    limited = [replace(each, cell=replace(each.cell, limit=9)) for each in records()[7:]]  # defaults and controls
    assert len(class_rankings([*records(), *limited], {TASK: tuned()}, "60")) == 1
    with pytest.raises(UsageError, match="run --task nap_mlp --methods 'tuned=60' --source real first"):
        class_rankings([each for each in limited if each.cell.method != "fastshap"], {TASK: tuned()}, "60")


def test_names_of_published_boards():
    assert name_of(board_of(records())) == "nap_mlp-60-rows"
    assert name_of(board_of(records(), "any")) == "nap_mlp-any-rows"
    several = [each for model in (0, 1, 2) for each in records(model=model)]
    assert name_of(board_of(several)) == "nap_mlp-60-rows-3-models"
    assert name_of(board_of(records(model=2))) == "nap_mlp-60-rows-model-2", "and not the file of model 0"
    assert "--source real --models 2 --rows 60" in heading(board_of(records(model=2)), records(model=2))[0]


def test_a_published_board_of_a_class_can_be_checked(here, capsys):
    assert leaderboard("--rows", "60", "--publish", "boards") == 0
    written = sorted(path.name for path in (here / "boards").iterdir())
    assert written == ["nap_mlp-60-rows.csv", "nap_mlp-60-rows.md", "nap_mlp-60-rows.png"]
    page = (here / "boards" / "nap_mlp-60-rows.md").read_text()
    assert "--methods 'tuned=60,constant,random'" in page
    assert "leaderboard --task nap_mlp --source real --rows 60 --limit all --device cpu --publish FOLDER" in page
    file = "boards/nap_mlp-60-rows.csv"
    assert leaderboard("--rows", "60", "--check", file) == 0
    capsys.readouterr()
    for words in ([], ["--rows", "500"]):
        assert leaderboard(*words, "--check", file) == 2
        assert "is a board of the class of 60 rows: add --rows 60" in capsys.readouterr().err
    assert leaderboard("--methods", "lime,random,constant", "--publish", "ordinary") == 0
    assert leaderboard("--rows", "60", "--check", "ordinary/nap_mlp.csv") == 2
    assert "is a board of no class: leave out --rows" in capsys.readouterr().err
    changed = {**CHOSEN, "lime": {**CHOSEN["lime"], "60": ({"n_samples": 500, "output": "probability"}, 60)}}
    write(tuned(changed), OWN)
    assert leaderboard("--rows", "60", "--check", file) == 1
    assert "lime: settings was n_samples=60, is n_samples=500,output=probability" in capsys.readouterr().out


def test_boards_of_before_there_were_classes_are_checked():
    text = to_csv([rank(records()[7:]).board])
    lines = list(csv.reader(io.StringIO(text)))
    old = "\n".join(",".join(line[: lines[0].index("cost_class")]) for line in lines)
    assert differences(old, text) == []
    of_class = to_csv([board_of(records())])
    assert any("no longer there" in line for line in differences(old, of_class)), "a class is another board"


def test_the_command_says_what_is_missing(here, capsys):
    assert leaderboard("--rows", "60", "--methods", "lime,random") == 0
    assert "kernel_shap" not in capsys.readouterr().out
    assert leaderboard("--rows", "60", "--compare", "paper") == 2
    assert "leave out --rows" in capsys.readouterr().err
    keep(records(task="imdb_lstm"))
    assert main(["leaderboard", "--rows", "60"]) == 0
    said = capsys.readouterr().err
    assert "left out: nothing was tuned on imdb_lstm: run python -m benchmark tune --task imdb_lstm" in said
    assert main(["leaderboard", "--rows", "60", "--task", "imdb_lstm"]) == 3
    write(tuned(task="imdb_lstm"), OWN)
    assert main(["leaderboard", "--rows", "60"]) == 0
    out = capsys.readouterr().out
    assert "2 tasks together · tuned for at most 60 rows an explanation" in out
    assert "not tuned for this class" in out


def test_the_page_of_a_class(here):
    assert main(["report", "--rows", "60", "--page", "page.html"]) == 0
    text = (here / "page.html").read_text()
    assert "nap_mlp, at most 60 rows" in text
    assert 'id="real-nap_mlp-standard-fp32-cpu-all-60-rows"' in text
    assert "kernel_shap: n_samples=58; 60.0 rows" in text


def test_all_settings_stand_in_one_ranking():
    made = settings_rankings(records(), tuned())[0]
    labels = {row.method for row in made.ranking.board.rows}
    assert labels == {
        "saliency @5,60,500,any", "lime @60", "lime @500", "lime @any", "kernel_shap @60", "kernel_shap @500,any",
        "fastshap @5,60,500,any", "random", "constant",
    }  # fmt: skip
    assert made.methods["kernel_shap @500,any"] == "kernel_shap"
    assert made.absent == ()
    fewer = [each for each in records() if each.label != "lime[n_samples=60]"]
    assert settings_rankings(fewer, tuned())[0].absent == ("lime @60",)
    assert set(settings_rankings(fewer, tuned(), "!lime")[0].methods.values()) == {
        "saliency",
        "kernel_shap",
        "fastshap",
    }
    with pytest.raises(UsageError, match="no record of nap_mlp has settings that tune chose"):
        settings_rankings([record("occlusion", 8, 1)], tuned())


def test_ranks_against_rows_are_drawn_a_line_a_method():
    made = settings_rankings(records(), tuned())[0]
    axes = rows_figure(made).axes[0]
    words = [text.get_text() for text in axes.texts]
    named = ["fastshap (0) (trained)", "kernel_shap", "lime", "saliency", "random (control)", "constant (control)"]
    assert sorted(set(words) - {f"at most {rows}" for rows in (5, 60, 500)}) == sorted(named)
    assert {"at most 5", "at most 60", "at most 500"} <= set(words)
    ranks = {row.method: row.mean_rank for row in made.ranking.board.rows}
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert [ranks["lime @60"], ranks["lime @500"], ranks["lime @any"]] in drawn
    assert [ranks["kernel_shap @60"], ranks["kernel_shap @500,any"]] in drawn
    tips = [str(line.get_label()) for line in axes.lines]
    assert any(re.match(r"lime @60: rank .*, 60\.0 rows an explanation; 95 % interval", tip) for tip in tips)
    stars = [line for line in axes.lines if line.get_marker() == "*"]
    assert [str(line.get_label()).split(":")[0] for line in stars] == ["fastshap @5,60,500,any"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best is at the top"
    assert "(0): asks no row" in axes.get_title(loc="left")


def test_places_are_apart_and_near_what_is_wanted():
    assert spread([0.1, 0.1, 0.9], 0.25) == pytest.approx([0.1, 0.35, 0.9])
    assert spread([0.9, 0.95, 1.0], 0.2) == pytest.approx([0.6, 0.8, 1.0])
    rng = np.random.default_rng(0)
    for count in (1, 5, 20):
        places = spread(sorted(rng.random(count)), 1 / 20)
        assert np.diff(places).min(initial=1.0) >= 1 / 20 - 1e-9
        assert max(places) <= 1


def test_tuned_and_default_settings_stand_side_by_side():
    board = board_of(records(), "any")
    default = rank(in_default(records(), [row.method for row in board.rows])).board
    costs = {row.method: row.forwards for row in default.rows}
    assert costs == {"lime": 100, "kernel_shap": 102, "saliency": 1, "fastshap": 0, "random": 0, "constant": 0,
                     "exact_shapley": 128}  # fmt: skip
    axes = tuned_figure(board, default).axes[0]
    tips = {str(line.get_label()).partition(";")[0] for line in axes.lines}
    for row in board.rows:
        assert f"{row.method}, tuned: {row.mean_rank:.2f}" in tips
    for row in default.rows:
        assert f"{row.method}, default: {row.mean_rank:.2f}" in tips
    axes.figure.canvas.draw()
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0, "it covers nothing that is drawn"
    ties = [text.get_text() for text in axes.texts if text.get_text() not in ("tie", "by\ndefault")]
    groups = {row.method: row.group for row in default.rows}
    assert ties == [text for row in board.rows for text in (str(row.group), str(groups[row.method]))]


@pytest.mark.parametrize("words", [["rows"], ["tuned"], ["tuned", "--rows", "60"], ["intervals", "--rows", "60"],
                                   ["cost", "--rows", "500"]])  # fmt: skip
def test_plots_of_tuned_settings(here, words):
    assert main(["plot", *words, "--task", TASK, "--figure", "figure.svg"]) == 0
    assert (here / "figure.svg").read_text().startswith("<?xml")


def test_plots_that_cannot_be_drawn_say_why(here, capsys):
    words = ["--task", TASK, "--figure", "figure.png"]
    for what in ("rows", "curves", "critical"):
        assert main(["plot", what, "--rows", "60", *words]) == 2
        assert f"leave it out of plot {what}" in capsys.readouterr().err
    keep([replace(each, cell=replace(each.cell, limit=9)) for each in records()])
    for what in ("rows", "tuned"):
        assert main(["plot", what, *words]) == 2
        assert "nap_mlp has 2 boards here (real, limit" in capsys.readouterr().err
        assert main(["plot", what, *words, "--limit", "9"]) == 0
    keep([each for each in records() if each.label not in ("lime", "lime[n_samples=60]")], "fewer")
    words += ["--out", "fewer"]
    assert main(["plot", "tuned", *words]) == 1
    assert "no record of lime with default settings: run python -m benchmark run" in (said := capsys.readouterr().err)
    assert "--source real" in said
    assert main(["plot", "rows", *words]) == 0
    assert "not drawn, since they have no records: lime @60" in capsys.readouterr().err
