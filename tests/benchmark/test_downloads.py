"""Files from the web and from the hub: fetched whole, looked at before they are believed, never waited for for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from benchmark.cli.parser import main
from benchmark.core import sources as sources_module
from benchmark.core.errors import Absent, DataError
from benchmark.core.sources import Sources
from benchmark.data import hub as hub_module
from benchmark.data.download import WebFile
from benchmark.data.hub import HubFile
from benchmark.tasks.imdb import IMDB
from tests.web_server import BODY

# The web


def test_a_download_arrives(server, tmp_path):
    path = WebFile(f"{server.url}/good/file.bin", "file.bin").fetch(tmp_path / "deep")
    assert path.read_bytes() == BODY
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".lock"] == ["file.bin"]
    again = WebFile(f"{server.url}/missing", "file.bin")
    assert again.find(tmp_path / "deep") == again.fetch(tmp_path / "deep") == path
    assert len(server.asked) == 1, "it is here: nothing is asked"


def test_a_slow_server_is_waited_for_while_it_sends(server, tmp_path):
    """1.2 s in all, never 0.6 s without a byte."""
    assert WebFile(f"{server.url}/slow/x", "x", stall=0.6).fetch(tmp_path).read_bytes() == BODY


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(server, tmp_path):
    server.good_after = 3
    assert WebFile(f"{server.url}/cut/x", "x").fetch(tmp_path).read_bytes() == BODY
    ranges = [asked for _, _, asked in server.asked]
    assert ranges[0] is None
    assert ranges[1] == f"bytes={len(BODY) // 3}-"
    assert len(ranges) == 3


def test_what_an_earlier_try_left_is_gone_on_from(server, tmp_path):
    with pytest.raises(DataError, match="cut off after .* the same command goes on from there"):
        WebFile(f"{server.url}/cut/x", "x").fetch(tmp_path)
    assert not (tmp_path / "x").exists()
    left = (tmp_path / ".x.part").stat().st_size
    assert 0 < left < len(BODY)
    WebFile(f"{server.url}/good/x", "x").fetch(tmp_path)
    assert server.asked[-1][2] == f"bytes={left}-"
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_server_that_knows_no_ranges_begins_anew(server, tmp_path):
    (tmp_path / ".x.part").write_bytes(BODY[:1000])
    assert WebFile(f"{server.url}/whole/x", "x").fetch(tmp_path).read_bytes() == BODY


def test_a_finished_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / ".x.part").write_bytes(BODY)
    assert WebFile(f"{server.url}/good/x", "x").fetch(tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("how", "message"),
    [("missing", "404"), ("silent", "was not there after 0.5 s|timed out"), ("mute", "was not there after|timed out")],
)
def test_a_bad_download_leaves_no_file(server, tmp_path, how, message):
    start = time.monotonic()
    with pytest.raises(DataError, match=message):
        WebFile(f"{server.url}/{how}/x", "x", stall=0.5).fetch(tmp_path)
    assert time.monotonic() - start < 3
    assert not (tmp_path / "x").exists()


def test_nobody_answers(tmp_path):
    with pytest.raises(DataError, match="could not be fetched"):
        WebFile("http://127.0.0.1:9/x", "x", stall=2).fetch(tmp_path)


def test_a_file_that_is_too_large_is_given_up(server, tmp_path):
    with pytest.raises(DataError, match="could not be fetched: more than 70,000 bytes"):
        WebFile(f"{server.url}/good/x", "x", most=70_000).fetch(tmp_path)
    assert not (tmp_path / "x").exists()
    assert (tmp_path / ".x.part").stat().st_size <= 70_000


def test_what_is_not_what_it_should_be_is_not_kept(server, tmp_path):
    def check(path):
        raise DataError("it is a page")

    file = WebFile(f"{server.url}/other/x", "x")
    with pytest.raises(Absent, match="/other/x holds something else than expected: it is a page"):
        Sources(cache=tmp_path).downloaded(file, check)
    assert file.find(tmp_path / "downloads") is None


def test_downloads_that_cannot_be_written_are_said(server, tmp_path):
    (tmp_path / "downloads").write_text("a file in the folder's place")
    with pytest.raises(Absent, match=r"/good/x cannot be kept in the cache folder .*downloads \("):
        Sources(cache=tmp_path).downloaded(WebFile(f"{server.url}/good/x", "x"), lambda _path: None)


def test_downloads_make_room_and_are_in_use(server, tmp_path, monkeypatch):
    old = tmp_path / "models" / "old-0123456789abcdef.safetensors"
    old.parent.mkdir()
    old.write_bytes(bytes(1000))
    os.utime(old, (1, 1))
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    sources, first = Sources(cache=tmp_path), WebFile(f"{server.url}/good/x", "x")
    path = sources.downloaded(first, lambda _path: None)
    assert not old.exists()
    sources_module.make_room(tmp_path)
    assert path.exists(), "this process has yet to read it"


# The hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """A hub on this machine that serves one small table for every file of IMDb."""
    table = pd.DataFrame({"text": ["a fine film", "a dull film"] * 40, "label": [1, 0] * 40})
    path = tmp_path / "table.parquet"
    table.to_parquet(path)
    server.body = path.read_bytes()
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setattr(hub_module, "DEADLINE", 0.5)

    def behave(how):
        monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/{how}")

    behave("good")
    return behave


def test_prepare_downloads_and_trains_once(hub, server, capsys):
    assert main(["prepare", "--task", "imdb_lstm", "--source", "real", "--device", "cpu"]) == 0
    assert "imdb_lstm" in (out := capsys.readouterr().out)
    assert "stanfordnlp/imdb at e6281661ce1c on the hub; accuracy" in out
    assert {path for _, path, _ in server.asked if "/resolve/" in path} == {
        f"/good/datasets/stanfordnlp/imdb/resolve/{IMDB.revision}/{file}" for file in IMDB.remote.values()
    }
    asked = len(server.asked)
    hub("missing")
    assert main(["prepare", "--task", "imdb_lstm", "--source", "real", "--offline", "--device", "cpu"]) == 0
    assert len(server.asked) == asked
    assert main(["doctor", "--task", "imdb_lstm"]) == 0
    assert "model trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "message"),
    [("missing", "404"), ("mute", "was not there after 0.5 s|timed out"), ("page", "X-Repo-Commit")],
)
def test_prepare_says_what_is_missing_and_goes_on(hub, capsys, how, message):
    hub(how)
    start = time.monotonic()
    code = main(["prepare", "--task", "imdb_lstm,breast_cancer_mlp", "--source", "real", "--device", "cpu"])
    assert time.monotonic() - start < 30
    captured = capsys.readouterr()
    assert code == 3
    assert message.split("|")[0] in captured.err or message.split("|")[-1] in captured.err
    assert "put imdb/train.parquet and test.parquet into it, or use --source synthetic" in captured.err
    assert "breast_cancer_mlp" in captured.out


def test_a_page_instead_of_a_table_is_refused(hub, capsys):
    hub("other")
    assert main(["prepare", "--task", "imdb_lstm", "--source", "real", "--device", "cpu"]) == 3
    assert "it is no parquet file: it begins with" in capsys.readouterr().err


def test_without_a_network_the_stand_in_is_used_at_once(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    located = IMDB.locate(Sources(cache=tmp_path / "cache"))
    assert time.monotonic() - start < 5
    assert located.source == "synthetic"
    assert "using the synthetic stand-in" in located.notes[0]
    assert "could not be fetched" in located.notes[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: b"<html>please log in</html>", r"it is no parquet file: it begins with b'<html>"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1", "it is no parquet file"),
        (lambda content: content[:-9], "it is a parquet file without its end"),
    ],
)
def test_what_the_hub_gives_is_looked_at_before_it_is_kept(hub, server, tmp_path, spoil, message):
    content = server.body
    server.body = spoil(content)
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=rf"holds something else than expected: {message}"):
        IMDB.locate(Sources("real", cache=cache))
    assert HubFile(IMDB.repo, IMDB.revision, IMDB.remote["train"]).find(cache / "downloads") is None
    server.body = content
    located = IMDB.locate(Sources("real", cache=cache, verify=True))
    assert "the revision is pinned and no digest: --verify checks nothing" in located.notes[0]
    assert len(IMDB.load(located)["test"].words) == 80


def test_a_damaged_file_of_the_hub_is_set_aside_and_fetched_again(hub, server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    cache = tmp_path / "cache"
    IMDB.locate(Sources("real", cache=cache))
    path = HubFile(IMDB.repo, IMDB.revision, IMDB.remote["train"]).find(cache / "downloads")
    path.write_bytes(b"<html>please log in</html>")
    with pytest.raises(DataError, match=r"parquet is damaged \(it is no parquet file: .*\), and --offline forbids"):
        IMDB.locate(Sources("real", cache=cache, offline=True))
    assert len(IMDB.load(IMDB.locate(Sources("real", cache=cache)))["train"].words) == 80
    assert "set aside as" in caplog.text
    assert path.read_bytes() == server.body


@pytest.mark.slow
def test_texts_are_read_in_place_and_without_the_network(hub, tmp_path):
    """No second copy is made in the folder of `datasets`, and no host is asked; in a process of its own."""
    (tmp_path / "imdb").mkdir()
    for part in ("train", "test"):
        (tmp_path / "imdb" / f"{part}.parquet").write_bytes((tmp_path / "table.parquet").read_bytes())
    code = (
        "import socket, sys\n"
        "from pathlib import Path\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "from benchmark.core.sources import Sources\n"
        "from benchmark.tasks.imdb import IMDB\n"
        "located = IMDB.locate(Sources('real', Path(sys.argv[1])))\n"
        "print(len(IMDB.load(located)['train'].words))\n"
    )
    environment = {"HF_HOME": str(tmp_path / "hf"), "PATH": "", "BENCHMARK_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.returncode) == ("80\n", 0), done.stderr
    written = [path for folder in ("hf", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert not written
