"""What becomes of a person's model: a frozen module that gives logits, and the model as it was."""

from __future__ import annotations

import copy
import gc
import types
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import benchmark as fb
from benchmark.core.errors import UsageError
from benchmark.models.metering import Meter
from benchmark.models.others.adapters import AsLogits, BlackBox, NoGradientError, TextAdapter, view
from benchmark.models.others.wrapping import counted, wrap


@pytest.fixture
def x():
    return torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def network(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3), *layers)


def state(model):
    return (
        {name: module.training for name, module in model.named_modules()},
        {name: (weight.requires_grad, weight.data_ptr(), weight.clone()) for name, weight in model.named_parameters()},
        {name: buffer.clone() for name, buffer in model.named_buffers()},
        [len(module._forward_hooks) for module in model.modules()],
    )


def same(before, after):
    if isinstance(before, torch.Tensor):
        return torch.equal(before, after)
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    if isinstance(before, (tuple, list)):
        return all(same(*pair) for pair in zip(before, after, strict=True))
    return before == after


def test_a_module_that_gives_logits_is_a_view_of_itself(x):
    model = network().train()
    before = state(model)
    wrapped = wrap(model, x)
    assert type(wrapped.model) is nn.Sequential
    assert not any(module.training for module in wrapped.model.modules())
    assert not any(weight.requires_grad for weight in wrapped.model.parameters())
    assert torch.equal(wrapped.logits, copy.deepcopy(model).eval()(x))
    assert same(before, state(model)), "the given model is as it was"
    shared = zip(model.parameters(), wrapped.model.parameters(), strict=True)
    assert all(given.data_ptr() == own.data_ptr() for given, own in shared), "no weight is copied"


def test_tied_weights_and_recurrent_layers_stay_so():
    lstm = nn.LSTM(4, 5, batch_first=True)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    own = view(nn.ModuleList([lstm, tied]))
    sequence = torch.randn(2, 3, 4)
    assert torch.equal(own[0](sequence)[0], lstm(sequence)[0])
    assert own[1][0].weight is own[1][1].weight


def test_a_module_that_cannot_be_copied_is_refused_with_what_to_do(x):
    model = nn.Linear(4, 3)
    model.stream = (row for row in ())
    with pytest.raises(UsageError, match="Linear cannot be copied layer by layer .*lambda x: model"):
        wrap(model, x)


FORMS = {
    "probabilities": (lambda z: z.softmax(1), "probabilities"),
    "a column of logits": (lambda z: z[:, :1] * 5, "logits"),
    "a row of logits": (lambda z: z[:, 0] * 5, "logits"),
    "a column of probabilities": (lambda z: z[:, :1].sigmoid(), "probabilities"),
    "an object with logits": (lambda z: types.SimpleNamespace(logits=z), "logits"),
    "a dictionary with logits": (lambda z: {"logits": z}, "logits"),
}


