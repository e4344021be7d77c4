"""What is kept on disk: believed only if it is what was written, made again if not, done without where it cannot be."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import subprocess
import threading
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from torch import nn

from benchmark.cli.parser import main
from benchmark.core import files, store
from benchmark.core.errors import DataError
from benchmark.core.files import entries_in, sweep, write_atomically
from benchmark.core.parameters import configure
from benchmark.core.seeding import seeded
from benchmark.core.sources import make_room
from benchmark.core.store import MODELS, Store, Unusable, digest_of, load_or_make, sealed, unseal
from benchmark.core.types import METHODS, Split
from benchmark.modalities.removal import ColumnRemoval
from benchmark.models.weights import trained
from benchmark.scoring.masked_model import Predictions
from benchmark.scoring.shared_predictions import SharedPredictions
from deepfaith.supervision import supervise
from tests import toys
from tests.processes import ended, fork


@pytest.fixture
def said(caplog, monkeypatch):
    """What the log says; what is said once a process is said anew."""
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setattr(files, "_reported", set())
    with caplog.at_level("WARNING", "benchmark"):
        yield caplog


# Every kind of file that is kept. Each maker returns something plain that can be compared; `made` counts the makings.


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def weights(folder, made):
    def train():
        made.append(1)
        with seeded(0):
            return net(), {"accuracy": 0.5, "words": ["a", "é"]}

    model, facts = trained(folder / "net.safetensors", net, train)
    return [value.tolist() for value in model.state_dict().values()], facts


def data(folder, made):
    def make():
        made.append(1)
        pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
        return {"x": pixels, "y": torch.tensor([0, 1]), "evidence": pixels > 3, "none": torch.zeros(0, 2)}, {}

    tensors, facts = load_or_make(folder / "pixels.safetensors", make, "decoded images")
    return sorted((key, str(value.dtype), value.tolist()) for key, value in tensors.items()), facts


def answers(folder, made):
    path = folder / "shared.safetensors"
    shared, costs = SharedPredictions.load(path, "cpu")
    if shared is None:
        made.append(1)
        table = Predictions(
            torch.rand(3, 8, generator=torch.Generator().manual_seed(0)).double(), torch.ones(3, 8).bool()
        )
        shared = SharedPredictions(torch.arange(3), torch.zeros(3).long(), table.prob[:, 0], table[:, -1:], table=table)
        costs = {"shared": {"forwards": 24.0}}
        shared.save(path, costs)
    return sorted((key, value.tolist()) for key, value in shared.tensors().items()), costs


@pytest.fixture(scope="module")
def task():
    toy = toys.table(samples=60)
    rows = Split(toy.test.x.float(), toy.test.y)
    removal = ColumnRemoval(toy.removal.means.float())
    return replace(toy, model=toy.model.float(), train=rows, test=rows, removal=removal)


KINDS = {"weights": weights, "data": data, "answers": answers}


def spoilt(content, rng):
    """Return the same content with one bit flipped."""
    damaged = bytearray(content)
    damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def check(path, damaged, again, whole, said):
    """Make sure that damage changes no result, is said, set aside and mended."""
    content = path.read_bytes()
    if path.is_file():
        path.unlink()
    if damaged is None:
        (path / "inner").mkdir(parents=True)
    else:
        path.write_bytes(damaged)
    said.clear()
    assert again() == whole
    (sentence,) = said.messages
    assert str(path) in sentence
    assert "set aside as" in sentence
    assert path.read_bytes() == content, "it is made again, the same"
    (aside,) = path.parent.glob(f"{path.name}.damaged-*")
    assert aside.is_dir() if damaged is None else aside.read_bytes() == damaged
    said.clear()
    assert again() == whole
    assert not said.messages


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_and_made_good(kind, tmp_path, said):
    made = []

    def again():
        return KINDS[kind](tmp_path, made)

    whole = again()
    (path,) = tmp_path.glob("*.safetensors")
    content, rng = path.read_bytes(), random.Random(0)
    bits = [spoilt(content, rng) for _ in range(20)]
    ends = [content[:-1], content[: len(content) // 2], content[:9], content + b"x", b"", bytes(len(content))]
    for damaged in [*bits, *ends, b"\x89PNG\r\n\x1a\n" + content, None]:
        made.clear()
        check(path, damaged, again, whole, said)
        assert len(made) == 1


def test_whatever_bit_is_wrong_is_seen(tmp_path):
    """All bits of a small file, header, metadata and data: none changes what is read."""
    path = tmp_path / "small.safetensors"
    whole = {"a": torch.tensor([1.0, 2.0])}, {"n": 1, "words": ["a"]}
    content = sealed(*whole, path.name)
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(Unusable):
            unseal(path, path.name)


def test_a_file_is_what_it_was_made_for(tmp_path, said):
    """Content of another kind, of another key, or of an older version without a digest is not used."""
    from safetensors.torch import save

    made = []
    whole = {kind: make(tmp_path / kind, made) for kind, make in KINDS.items()}
    paths = {kind: next((tmp_path / kind).glob("*.safetensors")) for kind in KINDS}
    contents = {kind: path.read_bytes() for kind, path in paths.items()}
    for kind, path in paths.items():
        older = save({"0.weight": torch.zeros(4, 3)}, {"facts": "{}"})
        for damaged in [older, *(content for other, content in contents.items() if other != kind)]:
            check(path, damaged, lambda kind=kind: KINDS[kind](tmp_path / kind, made), whole[kind], said)


def test_what_reads_well_but_does_not_fit_is_made_again(tmp_path, said):
    whole = weights(tmp_path, [])
    path = tmp_path / "net.safetensors"
    state, facts = unseal(path)
    for wrong in (
        {key: value for key, value in state.items() if key != "0.bias"},
        state | {"more": torch.zeros(1)},
        state | {"0.weight": torch.zeros(2, 2)},
    ):
        check(path, sealed(wrong, facts, path.name), lambda: weights(tmp_path, []), whole, said)
    with pytest.raises(DataError, match=r"just made .* does not fit the model"):
        trained(tmp_path / "other.safetensors", net, lambda: (nn.Linear(2, 2), {}))
    assert not (tmp_path / "other.safetensors").exists()


def test_the_digest_of_weights_is_that_of_their_content(tmp_path):
    first, again = weights(tmp_path / "a", [])[1], weights(tmp_path / "b", [])[1]
    assert first["digest"] == again["digest"] == weights(tmp_path / "a", [])[1]["digest"]
    state = {"w": torch.zeros(2, 3), "v": torch.ones(1)}
    others = [
        {"w": torch.zeros(3, 2), "v": torch.ones(1)},
        {"w": torch.zeros(2, 3), "u": torch.ones(1)},
        {"w": torch.zeros(2, 3).int(), "v": torch.ones(1)},
        {"w": torch.zeros(2, 3), "v": -torch.ones(1)},
    ]
    assert len({digest_of(some) for some in [state, *others]}) == 5
    assert digest_of(dict(reversed(state.items()))) == digest_of(state), "order says nothing"
    assert digest_of({"w": torch.zeros(3, 2).T, "v": torch.ones(1)}) == digest_of(state), "nor does layout"
    assert digest_of({"h": torch.ones(2).bfloat16(), "n": torch.tensor(1), "e": torch.zeros(0)})


LEARNED = {
    "deepfaith": {"iterations": 3, "alpha": 0, "batch": 4, "subsets": 4, "width": 8, "depth": 1},
    "deepfaith_hinted": {"iterations": 3, "batch": 4, "sets": 4, "width": 8, "depth": 1},
    "fastshap": {"iterations": 3},
}


@pytest.mark.parametrize("name", LEARNED)
def test_damaged_explainers_are_trained_again(name, task, tmp_path, said, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))

    def again():
        explain = METHODS.get(name)(**LEARNED[name]).prepare(task, 0)
        return explain(task.test.x[:4], torch.zeros(4).long()).tolist()

    whole = again()
    path = next((tmp_path / "explainers").glob(f"{name}-*.safetensors"))
    content, rng = path.read_bytes(), random.Random(1)
    for damaged in [*(spoilt(content, rng) for _ in range(4)), content[:1000], b"", None]:
        state = unseal(path)[0]
        if path.is_file():
            path.unlink()
        path.mkdir() if damaged is None else path.write_bytes(damaged)
        said.clear()
        assert again() == whole
        assert any(f"explainer {path} " in text and "set aside" in text for text in said.messages)
        made = unseal(path, path.name)[0]
        assert all(torch.equal(made[key], state[key]) for key in state)
        said.clear()
        assert again() == whole
        assert not said.messages


def test_damaged_prior_explanations_are_made_again(task, tmp_path, said):
    priors = [(name, configure(METHODS.get(name), name, {})) for name in ("saliency", "occlusion")]
    x = task.train.x[:4]

    def again():
        found = supervise(task, x, priors, 0, lambda name, _method: tmp_path / f"{name}.safetensors")
        return found.attributions.tolist(), found.scores.nan_to_num(7).tolist()

    whole = again()
    path, rng = tmp_path / "occlusion.safetensors", random.Random(0)
    content = path.read_bytes()
    for damaged in [*(spoilt(content, rng) for _ in range(6)), content[:60], b"", bytes(100), None]:
        check(path, damaged, again, whole, said)


def test_a_file_that_is_replaced_while_it_is_read(tmp_path, said, monkeypatch):
    """It is looked at again, under the lock, and believed."""
    made = []
    whole = answers(tmp_path, made)
    real, calls = store.safe_open, []

    def replaced(*words):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("file <x> size <16904> is smaller than the required mapping size <16912>")
        return real(*words)

    monkeypatch.setattr(store, "safe_open", replaced)
    assert answers(tmp_path, made) == whole
    assert len(made) == 1
    assert not said.messages


def test_shared_predictions_that_another_run_has_written_stay(tmp_path):
    answers(tmp_path, [])
    path = tmp_path / "shared.safetensors"
    content, (shared, _) = path.read_bytes(), SharedPredictions.load(path, "cpu")
    shared.save(path, {"shared": {"forwards": 24.0, "seconds": 0.123456789}})
    assert path.read_bytes() == content
    path.unlink()  # its tensors are mapped
    path.write_bytes(content[:-1])
    shared.save(path, {"shared": {"forwards": 24.0}})
    assert path.read_bytes() == content


# A cache that cannot be written


def small_disk(folder):
    """Mount a small file system at `folder`, or skip."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["file", "size", "full"])
