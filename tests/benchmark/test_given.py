"""What a person gives is read as it is meant: order of rows, padding, precision, classes, devices."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import benchmark as fb
from benchmark.core.errors import UsageError
from benchmark.core.seeding import seeded
from tests.benchmark.test_wrapping import Words


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


with seeded(0):
    MODEL = nn.Linear(4, 3)
    CNN = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 3))
X, TRAIN, MINE = drawn(6, 4), drawn(30, 4, seed=1), drawn(6, 4, seed=2)
NAMES, ROWS = list("abcd"), [10, 11, 12, 13, 14, 15]
FRAME = pd.DataFrame(X.numpy(), columns=NAMES, index=ROWS)
TABLE = pd.DataFrame(MINE.numpy(), columns=NAMES, index=ROWS)


def read(task, given, **settings):
    return fb.evaluate(task, {"mine": given}, metrics="DEL", **settings).evaluations["mine"].attributions


def test_lists_of_texts_that_are_padded_on_the_left_stand_at_their_tokens():
    ids = torch.tensor([[0, 0, 3, 4], [0, 5, 6, 7], [4, 5, 6, 7]])
    task = fb.task(Words(), ids, mask_id=1)
    lists = [[1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0]]
    placed = torch.tensor([[0, 0, 1, 2], [0, 3, 4, 5], [6, 7, 8, 9]]).double()
    assert torch.equal(read(task, lists), placed)
    assert torch.equal(read(task, placed.tolist()), placed)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_maps_of_half_precision_are_summed_in_double(kind):
    maps = drawn(2, 3, 4, 4).to(kind) * 100
    images = drawn(2, 3, 4, 4, seed=1)
    assert torch.equal(read(fb.task(CNN, images), maps), maps.double().sum(1).flatten(1))
    regions = torch.arange(16).view(4, 4) // 4
    sums = maps.double().sum(1).view(2, 4, 4).sum(2)
    torch.testing.assert_close(read(fb.task(CNN, images, groups=regions), maps), sums, rtol=0, atol=1e-9)


ESTIMATORS = {
    "whole numbers": np.array([3, 7]), "texts": np.array(["no", "yes"]), "truth values": np.array([False, True]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_target_is_one_of_the_estimators_own_classes(kind):
    classes = ESTIMATORS[kind]
    estimator = LogisticRegression().fit(TRAIN.numpy(), classes[(TRAIN[:, 0] > 0).long().numpy()])
    each = classes[[0, 1, 1, 0, 1, 0]]

    def targets(target):
        return (
            fb.evaluate(fb.task(estimator, X.numpy(), background=TRAIN.numpy(), target=target), {"m": MINE})
            .records[0]
            .scores["target"]
            .tolist()[:6]
        )

    for own, place in zip(
        (classes[1], classes[1].item(), classes[0], each, list(each)), (1, 1, 0, None, None), strict=True
    ):
        assert targets(own) == ([0, 1, 1, 0, 1, 0] if place is None else [place] * 6)
    with pytest.raises(UsageError, match="target expects the estimator's classes .*, got 5"):
        targets(5)
    with pytest.raises(UsageError, match="target expects .*(predicted|the estimator's classes) .*got .?best"):
        targets("best")
    with pytest.raises(UsageError, match=r"labels expects a class.* for each of 6 inputs, got"):
        fb.task(estimator, X.numpy(), labels=each[:, None])


WITHOUT = {
    "one row": (MODEL, X[:1], {}),
    "equal rows": (MODEL, X[:1].expand(3, 4) / 3, {}),
    "equal rows whose mean is rounded": (MODEL, X[:1].expand(29, 4) / 3, {}),
    "drawn from itself": (MODEL, X[:1], {"removal": "marginal"}),
    "groups": (MODEL, X[:1], {"groups": [0, 0, 1, 1]}),
    "an even image": (CNN, torch.ones(1, 3, 4, 4), {}),
    "the row itself": (MODEL, X[:1], {"background": X[:1]}),
}


@pytest.mark.parametrize("case", WITHOUT)
def test_a_removal_that_changes_nothing_is_refused(case):
    model, x, settings = WITHOUT[case]
    with pytest.raises(
        UsageError, match=r"removing features changes nothing.*pass background=.* or removal="
    ) as raised:
        fb.task(model, x, **settings)
    assert "\n" not in str(raised.value)


def test_one_row_is_scored_where_removing_changes_it():
    for settings in ({"removal": "zero"}, {"background": TRAIN}, {"background": X[1:2]}):
        assert np.isfinite(fb.score("DEL", fb.task(MODEL, X[:1], **settings), MINE[:1])).all()
    assert np.isfinite(fb.score("DEL", fb.task(CNN, drawn(1, 3, 4, 4)), drawn(1, 4, 4))).all()


def test_rows_of_a_table_are_found_by_their_index():
    task = fb.task(MODEL, FRAME, background=TRAIN.numpy())
    turned = TABLE.iloc[[3, 0, 5, 1, 4, 2]][list("dbca")]
    assert torch.equal(read(task, turned), MINE)
    assert torch.equal(read(task, TABLE.reset_index(drop=True)), MINE)
    assert torch.equal(read(task, turned.loc[[12, 14]], samples=[4, 2]), MINE[[4, 2]])
    assert torch.equal(read(task, TABLE.loc[[14, 12]].reset_index(drop=True), samples=[4, 2]), MINE[[4, 2]])
    with pytest.raises(UsageError, match="mine has the rows 10, 11.*, expected those of x: 14, 12: .*reset_index"):
        read(task, TABLE.loc[[10, 11]], samples=[4, 2])


def test_labels_and_targets_are_found_by_their_index():
    numbers = pd.Series([0, 1, 2, 0, 1, 2], index=ROWS)
    task = fb.task(
        MODEL, FRAME, labels=numbers[::-1], target=numbers.iloc[[1, 0, 2, 3, 5, 4]], background=TRAIN.numpy()
    )
    assert task.test.y.tolist() == task.target.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(UsageError, match="labels has the rows 5, 4.*expected those of x"):
        fb.task(MODEL, FRAME, labels=pd.Series([0] * 6, index=[5, 4, 3, 2, 1, 0]))


def test_columns_of_a_table_are_summed_over_groups_by_name():
    task = fb.task(MODEL, FRAME, groups=[0, 1, 1, 0], background=TRAIN.numpy())
    sums = torch.stack([MINE[:, 0] + MINE[:, 3], MINE[:, 1] + MINE[:, 2]], 1)
    torch.testing.assert_close(read(task, TABLE[list("cabd")]), sums)


@pytest.mark.parametrize("samples", [np.array([4, 2]), torch.tensor([4, 2]), pd.Series([4, 2]), (4, 2)])
def test_samples_are_whole_numbers_of_any_kind(samples, tmp_path):
    task = fb.task(MODEL, X, background=TRAIN)
    result = fb.evaluate(task, {"mine": MINE[[4, 2]]}, metrics="DEL", samples=samples)
    result.save(tmp_path)
    assert fb.load(tmp_path).scores["DEL"].index.tolist() == [4, 2]
    assert json.dumps(result.examples)
    with pytest.raises(UsageError, match=r"samples expects row numbers, such .* got \[0.0, 1.0\]"):
        fb.evaluate(task, {"mine": MINE[:2]}, samples=[0.0, 1.0])


def test_the_whole_of_several_numbers_of_samples_is_told_apart(tmp_path):
    task = fb.task(MODEL, X, background=TRAIN)
    fb.evaluate(task, {"mine": MINE}, metrics="DEL").save(tmp_path)
    fb.evaluate(task, {"mine": MINE[:2]}, metrics="DEL", samples=[0, 1]).save(tmp_path)
    table = fb.load(tmp_path).scores["DEL"]
    assert table.index.names == ["limit", "sample"]
    assert table.groupby("limit").size().to_dict() == {2: 2, 6: 6}


def test_attributions_without_numbers_are_refused():
    task = fb.task(MODEL, X, background=TRAIN)
    with pytest.raises(UsageError, match="mine is on the device meta, which holds no numbers"):
        read(task, MINE.to("meta"))
    assert torch.equal(read(task, MINE.to_sparse()), MINE)
    assert torch.equal(read(task, (MINE * 9).to(torch.int8)), (MINE * 9).to(torch.int8).double())
    assert torch.equal(read(task, MINE > 0), (MINE > 0).double())


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_any_number_of_channels_are_evaluated_and_saved(channels, tmp_path):
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 3))
    result = fb.evaluate(fb.task(model, drawn(2, channels, 4, 4)), {"mine": drawn(2, 4, 4)}, metrics="DEL")
    result.save(tmp_path)
    assert fb.load(tmp_path).examples[0][0]["image"]


def test_numbered_columns_are_matched_by_number():
    task, given = fb.task(MODEL, X, background=TRAIN), pd.DataFrame(drawn(len(X), 4, seed=3).numpy())
    assert np.array_equal(fb.score("FC", task, given), fb.score("FC", task, given[[3, 1, 0, 2]]))


def test_as_many_groups_as_columns_sum_what_is_named_as_columns():
    order = [2, 0, 3, 1]
    task = fb.task(MODEL, FRAME, groups=order, background=TRAIN.numpy())
    plain = fb.task(MODEL, FRAME, background=TRAIN.numpy())
    given = pd.DataFrame(drawn(len(FRAME), 4, seed=3).numpy(), columns=FRAME.columns, index=FRAME.index)
    np.testing.assert_allclose(fb.score("RP", task, given), fb.score("RP", plain, given), atol=1e-12)


class Sums(nn.Module):
    """Reads padding, too, unless it is said what is real."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(30, 5), nn.Linear(5, 3)

    def forward(self, x, real=None):
        words = x if x.is_floating_point() else self.embed(x)
        real = x != 0 if real is None else real
        return self.out((torch.tanh(words) * real.unsqueeze(-1)).sum(1))


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2, 2, 2]])
def test_what_stands_at_padding_is_part_of_no_group(groups):
    with seeded(0):
        model = Sums()
    texts = torch.tensor([[5, 6, 7, 0, 0, 0, 0, 0], [3, 4, 5, 6, 7, 8, 9, 0]])
    task = fb.task(model, texts, mask_id=1, pad_id=0, groups=groups)
    clean = torch.tensor([[1.0, 2, 3, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 0]])
    for junk in (-50.0, float("nan")):
        spoilt = clean.masked_fill(texts == 0, junk)
        assert np.array_equal(fb.score("DEL", task, clean), fb.score("DEL", task, spoilt))
    target = model(texts).argmax(1)
    words = model.embed(texts).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(model(words, texts != 0).gather(1, target[:, None]).sum(), words)
    sizes = (slopes.abs().sum(2) * (texts != 0)).float()
    expected = torch.zeros(2, max(groups) + 1).index_add_(1, torch.tensor(groups), sizes)
    made = fb.method("saliency").prepare(task, 0)(texts, target)
    torch.testing.assert_close(made, expected)
    fb.evaluate(task, {name: fb.method(name) for name in ("integrated_gradients", "gradient_shap", "deeplift")})


