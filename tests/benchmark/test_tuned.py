"""Files of what was chosen: written, joined with earlier ones, and read again."""

from __future__ import annotations

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmark.core.errors import DataError
from benchmark.tuned import files
from benchmark.tuned.classes import CLASSES, class_named, name_of
from benchmark.tuned.files import Choice, Trial, Tuned, UntunedError, read, write


def trial(rows=1.0, classes=("5", "60", "500", "any"), **scores):
    return Trial({"n": rows}, classes, rows, scores)


def tuned(**changes):
    facts = {
        "task": "nap_mlp", "source": "synthetic", "held_out": 100, "seed": 0, "identity": {"data": "d"},
        "random": {"FC": 0.0}, "trials": {"lime": [trial(60.0, ("60",), FC=0.5)]},
        "chosen": {"lime": {"60": Choice({"n_samples": 60}, 60.0, 1.0, 1)}},
    }  # fmt: skip
    return Tuned(**facts | changes)


def test_a_file_is_read_as_it_was_written(tmp_path):
    write(tuned(), tmp_path)
    assert read("nap_mlp", [tmp_path]) == tuned()


def test_methods_that_were_not_tried_now_stay(tmp_path):
    write(tuned(), tmp_path)
    write(tuned(trials={"saliency": []}, chosen={"saliency": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).trials) == {"lime", "saliency"}
    write(tuned(identity={"data": "other"}, trials={"saliency": []}, chosen={"saliency": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).trials) == {"saliency"}, "those were judged on other rows"


def test_methods_of_more_or_fewer_tries_do_not_share_a_file(tmp_path, caplog):
    write(tuned(configurations=12), tmp_path)
    write(tuned(configurations=3, trials={"saliency": []}, chosen={"saliency": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).trials) == {"saliency"}
    assert "lime were tuned on nap_mlp with another configurations: left out, so tune them again" in caplog.text


def test_learned_methods_of_other_training_budgets_do_not_share_a_file(tmp_path, caplog):
    both = {"lime": [], "deepfaith": []}
    write(tuned(trials=both, chosen={"lime": {}, "deepfaith": {}}, training_budget="2000 iterations"), tmp_path)
    write(tuned(trials={"saliency": []}, chosen={"saliency": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).trials) == {"lime", "deepfaith", "saliency"}, "none tuned now is learned"
    assert read("nap_mlp", [tmp_path]).training_budget == "2000 iterations"
    write(tuned(trials={"l2x": []}, chosen={"l2x": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).chosen) == {"lime", "saliency", "l2x"}
    assert read("nap_mlp", [tmp_path]).training_budget == ""
    assert "deepfaith were tuned on nap_mlp with another training budget: left out" in caplog.text
    write(tuned(trials={"fastshap": []}, chosen={"fastshap": {}}), tmp_path)
    assert set(read("nap_mlp", [tmp_path]).trials) == {"lime", "saliency", "l2x", "fastshap"}


def test_a_file_that_does_not_say_how_many_were_tried_is_read(tmp_path):
    path = write(tuned(configurations=12), tmp_path)
    stated = json.loads(path.read_text())
    del stated["configurations"]
    path.write_text(json.dumps(stated))
    assert read("nap_mlp", [tmp_path]) == tuned(configurations=0)


def test_two_that_write_at_once_both_stay(tmp_path, monkeypatch):
    write(tuned(), tmp_path)

    def slowly(*arguments):
        found = read(*arguments)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(files, "read", slowly)
    others = [tuned(trials={name: []}, chosen={name: {}}) for name in ("saliency", "occlusion")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: write(one, tmp_path), others))
    assert set(read("nap_mlp", [tmp_path]).trials) == {"lime", "saliency", "occlusion"}


def test_a_damaged_file_is_set_aside_when_tune_runs_again(tmp_path, caplog):
    path = tmp_path / "nap_mlp.json"
    path.write_text("{")
    write(tuned(), tmp_path)
    assert read("nap_mlp", [tmp_path]) == tuned()
    (aside,) = tmp_path.glob("nap_mlp.json.damaged-*")
    assert aside.read_text() == "{"
    assert aside.name in caplog.text


def test_the_nearest_folder_counts(tmp_path):
    write(tuned(seed=1), tmp_path / "far")
    assert read("nap_mlp", [tmp_path / "near", tmp_path / "far"]).seed == 1
    write(tuned(seed=2), tmp_path / "near")
    assert read("nap_mlp", [tmp_path / "near", tmp_path / "far"]).seed == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: text.replace('"60": {', '"61": {'),
        lambda text: text.replace('"held_out"', '"held"'),
        lambda text: text.replace('"task": "nap_mlp"', '"task": "wcd_mlp"'),
        lambda _: "[]",
    ],
)
def test_a_damaged_file_is_said(tmp_path, damage):
    path = write(tuned(), tmp_path)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.raises(DataError, match="run tune again"):
        read("nap_mlp", [tmp_path])


def test_what_was_not_tuned_is_said():
    with pytest.raises(UntunedError, match=r"was not tuned on nap_mlp, but lime: run .* tune"):
        tuned().of("saliency", 60)
    with pytest.raises(
        UntunedError, match="asks more than 5 rows in each configuration tried on nap_mlp: it was tuned for 60"
    ):
        tuned().of("lime", 5)
    everywhere = {rows: Choice({}, 1.0, 1.0, 1) for rows in ("500", "60", "any")}
    with pytest.raises(UntunedError, match="it was tuned for 60, 500, any$"):
        dataclasses.replace(tuned(), chosen={"lime": everywhere}).of("lime", 5)
    with pytest.raises(UntunedError, match="tune --task nap_mlp --source synthetic --configurations 3 for it"):
        dataclasses.replace(tuned(), source="synthetic", configurations=3).of("saliency", 60)
    with pytest.raises(DataError, match="nothing was tuned on wcd_mlp: run python -m benchmark tune --task wcd_mlp"):
        read("wcd_mlp", [])


@pytest.mark.parametrize("rows", CLASSES)
def test_classes_are_named_and_found(rows):
    assert class_named(name_of(rows)) == rows