def test_a_cache_that_cannot_be_written_costs_speed_only(how, kind, tmp_path, said):
    made = []
    whole = KINDS[kind](tmp_path / "good", made)
    folder = tmp_path / "bad"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "file":
        folder.touch()
    if how == "full":
        small_disk(folder)
        with pytest.raises(OSError, match="No space"):
            (folder / "filler").write_bytes(bytes(2**16))
    try:
        if how == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
        made.clear()
        assert KINDS[kind](folder, made) == whole
        assert KINDS[kind](folder, made) == whole
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if how == "full":
            left = [path.name for path in folder.iterdir() if path.suffix != ".lock"]
            subprocess.run(["umount", str(folder)], check=True)
            assert left == ["filler"], "nothing half-written is left"
    assert len(made) == 2
    (sentence,) = said.messages
    assert f"the cache folder {folder} cannot be written (" in sentence


@pytest.fixture
def read_only(monkeypatch):
    """Refuse all writing by open, as a file system that is read-only does."""
    real = os.open

    def refuse(path, flags, *more, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return real(path, flags, *more, **named)

    def apply():
        monkeypatch.setattr(os, "open", refuse)
        for name in ("rename", "replace", "unlink", "mkdir"):
            monkeypatch.setattr(f"pathlib.Path.{name}", lambda *a, **k: refuse(a[0], os.O_RDWR))
        monkeypatch.setattr(store, "write_atomically", lambda path, _: refuse(path, os.O_RDWR))

    return apply


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_read_only_cache_is_used(kind, tmp_path, said, read_only):
    made = []
    whole = KINDS[kind](tmp_path, made)
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    read_only()
    assert KINDS[kind](tmp_path, made) == whole
    assert len(made) == 1
    assert not said.messages
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_a_read_only_cache(kind, tmp_path, said, read_only):
    whole = KINDS[kind](tmp_path, [])
    (path,) = tmp_path.glob("*.safetensors")
    damaged = spoilt(path.read_bytes(), random.Random(2))
    path.write_bytes(damaged)
    read_only()
    assert KINDS[kind](tmp_path, []) == whole
    assert path.read_bytes() == damaged
    assert "made again and not kept, because it cannot be set aside (Read-only file system)" in said.text


def test_a_lock_that_cannot_be_used_is_done_without(tmp_path, said):
    (tmp_path / "net.lock").mkdir()
    made = []
    whole = weights(tmp_path, made)
    assert weights(tmp_path, made) == whole
    assert len(made) == 1, "it is kept all the same"
    (sentence,) = said.messages
    assert "net.lock cannot be used (is a directory): going on without it" in sentence


def hold(path, held):
    with FileLock(path):
        held.set()
        time.sleep(0.5)


def test_waiting_for_another_run_is_said(tmp_path, said, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "net.lock", held))
    other.start()
    assert held.wait(10)
    weights(tmp_path, [])
    other.join(60)
    assert said.messages == [f"waiting for another run that makes {tmp_path / 'net.safetensors'}"]


