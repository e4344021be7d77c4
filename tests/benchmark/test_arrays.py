"""Reading arrays of others: what comes back equals what was written, and what is wrong is one sentence."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from benchmark.core.errors import DataError, UsageError
from benchmark.data import arrays
from benchmark.data.arrays import read, read_all

ROWS = np.random.default_rng(0).normal(size=(6, 4))


def written(folder, kind, rows=ROWS):
    """Write rows in a form, and return the file."""
    path = folder / f"rows.{kind}"
    frame = pd.DataFrame(rows, columns=list("abcd"))
    if kind == "npy":
        np.save(path, rows)
    elif kind == "npz":
        np.savez(path, x=rows)
    elif kind == "safetensors":
        save_file({"x": torch.tensor(rows)}, path)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet", "csv"])
def test_what_is_written_is_read_to_the_last_bit(tmp_path, kind):
    found = read(written(tmp_path, kind), finite=True, dims=(2,))
    assert found.dtype == np.float64
    assert np.array_equal(found, ROWS)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "parquet"])
def test_types_of_numbers_are_kept(tmp_path, kind):
    assert read(written(tmp_path, kind, ROWS.astype(np.float32))).dtype == np.float32
    assert read(written(tmp_path, kind, ROWS.round().astype(np.int64))).dtype == np.int64


def test_bfloat16_and_the_other_byte_order(tmp_path):
    save_file({"x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    assert read(tmp_path / "x.safetensors").tolist() == [1.5, -2.0]
    np.save(tmp_path / "x.npy", ROWS.astype(">f4"))
    assert torch.equal(torch.from_numpy(read(tmp_path / "x.npy")), torch.tensor(ROWS).float())


def test_one_of_several_is_chosen_by_its_key(tmp_path):
    np.savez(tmp_path / "maps.npz", lime=ROWS, saliency=-ROWS)
    assert np.array_equal(read(f"{tmp_path}/maps.npz:saliency"), -ROWS)
    assert np.array_equal(read(tmp_path / "maps.npz", key="lime"), ROWS)
    assert set(read_all(tmp_path / "maps.npz")) == {"lime", "saliency"}
    assert np.array_equal(read(f"{written(tmp_path, 'csv')}:c"), ROWS[:, 2])
    assert np.array_equal(read(f"{written(tmp_path, 'parquet')}:c"), ROWS[:, 2])


def test_a_colon_in_a_name_that_exists_is_no_key(tmp_path):
    np.save(tmp_path / "a.npy:b.npy", ROWS)
    assert np.array_equal(read(tmp_path / "a.npy:b.npy"), ROWS)


def test_lists_in_parquet_are_rows(tmp_path):
    pd.DataFrame({"map": list(ROWS)}).to_parquet(tmp_path / "maps.parquet")
    assert np.array_equal(read(tmp_path / "maps.parquet"), ROWS)


def test_lists_of_lists_in_parquet_are_maps(tmp_path):
    maps = np.arange(12.0).reshape(2, 3, 2)
    pd.DataFrame({"map": [m.tolist() for m in maps]}).to_parquet(tmp_path / "maps.parquet")
    assert np.array_equal(read(tmp_path / "maps.parquet"), maps)


def test_the_index_that_pandas_stores_is_no_column(tmp_path):
    pd.DataFrame(ROWS, index=[f"r{i}" for i in range(6)], columns=list("abcd")).to_parquet(tmp_path / "x.parquet")
    assert np.array_equal(read(tmp_path / "x.parquet"), ROWS)


def test_csv_without_a_header(tmp_path):
    (tmp_path / "x.csv").write_text("\ufeff1,2\n\n3,4e1\n", encoding="utf-8")
    assert read(tmp_path / "x.csv").tolist() == [[1, 2], [3, 40]]


class Sneaky:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("was_run",)


def pickles(folder):
    sneaky = np.array([Sneaky()], dtype=object)
    np.save(folder / "object.npy", sneaky, allow_pickle=True)
    np.savez(folder / "object.npz", x=sneaky)
    (folder / "bare.npy").write_bytes(pickle.dumps(Sneaky()))
    (folder / "bare.npz").write_bytes(pickle.dumps(Sneaky()))
    (folder / "model.pkl").write_bytes(pickle.dumps(Sneaky()))
    torch.save({"x": torch.ones(2)}, folder / "x.pt")


@pytest.mark.parametrize("name", ["object.npy", "object.npz", "bare.npy", "bare.npz", "model.pkl", "x.pt"])
def test_nothing_is_unpickled(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pickles(tmp_path)
    with pytest.raises(UsageError, match="pickles are never read, since reading one can run code"):
        read(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


def text(folder, content, name="x.csv"):
    (folder / name).write_text(content)
    return name


def cut(folder, kind):
    path = written(folder, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def parquet(folder, columns):
    pd.DataFrame(columns).to_parquet(folder / "x.parquet")
    return "x.parquet"


def saved(folder, array, name="x.npy"):
    np.save(folder / name, array)
    return name


def archive(folder, **named):
    np.savez(folder / "x.npz", **named)
    return "x.npz"


WRONG = [
    (lambda f: "nowhere.npy", {}, DataError, "no such file"),
    (lambda f: text(f, "1", "x.xlsx"), {}, UsageError, "expected a file that ends in .npy, .npz"),
    (lambda f: text(f, "1", "x"), {}, UsageError, "no ending"),
    (lambda f: text(f, ""), {}, DataError, "is empty"),
    (lambda f: text(f, "\n\n"), {}, DataError, "is empty"),
    (lambda f: text(f, "a,b\n"), {}, DataError, "has a header and no rows"),
    (lambda f: text(f, "a,b\n1,2\n3,x\n"), {}, DataError, "line 3, column b: expected a number, got 'x'"),
    (lambda f: text(f, "a,b\n1,\n"), {}, DataError, "line 2, column b: expected a number, got an empty cell"),
    (lambda f: text(f, "a,b\n1,1_0\n"), {}, DataError, "expected a number, got '1_0'"),
    (lambda f: text(f, "a,b\n1,2\n3\n"), {}, DataError, "line 3: expected 2 cells, got 1"),
    (lambda f: text(f, "a,a\n1,2\n"), {}, UsageError, "expected columns of different names, got a, a"),
    (lambda f: text(f, ",a\n0,2\n"), {}, UsageError, "the first column has no name, as an index has"),
    (lambda f: text(f, "0,1,2\n5,6,7\n"), {}, UsageError, "got 0, 1, 2, which may be either"),
    (lambda f: text(f, "2,0,1\n5,6,7\n"), {}, UsageError, "got 2, 0, 1, which may be either"),
    (lambda f: text(f, "5,x,7\n5,6,7\n"), {}, UsageError, "expected names of columns or numbers in the first line"),
    (lambda f: text(f, "a;b\n1;2\n"), {}, DataError, "expected a number, got '1;2'"),
    (lambda f: (f / "x.csv").write_bytes(b"\xff\xfe1") and "x.csv", {}, DataError, "expected text in UTF-8"),
    (lambda f: cut(f, "npy"), {}, DataError, "cannot be read as npy"),
    (lambda f: cut(f, "npz"), {}, DataError, "no whole npz archive"),
    (lambda f: cut(f, "safetensors"), {}, DataError, "no whole safetensors file"),
    (lambda f: cut(f, "parquet"), {}, DataError, "no whole parquet file"),
    (lambda f: archive(f, a=ROWS, b=ROWS), {}, UsageError, "holds 2 arrays (a, b), expected one: choose with"),
    (lambda f: archive(f, a=ROWS), {"key": "aa"}, UsageError, "has no array 'aa'; did you mean 'a'?"),
    (archive, {}, DataError, "holds no array"),
    (lambda f: saved(f, ROWS), {"dims": (3, 4)}, UsageError, "expected an array of 3 or 4 axes, got shape (6, 4)"),
    (lambda f: saved(f, np.array([1.0, np.nan])), {"finite": True}, DataError, "got nan at [1]"),
    (lambda f: saved(f, np.array([1j])), {}, UsageError, "expected real numbers, got the type complex128"),
    (lambda f: saved(f, np.array(["a"])), {}, UsageError, "expected real numbers, got the type <U1"),
    (lambda f: saved(f, np.array(["2020-01-01"], "M8[D]")), {}, UsageError, "expected real numbers"),
    (lambda f: saved(f, np.zeros((0, 3))), {}, UsageError, "expected an array with at least one row"),
    (lambda f: saved(f, np.float64(3)), {}, UsageError, "expected an array with at least one row"),
    (lambda f: parquet(f, {"a": [1.0, None]}), {}, DataError, "column a: expected a number in each row, got 1 rows"),
    (lambda f: parquet(f, {"a": ["x"]}), {}, UsageError, "column a: expected numbers, got the type"),
    (lambda f: parquet(f, {"a": [b"x"]}), {}, UsageError, "column a: expected numbers, got the type binary"),
    (lambda f: parquet(f, {"a": [[1.0], [1.0, 2.0]]}), {}, UsageError, "expected lists of one length, got 1, 2"),
    (lambda f: parquet(f, {"a": [[1.0]], "b": [1.0]}), {}, UsageError, "the column a holds lists beside others"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "how", "kind", "message"), WRONG)
def test_what_is_wrong_is_one_sentence(tmp_path, make, how, kind, message):
    name = make(tmp_path)
    with pytest.raises(kind) as raised:
        read(tmp_path / name, **how)
    sentence = str(raised.value)
    assert message in sentence
    assert name in sentence
    assert "\n" not in sentence


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 4)})
    with pytest.raises(DataError, match="cannot be read as npy"):
        read(path)


@pytest.mark.parametrize(
    ("columns", "before", "now"),
    [("ba", "ab", "ab"), ("ba", None, "ba"), ("10", None, "01"), ("10", "01", "01"), (None, "ab", "ab"),
     (None, None, None)],
)  # fmt: skip
def test_columns_are_put_in_the_order_of_others(columns, before, now):
    numbers = {"a": 1, "b": 2, "0": 1, "1": 2}
    array = np.array([[numbers[name] for name in columns or "ab"]])
    found, names = arrays.in_order(array, columns and tuple(columns), before and tuple(before), "x.csv")
    assert found.tolist() == [[numbers[name] for name in now or "ab"]]
    assert names == (now and tuple(now))


@pytest.mark.parametrize(
    ("columns", "message"),
    [("ac", "x.csv has no column b and an unknown one, c: expected the columns a, b"), ("a", "x.csv has no column b:"),
     ("abc", "x.csv has an unknown one, c:"), ("01", "has no column a, b and an unknown one, 0, 1: expected")],
)  # fmt: skip
def test_other_columns_are_one_sentence(columns, message):
    with pytest.raises(UsageError, match=message):
        arrays.in_order(np.zeros((1, len(columns))), tuple(columns), ("a", "b"), "x.csv")


def test_names_are_those_of_the_columns_that_are_read(tmp_path):
    for kind in ("csv", "parquet"):
        assert arrays.column_names(written(tmp_path, kind)) == tuple("abcd")
        assert arrays.column_names(f"{tmp_path}/rows.{kind}:a") is None
    pd.DataFrame(ROWS, index=list("uvwxyz"), columns=list("abcd")).to_parquet(tmp_path / "x.parquet")
    assert arrays.column_names(tmp_path / "x.parquet") == tuple("abcd")
    pd.DataFrame({"map": list(ROWS)}).to_parquet(tmp_path / "maps.parquet")
    (tmp_path / "plain.csv").write_text("1,2\n")
    for name in ("maps.parquet", "plain.csv"):
        assert arrays.column_names(tmp_path / name) is None
    assert arrays.column_names(written(tmp_path, "npy")) is None


def test_keys_are_split_from_files():
    assert arrays.split_key("a/b.npz:k") == (arrays.Path("a/b.npz"), "k")
    assert arrays.split_key("a/b.npz") == (arrays.Path("a/b.npz"), None)
