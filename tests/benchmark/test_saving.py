"""`Result.save` and `load`: no record is lost without a word, and what cannot be read is named."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import benchmark as fb
from benchmark.api.making_records import _ordered
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.seeding import seeded
from benchmark.core.types import Method
from benchmark.scoring.metrics import TEN


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


with seeded(0):
    MODEL, OTHER = nn.Linear(4, 3), nn.Linear(4, 3)
X, TRAIN, MINE = drawn(8, 4), drawn(30, 4, seed=1), drawn(8, 4, seed=2)


def result(given=MINE, model=MODEL, x=X, metrics="DEL", seed=0, samples=None, **settings):
    task = fb.task(model, x, background=TRAIN, **settings)
    return fb.evaluate(task, {"mine": given}, metrics=metrics, seed=seed, samples=samples)


OTHERS = {
    "attributions": (lambda: result(-MINE), "other attributions or other code"),
    "a model": (lambda: result(model=OTHER), "another model"),
    "inputs": (lambda: result(x=-X), "other data or labels"),
    "labels": (lambda: result(labels=[0] * 8), "other data or labels"),
    "a target": (lambda: result(target=1), "another budget, target or removal"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_records_of_something_else_are_not_replaced(name, tmp_path):
    make, what = OTHERS[name]
    first, other = result(), make()
    first.save(tmp_path)
    with pytest.raises(
        UsageError, match=f"holds a record of 'mine' on 'own' of {what}: save to another .*overwrite=True"
    ):
        other.save(tmp_path)
    pd.testing.assert_frame_equal(fb.load(tmp_path).to_frame(), first.to_frame())
    other.save(tmp_path, overwrite=True)
    pd.testing.assert_frame_equal(fb.load(tmp_path).to_frame(), other.to_frame())


def test_records_of_other_samples_are_not_replaced(tmp_path):
    result(MINE[:2], samples=[0, 1]).save(tmp_path)
    with pytest.raises(UsageError, match="of other samples"):
        result(MINE[:2], samples=[2, 3]).save(tmp_path)


def test_where_one_record_is_refused_none_is_written(tmp_path):
    result().save(tmp_path)
    both = fb.evaluate(fb.task(MODEL, X, background=TRAIN), {"a": MINE, "mine": -MINE}, metrics="DEL")
    with pytest.raises(UsageError, match="record of 'mine'"):
        both.save(tmp_path)
    assert fb.load(tmp_path).labels == ["mine"]


def test_metrics_are_added_to_records_of_the_same(tmp_path):
    every = result(metrics="ten")
    every.save(tmp_path)
    result(metrics="DEL").save(tmp_path)
    pd.testing.assert_frame_equal(fb.load(tmp_path).to_frame(), every.to_frame())
    result(metrics="SUFF,DEL").save(tmp_path)
    loaded = fb.load(tmp_path)
    assert list(loaded.scores) == [*TEN, "SUFF"]
    assert np.array_equal(loaded.scores["INS"], every.scores["INS"])


def noisy(x, target):
    return x + torch.rand_like(x)


class Noisy(Method):
    def prepare(self, task, seed):
        return lambda x, target: x + torch.rand_like(x)


@pytest.mark.parametrize("given", [noisy, Noisy(), lambda x: x + torch.rand_like(x)])
def test_seeds_of_a_callable_make_one_row(given, tmp_path):
    for seed in (0, 1):
        result(given, seed=seed).save(tmp_path)
    board = fb.load(tmp_path).board("ten")
    assert ([row.method for row in board.rows], board.seeds) == (["mine"], (0, 1))


def test_other_code_makes_a_row_of_its_own_and_a_callable_that_changed_is_refused(tmp_path):
    factor = 1.0
    result(lambda x: x * factor).save(tmp_path)
    factor = -1.0
    with pytest.raises(UsageError, match="of other attributions"):
        result(lambda x: x * factor).save(tmp_path)
    result(lambda x: x.abs(), seed=1).save(tmp_path)
    assert len(fb.load(tmp_path).board().rows) == 2


def test_a_damaged_record_is_named_when_it_is_loaded_or_would_be_replaced(tmp_path):
    result().save(tmp_path)
    (folder,) = tmp_path.glob("real/own/*")
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"n_total": 8', '"n_total": 9'))
    for call in (lambda: fb.load(tmp_path), lambda: result().save(tmp_path)):
        with pytest.raises(UsageError, match=f"{folder.name}: run.json is not what was written") as raised:
            call()
        assert "\n" not in str(raised.value)
    (folder / "run.json").write_text("{")
    with pytest.raises(UsageError, match=f"{folder.name}: not a readable record"):
        fb.load(tmp_path)
    result().save(tmp_path, overwrite=True)
    assert fb.load(tmp_path).labels == ["mine"]
    (folder / "examples.json").write_text("[]")
    with pytest.raises(BenchmarkError, match=r"examples.json is not what run.json says it is"):
        fb.load(tmp_path)


def test_a_record_of_an_older_schema_gets_one_sentence(tmp_path):
    result().save(tmp_path)
    (folder,) = tmp_path.glob("real/own/*")
    meta = json.loads((folder / "run.json").read_text()) | {"schema": 4}
    (folder / "run.json").write_text(json.dumps(meta))
    with pytest.raises(UsageError, match=f"{folder.name}: schema 4, this version reads 6: run again") as raised:
        fb.load(tmp_path)
    assert str(raised.value).startswith("1 record in ")


def test_metrics_are_added_under_overwrite_too(tmp_path):
    result(metrics="ten").save(tmp_path)
    result(metrics="SUFF").save(tmp_path, overwrite=True)
    assert list(fb.load(tmp_path).scores) == [*TEN, "SUFF"]


RIVALS = {
    "one label, two methods": ({"mine": MINE}, {"mine": fb.method("saliency")}),
    "one label, other parameters": ({"a": fb.method("lime", n_samples=20)}, {"a": fb.method("lime", n_samples=50)}),
    "one method, two labels": ({"a": fb.method("saliency")}, {"b": fb.method("saliency")}),
}


@pytest.mark.parametrize("name", RIVALS)
def test_a_label_means_one_method_in_a_folder(name, tmp_path):
    first, second = (fb.evaluate(fb.task(MODEL, X, background=TRAIN), given, metrics="DEL") for given in RIVALS[name])
    first.save(tmp_path)
    with pytest.raises(UsageError, match="where a label means one method with its parameters: save to another folder"):
        second.save(tmp_path)
    pd.testing.assert_frame_equal(fb.load(tmp_path).to_frame(), first.to_frame())
    second.save(tmp_path, overwrite=True)
    pd.testing.assert_frame_equal(fb.load(tmp_path).to_frame(), second.to_frame())


def test_a_set_in_code_has_the_same_digest_in_every_process():
    orders = {_ordered(compile(f"x in {{{words}}}", "", "eval").co_consts[0]) for words in ("'a', 'b'", "'b', 'a'")}
    assert orders == {repr(["'a'", "'b'"])}