# Writing


def test_writers_of_one_process_number_do_not_disturb_each_other(tmp_path):
    """Containers on one folder may have the same process number; so have threads."""
    path, failed, contents = tmp_path / "f", [], [bytes([n]) * 20_000 for n in range(4)]
    write_atomically(path, contents[0])

    def write(content):
        try:
            for _ in range(25):
                write_atomically(path, content)
                assert path.read_bytes() in contents, "torn"
        except (OSError, AssertionError) as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert not failed
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def killed_while_writing(path):
    """Write, and die before the end: as a run that is killed."""
    os.fsync = lambda _file: os._exit(9)
    write_atomically(path, b"half")


def test_leftovers_of_killed_runs_are_swept(tmp_path):
    inner = tmp_path / "a" / "b"
    child = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(inner / "run.json",))
    child.start()
    child.join(60)
    (dead,) = inner.iterdir()
    assert dead.suffix == ".part"
    mine = inner / f".run.json.{files._writer()}-01234567.part"
    another = inner / ".run.json.0123456789ab-7-1-01234567.part"
    old = inner / ".run.json.0123456789ab-8-1-01234567.part"
    unknown = inner / ".run.json.-9--01234567.part"
    foreign = [inner / ".big.bin.part", inner / "mine.part", inner / "run.json"]
    for path in (mine, another, old, unknown, *foreign):
        path.write_bytes(b"x")
    long_ago = time.time() - 4000
    for path in (mine, old, *foreign):
        os.utime(path, (long_ago, long_ago))
    sweep(tmp_path)
    assert set(inner.iterdir()) == {mine, another, unknown, *foreign}, "live writers and what is not ours stay"
    sweep(tmp_path, older_than=-1)
    assert set(inner.iterdir()) == {mine, *foreign}
    sweep(tmp_path / "nowhere")