class Giving(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.net, self.form = network(), form

    def forward(self, x):
        return FORMS[self.form][0](self.net(x))


def meant(form, model, x):
    """The probabilities that a model stands for, in float64."""
    z = model.net(x).double()
    if "column" in form or "row" in form:
        second = z[:, 0].sigmoid() if "probabilities" in form else (z[:, 0] * 5).sigmoid()
        return torch.stack([1 - second, second], 1)
    return z.softmax(1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said", [False, True])
def test_what_a_model_gives_is_found_out_or_said(form, said, x):
    model = Giving(form).eval()
    wrapped = wrap(model, x, FORMS[form][1] if said else None)
    assert isinstance(wrapped.model, AsLogits)
    torch.testing.assert_close(wrapped.model(x).double().softmax(1), meant(form, model, x), atol=1e-6, rtol=0)
    assert torch.equal(wrapped.logits, wrapped.model(x))


def test_a_probability_of_zero_becomes_finite(x):
    wrapped = wrap(lambda rows: torch.tensor([[0.0, 1.0]]).expand(len(rows), 2), x)
    assert bool(wrapped.logits.isfinite().all())
    assert wrapped.logits.softmax(1)[0].tolist() == [pytest.approx(0, abs=1e-30), 1.0]


@pytest.mark.parametrize(
    ("form", "said", "sentence"),
    [
        ("probabilities", "logits", 'output="logits" was said, .* sum to 1: say output="probabilities"'),
        ("a row of logits", "probabilities", r'output="probabilities" expects numbers in \[0, 1\]'),
        ("an object with logits", "probabilities", "expects rows of numbers"),
        ("probabilities", "odds", "output expects .*got 'odds'"),
    ],
)
def test_what_is_said_and_contradicted_is_refused(form, said, sentence, x):
    with pytest.raises(UsageError, match=sentence):
        wrap(Giving(form).eval(), x, said)


def test_gradients_pass_what_was_adapted(x):
    model = Giving("probabilities").eval()
    inputs, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    slope = torch.autograd.grad(wrap(model, x).model(inputs)[:, 1].sum(), inputs)[0]
    expected = torch.autograd.grad(model(plain)[:, 1].log().sum(), plain)[0]
    torch.testing.assert_close(slope, expected)


def labels(x):
    return (x[:, 0] > 0).long().numpy() + (x[:, 1] > 1).numpy()


def test_an_estimator_is_asked_in_the_type_of_its_inputs(x):
    numbers = x.double().numpy()
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, labels(x))
    wrapped = wrap(estimator, x.double())
    assert wrapped.classes == (0, 1, 2)[: len(estimator.classes_)]
    torch.testing.assert_close(wrapped.model(x.double()).softmax(1).numpy(), estimator.predict_proba(numbers))


def test_an_estimator_that_knows_its_columns_by_name_is_given_them(x, recwarn):
    import pandas as pd

    frame = pd.DataFrame(x.double().numpy(), columns=list("abcd"))
    forest = RandomForestClassifier(5, random_state=0).fit(frame, labels(x))
    torch.testing.assert_close(
        wrap(forest, x.double()).model(x.double()).softmax(1).numpy(), forest.predict_proba(frame)
    )
    assert not [str(warning.message) for warning in recwarn if "feature names" in str(warning.message)]


def test_functions_of_arrays_and_of_tensors_are_told_apart(x):
    weights = np.arange(12.0).reshape(4, 3)
    of_arrays = wrap(lambda rows: rows.astype(float) @ weights, x.double())
    of_tensors = wrap(lambda rows: rows @ torch.from_numpy(weights), x.double())
    assert of_arrays.model.function.of_arrays
    assert not of_tensors.model.function.of_arrays
    assert torch.equal(of_arrays.model(x.double()), torch.from_numpy(x.double().numpy() @ weights))
    assert torch.equal(of_tensors.model(x.double()), x.double() @ torch.from_numpy(weights))


@pytest.mark.parametrize("ask", [lambda model, x: model(x), lambda model, _x: model.embed])
def test_no_gradient_passes_a_black_box(ask, x):
    model = wrap(partial(torch.matmul, other=torch.ones(4, 3)), x).model
    assert isinstance(model, BlackBox)
    with pytest.raises(NoGradientError, match="black box .*no gradient passes.*lime"):
        ask(model, x.clone().requires_grad_())
    assert model(x).shape == (9, 3)
    assert not hasattr(model, "embed")


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (object(), "expected a model that gives logits or probabilities, got object"),
        (nn.Linear, "got type"),
        (types.SimpleNamespace(predict=None), "fit one with predict_proba"),
        (lambda rows: None, "must give logits or probabilities .*got NoneType"),
        (lambda rows: rows[:2, :3], r"\(2, 3\) of torch.float32 for 9 inputs"),
        (lambda rows: rows.long(), "torch.int64"),
        (lambda rows: rows[:, :, None], r"\(9, 4, 1\)"),
        (lambda rows: torch.ones(len(rows), 1), "one column that is 1 for every input"),
        (lambda rows: 1 / 0, "answers neither tensors nor arrays: ZeroDivisionError"),
        (nn.Linear(5, 3), r"cannot answer inputs of shape \(9, 4\) .*RuntimeError"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(model, sentence, x):
    with pytest.raises(UsageError, match=sentence):
        wrap(model, x)


def test_an_estimator_of_one_class_is_refused(x):
    forest = RandomForestClassifier(2).fit(x.numpy(), [0] * 9)
    with pytest.raises(UsageError, match="RandomForestClassifier knows one class only"):
        wrap(forest, x)


class Words(nn.Module):
    """A classifier of the form of Hugging Face's: keyword arguments, an output with `logits`."""

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(pad_token_id=0)
        self.words, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None):
        vectors = self.words(input_ids) if inputs_embeds is None else inputs_embeds
        mask = attention_mask.unsqueeze(-1)
        return types.SimpleNamespace(logits=self.head((vectors * mask).sum(1) / mask.sum(1)))


def test_a_classifier_of_hugging_face_takes_ids_or_embeddings_without_padding():
    model, ids = Words(), torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]])
    wrapped = wrap(model, ids, text=True, pad_id=0).model
    assert isinstance(wrapped, TextAdapter)
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.long)], 1)
    torch.testing.assert_close(wrapped(padded), wrapped(ids))
    torch.testing.assert_close(wrapped(wrapped.embed(ids), ids != 0), wrapped(ids))