@pytest.mark.parametrize("kind", [pd.Series, np.array, tuple])
def test_texts_come_in_arrays_and_series(kind):
    from benchmark.api.inputs import texts_in

    assert texts_in(kind(["a film", "a book"])) == ["a film", "a book"]
    with pytest.raises(UsageError, match="x expects texts, got (None|nan) in row 1"):
        texts_in(kind(["a film", None]))
    assert texts_in(kind([1, 2])) is None


def test_a_background_is_matched_by_the_names_of_features():
    background = pd.DataFrame([[1.0, 2, 3, 4], [1, 2, 5, 6]], columns=list("abcd"))
    means = [
        fb.task(MODEL, X, background=given, feature_names=list("abcd")).removal.baseline(X)[0].tolist()
        for given in (background, background[list("dcba")])
    ]
    assert means == [[1, 2, 4, 5]] * 2


def test_a_metric_that_fails_on_given_numbers_ends_its_label_alone():
    from dataclasses import replace

    from benchmark.scoring.metrics import METRICS

    def fails(response):
        return 1 / 0

    METRICS.register("FAILS", group="own")(replace(METRICS["RP"], effect=fails))
    with pytest.raises(fb.SomeFailedError, match="mine: it failed: ZeroDivisionError"):
        fb.evaluate(fb.task(MODEL, X, background=TRAIN), {"mine": MINE}, metrics="FAILS")
