"""Computes shards on the workers of a Dask cluster: each travels with all it needs, and the driver alone writes."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmark.core.errors import BenchmarkError, UsageError, describe, did_you_mean
from benchmark.core.registry import included_from
from benchmark.core.sources import cache_folder
from benchmark.core.store import written_if_new
from benchmark.core.types import METHODS
from benchmark.records.record import Record
from benchmark.running.built import task_for
from benchmark.running.jobs import Outcome, with_engine
from benchmark.running.parts import PartStore
from benchmark.scheduling.remote import Answer, Order, compute, packages_here, packed, refuse_others
from benchmark.scheduling.shards import Shard
from benchmark.scheduling.unfinished import Result, Unfinished

if TYPE_CHECKING:
    from distributed import Client, Future

QUEUES = {
    "htcondor": "HTCondorCluster", "lsf": "LSFCluster", "moab": "MoabCluster", "oar": "OARCluster",
    "pbs": "PBSCluster", "sge": "SGECluster", "slurm": "SLURMCluster",
}  # fmt: skip
"""Queueing systems by name, and their classes in dask-jobqueue."""
KEYS = {"scheduler", "jobs", "options"}
INSTALL = "pip install 'deepfaith-benchmark[cluster]'"
DEATHS = 3
"""Workers that a shard may kill before its cell has failed."""
ADDRESS = re.compile(r"^(tcp|tls|ws|wss|ucxx?)://[^/]+:\d+$")
TIMEOUT = 20.0
"""Seconds in which a scheduler has to answer."""
log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Progress:
    """How a cluster is doing: shards done of those there are, workers, and rows of the model a second."""

    done: int
    shards: int
    workers: int
    rows_a_second: float

    def __str__(self) -> str:
        """Return it in a few words, for a progress bar."""
        return f"{self.done} of {self.shards} shards, {self.workers} workers, {self.rows_a_second:,.0f} rows/s"


@dataclass(frozen=True)
class Recipe:
    """How workers are asked for: `--cluster FILE.yaml`.

    Attributes:
        scheduler: the queueing system.
        jobs: how many are asked for.
        options: of its class in dask-jobqueue, such as queue, memory, walltime.
    """

    scheduler: str
    jobs: int
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Return the recipe of a file.

        Raises:
            UsageError: it holds none.
        """
        try:
            import yaml
        except ImportError as error:
            raise UsageError(f"--cluster FILE.yaml needs PyYAML: {INSTALL}") from error
        expected = "expected scheduler (slurm, pbs, ...), jobs (a number) and options (of dask-jobqueue)"
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--cluster {path} cannot be read: {getattr(error, 'strerror', error)}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = "" if mark is None else f" in line {mark.line + 1}"
            raise UsageError(f"--cluster {path} is not YAML{place}: {expected}") from error
        if not isinstance(found, dict) or not {"scheduler", "jobs"} <= found.keys() <= KEYS:
            raise UsageError(f"--cluster {path}: {expected}, got {sorted(map(str, found)) if found else 'nothing'}")
        scheduler, jobs, options = found["scheduler"], found["jobs"], found.get("options") or {}
        if not isinstance(scheduler, str) or scheduler not in QUEUES:
            raise UsageError(f"--cluster {path}: no scheduler {scheduler!r}{did_you_mean(str(scheduler), [*QUEUES])}")
        if type(jobs) is not int or jobs < 1 or not isinstance(options, dict):
            raise UsageError(f"--cluster {path}: {expected}, got jobs {jobs!r} and options {options!r}")
        return cls(scheduler, jobs, options)

    def start(self) -> Any:
        """Return the cluster, whose workers have one thread each and come as the queue lets them.

        Raises:
            UsageError: dask-jobqueue is not installed or takes no such options, or the queue is not of this machine.
        """
        try:
            import dask_jobqueue
        except ImportError as error:
            raise UsageError(f"--cluster FILE.yaml needs dask-jobqueue: {INSTALL}") from error
        kind = getattr(dask_jobqueue, QUEUES[self.scheduler])
        command = kind.job_cls.submit_command
        if shutil.which(command) is None:  # dask-jobqueue would wait for ever
            raise UsageError(
                f"--cluster: jobs of {self.scheduler} are submitted by {command!r}, which is not on this machine: "
                "start the run where it is"
            )
        options = {"cores": 1, "memory": "8GB"} | self.options
        options.setdefault("processes", options["cores"])
        try:
            cluster = kind(**options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"--cluster: dask-jobqueue refuses the options of {self.scheduler}: {error}") from error
        cluster.scale(jobs=self.jobs)
        return cluster


def is_recipe(place: str) -> bool:
    """Tell whether `--cluster` names a file that says how to ask a queue for workers."""
    return place.endswith((".yaml", ".yml"))