def test_a_dead_process_that_nobody_waited_for_writes_no_more(tmp_path):
    child = fork()
    if not child:
        os.fsync = lambda _file: os._exit(9)
        write_atomically(tmp_path / "f", b"half")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert list(tmp_path.iterdir())
    sweep(tmp_path)
    assert ended(child) == 9
    assert not list(tmp_path.iterdir())


def test_a_process_number_used_again_is_another_process(tmp_path):
    host, pid, begun = files._writer().split("-")
    again = tmp_path / f".f.{host}-{pid}-{int(begun) - 1}-01234567.part"
    again.write_bytes(b"x")
    sweep(tmp_path)
    assert not again.exists()


# A cache that is bounded in size


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a function that makes an entry of a kind in a cache folder of this test."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))

    def make(kind, name, hours_ago=0.0, size=1000):
        path = Store(kind, kind).path(name, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
        then = time.time() - 3600 * hours_ago
        os.utime(path, (then, then))
        return path

    return make


def test_what_was_used_least_recently_goes_first(cache, tmp_path, monkeypatch):
    oldest, used, newest = cache("models", "a", 3), cache("shared", "b", 2), cache("data", "c", 1)
    oldest.with_suffix(".pt").write_bytes(b"a checkpoint beside it")
    os.utime(oldest.with_suffix(".pt"), (1, 1))
    (tmp_path / "of another program").write_bytes(bytes(5000))
    changed = used.stat().st_mtime_ns
    files.mark_used(used)
    assert used.stat().st_mtime_ns == changed
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "2.5e-6")
    path = MODELS.path("new", 1)
    store.store(path, bytes(1000))
    assert not oldest.exists()
    assert not oldest.with_suffix(".pt").exists(), "what belongs to an entry goes with it"
    assert not newest.exists()
    assert used.exists(), "it was made before, and used after"
    assert path.exists()
    assert (tmp_path / "of another program").exists()


