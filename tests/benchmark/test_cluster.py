"""A cluster gives what one process gives, outlives its workers, and says what is wrong in a sentence."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from benchmark.cli.parser import main
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.sources import Sources
from benchmark.core.types import METHODS, TASKS
from benchmark.processes.workers import VISIBLE, Workers
from benchmark.records.record import Record
from benchmark.scheduling import cluster as clusters
from benchmark.scheduling import remote
from benchmark.scheduling.cluster import Progress, Recipe

distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
WORDS = ["run", "--task", "digits_cnn", "--source", "synthetic", "--preset", "quick", "--limit", "140",
         "--engine", "eager", "--shard-size", "128", "--json"]  # fmt: skip
"""Two shards: a batch of the evaluator has 128 samples of this task."""
MINE = """
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.core.types import METHODS, Method

{extra}

@METHODS.register("mine", kind="{kind}", modalities=["image"])
@dataclass(frozen=True)
class Mine(Method):
    \"\"\"Explains by the input.\"\"\"

    def prepare(self, task, seed):
        {prepare}
        return lambda x, target: x.flatten(1)[:, : task.n_features]
"""


def digests(folder):
    files = [*folder.rglob("scores.parquet"), *folder.rglob("examples.json")]
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def mine(folder, prepare="pass", kind="baseline", extra=""):
    """Return a file that registers the method `mine`."""
    path = folder / "mine.py"
    path.write_text(MINE.format(prepare=prepare, kind=kind, extra=extra))
    return path


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Return the address of a scheduler with two workers, which have a cache each and know no folder of ours."""
    monkeypatch.chdir(tmp_path)
    started = []

    def start(*words):
        place = {**os.environ, "OMP_NUM_THREADS": "1", "BENCHMARK_CACHE": str(tmp_path / f"cache-{len(started)}")}
        place |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
        process = subprocess.Popen(command, cwd=tmp_path, env=place, stdout=subprocess.DEVNULL,
                                   stderr=(tmp_path / f"log-{len(started)}").open("w"))  # fmt: skip
        started.append(process)
        return process

    file = tmp_path / "scheduler.json"
    start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    for _ in range(2):
        start("dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard")
    deadline = time.time() + 90
    while not file.exists():
        assert time.time() < deadline, (tmp_path / "log-0").read_text()
        time.sleep(0.1)
    with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=90)
        yield client.scheduler.address
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_gives_the_bytes_of_one_process(tmp_path, scheduler, capsys):
    methods = ["--methods", "lime,mine", "--include", str(mine(tmp_path))]
    assert main([*WORDS, *methods, "--jobs", "1", "--out", str(tmp_path / "here")]) == 0
    assert main([*WORDS, *methods, "--cluster", scheduler, "--out", str(tmp_path / "there")]) == 0
    assert len(digests(tmp_path / "here")) == 4
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    capsys.readouterr()
    assert main([*WORDS, *methods, "--out", str(tmp_path / "there")]) == 0, "a record of a cluster is one of ours"
    assert '"kept": 2' in capsys.readouterr().out


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_shard_and_one_that_kills_three_is_a_failed_cell(tmp_path, scheduler, capsys):
    once = f"Path({str(tmp_path / 'died')!r}).exists() or (Path({str(tmp_path / 'died')!r}).touch(), os._exit(1))"
    words = [*WORDS, "--methods", "mine", "--include", str(mine(tmp_path, once)), "--cluster", scheduler]
    assert main([*words, "--out", str(tmp_path / "once")]) == 0
    assert (tmp_path / "died").exists()
    always = mine(tmp_path, "os._exit(1)")
    words = [*WORDS, "--methods", "mine,saliency", "--include", str(always), "--cluster", scheduler]
    assert main([*words, "--out", str(tmp_path / "always")]) == 1
    said = capsys.readouterr().out
    assert "killed 3 workers" in said
    assert '"computed": 1' in said


