"""Runs that are killed at random moments: resumed, they end with the records of a run that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.processes import ended
from tests.stress.runs import CELLS, Place, all_end, children, prepare

KILLED, STOPPED = "killed runs, resumed", "runs ended by SIGTERM, resumed"
WAYS = {
    "SIGKILL, one worker, any moment": (KILLED, 0.4),
    "SIGKILL at a write, before, within or after it": (KILLED, 0.3),
    "SIGKILL of the parent of two workers": (KILLED, 0.2),
    "SIGKILL of one of two workers": (KILLED, 0.1),
    "SIGTERM, one worker": (STOPPED, 0.1),
    "SIGTERM, two workers": (STOPPED, 0.1),
}
"""Where each way to end a run is reported, and how often it is tried for one kill that is asked for."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbs, how long it takes with one and two workers, and how many files it writes."""
    prepare()  # is no part of what is measured
    place = Place(tmp_path_factory.mktemp("whole"))
    counter = place.folder / "writes"
    took = {}
    for jobs in (2, 1):
        shutil.rmtree(place.folder)
        begun = time.monotonic()
        assert place.run(jobs=jobs, before=lambda: count_writes(counter)) == 0, place.stderr
        took[jobs] = time.monotonic() - begun
    assert not place.leftovers()
    return place, took, len(counter.read_bytes())


def count_writes(counter):
    real = os.fsync

    def counted(file):
        with counter.open("ab") as tally:
            tally.write(b"x")
        real(file)

    os.fsync = counted


def die_at_write(number, moment):
    """Kill this process at the `number`-th file it writes."""
    real_sync, real_replace, written = os.fsync, Path.replace, 0

    def sync(file):
        nonlocal written
        written += 1
        if written == number and moment == "before":
            os.truncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        real_sync(file)
        if written == number and moment == "within":
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(path, target):
        result = real_replace(path, target)
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    os.fsync, Path.replace = sync, replace


def one_kill(way, place, took, writes, rng, halfway):
    """Start a run and kill it; return whether it was still at work, and whether no process outlived it.

    With `halfway`, the moment is drawn from when a part of the work is there: workers take long to start.
    """
    jobs = 2 if "two" in way else 1
    if "at a write" in way:
        number, moment = rng.randint(1, writes), rng.choice(["before", "within", "after"])
        code = place.run(before=lambda: die_at_write(number, moment))
        return code == -signal.SIGKILL, True
    pid = place.start(jobs=jobs)
    end = time.monotonic() + took[jobs]
    while halfway and not place.half_done() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.2 if halfway else 1.0) * took[jobs])
    workers = children(pid)
    if "one of two" in way:
        end = time.monotonic() + took[2]
        while len(workers) < 2 and time.monotonic() < end:
            workers = children(pid)
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        code = ended(pid)
        assert code in (0, 1), place.stderr
        if code == 1:
            assert "its worker process died (signal 9: out of memory?)" in place.stderr
        assert "Traceback" not in place.stderr
        return code == 1, all_end(workers)
    number = signal.SIGTERM if "SIGTERM" in way else signal.SIGKILL
    os.kill(pid, number)
    code = ended(pid)
    if number == signal.SIGTERM:
        assert code in (130, 0, -signal.SIGTERM), (code, place.stderr)
        assert "Traceback" not in place.stderr
    return code != 0, all_end(workers)


@pytest.mark.parametrize("way", WAYS)
def test_kills_change_no_byte(way, whole, tmp_path, kills, figures):
    alone, took, writes = whole
    scores, records = alone.scores(), alone.records()
    assert len(scores) == CELLS
    group, share = WAYS[way]
    rng, count = random.Random(way), max(1, round(share * kills))
    at_work = partial = 0
    for index in range(count):
        place = Place(tmp_path / f"{index}")
        working, none_left = one_kill(way, place, took, writes, rng, halfway="two" in way and index % 2 == 1)
        half = place.half_done()
        at_work, partial = at_work + working, partial + half
        assert none_left, "a process outlived its parent"
        so_far = place.scores()
        assert {name: scores[name] for name in so_far} == so_far, "other scores"
        assert place.run() == 0, place.stderr
        assert "set aside" not in place.stderr
        assert place.scores() == scores
        assert place.records() == records
        assert not place.leftovers()
        figures.add(group, way, 1, 1, met=working, partial=half)
        shutil.rmtree(place.folder)
    if count >= 5:
        assert at_work >= 0.5 * count, "most kills have to meet a run at work"
        assert partial >= 0.2 * count, "many have to leave part of the work"


def test_several_kills_of_one_run(whole, tmp_path, kills, figures):
    """The same run, killed again and again until it is done."""
    alone, took, _ = whole
    rng = random.Random(2)
    for index in range(max(1, kills // 20)):
        place, times = Place(tmp_path / f"{index}"), 0
        while times < 12:
            pid = place.start()
            time.sleep(rng.uniform(0.1, 0.5) * took[1])
            os.kill(pid, signal.SIGKILL)
            times += 1
            if ended(pid) == 0:
                break
        assert place.run() == 0, place.stderr
        assert place.scores() == alone.scores()
        assert place.records() == alone.records()
        assert not place.leftovers()
        figures.add(KILLED, "the same run, again and again", times, times, met=times, partial=times)
        shutil.rmtree(place.folder)