def test_reading_counts_as_use(cache, tmp_path, monkeypatch):
    path = MODELS.path("net", 1)
    MODELS.get(path, lambda: ({"w": torch.zeros(300)}, {}))
    os.utime(path, (1, 1))
    other = cache("models", "other", 5, path.stat().st_size)
    MODELS.get(path, lambda: pytest.fail("it is there"))
    monkeypatch.setenv("BENCHMARK_CACHE_GB", str(1.5 * path.stat().st_size / 1e9))
    make_room(tmp_path)
    assert path.exists()
    assert not other.exists()


def test_what_was_just_made_stays_though_it_is_larger_than_the_bound(cache, said, monkeypatch):
    old = cache("models", "old", 3)
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-7")
    path = MODELS.path("net", 1)
    MODELS.get(path, lambda: ({"w": torch.zeros(300)}, {}))
    assert path.exists()
    assert not old.exists()
    (sentence,) = said.messages
    assert "more than its bound of 1e-07 GB: what is left is in use, was used just now or cannot be removed" in sentence


def test_what_is_locked_or_in_use_stays(cache, tmp_path, said, monkeypatch):
    locked, held, free = (cache("downloads", name, 3) for name in ("locked", "held", "free"))
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    with FileLock(locked.with_suffix(".lock")):
        files.hold(held)
        make_room(tmp_path)
        assert locked.exists()
        assert held.exists()
        assert not free.exists()
        assert "in use, was used just now or cannot be removed" in said.text
    files._held.pop(held).close()
    make_room(tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("*.lock"))


def test_what_another_process_holds_stays(cache, tmp_path, monkeypatch):
    path = cache("downloads", "held", 3)
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()

    def other():
        files.hold(path)
        held.set()
        done.wait(10)

    process = context.Process(target=other)
    process.start()
    assert held.wait(10)
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    make_room(tmp_path)
    assert path.exists()
    done.set()
    process.join(60)
    make_room(tmp_path)
    assert not path.exists()


def test_a_cache_in_which_nothing_can_be_removed_costs_no_run(cache, said, read_only, tmp_path, monkeypatch):
    path = cache("models", "old", 3)
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    read_only()
    make_room(tmp_path)
    make_room(tmp_path)
    assert path.exists()
    assert len(said.messages) == 1, "it is said once"


def test_what_is_not_ours_stays(cache, tmp_path, monkeypatch):
    """A cache folder named in haste, with files of the user's and a link that leads out of it."""
    names = (
        "data/cohort/patients.csv downloads/thesis.pdf data/real/run.json elsewhere/net-0123456789abcdef.safetensors"
    )
    theirs = [tmp_path / name for name in names.split()]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1, 1))
    (tmp_path / "models").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "gone").symlink_to(tmp_path / "unmounted")
    (tmp_path / "data" / "empty").mkdir()
    ours = cache("data", "ours", 3)
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    make_room(tmp_path)
    assert not ours.exists()
    assert main(["doctor", "--clear"]) == 0
    assert all(path.exists() for path in theirs)
    assert (tmp_path / "data" / "gone").is_symlink()
    assert (tmp_path / "data" / "empty").is_dir()


