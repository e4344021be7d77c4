"""What is explained: logit, probability or log odds, by every method that asks for one of them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmark.core.errors import DataError
from benchmark.core.parameters import configured
from benchmark.core.seeding import seeded
from benchmark.core.types import METHODS, Split
from benchmark.modalities.grouping import GroupedRemoval
from benchmark.models.others.adapters import BlackBox, Function, NoGradientError
from benchmark.models.outputs import OUTPUTS, mean_slopes, output_of, outputs
from methods.game import Game
from methods.references import references_of
from tests import toys


def explained(task, name, **settings):
    explain = configured(METHODS.get(name), name, settings).prepare(task, 0)
    x = task.test.x
    return explain(x, task.model(x).argmax(1)).double()


def gap(task, output):
    """Return by how much the output falls when everything is removed."""
    x = task.test.x
    whole, removed = (task.model(each) for each in (x, task.removal.baseline(x).expand_as(x)))
    return output_of(whole, whole.argmax(1), output) - output_of(removed, whole.argmax(1), output)


def test_outputs_of_extreme_logits_are_finite_and_exact():
    logits = torch.tensor([[800.0, 0.0, -3.0], [0.0, 0.0, 0.0], [-800.0, 1.0, 2.0]]).double()
    for target in range(3):
        chosen = torch.full((3,), target)
        for output in OUTPUTS:
            torch.testing.assert_close(output_of(logits, chosen, output), outputs(logits, output)[:, target])
            assert outputs(logits, output).isfinite().all()
    assert output_of(logits, torch.tensor([0, 0, 0]), "log_odds").tolist() == pytest.approx(
        [800 - torch.tensor([0.0, -3.0]).logsumexp(0).item(), -torch.tensor(2.0).log().item(), -800 - 2.313262],
        abs=1e-5,
    )


def test_the_probability_is_a_function_of_the_log_odds():
    logits = torch.randn(50, 4).double() * 3
    target = torch.randint(4, (50,))
    odds = output_of(logits, target, "log_odds")
    torch.testing.assert_close(odds.sigmoid(), output_of(logits, target, "probability"))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("integrated_gradients", {"steps": 200}), ("deeplift", {}), ("kernel_shap", {}),
        ("kernel_shap", {"estimator": "captum"}), ("kernel_shap", {"n_samples": 10}),
    ],
)  # fmt: skip
def test_attributions_sum_to_what_the_output_loses(name, settings, output):
    task = toys.table()
    made = explained(task, name, output=output, **settings).sum(1)
    torch.testing.assert_close(made, gap(task, output), atol=1e-4, rtol=0)


@pytest.mark.parametrize("output", ["probability", "log_odds"])
@pytest.mark.parametrize("size", [1, 30, 1000])
@pytest.mark.parametrize("classes", [2, 5])
def test_slopes_along_a_way_of_sure_answers_are_their_mean(classes, size, output):
    """A softmax that turns from one class to the next on a thousandth of the way is not stepped over."""
    generator = torch.Generator().manual_seed(classes)
    ends, starts = (torch.randn(40, classes, generator=generator).double() * size for _ in range(2))
    target = torch.randint(classes, (40,), generator=generator)
    made = mean_slopes(ends, starts, target, output)
    change = output_of(ends, target, output) - output_of(starts, target, output)
    torch.testing.assert_close(((ends - starts) * made).sum(1), change, atol=1e-6, rtol=1e-6)
    at = (torch.arange(10**5).double() + 0.5) / 10**5
    for row in range(4):
        points = torch.lerp(starts[row], ends[row], at.unsqueeze(1)).requires_grad_()
        output_of(points, target[row].expand(10**5), output).sum().backward()
        torch.testing.assert_close(made[row], points.grad.mean(0), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [1e9, 1e38, torch.inf, torch.nan])
def test_slopes_along_a_way_of_any_length_are_found(size):
    ends, starts = torch.tensor([[3.0, 1, 2], [1, 2, 3]]) * size, torch.zeros(2, 3)
    assert mean_slopes(ends, starts, torch.tensor([0, 1]), "probability").isfinite().all() == (size < torch.inf)


def test_deeplift_of_a_sure_model_sums_to_what_its_probability_loses():
    task = toys.table()
    sure = dataclasses.replace(task, model=torch.nn.Sequential(task.model, torch.nn.Linear(3, 3, bias=False).double()))
    sure.model[1].weight.data = torch.eye(3).double() * 200
    for output in OUTPUTS:
        torch.testing.assert_close(
            explained(sure, "deeplift", output=output).sum(1), gap(sure, output), atol=1e-5, rtol=1e-5
        )


def test_the_gradient_of_log_odds_is_that_of_the_logarithm():
    task = toys.table()
    x = task.test.x.clone().requires_grad_()
    p = task.model(x).softmax(1).amax(1)
    (slope,) = torch.autograd.grad((p / (1 - p)).log().sum(), x)
    torch.testing.assert_close(explained(task, "saliency", form="signed", output="log_odds"), slope)


def test_every_method_that_has_an_output_takes_all_three():
    having = [
        name for name in METHODS.names() for cls in [METHODS.get(name)]
        if METHODS.entry(name).facts["kind"] == "baseline" and METHODS.entry(name).built_in
        and "table" in METHODS.entry(name).facts["modalities"]
    ]  # fmt: skip
    task = toys.table()
    for name in having:
        assert "output" in {field.name for field in dataclasses.fields(METHODS.get(name))}, name
        by_output = [explained(task, name, output=output) for output in OUTPUTS]
        assert not torch.allclose(by_output[0], by_output[1]), name
        assert not torch.allclose(by_output[0], by_output[2]), name


@pytest.mark.parametrize("reference", ["removal", "zero", "mean", "background", "noise"])
def test_a_way_begins_at_its_reference(reference):
    """Of a linear model integrated gradients are weights times the way from the mean of the references."""
    task = toys.table()
    linear = torch.nn.Linear(7, 3).double()
    task = dataclasses.replace(task, model=linear.requires_grad_(False))
    x, target = task.test.x, linear(task.test.x).argmax(1)
    count = len(task.train.x)
    made = explained(task, "integrated_gradients", reference=reference, references=count)
    start = {
        "removal": task.removal.means, "zero": torch.zeros(7), "mean": task.train.x.mean(0),
        "background": task.train.x.mean(0),
    }.get(reference)  # fmt: skip
    if start is None:  # noise: the mean of as many draws
        start = (x - made / linear.weight[target])[0]
        assert not torch.allclose(start, task.train.x.mean(0), atol=1e-3)
    torch.testing.assert_close(made, linear.weight[target] * (x - start.double()))


def test_forms_of_saliency_on_images():
    task = toys.image()
    signed = explained(task, "saliency", form="signed")
    sizes = [explained(task, "saliency", form=form) for form in ("largest", "l2", "absolute")]
    assert (sizes[0] <= sizes[1] + 1e-12).all()
    assert (sizes[1] <= sizes[2] + 1e-12).all()
    assert (signed.abs() <= sizes[2] + 1e-12).all()
    torch.testing.assert_close(
        explained(task, "saliency", form="signed", times_input=True), explained(task, "input_x_gradient")
    )


def test_deletion_moves_words_up():
    task = toys.text()
    seen = []
    game = Game(task, "logit", "deletion")
    hook = task.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    x = task.test.x[5:6]
    words = int(task.removal.valid(x).sum())
    assert words == 23
    present = torch.ones(1, 23)
    present[0, [0, 2]] = 0
    game(present, x, torch.tensor([0]))
    game(torch.zeros(1, 23), x, torch.tensor([0]))
    hook.remove()
    assert seen[-2][0, :21].tolist() == x[0, [1, *range(3, 23)]].tolist()
    assert (seen[-2][0, 21:] == task.removal.pad_id).all()
    assert seen[-1][0, 0] == task.removal.mask_id, "nothing at all is no text"
    assert (seen[-1][0, 1:] == task.removal.pad_id).all()


class Words(torch.nn.Module):
    """A text model asked by ids or by embeddings, to which the place of padding is nothing."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(30, 8)
        self.head = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def forward(self, x, real=None):
        real = x != 0 if real is None else real
        vectors = x if x.is_floating_point() else self.embed(x)
        return self.head((vectors * real.unsqueeze(-1)).sum(1))