def test_a_text_model_without_an_embedding_says_so_when_a_gradient_needs_it():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 3)

        def forward(self, ids):
            return self.table(ids).mean(1)

    wrapped = wrap(Plain(), torch.tensor([[3, 4]]), text=True).model
    assert not hasattr(wrapped, "embed")
    with pytest.raises(NoGradientError, match="Plain has no `embed`: .*occlusion"):
        _ = wrapped.embed


def test_what_passes_the_given_model_is_counted_while_it_is_asked_for(x):
    model, meter = network().eval(), Meter()
    wrapped = wrap(model, x).model
    with meter.phase("attribute", wrapped):
        model(x)  # not asked for: no explainer is at work
        with counted(wrapped):
            torch.autograd.grad(model(x.clone().requires_grad_()).sum(), model[0].weight)
        wrapped(x[:2])
    assert (meter.phases["attribute"].forwards, meter.phases["attribute"].backwards) == (9 + 2, 9)
    assert not model._forward_hooks


def test_a_wrapped_model_does_not_keep_the_given_one(x):
    model = network()
    wrapped = wrap(model, x).model
    del model
    gc.collect()
    with counted(wrapped):
        assert wrapped(x).shape == (9, 3)


def half(z, kind):
    return z.to(kind).softmax(1)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [3, 100])
def test_probabilities_of_half_precision_are_no_logits(kind, classes):
    z = 3 * torch.randn(200, classes, generator=torch.Generator().manual_seed(0))
    wrapped = wrap(lambda rows: half(rows, kind), z)
    probabilities = half(z, kind).double()
    assert wrapped.logits.dtype == torch.float32
    expected = probabilities / probabilities.sum(1, keepdim=True)
    least = torch.finfo(kind).tiny
    torch.testing.assert_close(wrapped.logits.double().softmax(1), expected, atol=2 * least, rtol=1e-5)


def test_rows_that_sum_to_nearly_one_are_asked_about(x):
    rounded = lambda rows: (rows.softmax(1) * 33).round() / 33  # noqa: E731 - a person's
    with pytest.raises(UsageError, match=r'rows of numbers in \[0, 1\] that sum to .* say output="probabilities" or'):
        wrap(rounded, x)
    expected = rounded(x) / rounded(x).sum(1, keepdim=True)
    torch.testing.assert_close(wrap(rounded, x, "probabilities").logits.softmax(1), expected)
    assert torch.equal(wrap(rounded, x, "logits").logits, rounded(x))


def test_a_column_is_judged_on_the_background_too(x):
    column = lambda rows: rows[:, :1]  # noqa: E731 - a person's
    narrow = x.abs().clamp(max=1)
    assert wrap(column, narrow).logits.min() < 0, "of probabilities"
    wrapped = wrap(column, narrow, background=x)
    assert torch.equal(wrapped.logits, torch.cat([-narrow[:, :1], narrow[:, :1]], 1) / 2)
    assert torch.equal(wrapped.usual, torch.cat([-x[:, :1], x[:, :1]], 1) / 2)