def check_address(place: str) -> None:
    """Make sure that something can be the address of a scheduler.

    Raises:
        UsageError: it cannot.
    """
    if not ADDRESS.match(place):
        raise UsageError(
            f"--cluster expected tcp://HOST:PORT (or tls, ws, wss, ucx, ucxx), a .yaml file or local, got {place!r}"
        )


class Cluster:
    """The workers of a cluster, for the length of a `with` block.

    Args:
        place: `local` for processes of this machine, a .yaml file that a `Recipe` is read from, or the address of a
            Dask scheduler.
        jobs: number of workers of `local`.

    Raises:
        UsageError: what it needs is not installed, or nobody answers at the address.
    """

    stores = False

    def __init__(self, place: str, jobs: int) -> None:
        self.place, self.jobs = place, jobs
        self.progress: object = ""
        self._client: Client | None = None
        self._opened = ExitStack()
        self._started, self._forwards = 0.0, 0.0

    def __enter__(self) -> Self:
        try:
            import dask
            import distributed  # noqa: F401 - said here where it is missing
        except ImportError as error:
            raise UsageError(f"--cluster needs Dask: {INSTALL}") from error
        with ExitStack() as opened:  # closed here where the rest fails
            with dask.config.set({"distributed.scheduler.allowed-failures": DEATHS - 1}):
                own = self._start()
            if own is not None:
                opened.callback(own.close)
            self._client = self._connected(own)
            opened.callback(self._client.close)
            if own is None:
                self._let_retry(self._client)
            self._client.forward_logging("benchmark", logging.WARNING)
            for name in ("distributed", "distributed.client"):  # the second has a level of its own
                logging.getLogger(name).setLevel(logging.CRITICAL)  # a death is told of by its cell
            self._check(packages_here())
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._client = None

    def _start(self) -> Any:
        """Return a cluster of our own, or None for one that is there."""
        if self.place == "local":
            from distributed import LocalCluster

            return LocalCluster(
                n_workers=self.jobs, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1",
                silence_logs=logging.CRITICAL,
            )  # fmt: skip
        if is_recipe(self.place):
            return Recipe.read(Path(self.place)).start()
        return None

    def _connected(self, own: Any) -> Client:
        """Return a client of a cluster of our own, or of the one at the address.

        Raises:
            UsageError: it is no address, or nobody answers.
        """
        from distributed import Client

        if own is None:
            check_address(self.place)
        try:
            return Client(own or self.place, timeout=TIMEOUT, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"--cluster {self.place}: no Dask scheduler answers there ({type(error).__name__}); start one with "
                "'dask scheduler' and workers with 'dask worker ADDRESS --nthreads 1', or use --cluster local"
            ) from error

    def _let_retry(self, client: Client) -> None:
        """Let a scheduler that is not ours try a shard again as often as ours would.

        Raises:
            UsageError: it cannot read what it is sent.
        """
        try:
            client.run_on_scheduler(_allow_failures, DEATHS - 1)
        except Exception as error:  # of any type: what it meets where this program is missing or another
            raise UsageError(
                f"the Dask scheduler at {self.place} cannot run this program ({describe(error, _allow_failures)}): "
                "install the same version there and start it anew"
            ) from error

    @contextmanager
    def _while_connected(self) -> Iterator[None]:
        """Say where the scheduler ends inside the block: what Dask raises then depends on what it was doing.

        Raises:
            BenchmarkError: it has ended.
        """
        assert self._client is not None
        try:
            yield
        except BenchmarkError:
            raise
        except Exception as error:
            if self._client.status == "running" and not isinstance(error, CancelledError):
                raise
            raise BenchmarkError(
                f"--cluster {self.place}: the scheduler has ended ({type(error).__name__}); start it anew and run "
                "again, what is stored already is kept"
            ) from error

    def _check(self, packages: Mapping[str, str]) -> None:
        """Make sure that the workers which are there have the same packages; those that come are asked with each shard.

        Raises:
            UsageError: one has others.
        """
        assert self._client is not None
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            log.warning(f"--cluster {self.place}: no worker has come yet; shards wait for the first")
        if any(worker["nthreads"] > 1 for worker in workers.values()):
            log.warning("workers with several threads compute one shard at a time: start them with --nthreads 1")
        for address, answer in self._client.run(packages_here, on_error="return").items():
            if isinstance(answer, BaseException):
                raise UsageError(f"the worker {address} cannot run this program ({answer}): install it there")
            refuse_others(packages, answer, address)

    def compute(self, shards: Sequence[Shard], cells: Mapping[str, Unfinished]) -> Iterator[tuple[Shard, Result]]:
        """Compute shards of one task, and keep what they give as parts; see `Pool`.

        Of a learned method one shard is computed first, and the others with the explainer that was trained for it.

        Args:
            shards: of one task.
            cells: those that the shards are of, by key.

        Raises:
            UsageError: a worker has other packages than this process.
            BenchmarkError: the scheduler has ended, or an answer is damaged.
        """
        with self._while_connected():
            yield from self._computed(shards, cells)

    def _computed(self, shards: Sequence[Shard], cells: Mapping[str, Unfinished]) -> Iterator[tuple[Shard, Result]]:
        """See `compute`."""
        from distributed import as_completed

        assert self._client is not None
        task = self._task(shards[0])
        waiting: dict[str, list[Shard]] = defaultdict(list)
        running: dict[Future, Shard] = {}
        done = as_completed(loop=self._client.loop)

        def start(shard: Shard) -> None:
            parts = cells[shard.job.cell.key].parts
            explainers = self._client.submit(_itself, parts.explainers(), pure=False)  # type: ignore[union-attr]
            future = self._client.submit(  # type: ignore[union-attr]
                compute, self._order(shard, parts), task, explainers, pure=False, key=f"{shard.label} {time.time_ns()}"
            )
            running[future] = shard
            done.add(future)

        for shard in shards:
            key = shard.job.cell.key
            if not _is_learned(shard) or cells[key].parts.explainers() or key not in waiting:
                waiting.setdefault(key, [])
                start(shard)
            else:
                waiting[key].append(shard)
        self._started, self._forwards, self.progress = time.perf_counter(), 0.0, ""
        for future in done:
            shard = running.pop(future)
            key = shard.job.cell.key
            cell = cells[key]
            result = None if future.cancelled() else self._result(future, shard, cell.parts)
            result = cell.hopeless or result
            following = waiting.pop(key, [])
            for next_one in following if result is None else ():
                start(next_one)
            if isinstance(result, Record) and cell.hopeless is None:
                others = [each for each, other in running.items() if other.job.cell.key == key and not each.done()]
                self._client.cancel(others)
            self.progress = self._now(len(shards) - len(running) - sum(map(len, waiting.values())), len(shards))
            yield from ((each, result) for each in (() if result is None else following))
            yield shard, result

    def _result(self, future: Future, shard: Shard, parts: PartStore) -> Result:
        """Return what became of a shard, and keep what was computed.

        Raises:
            UsageError: a worker misses this program, or a package of the task or the method.
            BenchmarkError: the answer is damaged.
        """
        from distributed import KilledWorker

        try:
            answer = future.result()
        except KilledWorker as error:
            how = f"{shard.label}: killed {DEATHS} workers, the last {error.last_worker.address}: out of memory?"
            return Outcome(shard.job.cell, shard.job.choice.label, "failed", f"{how}; run again to try it again")
        except ImportError as error:
            raise UsageError(
                f"a worker cannot compute {shard.label} ({error}): install what it misses there"
            ) from error
        return self._taken(answer, shard, parts)

    def _taken(self, answer: Answer, shard: Shard, parts: PartStore) -> Record | None:
        """Keep what a worker computed."""
        self._forwards += answer.forwards
        if answer.explainers:
            parts.keep_explainers(answer.explainers)
            for place, content in answer.explainers.items():
                written_if_new(cache_folder() / place, content)
        if answer.part is None:
            return answer.failed
        parts.write(shard.rows, answer.part)
        if parts.read(shard.rows) is None:
            raise BenchmarkError(f"what a worker sent of {shard.label} is damaged: run again")
        return None

    def _task(self, shard: Shard) -> Future:
        """Return the task as bytes on the cluster. It is a result, not scattered data: it outlives any worker."""
        assert self._client is not None
        job = shard.job
        content = packed(task_for(job.cell, job.located, job.settings), included_from())
        return self._client.submit(_itself, content, pure=True)

    def _order(self, shard: Shard, parts: PartStore) -> Order:
        job = shard.job
        named = with_engine(job)
        paths = [*job.settings.included, *(Path(item.rpartition(":")[0]) for item in job.settings.task_files)]
        numbered = enumerate(dict.fromkeys(paths))  # files of two folders may have one name
        files = {f"{number}/{path.name}": path.read_text(encoding="utf-8") for number, path in numbered}
        packages = packages_here(named.settings.engine)
        return Order(replace(shard, job=named), parts.name(shard.rows), parts.identity, files, packages)

    def _now(self, done: int, shards: int) -> Progress:
        assert self._client is not None
        workers = len(self._client.scheduler_info(n_workers=-1)["workers"])
        return Progress(done, shards, workers, self._forwards / (time.perf_counter() - self._started))


def _is_learned(shard: Shard) -> bool:
    return METHODS.entry(shard.job.choice.name).facts.get("kind") == "learned"


def _allow_failures(failures: int, dask_scheduler: Any) -> None:
    """Set how many workers may die of a shard before a scheduler gives it up."""
    dask_scheduler.allowed_failures = failures


def _itself(value: Any) -> Any:
    return value
