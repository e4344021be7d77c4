"""Text: words, vocabulary, models that are blind to padding, data files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmark.core.errors import DataError
from benchmark.core.seeding import seeded
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS
from benchmark.data import stand_ins
from benchmark.data.texts import Texts
from benchmark.data.words import MASK, PAD, UNKNOWN, Vocabulary, split_words
from benchmark.models.text import drop_words, mean_of_real, text_model
from benchmark.models.training import freeze
from benchmark.tasks.imdb import IMDB

SIZES = {"embedding": 6, "width": 8, "dropout": 0.3, "depth": 2, "heads": 2, "length": 12}
KINDS = ("lstm", "transformer")


def model_and_texts(kind, lengths=(1, 2, 5, 12, 7)):
    with seeded(3):
        model = freeze(text_model(kind, SIZES, 20, 3)).double()
        x = torch.randint(1, 20, (len(lengths), 12))
    for row, length in zip(x, lengths, strict=True):
        row[length:] = PAD
    return model, x


def test_words():
    text = "It's <br /><br />NOT bad -- 10/10, isn't it?!"
    assert split_words(text) == ["it's", "not", "bad", "10", "10", "isn't", "it", "?", "!"]
    assert split_words("") == []


def test_vocabulary():
    vocabulary = Vocabulary.of([["b", "a", "c"], ["c", "a"], ["d"]], 3)
    assert vocabulary.words == ("a", "c", "b"), "by frequency, then by alphabet"
    ids = vocabulary.encode([["b", "c", "x", "a"], [], ["b"]], 3)
    assert ids.tolist() == [[4, UNKNOWN, 3], [PAD, PAD, PAD], [5, PAD, PAD]], "the last three"
    assert vocabulary.decode(ids[0]) == ["c", "<unk>", "a"]
    assert vocabulary.decode([MASK, PAD]) == ["<mask>"]
    assert len(vocabulary) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_seen(kind):
    model, x = model_and_texts(kind)
    together = model(x)
    for row, logits in zip(x, together, strict=True):
        alone = row[row != PAD].unsqueeze(0)
        torch.testing.assert_close(model(alone)[0], logits, rtol=0, atol=1e-12)


def test_lstm_equals_torch_s_own_bidirectional_one_on_packed_texts():
    model, x = model_and_texts("lstm")
    both = nn.LSTM(6, 8, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for own, suffix in ((model.onward, ""), (model.back, "_reverse")):
            for name, value in own.named_parameters():
                getattr(both, name + suffix).copy_(value)
    lengths = (x != PAD).sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(model.embed(x), lengths, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)
    means = torch.stack([state[:length].mean(0) for state, length in zip(states, lengths, strict=True)])
    torch.testing.assert_close(model(x), model.head(means), rtol=0, atol=1e-12)


def test_attention_equals_loops():
    model, x = model_and_texts("transformer", (4,) * 5)
    x = x[:1, :4]
    block, h = model.blocks[0], model.embed(x)[0] + model.place[:4]
    n = block.norm1(h)
    query, key, value = block.qkv(n).split(8, -1)
    mixed = torch.zeros(4, 8).double()
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        for i in range(4):
            weights = torch.stack([query[i, part] @ key[j, part] / 2 for j in range(4)]).softmax(0)
            mixed[i, part] = sum(weights[j] * value[j, part] for j in range(4))
    h2 = h + block.out(mixed)
    h3 = h2 + block.narrow(block.act(block.wide(block.norm2(h2))))
    real = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(block(h.unsqueeze(0), real)[0], h3, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_give_what_words_give(kind):
    model, x = model_and_texts(kind)
    torch.testing.assert_close(model(model.embed(x), x != PAD), model(x))


def test_mean_of_nothing_is_nothing():
    assert mean_of_real(torch.ones(1, 3, 2), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0, 0]]


def test_dropped_words_become_masks_and_padding_stays():
    x = torch.full((2, 10_000), 7)
    x[:, 5000:] = PAD
    with seeded(0):
        dropped = drop_words(x, torch.tensor([[0.3], [1.0]]))
    assert (dropped[:, 5000:] == PAD).all()
    assert (dropped[0] == MASK).double().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (dropped[1, :5000] == MASK).all()
    assert set(dropped.unique().tolist()) == {PAD, MASK, 7}


def test_sentences_hold_what_they_promise():
    evidence = {"one": ["alpha", "beta"], "two": ["gamma"], "three": ["delta"]}
    texts, labels, planted = stand_ins.sentences(np.random.default_rng(1), evidence, 200, 30)
    owner = {word: label for label, words in enumerate(evidence.values()) for word in words}
    strange = 0
    for words, label, marks in zip(texts, labels, planted, strict=True):
        assert 10 <= len(words) <= 30
        assert not marks[len(words) :].any()
        own = [word for word, mark in zip(words, marks, strict=False) if mark]
        assert 2 <= len(own) <= 4
        assert all(owner[word] == label for word in own)
        others = [word for word, mark in zip(words, marks, strict=False) if word in owner and not mark]
        assert len(others) <= 1
        assert all(owner[word] != label for word in others)
        strange += len(others)
    assert 60 < strange < 140
    assert (np.bincount(labels) > 40).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imdb_lstm", "agnews_transformer"])
def test_removing_words_stays_in_distribution(name):
    spec = TASKS.get(name)()
    quality = spec.build(spec.locate(Sources("synthetic")), name, "cpu").provenance.model
    classes = len(spec.data.classes)
    assert quality.accuracy > quality.measures["accuracy_50%_removed"] > quality.measures["accuracy_100%_removed"]
    assert quality.measures["accuracy_50%_removed"] > 0.75
    assert quality.measures["accuracy_100%_removed"] < 1 / classes + 0.1


def folder(tmp_path, rows=40, name="imdb", **columns):
    home = tmp_path / name
    home.mkdir()
    texts = {"text": ["a fine film"] * rows, "label": [0, 1] * (rows // 2)} | columns
    table = pd.DataFrame({key: value for key, value in texts.items() if value is not None})
    for part in ("train", "test"):
        table.to_parquet(home / f"{part}.parquet")
    return Sources("real", tmp_path, offline=True)


def test_files_in_a_folder_are_read_and_their_version_is_said(tmp_path):
    sources = folder(tmp_path)
    located = IMDB.locate(sources)
    assert located.source == "real"
    assert len(located.notes) == 2
    assert "is not the pinned version of imdb" in located.notes[0]
    texts = IMDB.load(located)
    assert isinstance(texts["test"], Texts)
    assert texts["train"].words[0] == ["a", "fine", "film"]
    assert texts["train"].labels.tolist() == [0, 1] * 20
    with pytest.raises(DataError, match="run without --verify"):
        IMDB.locate(replace(sources, verify=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [0, 2] * 20}, "row 2, column label: expected labels 0 to 1, got 2"),
        ({"label": [-1, 1] * 20}, "row 1, column label: expected labels 0 to 1, got -1"),
        ({"label": [0.0, 0.5] * 20}, "row 2, column label: expected labels 0 to 1, got 0.5"),
        ({"label": ["neg", "pos"] * 20}, "row 1, column label: expected labels 0 to 1, got 'neg'"),
        ({"label": [0, None] * 20}, "row 2, column label: expected labels 0 to 1, got (nan|None)"),
        ({"text": ["fine", None] * 20}, "row 2, column text: expected a text, got None; drop the row"),
        ({"text": [1, 2] * 20}, "row 1, column text: expected a text, got 1"),
        ({"text": ["...", ""] * 20}, "expected texts with words, got 40 without any"),
        ({"label": None}, "expected columns text and label, got text"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, columns, message):
    sources = folder(tmp_path, **columns)
    with pytest.raises(DataError, match=message):
        IMDB.load(IMDB.locate(sources))


def test_texts_without_words_are_left_out_and_those_of_one_are_kept(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    sources = folder(tmp_path, text=["film", "...", "a fine film", ""] * 10, label=[0, 1, 1, 0] * 10)
    with caplog.at_level("WARNING", "benchmark"):
        texts = IMDB.load(IMDB.locate(sources))["test"]
    assert texts.words == [["film"], ["a", "fine", "film"]] * 10
    assert texts.labels.tolist() == [0, 1] * 10
    assert "test.parquet: 20 of 40 texts hold no word and are left out" in caplog.text


def test_test_texts_play_no_part_in_what_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    spec = replace(TASKS.get("imdb_lstm")(), epochs=1)
    built = []
    for name, text in (("one", "a fine film"), ("two", "film " * 9 + "never read before")):
        (tmp_path / name).mkdir()
        sources = folder(tmp_path / name)
        test = pd.DataFrame({"text": [text] * 40, "label": [0, 1] * 20})
        test.to_parquet(tmp_path / name / "imdb" / "test.parquet")
        built.append(spec.build(spec.locate(sources), "tiny", "cpu"))
    first, second = built
    assert not torch.equal(first.test.x, second.test.x)
    assert first.provenance.model.digest == second.provenance.model.digest


def test_a_damaged_file_is_refused(tmp_path):
    sources = folder(tmp_path)
    (tmp_path / "imdb" / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a readable parquet file"):
        IMDB.load(IMDB.locate(sources))


def test_half_a_data_set_is_named(tmp_path):
    sources = folder(tmp_path)
    (tmp_path / "imdb" / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"no imdb/test.parquet there, and not downloaded before, and --offline"):
        IMDB.locate(sources)


def test_real_texts_are_the_pinned_ones(real_data):
    for name in ("imdb_lstm", "agnews_lstm"):
        located = TASKS.get(name)().locate(Sources("real", real_data, offline=True, verify=True))
        assert located.notes == ()