@pytest.mark.parametrize(("said", "of"), [(None, 1), ("probabilities", 1), ("probabilities", 3), (None, 3)])
def test_what_is_no_probability_later_is_an_error(said, of, x):
    model = lambda rows: rows[:, :1] if of == 1 else rows[:, :3]  # noqa: E731 - a person's
    narrow = torch.full_like(x, 1 / 3)
    asked = wrap(model, narrow, said).model
    for wrong in (1.5, -0.5, 0.9) if of == 3 else (1.5, -0.5):
        with pytest.raises(UsageError, match=r'the model gave .*say output="logits"|.*or say output="logits"'):
            asked(torch.full_like(x, wrong))
    assert bool(asked(torch.full_like(x, float("nan"))).isnan().all())
    just_over = torch.full_like(x, 1 / 3)
    just_over[:, 0] += 1e-7
    assert bool(asked(just_over).isfinite().all())


def test_a_row_without_an_answer_does_not_make_logits_of_probabilities(x):
    def model(rows):
        return rows.softmax(1).masked_fill(rows[:, :1] == x[0, 0], float("nan"))

    wrapped = wrap(model, x)
    assert bool(wrapped.logits[0].isnan().all())
    torch.testing.assert_close(wrapped.logits[1:].softmax(1), x[1:].softmax(1))


def test_a_squeezed_column_is_one_of_one_row(x):
    wrapped = wrap(lambda rows: rows[:, 0].squeeze() * 5, x)
    assert torch.equal(wrapped.model(x[:1]), wrapped.logits[:1])
    assert wrap(lambda rows: rows[:, 0].squeeze() * 5, x[:1]).logits.shape == (1, 2)


def fitted_by_name(x):
    import pandas as pd

    frame = pd.DataFrame(x.double().numpy(), columns=list("abcd"))
    return frame, RandomForestClassifier(5, random_state=0).fit(frame, labels(x))


def test_columns_are_matched_by_name(x):
    frame, forest = fitted_by_name(x)
    turned = frame[list("dbca")]
    task = fb.task(forest, turned, background=frame)
    expected = forest.predict_proba(frame)
    assert task.feature_names == tuple("dbca")
    torch.testing.assert_close(task.model(task.test.x).softmax(1).numpy(), expected)
    assert torch.equal(task.train.x, task.test.x)
    unnamed = fb.task(forest, frame.to_numpy(), background=turned)
    torch.testing.assert_close(unnamed.model(unnamed.train.x).softmax(1).numpy(), expected)


def test_columns_that_an_estimator_does_not_know_are_named(x):
    frame, forest = fitted_by_name(x)
    with pytest.raises(UsageError, match="RandomForestClassifier was fitted on; lacking: b; not among them: e: rename"):
        fb.task(forest, frame.rename(columns={"b": "e"}))


def test_hooks_of_a_person_are_part_of_the_model(x):
    from benchmark.models.batching import bare

    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda _module, _inputs, output: output * 2)
    assert torch.equal(bare(wrap(model, x).model)(x), model(x))


def test_a_model_without_numbers_is_refused(x):
    with pytest.raises(UsageError, match="on the device meta, where weights have no numbers: load them"):
        fb.task(nn.Linear(4, 3, device="meta"), x)


def test_an_evaluation_ends_where_an_answer_is_no_probability():
    x = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    task = fb.task(lambda rows: rows.sum(1), x, removal="zero")
    with pytest.raises(UsageError, match=r'^the model gave (1|-0.5), which is no probability.*say output="logits"'):
        fb.score("DEL", task, torch.ones(2, 2))
    said = fb.task(lambda rows: rows.sum(1), x, removal="zero", output="logits")
    assert np.isfinite(fb.score("DEL", said, torch.ones(2, 2))).all()


