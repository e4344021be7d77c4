"""Where data come from, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmark.core.errors import DataError
from benchmark.core.seeding import seed_for
from benchmark.core.sources import Sources
from benchmark.data.split import stratified
from benchmark.tasks.breast_cancer import BREAST_CANCER
from benchmark.tasks.nap import NAP
from benchmark.tasks.wcd import WCD


def frame(data, rows=60, seed=5):
    return data.synthesise(np.random.default_rng(seed)).iloc[:rows]


def pinned(data, url, table):
    """Return `data` with the digest of `table`, as if that were the real thing at `url`."""
    from benchmark.data.tables import content_digest

    return replace(data, url=url, rows=len(table), digest=content_digest(*data._parse(table, "pinned")))


def test_the_hub_is_used_when_there_is_no_folder(server, tmp_path):
    table = frame(WCD)
    server.body = table.to_csv(index=False).encode()
    data = pinned(WCD, f"{server.url}/good", table)
    located = data.locate(Sources(cache=tmp_path))
    assert (located.source, located.origin, located.digest) == ("real", data.url, data.digest)
    features, labels = data.load(located)
    assert features.shape == (60, 7)
    assert set(labels) == {0, 1}
    server.shutdown()  # what was fetched is kept
    assert data.locate(Sources(cache=tmp_path, offline=True)).source == "real"


@pytest.mark.parametrize("path", ["/missing", "/cut", "/other"])
def test_a_bad_hub_leads_to_the_stand_in_or_a_refusal(server, tmp_path, path):
    table = frame(WCD)
    server.body = table.to_csv(index=False).encode()
    data = pinned(WCD, server.url + path, table)
    located = data.locate(Sources(cache=tmp_path))
    assert located.source == "synthetic"
    assert "using the synthetic stand-in" in located.notes[0]
    with pytest.raises(DataError, match="no real data for wcd: .*--data-dir"):
        data.locate(Sources("real", cache=tmp_path))
    assert not list(tmp_path.rglob("*.csv"))


def test_other_content_from_the_hub_is_refused(server, tmp_path):
    server.body = frame(WCD, seed=6).to_csv(index=False).encode()
    data = pinned(WCD, f"{server.url}/good", frame(WCD, seed=5))
    with pytest.raises(DataError, match="not the pinned version"):
        data.locate(Sources("real", cache=tmp_path))


def test_offline_opens_no_socket(tmp_path, monkeypatch):
    import socket

    def refuse(*_args, **_words):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    located = NAP.locate(Sources(offline=True, cache=tmp_path))
    assert located.source == "synthetic"
    assert "--offline" in located.notes[0]


def in_folder(tmp_path, data, table):
    path = tmp_path / data.file
    path.parent.mkdir(parents=True)
    table.to_csv(path, index=False)
    return Sources(data_dir=tmp_path, cache=tmp_path / "cache", offline=True)


def test_another_number_of_rows_warns_or_is_refused(tmp_path):
    sources = in_folder(tmp_path, NAP, frame(NAP, 300))
    located = NAP.locate(sources)
    assert located.source == "real"
    assert "300 rows (pinned 2278)" in located.notes[0]
    with pytest.raises(DataError, match="not the pinned version of nap"):
        NAP.locate(replace(sources, verify=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns="LBXIN"), "no column LBXIN: expected RIAGENDR"),
        (lambda t: t.assign(LBXIN=t.LBXIN.where(t.index != 4)), "data row 5, column LBXIN: .* got no value; mend"),
        (lambda t: t.assign(LBXIN=["12"] * 7 + ["twelve"] + ["9"] * (len(t) - 8)), "data row 8, .* got 'twelve'"),
        (lambda t: t.assign(LBXIN=np.inf), "column LBXIN: expected a finite number"),
        (lambda t: t.assign(age_group="Adult"), "at least 5 rows of each class"),
        (lambda t: t.assign(age_group="Child"), "expected one of Adult, Senior, got 'Child'"),
        (lambda t: t.iloc[:0], "at least 5 rows of each class"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, spoil, message):
    with pytest.raises(DataError, match=message):
        NAP.locate(in_folder(tmp_path, NAP, spoil(frame(NAP, 300))))


@pytest.mark.parametrize("value", [1e30, 1e308, -1e308, 1e9])
@pytest.mark.parametrize("column", ["LBXIN", "PAQ605"])
def test_a_cell_that_would_make_all_others_alike_is_named(tmp_path, value, column):
    """A continuous column, and one of two values of which one is rare: more than three quarters are the same."""
    table = frame(NAP, 300).astype({column: float})
    table.loc[7, column] = value
    cell = f"data row 8, column {column}: expected a number within reach .* got '{str(value).replace('+', '.')}'; mend"
    with pytest.raises(DataError, match=cell):
        NAP.locate(in_folder(tmp_path, NAP, table))


def test_far_but_not_too_far_is_used(tmp_path):
    table = frame(NAP, 300).astype({"LBXIN": float})
    table.loc[7, "LBXIN"] = 1e5
    assert NAP.locate(in_folder(tmp_path, NAP, table)).source == "real"


def test_a_column_too_large_to_be_scaled_is_named(tmp_path):
    from benchmark.core.types import TASKS

    spec = TASKS.get("nap_mlp")()
    table = frame(NAP, 300)
    sources = in_folder(tmp_path, NAP, table.assign(LBXIN=table.LBXIN / table.LBXIN.max() * 1e307))
    with pytest.raises(DataError, match="column LBXIN holds values too large to be scaled"):
        spec.rows(spec.locate(sources))


def written(tmp_path, content):
    path = tmp_path / NAP.file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return Sources(data_dir=tmp_path, cache=tmp_path / "cache", offline=True)


HEADER = ",".join((*NAP.features, NAP.label))
ROW = ",".join(["1"] * 7 + ["Adult"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER},LBXIN\n{ROW},2\n", "has more than one column LBXIN: rename or drop all but one"),
        (f"{HEADER}\n0,{ROW}\n1,{ROW}\n2,{ROW}\n", "rows of more cells than its first line has names"),
        (",".join(f"x{i}" for i in range(100_000)), r"has no column RIAGENDR, .* x7 and 99,992 more$"),
        (f"{HEADER}\n{ROW}\n{ROW},5\n", "not a readable CSV file: .* Expected 8 fields in line 3, saw 9"),
        (HEADER.replace("LBXIN", "x" * 10**5), r"has no column LBXIN: .* got .*xxx\.\.\. \(100,000 characters\), age"),
        (HEADER.replace("LBXIN", "x" * 10**6), "not a readable CSV file: field larger than field limit"),
        (f"{HEADER}\n{ROW.replace('Adult', 'A' * 10**6)}\n", r"got 'AAA.*\(1,000,000 characters\)'$"),
        (f"{HEADER}\n{ROW.replace('1', 'x' * 10**6, 1)}\n", r"got 'xxx.*\(1,000,000 characters\)'; mend"),
    ],
)
def test_odd_tables_are_refused_in_a_short_sentence(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        NAP.locate(written(tmp_path, content.encode()))
    assert len(str(caught.value)) < 1000


def test_a_doubled_column_that_is_not_used_does_no_harm(tmp_path):
    table = frame(NAP, 300)
    lines = table.assign(SEQN=1, other=2).to_csv(index=False).replace("other", "SEQN")
    assert NAP.locate(written(tmp_path, b"\xef\xbb\xbf" + lines.encode())).source == "real"


def test_a_comma_at_the_end_of_each_row_does_no_harm(tmp_path):
    first, *rows = frame(NAP, 300).assign(SEQN=1).to_csv(index=False).splitlines()
    plain, ended = ("\n".join([first, *(row + end for row in rows), ""]).encode() for end in ("", ","))
    found = [NAP.locate(written(tmp_path / name, content)) for name, content in (("a", plain), ("b", ended))]
    assert found[0].digest == found[1].digest


def test_a_folder_in_the_place_of_a_table_is_refused(tmp_path):
    (tmp_path / NAP.file).mkdir(parents=True)
    with pytest.raises(DataError, match=r"nhanes_age_prediction.csv is a folder: expected a file to read"):
        NAP.locate(Sources(data_dir=tmp_path, cache=tmp_path, offline=True))


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    sources = in_folder(tmp_path, NAP, frame(NAP))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataError, match=r"nhanes_age_prediction.csv is not readable: expected a file to read"):
        NAP.locate(sources)


@pytest.mark.parametrize("spoil", ["bytes", "number", "empty", "folder"])
def test_a_damaged_download_is_set_aside_and_fetched_again(server, tmp_path, caplog, monkeypatch, spoil):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    table = frame(WCD)
    server.body = table.to_csv(index=False).encode()
    data = pinned(WCD, f"{server.url}/good", table)
    data.locate(Sources("real", cache=tmp_path))
    (kept,) = (tmp_path / "downloads").glob("*.csv")
    whole = kept.read_bytes()
    kept.unlink()
    if spoil == "folder":
        kept.mkdir()
    else:
        text = {"bytes": b"\xff\xfe", "number": whole.replace(b"1", b"7"), "empty": b""}[spoil]
        kept.write_bytes(text)
    with pytest.raises(DataError) as caught:
        data.locate(Sources("real", cache=tmp_path, offline=True))
    assert f"what was downloaded to {kept} is damaged" in str(caught.value)
    assert "--verify" not in str(caught.value)
    assert data.locate(Sources("real", cache=tmp_path)).digest == data.digest
    assert kept.read_bytes() == whole
    assert f"what was downloaded to {kept} is damaged" in caplog.text
    assert "set aside as" in caplog.text
    assert list((tmp_path / "downloads").glob(f"{kept.name}.damaged-*"))


def test_a_damaged_download_that_cannot_be_set_aside_is_named(server, tmp_path, monkeypatch):
    from pathlib import Path

    data = pinned(WCD, f"{server.url}/good", frame(WCD))
    kept = tmp_path / "downloads" / f"wcd-{data.digest[:16]}.csv"
    kept.parent.mkdir()
    kept.write_bytes(b"")

    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(DataError, match=r"is damaged .* and cannot be set aside \(Permission denied\): remove it"):
        data.locate(Sources("real", cache=tmp_path))


def test_test_rows_play_no_part_in_what_a_table_s_model_learns(tmp_path, monkeypatch):
    from benchmark.core.types import TASKS

    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    spec = replace(TASKS.get("nap_mlp")(), epochs=2)
    table = frame(NAP, 300)
    labels = table[NAP.label].map({"Adult": 0, "Senior": 1}).to_numpy()
    _, held_out = stratified(labels, 0.2, seed_for(0, NAP.name, "split"))
    other = table.copy()
    other.loc[held_out, list(NAP.features)] *= 3
    built = []
    for name, rows in (("one", table), ("two", other)):
        sources = in_folder(tmp_path / name, NAP, rows)
        built.append(spec.build(spec.locate(sources), "nap_mlp", "cpu"))
    first, second = built
    assert not (first.test.x == second.test.x).all()
    assert (first.train.x == second.train.x).all()
    assert first.provenance.model.digest == second.provenance.model.digest


def test_a_file_that_is_no_table_is_refused(tmp_path):
    sources = in_folder(tmp_path, NAP, frame(NAP))
    for content in (b"", b'"unclosed\n1,2'):
        (tmp_path / NAP.file).write_bytes(content)
        with pytest.raises(DataError, match="not a readable CSV|no column"):
            NAP.locate(sources)


def test_a_named_folder_must_be_one(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        NAP.locate(Sources(data_dir=tmp_path / "nowhere", cache=tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        NAP.locate(Sources(data_dir=tmp_path / "empty", cache=tmp_path))


@pytest.mark.parametrize("data", [NAP, WCD, BREAST_CANCER], ids=["nap", "wcd", "breast_cancer"])
def test_stand_ins_have_the_columns_and_come_from_a_seed(data):
    a, b = (data.load(data.locate(Sources("synthetic"))) for _ in range(2))
    assert a[0].shape[1] == len(data.features)
    np.testing.assert_array_equal(a[0], b[0])
    pd.testing.assert_frame_equal(frame(data), frame(data))
    assert not frame(data).equals(frame(data, seed=6))
    assert 0.1 < a[1].mean() < 0.7


@pytest.mark.parametrize("data", [NAP, WCD], ids=["nap", "wcd"])
def test_the_real_data_are_the_pinned_ones(data, real_data):
    located = data.locate(Sources("real", real_data, offline=True, verify=True))
    assert (located.source, located.notes) == ("real", ())
    features, labels = data.load(located)
    assert len(labels) == data.rows
    assert not {"SEQN", "RIDAGEYR"} & set(data.features)
    assert features.shape[1] == 7


def test_stratified_split():
    labels = np.array([0] * 80 + [1] * 20)
    train, test = stratified(labels, 0.2, 3)
    assert sorted([*train, *test]) == list(range(100))
    assert np.bincount(labels[test]).tolist() == [16, 4]
    again = stratified(labels, 0.2, 3)
    np.testing.assert_array_equal(test, again[1])
    assert (stratified(labels, 0.2, 4)[1] != test).any()