def words(padded="right", groups=None):
    task = toys.text()
    x = task.test.x
    if padded == "left":
        x = torch.stack([torch.cat([row[row == 0], row[row != 0]]) for row in x])
    with seeded(3):
        model = Words().double().requires_grad_(False)
    split = Split(x, task.test.y)
    removal = task.removal if groups is None else GroupedRemoval(task.removal, groups)
    return dataclasses.replace(task, model=model, train=split, test=split, removal=removal)


@pytest.mark.parametrize("removal", ["task", "zero", "deletion"])
@pytest.mark.parametrize("name", ["occlusion", "feature_ablation"])
def test_texts_padded_on_the_left_are_explained_word_by_word(name, removal):
    left, right = words("left"), words()
    made, plain = (explained(task, name, removal=removal) for task in (left, right))
    assert (made[left.test.x == 0] == 0).all()
    torch.testing.assert_close(made[left.test.x != 0], plain[right.test.x != 0])


def test_deletion_moves_words_to_where_texts_end():
    seen = []
    task = words("left")
    game = Game(task, "logit", "deletion")
    task.model.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    x = task.test.x[5:6]  # without padding
    present = torch.ones(1, 23)
    present[0, [0, 2]] = 0
    game(present, x, torch.tensor([0]))
    game(torch.zeros(1, 23), x, torch.tensor([0]))
    assert seen[-2][0].tolist() == [0, 0, *x[0, [1, *range(3, 23)]].tolist()]
    assert seen[-1][0].tolist() == [0] * 22 + [task.removal.mask_id]