def hugging_face(kind):
    """A small untrained classifier."""
    transformers = pytest.importorskip("transformers")
    small = {
        "bert": ("Bert", {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 9}),
        "roberta": ("Roberta", {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 1}),
        "distilbert": ("DistilBert", {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 9}),
        "gpt2": ("GPT2", {"n_embd": 8, "n_layer": 2, "n_head": 2, "pad_token_id": 7}),
        "llama": ("Llama", {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "pad_token_id": 0,
                            "intermediate_size": 9}),
        "t5": ("T5", {"d_model": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2, "d_ff": 9,
                      "decoder_start_token_id": 0}),
    }  # fmt: skip
    name, sizes = small[kind]
    config = getattr(transformers, f"{name}Config")(vocab_size=30, num_labels=3, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForSequenceClassification")(config)


def texts(lengths, pad, to):
    ids = torch.randint(8, 30, (len(lengths), to), generator=torch.Generator().manual_seed(0))
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = pad
    return ids


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_a_model_of_hugging_face_answers_alike_by_ids_and_by_embeddings(kind):
    model = hugging_face(kind)
    pad, lengths = model.config.pad_token_id, [3, 6, 1]
    ids = texts(lengths, pad, 6)
    wrapped = wrap(model, ids, text=True, pad_id=pad).model
    for to in (6, 9):
        rows = torch.cat([ids, torch.full((3, to - 6), pad)], 1)
        vectors = wrapped.embed(rows).detach().requires_grad_()
        given = wrapped(vectors, rows != pad)
        assert torch.equal(given, wrapped(rows))
        slope = torch.autograd.grad(given.sum(), vectors)[0].abs().sum(2)
        assert bool((slope[rows != pad] > 0).any())
        assert not slope[rows == pad].any()
    alone = torch.cat([wrapped(row[None, :length]) for row, length in zip(ids, lengths, strict=True)])
    torch.testing.assert_close(wrapped(ids), alone)
    assert not model.get_input_embeddings()._forward_hooks
    assert not wrapped.embed._forward_hooks


def test_padding_is_what_the_model_takes_for_it():
    """A tokenizer may pad with another token than the one that a decoder's head looks for."""
    model = hugging_face("gpt2")
    own, other = texts([3, 6], 7, 6), texts([3, 6], 5, 6)
    assert torch.equal(wrap(model, own, text=True, pad_id=7).logits, wrap(model, other, text=True, pad_id=5).logits)


def test_a_model_that_reads_its_embedding_twice_has_none_for_gradients():
    model = hugging_face("t5")
    model.config.eos_token_id = 1
    ids = torch.cat([texts([4, 4], 0, 4), torch.ones(2, 1, dtype=torch.long)], 1)
    wrapped = wrap(model, ids, text=True, pad_id=0).model
    assert not hasattr(wrapped, "embed")
    with pytest.raises(NoGradientError, match="T5ForSequenceClassification has an encoder and a decoder that both"):
        _ = wrapped.embed


def test_a_model_that_looks_ids_up_otherwise_is_refused_embeddings():
    class Twice(Words):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask).logits + self.words(input_ids).sum()

    ids = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]])
    wrapped = wrap(Twice(), ids, text=True, pad_id=0).model
    with pytest.raises(NoGradientError, match="Twice reads it 2 times in a forward, expected once: use a method"):
        wrapped(wrapped.embed(ids), ids != 0)


LARGE = 2**24 + 1
"""A whole number that float32 cannot hold."""


@pytest.mark.parametrize("given", ["tensor", "array", "table"])
def test_whole_numbers_reach_a_black_box_with_all_digits(given):
    import pandas as pd

    rows = np.array([[LARGE, 1], [LARGE + 1, 0], [LARGE + 2, 1]])
    x = {"tensor": torch.from_numpy(rows), "array": rows, "table": pd.DataFrame(rows, columns=["a", "b"])}[given]
    seen = []
    task = fb.task(lambda each: seen.append(each) or np.stack([each[:, 0] - LARGE, each[:, 1]], 1), x, modality="table")
    assert task.test.x.dtype == torch.float64
    assert all(each.dtype in (np.float64, torch.float64) for each in seen)
    assert task.model(task.test.x).tolist() == [[0, 1], [1, 0], [2, 1]]


def test_whole_numbers_take_the_type_of_weights():
    x = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        task = fb.task(nn.Linear(4, 3, dtype=kind), x, background=x.short(), modality="table")
        assert task.test.x.dtype == task.train.x.dtype == kind
        assert torch.equal(task.test.x.long(), x)


