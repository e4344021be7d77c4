"""What is kept on disk: believed only if it is what was written, made again if not, done without where it cannot be."""

from __future__ import annotations

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

from benchmark.core import files, store
from benchmark.core.errors import DataError
from benchmark.core.files import sweep, write_atomically
from benchmark.core.parameters import configure
from benchmark.core.seeding import seeded
from benchmark.core.store import Unusable, digest_of, kept, sealed, unseal
from benchmark.core.types import METHODS, Split
from benchmark.modalities.removal import ColumnRemoval
from benchmark.models.weights import trained
from benchmark.scoring.masked_model import Predictions
from benchmark.scoring.shared_predictions import SharedPredictions
from deepfaith.supervision import supervise
from tests import toys


@pytest.fixture
def said(caplog, monkeypatch):
    """What the log says; what is said once a process is said anew."""
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    monkeypatch.setattr(store, "_said", set())
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

    tensors, facts = kept(folder / "pixels.safetensors", make, "decoded images")
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
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "net.lock", held))
    other.start()
    assert held.wait(10)
    weights(tmp_path, [])
    other.join()
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
        writer.join()
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
    child.join()
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
    child = os.fork()
    if not child:
        os.fsync = lambda _file: os._exit(9)
        write_atomically(tmp_path / "f", b"half")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert list(tmp_path.iterdir())
    sweep(tmp_path)
    os.waitpid(child, 0)
    assert not list(tmp_path.iterdir())


def test_a_process_number_used_again_is_another_process(tmp_path):
    host, pid, begun = files._writer().split("-")
    again = tmp_path / f".f.{host}-{pid}-{int(begun) - 1}-01234567.part"
    again.write_bytes(b"x")
    sweep(tmp_path)
    assert not again.exists()
