"""What a worker of a cluster does: computes a shard of a task that came to it as bytes. It reads no file of the driver.

What travels between driver and workers is pickled, as all is that Dask sends: who can reach a scheduler can run code on
its workers.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from benchmark.core.errors import RecordError, UsageError
from benchmark.core.registry import forget_file, included
from benchmark.core.sources import cache_folder
from benchmark.core.store import used_meanwhile, written
from benchmark.core.types import METHODS
from benchmark.records.provenance import code_digest, versions
from benchmark.records.record import Record
from benchmark.running.built import give
from benchmark.running.parts import content_of
from benchmark.running.record_making import failed_record, make_part, unstorable
from benchmark.running.settings import prepare_worker
from benchmark.scheduling.shards import Shard

if TYPE_CHECKING:
    from benchmark.core.types import Task

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads computes one shard at a time: random generators and engines are of a process."""


@dataclass(frozen=True)
class Order:
    """A shard to compute, with what the driver alone knows.

    Attributes:
        shard: which.
        name: of the file that keeps the part, which says it of itself.
        identity: digests of what the driver would compute it from.
        files: Python files that were included, by a path of their own: their text.
        packages: versions that the worker must have, by name.
    """

    shard: Shard
    name: str
    identity: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What became of a shard.

    Attributes:
        part: the content of the file that keeps it; None where it failed.
        failed: the record that it ends its cell with, where it failed.
        explainers: files of explainers that it needed and was not sent, by their place in the cache.
        forwards: rows that were asked of the model.
    """

    part: bytes | None = None
    failed: Record | None = None
    explainers: dict[str, bytes] = field(default_factory=dict)
    forwards: float = 0


def packages_here(engine: str = "") -> dict[str, str]:
    """Return the versions that a driver and its workers must share, this program's source among them."""
    found = versions() | {"this program": code_digest()[:12]}
    return {name: version for name, version in found.items() if name != "python"} | _python() | _engine(engine)


def _python() -> dict[str, str]:
    return {"python": ".".join(versions()["python"].split(".")[:2])}


def _engine(name: str) -> dict[str, str]:
    """Return the version of the package of an engine, empty where it is not installed."""
    from benchmark.engines.choosing import PACKAGES, version_of

    return {package: version_of(package) for package in PACKAGES.get(name, ())}


def refuse_others(expected: Mapping[str, str], here: Mapping[str, str], worker: str) -> None:
    """Make sure that a worker has the versions that the driver has.

    Raises:
        UsageError: it has not.
    """
    for name, version in expected.items():
        if here.get(name) != version:
            raise UsageError(
                f"the worker {worker} has {name} {here.get(name) or 'missing'}, and this process {version}: install "
                "the same there"
            )


def packed(task: Task, modules: tuple[ModuleType, ...] = ()) -> bytes:
    """Return a task as bytes, with the classes of `modules`, which no worker can import."""
    import cloudpickle
    import torch

    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        content = io.BytesIO()
        torch.save(task, content, pickle_module=cloudpickle)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return content.getvalue()


def unpacked(content: bytes, device: str) -> Task:
    """Return the task that `packed` gave, on a device."""
    import torch

    return torch.load(io.BytesIO(content), map_location=device, weights_only=False)


def compute(order: Order, task: bytes, explainers: Mapping[str, bytes]) -> Answer:
    """Compute a shard.

    Args:
        order: which, and how.
        task: what `packed` gave.
        explainers: what an earlier shard of the cell trained.

    Raises:
        UsageError: this worker has other versions, or computes from something else than the driver.
    """
    with _ONE_AT_A_TIME:
        worker = _worker()
        job = order.shard.job
        refuse_others(order.packages, packages_here(job.settings.engine), worker)
        job = replace(job, settings=replace(job.settings, included=(), task_files=()))
        prepare_worker(job.settings)
        _include(order.files)
        _use_own_gpu(job.settings.device)
        give(job.cell, job.located, job.settings, lambda device: unpacked(task, device), _digest(task))
        for place, content in explainers.items():
            written(cache_folder() / place, content)  # one that this worker trained itself may be another
        with used_meanwhile("explainers") as used:
            part = make_part(job, order.shard.rows)
        places = {path.relative_to(cache_folder()).as_posix(): path for path in used if path.is_file()}
        kept = {place: path.read_bytes() for place, path in places.items() if place not in explainers}
        if part.evaluation is None:
            return Answer(failed=part.record, explainers=kept)
        part = replace(part, record=replace(part.record, identity=_same(part.record.identity, order, worker)))
        forwards = sum(cost["forwards"] for cost in part.record.costs.values())
        try:
            return Answer(content_of(part, order.name), explainers=kept, forwards=forwards)
        except (ValueError, TypeError, RecordError) as error:
            return Answer(failed=failed_record(part.record, unstorable(error)), explainers=kept)


def _same(identity: dict[str, str], order: Order, worker: str) -> dict[str, str]:
    """Return the driver's digests, which are this worker's too, but for the code of a file that was included.

    Raises:
        UsageError: another digest differs.
    """
    from_file = METHODS.entry(order.shard.job.choice.name).module.startswith(included(""))
    for name, digest in order.identity.items():
        if identity.get(name) != digest and not (name == "code" and from_file):
            raise UsageError(
                f"the worker {worker} computes {order.shard.job.cell.label} from another {name}: start it anew with "
                "the same version of this program and of the packages that the task and the method come from"
            )
    return order.identity


_included: dict[str, str] = {}
"""Files of the driver that are included now, as `Order.files`."""


@cache
def _folder() -> Path:
    """Return where files of drivers are on this machine, for as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="benchmark-included-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _include(files: Mapping[str, str]) -> None:
    """Include files of the driver, in the place of those of an earlier one."""
    if files == _included:
        return
    for name in _included:
        forget_file(_folder() / name)
    _included.clear()
    for name, text in files.items():
        (_folder() / name).parent.mkdir(exist_ok=True)
        (_folder() / name).write_text(text, encoding="utf-8")
    for name in files:
        METHODS.include(_folder() / name)
    _included.update(files)


@lru_cache(maxsize=4)
def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _worker() -> str:
    """Return the name of this worker, or of this process where it is none."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return f"of process {os.getpid()}"


def _use_own_gpu(device: str) -> None:
    """Let the workers of a machine, which Dask numbers, take its GPUs in turn."""
    import torch
    from distributed import get_worker

    if device == "cuda" and torch.cuda.device_count() > 1:
        name = str(get_worker().name)
        torch.cuda.set_device(int(name) % torch.cuda.device_count() if name.isdecimal() else 0)