def test_what_was_used_just_now_stays(cache, tmp_path, monkeypatch):
    """A worker is about to read it, or a download by a library goes on in it."""
    files.tag(tmp_path / "downloads")
    part = tmp_path / "downloads" / "hub" / "0123.incomplete"
    part.parent.mkdir()
    part.write_bytes(bytes(100))
    recent, old = cache("models", "recent", 0.1), cache("models", "old", 3)
    monkeypatch.setenv("BENCHMARK_CACHE_GB", "1e-9")
    make_room(tmp_path)
    assert part.exists()
    assert recent.exists()
    assert not old.exists()
    os.utime(part, (1, 1))
    make_room(tmp_path)
    assert not part.exists(), "a folder with our tag holds nothing of others"


def test_what_is_being_written_is_no_entry(tmp_path):
    (tmp_path / f".net.safetensors.{files._writer()}-01234567.part").write_bytes(bytes(10))
    (tmp_path / "net.lock").touch()
    assert not entries_in(tmp_path)


@pytest.mark.parametrize("text", ["much", "0", "-3", "nan", "inf", "1 GB"])
def test_a_bound_that_is_no_size_is_refused(text, monkeypatch, capsys):
    monkeypatch.setenv("BENCHMARK_CACHE_GB", text)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (f"error: BENCHMARK_CACHE_GB expects gigabytes, a number over 0, got {text!r}\n")


def test_doctor_shows_what_the_cache_holds(cache, capsys):
    cache("models", "a")
    cache("models", "b").with_suffix(".lock").touch()
    cache("shared", "c", size=2_500_000)
    assert main(["doctor", "--task", "digits_cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cache of models              2 entries      2.0 kB" in lines
    assert "cache of shared              1 entries      2.5 MB" in lines
    assert main(["doctor", "--task", "digits_cnn", "--json"]) == 0
    use = {kind["kind"]: kind for kind in json.loads(capsys.readouterr().out)["cache"]}
    assert use["models"] == {"kind": "models", "entries": 2, "size": 2000}
    assert use["explainers"]["entries"] == 0


def test_doctor_clears_a_kind_or_all_of_it(cache, capsys, tmp_path):
    one, two, other = cache("models", "a"), cache("models", "b"), cache("shared", "c")
    (tmp_path / "mine.txt").write_text("of another program")
    with FileLock(two.with_suffix(".lock")):
        assert main(["doctor", "--clear", "models"]) == 0
    assert "1 entries      1.0 kB removed; 1 in use, or not ours to remove, stay" in capsys.readouterr().out
    assert not one.exists()
    assert two.exists()
    assert other.exists()
    assert main(["doctor", "--clear", "--json"]) == 0
    cleared = {use["kind"]: use for use in json.loads(capsys.readouterr().out)["cleared"]}
    assert cleared["models"] == {"kind": "models", "entries": 1, "size": 1000, "left": 0}
    assert [path.name for path in tmp_path.rglob("*")] == ["mine.txt"]


def test_a_kind_that_is_none_is_refused(capsys):
    assert main(["doctor", "--clear", "model"]) == 2
    assert "error: --clear: the cache has no kind 'model'; did you mean 'models'?" in capsys.readouterr().err


def test_what_another_process_made_takes_the_place_of_ours_only_where_it_must(tmp_path):
    path = tmp_path / "explainers" / "mine.safetensors"
    store.written_if_new(path, b"ours")
    store.written_if_new(path, b"theirs")
    assert path.read_bytes() == b"ours"
    store.written(path, b"theirs")
    assert path.read_bytes() == b"theirs"


def test_what_is_used_meanwhile_is_listed_by_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    kept = store.EXPLAINERS.path("mine", 1)
    with store.used_meanwhile("explainers") as outer, store.used_meanwhile("explainers") as inner:
        store.EXPLAINERS.get(kept, lambda: ({"weight": torch.ones(1)}, {}))
        store.SHARED.get(store.SHARED.path("mine", 1), lambda: ({"weight": torch.ones(1)}, {}))
    store.EXPLAINERS.get(store.EXPLAINERS.path("other", 1), lambda: ({"weight": torch.ones(1)}, {}))
    assert outer == inner == [kept]
