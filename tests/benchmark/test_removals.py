"""Removals by name, and groups of features."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
import torch

import benchmark as fb
from benchmark.core.errors import UsageError
from benchmark.core.identity import settings_digest
from benchmark.core.types import Budget
from benchmark.modalities.grouping import GroupedRemoval
from benchmark.modalities.removal import ColumnRemoval, PixelRemoval, TokenRemoval, blur
from benchmark.modalities.removals import REMOVALS, Inputs, RemovalSpec
from benchmark.scoring.evaluator import Evaluator
from tests import toys


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TABLE, IMAGE = drawn(40, 5), drawn(7, 3, 8, 8)


def make(name, modality="table", **settings):
    inputs = Inputs(modality, TABLE if modality == "table" else IMAGE)
    return REMOVALS.get(name)(**settings).make(inputs)


@pytest.mark.parametrize(
    ("name", "settings", "table", "channels"),
    [
        ("mean", {}, TABLE.mean(0), IMAGE.mean((0, 2, 3))),
        ("zero", {}, torch.zeros(5), torch.zeros(3)),
        ("value", {"value": 2.5}, torch.full((5,), 2.5), torch.full((3,), 2.5)),
    ],
)
def test_removed_features_take_one_value(name, settings, table, channels):
    x = drawn(2, 5, seed=1)
    assert torch.equal(make(name, **settings).baseline(x), table.unsqueeze(0))
    image = make(name, "image", **settings)
    assert torch.equal(image.baseline(IMAGE)[0, :, 3, 4], channels)
    assert image.shares_baseline == (name != "mean")


@pytest.mark.parametrize("removal", ["mean", "zero", "value[value=1]", "blur", "marginal", 0, [0.5]])
def test_images_of_one_channel_are_scored(removal):
    grey = IMAGE[:, :1]
    task = fb.task(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)), grey, removal=removal)
    result = fb.evaluate(task, {"mine": grey}, metrics="DEL,INS")
    assert result.scores["DEL"]["mine"].between(0, 1).all()


def test_images_of_the_mean_are_inserted_into_a_blur_as_those_of_the_benchmark():
    removal = make("mean", "image")
    assert torch.equal(removal.baseline(IMAGE, "insertion"), blur(IMAGE, 8 / 20))
    assert torch.equal(make("mean", "image", sigma=2.0).baseline(IMAGE, "insertion"), blur(IMAGE, 2.0))


def test_a_blur_takes_the_place_of_pixels():
    removal = make("blur", "image", sigma=1.5)
    assert torch.equal(removal.baseline(IMAGE), blur(IMAGE, 1.5))
    assert torch.equal(removal.baseline(IMAGE, "insertion"), blur(IMAGE, 1.5))
    assert removal.shares_baseline


def test_marginal_draws_follow_the_sample_and_the_seed_and_nothing_else():
    removal, x = make("marginal"), drawn(200, 5, seed=2)
    rows = removal.baseline(x)
    assert {tuple(row) for row in rows.tolist()} <= {tuple(row) for row in TABLE.tolist()}
    assert len({tuple(row) for row in rows.tolist()}) > 30, "all rows of the background are drawn"
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    assert torch.equal(removal.baseline(x[order]), rows[order])
    assert torch.equal(torch.cat([removal.baseline(one) for one in x.split(7)]), rows)
    assert not torch.equal(make("marginal", seed=1).baseline(x), rows)
    image = make("marginal", "image")
    assert image.baseline(IMAGE).shape == IMAGE.shape
    assert image.n_features == 64


def test_the_mask_token_must_be_known():
    ids = torch.tensor([[3, 4, 0]])
    removal = REMOVALS.get("mask")().make(Inputs("text", ids, mask_id=1, pad_id=0))
    assert (removal.n_features, removal.mask_id, removal.pad_id) == (3, 1, 0)
    with pytest.raises(UsageError, match="nobody said which .* mask_id="):
        REMOVALS.get("mask")().make(Inputs("text", ids))


def test_a_removal_of_ones_own_registers_like_a_method():
    @REMOVALS.register("median_here", modalities=("table",))
    @dataclass(frozen=True)
    class Median(RemovalSpec):
        """Columns take their median."""

        def make(self, inputs):
            return inputs.replaced_by(inputs.background.median(0).values)

    assert torch.equal(make("median_here").means, TABLE.median(0).values)


def in_groups(task, groups):
    return replace(task, removal=GroupedRemoval(task.removal, torch.tensor(groups)))


def test_groups_of_one_column_each_change_no_bit():
    task = toys.table()
    grouped = in_groups(task, list(range(7)))
    attributions = toys.scores(task)
    plain, own = Evaluator(task).score(attributions), Evaluator(grouped).score(attributions)
    assert all(torch.equal(own.scores[name], scores) for name, scores in plain.scores.items())


def test_a_group_is_removed_as_one_and_sums_its_attributions():
    removal = GroupedRemoval(ColumnRemoval(torch.tensor([10.0, 20.0, 30.0])), torch.tensor([1, 0, 1]))
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert removal.expand(torch.tensor([[False, True]])).tolist() == [[True, False, True]]
    assert removal.baseline(x).tolist() == [[10.0, 20.0, 30.0]]
    assert removal.pool(x).tolist() == [[2.0, 4.0]]
    assert removal.valid(x).all()


def test_superpixels_cover_their_pixels():
    image = PixelRemoval(torch.zeros(3), 4, 4, sigma=1.0)
    regions = torch.arange(16).view(4, 4) // 8  # the upper half, the lower half
    removal = GroupedRemoval(image, regions.flatten())
    covered = removal.expand(torch.tensor([[True, False]]))
    assert covered.shape == (1, 1, 4, 4)
    assert torch.equal(covered[0, 0], regions == 0)
    assert removal.pool(torch.ones(2, 3, 4, 4)).tolist() == [[24.0, 24.0]] * 2


def test_padding_is_in_no_group_and_stays():
    removal = GroupedRemoval(TokenRemoval(4, mask_id=1, pad_id=0), torch.tensor([0, 0, 1, 1]))
    x = torch.tensor([[5, 6, 7, 0], [5, 6, 0, 0]])
    assert removal.valid(x).tolist() == [[True, True], [True, False]]
    everything = removal.expand(removal.valid(x))
    assert removal.baseline(x).where(everything, x).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_grouped_texts_are_scored_as_texts_of_the_groups():
    """Two tokens a group: alike to a model that reads pairs, one token each."""
    task = toys.text(length=8, steps=3)
    grouped = in_groups(task, [0, 0, 1, 1, 2, 2, 3, 3])
    evaluation = Evaluator(replace(grouped, budget=Budget(2, subsets=5)), metrics=["DEL"]).score(
        torch.tensor([[4.0, 3.0, 2.0, 1.0]]).expand(toys.SAMPLES, 4)
    )
    x = task.test.x
    for row, score in zip(x, evaluation.scores["DEL"].tolist(), strict=True):
        groups = [at for at in range(4) if (row[2 * at : 2 * at + 2] != 0).any()]
        steps = min(2, len(groups))
        values = []
        for k in range(1, steps + 1):
            gone = groups[: round(k * len(groups) / steps)]
            masked = row.clone()
            for at in gone:
                masked[2 * at : 2 * at + 2] = masked[2 * at : 2 * at + 2].where(masked[2 * at : 2 * at + 2] == 0, 1)
            target = int(task.model(row.unsqueeze(0)).argmax())
            values.append(float(task.model(masked.unsqueeze(0)).softmax(1)[0, target]))
        assert score == pytest.approx(sum(values) / steps, abs=1e-10)


def test_the_identity_holds_groups_and_what_they_group():
    task = toys.table()
    one, other = in_groups(task, [0, 0, 1, 1, 2, 2, 3]), in_groups(task, [0, 1, 1, 2, 2, 3, 3])
    moved = replace(one, removal=GroupedRemoval(ColumnRemoval(task.removal.means + 1), one.removal.groups))
    assert len({settings_digest(each) for each in (task, one, other, moved)}) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [("value[value=1,value=2]", "value is given twice"), ("blur[sigma]", "write name or name"),
     ("mean[", "write name or name"), ("mean[]x", "write name or name")],
)  # fmt: skip
def test_settings_are_read_as_those_of_methods_are(text, message):
    with pytest.raises(UsageError, match=f"cannot read {re.escape(repr(text))}: .*{message}"):
        fb.task(torch.nn.Linear(3, 2), torch.zeros(4, 3), removal=text)