def test_once_a_shard_has_failed_no_other_of_its_cell_is_computed(monkeypatch):
    class Future:
        def __init__(self, label):
            self.label, self.cancelled = label, lambda: False

        def done(self):
            return self.label == "bad 2"

    class Client:
        loop, status = None, "running"

        def __init__(self):
            self.cancelled = []

        def submit(self, function, *given, **_):
            return Future(given[0]) if function is remote.compute else None

        def cancel(self, futures):
            self.cancelled += [future.label for future in futures]
            for future in futures:
                future.cancelled = lambda: True

        def scheduler_info(self, **_):
            return {"workers": {}}

    class Done(list):
        def __init__(self, loop):
            super().__init__()

        add = list.append

    record = Record.__new__(Record)
    cells = {name: SimpleNamespace(parts=SimpleNamespace(explainers=dict), hopeless=None) for name in ("bad", "good")}
    shards = [
        SimpleNamespace(label=f"{name} {number}", job=SimpleNamespace(cell=SimpleNamespace(key=name)))
        for number in range(3)
        for name in ("bad", "good")
    ]
    asked = []

    def result(self, future, shard, parts):
        asked.append(shard.label)
        return record if shard.label == "bad 0" else None

    monkeypatch.setattr(distributed, "as_completed", Done)
    monkeypatch.setattr(clusters, "_is_learned", lambda shard: False)
    monkeypatch.setattr(clusters.Cluster, "_task", lambda *_: None)
    monkeypatch.setattr(clusters.Cluster, "_order", lambda self, shard, parts: shard.label)
    monkeypatch.setattr(clusters.Cluster, "_result", result)
    cluster = clusters.Cluster("local", 1)
    cluster._client = Client()
    found = {}
    for shard, became in cluster.compute(shards, cells):
        found[shard.label] = became
        cells[shard.job.cell.key].hopeless = became or cells[shard.job.cell.key].hopeless
    assert found == {f"bad {i}": record for i in range(3)} | {f"good {i}": None for i in range(3)}
    assert asked == ["bad 0", "good 0", "good 1", "bad 2", "good 2"], "what is done already is kept"
    assert cluster._client.cancelled == ["bad 1"]