@pytest.mark.parametrize(
    ("rows", "kind", "sentence"),
    [
        ([[LARGE, 1]], torch.float32, "x holds whole numbers that torch.float32 cannot hold exactly: scale or split"),
        ([[257, 1]], torch.bfloat16, "x holds whole numbers that torch.bfloat16 cannot"),
        ([[2**53 + 1, 1]], torch.float64, "x holds whole numbers that torch.float64 cannot"),
        ([[2**63 - 1, 1]], torch.float64, "x holds whole numbers that torch.float64 cannot"),
        (np.array([[2**64 - 1, 1]], np.uint64), torch.float64, "x holds whole numbers that int64 cannot hold exactly"),
        ([[1e39, 1.0]], torch.float32, r"x holds 1e\+39, more than torch.float32 can hold: scale its columns"),
        ([[70000.0, 1.0]], torch.float16, r"x holds 7e\+04, more than torch.float16 can hold"),
    ],
)
def test_numbers_that_a_type_cannot_hold_are_refused(rows, kind, sentence):
    with pytest.raises(UsageError, match=sentence):
        fb.task(nn.Linear(2, 3, dtype=kind), np.asarray(rows), modality="table")


def test_whole_numbers_beside_others_in_a_table_are_held_or_refused():
    import pandas as pd

    frame = pd.DataFrame({"a": [2**53 + 1, 1], "b": [0.5, 1.5]})
    with pytest.raises(UsageError, match="x, column 'a', holds whole numbers that float64, the type of its other col"):
        fb.task(nn.Linear(2, 3), frame)
    numbers = fb.task(lambda rows: rows, pd.DataFrame({"a": [LARGE, 1], "b": [0.5, 1.5]})).test.x
    assert numbers.tolist() == [[LARGE, 0.5], [1, 1.5]]


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.layer(x)


def test_a_buffer_that_forwards_change_is_the_view_s_own(x):
    model = Counting()
    wrapped = wrap(model, x)
    assert model.calls == 0
    assert wrapped.model.calls > 0


def test_layers_without_weights_yet_are_refused(x):
    with pytest.raises(UsageError, match="LazyLinear has layers without weights yet: call it on a batch first"):
        wrap(nn.Sequential(nn.LazyLinear(3)), x)


@pytest.mark.parametrize("kind", ["module", "tensors", "arrays"])
def test_a_model_that_changes_its_input_is_refused_and_the_input_is_as_it_was(kind, x):
    class Doubling(nn.Linear):
        def forward(self, rows):
            return super().forward(rows.mul_(2))

    def arrays(rows):
        assert isinstance(rows, np.ndarray)
        rows *= 2
        return rows[:, :3]

    model = {"module": Doubling(4, 3), "tensors": lambda rows: rows.mul_(2)[:, :3], "arrays": arrays}[kind]
    given = x.clone()
    with pytest.raises(UsageError, match="the model changes its input: let it work on a copy"):
        wrap(model, given)
    assert torch.equal(given, x)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("last", [nn.Identity(), nn.Softmax(1)])
def test_a_model_of_half_precision_is_evaluated(kind, last, x):
    model = nn.Sequential(nn.Linear(4, 3), last).to(kind)
    task = fb.task(model, x)
    assert task.test.x.dtype == kind
    result = fb.evaluate(task, {"ig": fb.method("integrated_gradients"), "lime": fb.method("lime")}, metrics="DEL,FC")
    assert result.scores["DEL"].notna().all(axis=None)
    whole, emptied = (model(rows).double() for rows in (task.test.x, task.train.x.double().mean(0, True).to(kind)))
    target = whole.argmax(1)
    probability = lambda logits: logits if isinstance(last, nn.Softmax) else logits.softmax(1)  # noqa: E731
    expected = probability(emptied).expand(9, 3).gather(1, target[:, None])
    got = task.model(task.remove(task.test.x, torch.ones(9, 4, dtype=torch.bool))).double().softmax(1)
    torch.testing.assert_close(got.gather(1, target[:, None]), expected, atol=1e-2, rtol=0)