@pytest.mark.parametrize("removal", ["task", "zero", "deletion"])
@pytest.mark.parametrize("name", ["occlusion", "feature_ablation", "lime", "kernel_shap"])
def test_groups_of_one_word_each_are_explained_as_words(name, removal):
    made = explained(words(groups=torch.arange(23)), name, removal=removal)
    torch.testing.assert_close(made, explained(words(), name, removal=removal))


@pytest.mark.parametrize("removal", ["task", "zero", "deletion"])
def test_words_of_a_group_go_together(removal):
    task = words(groups=torch.arange(23) // 12)
    x = task.test.x
    target = task.model(x).argmax(1)
    made = explained(task, "feature_ablation", removal=removal)[5]
    without = {"task": x.clone(), "zero": x.clone(), "deletion": torch.cat([x[:, 12:], x[:, :12] * 0], 1)}[removal]
    if removal == "task":
        without[:, :12] = task.removal.inner.mask_id
    vectors = task.model.embed(without)
    if removal == "zero":
        vectors[:, :12] = 0
    fall = task.model(x)[5, target[5]] - task.model(vectors, without != 0)[5, target[5]]
    torch.testing.assert_close(made[0], fall)


def test_zeros_for_words_need_an_embedding():
    task = dataclasses.replace(words(), model=BlackBox(Function(lambda x: x[:, :3].double(), of_arrays=False), "it"))
    with pytest.raises(DataError, match="shows none: use removal=task or removal=deletion"):
        explained(task, "lime", removal="zero")


def test_padding_has_no_part_in_the_mean_of_words():
    task = words()
    real = task.test.x != 0
    expected = task.model.embed(task.test.x)[real].mean(0)
    made = references_of(task, "mean", 1, 0).rows
    torch.testing.assert_close(made, expected.expand(1, 23, 8))
    drawn = references_of(task, "noise", 4000, 0).rows
    torch.testing.assert_close(drawn.mean((0, 1)), expected, atol=0.02, rtol=0)
    spread = task.model.embed(task.test.x)[real].std(0)
    torch.testing.assert_close(drawn.std((0, 1)), spread, atol=0.02, rtol=0.02)


def test_half_precision_is_widened():
    logits = torch.tensor([[9.0, 0.0]]).half()
    for output in OUTPUTS:
        made = output_of(logits, torch.tensor([0]), output)
        assert made.dtype == outputs(logits, output).dtype == torch.float32
    assert 0.9998 < output_of(logits, torch.tensor([0]), "probability") < 0.9999


class Step(torch.nn.Module):
    """A model through which no gradient passes."""

    def forward(self, x):
        return (x[:, :3] > 0).double()


@pytest.mark.parametrize("name", ["saliency", "integrated_gradients", "gradient_shap", "deeplift"])
def test_a_model_without_a_gradient_is_said(name):
    task = dataclasses.replace(toys.table(), model=Step())
    with pytest.raises(NoGradientError, match="no gradient passes the model"):
        explained(task, name)
    assert explained(task, "occlusion").abs().sum() > 0