@pytest.mark.slow
def test_a_cell_that_fails_ends_alone_on_a_cluster(tmp_path, scheduler, capsys):
    bad = mine(tmp_path, "raise ValueError('not here')")
    words = [*WORDS, "--methods", "mine,saliency", "--include", str(bad), "--cluster", scheduler]
    words[words.index("--limit") + 1] = "600"
    assert main([*words, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "not here" in said
    assert '"computed": 1' in said


@pytest.mark.slow
def test_what_is_trained_once_is_used_by_all_shards(tmp_path, scheduler):
    log = tmp_path / "trained"
    extra = f"""
def trained(task, seed):
    from benchmark.core.store import EXPLAINERS
    def make():
        with open({str(log)!r}, "a") as file:
            file.write("trained\\n")
        return {{"weight": torch.ones(1)}}, {{}}
    return EXPLAINERS.get(EXPLAINERS.path("mine", seed), make)
"""
    file = mine(tmp_path, "trained(task, seed)", extra=extra, kind="learned")
    words = [*WORDS, "--methods", "mine", "--include", str(file), "--out", str(tmp_path / "out")]
    assert main([*words, "--cluster", scheduler]) == 0
    assert log.read_text() == "trained\n", "two workers have a cache each, and one has trained"


def test_files_of_one_name_are_told_apart(tmp_path):
    texts = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        texts.append(mine(tmp_path / folder).read_text().replace('"mine"', f'"mine_{folder}"'))
    try:
        remote._include({f"{number}/mine.py": text for number, text in enumerate(texts)})
        assert {"mine_a", "mine_b"} <= set(METHODS.names())
    finally:
        remote._include({})
    assert not {"mine_a", "mine_b"} & set(METHODS.names())


@pytest.mark.slow
def test_another_version_on_a_worker_is_refused(tmp_path, scheduler, monkeypatch, capsys):
    monkeypatch.setattr(clusters, "packages_here", lambda *_: remote.packages_here() | {"torch": "1.0"})
    assert main([*WORDS, "--methods", "random", "--cluster", scheduler, "--out", str(tmp_path)]) == 2
    assert "has torch" in capsys.readouterr().err


@pytest.mark.slow
def test_a_local_cluster_needs_no_address_and_its_driver_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    words = [*WORDS, "--methods", "saliency", "--jobs", "1"]
    there = [*words, "--cluster", "local", "--out", str(tmp_path / "there")]
    taken, kept = [], clusters.Cluster._taken

    def stopped(self, answer, shard, parts):
        taken.append(shard.rows)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return kept(self, answer, shard, parts)

    monkeypatch.setattr(clusters.Cluster, "_taken", stopped)
    assert main(there) == 130
    assert main(there) == 0
    assert len(taken) == 3, "the first shard was kept, and the second computed again"
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    assert digests(tmp_path / "there") == digests(tmp_path / "here")


def test_nobody_at_the_address_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clusters, "TIMEOUT", 1.0)
    words = [*WORDS, "--methods", "random", "--out", str(tmp_path), "--cluster"]
    assert main([*words, "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers there" in capsys.readouterr().err
    for place in ("nonsense://x", "nonsense", "127.0.0.1:80", ""):
        expected = f"expected tcp://HOST:PORT (or tls, ws, wss, ucx, ucxx), a .yaml file or local, got {place!r}"
        assert main([*words, place]) == 2
        assert expected in capsys.readouterr().err
        assert main([*words, place, "--dry-run"]) == 2
        assert expected in capsys.readouterr().err


def test_without_dask_a_sentence_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main([*WORDS, "--methods", "random", "--out", str(tmp_path), "--cluster", "local"]) == 2
    assert "pip install 'deepfaith-benchmark[cluster]'" in capsys.readouterr().err


@pytest.fixture
def queue(monkeypatch):
    """Return dask-jobqueue on a machine that seems to have every queue."""
    jobqueue = pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(clusters.shutil, "which", lambda command: command)
    return jobqueue


@pytest.mark.parametrize(("text", "sentence"), [
    (None, "cannot be read"),
    ("jobs: 1\nscheduler: [", "is not YAML in line 2: expected scheduler (slurm, pbs, ...), jobs"),
    ("", "expected scheduler (slurm, pbs, ...), jobs (a number) and options"),
    ("jobs: 3", "expected scheduler"),
    ("scheduler: slurm\njobs: 3\nqueue: gpu", "expected scheduler"),
    ("scheduler: slrum\njobs: 3", "did you mean 'slurm'"),
    ("scheduler: [slurm]\njobs: 3", "no scheduler ['slurm']"),
    ("scheduler: slurm\njobs: many", "got jobs 'many'"),
    ("scheduler: slurm\njobs: 2\noptions: {colour: red}", "refuses the options of slurm"),
])  # fmt: skip
@pytest.mark.usefixtures("queue")
def test_a_recipe_that_is_none_is_said(tmp_path, text, sentence):
    path = tmp_path / "slurm.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as error:
        Recipe.read(path).start()
    assert sentence in str(error.value)


def test_a_machine_without_the_queue_is_said(monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="jobs of slurm are submitted by 'sbatch', which is not on this machine"):
        Recipe("slurm", 1).start()
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match="needs dask-jobqueue: pip install"):
        Recipe("slurm", 1).start()


def test_a_recipe_asks_the_queue_for_workers_of_one_thread(tmp_path, queue, monkeypatch):
    asked = []
    monkeypatch.setattr(queue.SLURMCluster, "scale", lambda self, *_, **how: asked.append(how))
    path = tmp_path / "slurm.yaml"
    path.write_text("scheduler: slurm\njobs: 16\noptions: {queue: long, cores: 4, memory: 16GB, walltime: '08:00:00'}")
    with Recipe.read(path).start() as cluster:
        script = cluster.job_script()
    assert asked[0] == {"jobs": 16}
    assert "#SBATCH -p long" in script
    assert "#SBATCH -t 08:00:00" in script
    assert "--nworkers 4" in script
    assert "--nthreads 1" in script


def client_of(monkeypatch, place, **members):
    """Return a cluster whose client has some members and is not connected to anything, and what was closed of it."""
    closed = []
    own = SimpleNamespace(close=lambda: closed.append("cluster"))
    client = SimpleNamespace(close=lambda: closed.append("client"), forward_logging=print, status="running")
    vars(client).update(members)
    monkeypatch.setattr(clusters.Cluster, "_start", lambda self: own if self.place == "local" else None)
    monkeypatch.setattr(clusters.Cluster, "_connected", lambda *_: client)
    monkeypatch.setattr(clusters.Cluster, "_check", lambda *_: None)
    return clusters.Cluster(place, 1), closed


def test_all_is_closed_where_workers_are_refused(monkeypatch):
    cluster, closed = client_of(monkeypatch, "local")
    with cluster:
        assert not closed
    assert closed == ["client", "cluster"]

    def refuse(*_):
        raise UsageError("the worker has torch 1.0")

    monkeypatch.setattr(clusters.Cluster, "_check", refuse)
    with pytest.raises(UsageError, match=r"torch 1\.0"), cluster:
        pass
    assert closed == ["client", "cluster"] * 2


def test_a_scheduler_without_this_program_is_said(monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'benchmark'")

    cluster, closed = client_of(monkeypatch, "tcp://x:1", run_on_scheduler=missing)
    with pytest.raises(UsageError, match=r"the Dask scheduler at tcp://x:1 cannot run this program .*install"), cluster:
        pass
    assert closed == ["client"]


@pytest.mark.parametrize(("status", "error", "raised", "sentence"), [
    ("closed", RuntimeError("closed"), BenchmarkError, "the scheduler has ended (RuntimeError); start it anew"),
    ("running", CancelledError("lost"), BenchmarkError, "the scheduler has ended (CancelledError)"),
    ("running", RuntimeError("another"), RuntimeError, "another"),
    ("closed", UsageError("ours"), UsageError, "ours"),
])  # fmt: skip
def test_a_scheduler_that_ends_is_said(monkeypatch, status, error, raised, sentence):
    cluster, _closed = client_of(monkeypatch, "local", status=status)
    with pytest.raises(raised, match=re.escape(sentence)), cluster, cluster._while_connected():
        raise error


@pytest.mark.parametrize("name", ["nap_mlp", "agnews_lstm", "digits_cnn"])
def test_a_task_travels_with_all_that_scores_follow_from(name):
    from benchmark.core.identity import task_identity

    spec = TASKS.get(name)()
    task = spec.build(spec.locate(Sources("synthetic")), name, "cpu")
    there = remote.unpacked(remote.packed(task), "cpu")
    assert task_identity(there) == task_identity(task)
    assert (there.words is None) == (task.words is None)


def test_digests_of_another_code_are_refused():
    job = SimpleNamespace(choice=SimpleNamespace(name="saliency"), cell=SimpleNamespace(label="toy saliency"))
    order = remote.Order(SimpleNamespace(job=job), "", {"data": "a", "code": "b"})
    assert remote._same({"data": "a", "code": "b"}, order, "tcp://x") == {"data": "a", "code": "b"}
    with pytest.raises(UsageError, match=r"the worker tcp://x computes toy saliency from another code: start it anew"):
        remote._same({"data": "a", "code": "c"}, order, "tcp://x")


def test_progress_is_said_in_a_few_words():
    assert str(Progress(3, 12, 2, 15320.4)) == "3 of 12 shards, 2 workers, 15,320 rows/s"


def test_worker_processes_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv(VISIBLE, "7")
    with Workers(["2", "3"]) as crew:
        jobs = [f"assert __import__('os').environ[{VISIBLE!r}] in '23'; __import__('time').sleep(2)"] * 2
        assert list(crew.each(exec, jobs, 2, print)) == [None, None]
        assert sorted(crew._gpu_of.values()) == ["2", "3"]
    with Workers() as crew:
        assert list(crew.each(exec, [f"assert __import__('os').environ[{VISIBLE!r}] == '7'"], 1, print)) == [None]
