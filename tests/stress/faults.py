"""Disks that are full, folders that cannot be written, and several runs on one folder."""

from __future__ import annotations

import pwd
import resource
import shutil
import subprocess

import pytest

from tests.processes import ended
from tests.stress.runs import Place

GROUP = "disks and folders"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("whole"))
    assert place.run() == 0, place.stderr
    return place


@pytest.fixture
def disk():
    """Mount small file systems at folders of a test, or skip where that is not allowed; they are always unmounted."""
    mounted = []

    def mount(folder, *options):
        again = folder in mounted
        folder.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-o", ",".join(["remount"] * again + list(options)), "-t", "tmpfs", "tmpfs", str(folder)]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        if not again:
            mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_one_sentence(place, sentence):
    lines = [line for line in place.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, place.stderr
    assert sentence in lines[0]
    assert "Traceback" not in place.stderr


def check_complete(place, whole):
    assert place.run() == 0, place.stderr
    assert place.scores() == whole.scores()
    assert place.records() == whole.records()
    assert not place.leftovers()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_disk_of_results_is_full(share, jobs, whole, tmp_path, disk, figures):
    place = Place(tmp_path)
    needed = sum(4096 * -(-path.stat().st_size // 4096) for path in whole.out.rglob("*") if path.is_file())
    disk(place.out, f"size={int(share * needed)}")
    code = place.run(jobs=jobs)
    assert code == 1, "it has to be too small"
    check_one_sentence(place, "the disk is full; free some space and run again")
    assert not place.leftovers()
    disk(place.out, "size=50m")
    check_complete(place, whole)
    figures.add(GROUP, "full disk of results, then room", 1, 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_files_of_results_may_not_be_large(jobs, whole, tmp_path, figures):
    place = Place(tmp_path)
    shutil.copytree(whole.cache, place.cache)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    code = place.run(jobs=jobs, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit)))
    assert code == 1, place.stderr
    check_one_sentence(place, "the disk is full")
    check_complete(place, whole)
    figures.add(GROUP, "size of files limited, then not", 1, 1)


@pytest.mark.parametrize("size", ["8k", "40k", "200k"])
def test_the_disk_of_the_cache_is_full(size, whole, tmp_path, disk, figures):
    place = Place(tmp_path)
    disk(place.cache, f"size={size}")
    assert place.run() == 0, place.stderr
    assert "cannot be written (no space left on device)" in place.stderr
    assert "Traceback" not in place.stderr
    assert place.scores() == whole.scores()
    figures.add(GROUP, "full disk of the cache", 1, 1)


def test_results_on_a_read_only_disk(tmp_path, disk, figures):
    place = Place(tmp_path)
    disk(place.out, "size=1m")
    disk(place.out, "ro")
    assert place.run() == 2
    check_one_sentence(place, "cannot write to --out")
    figures.add(GROUP, "read-only disk of results", 1, 1)


@pytest.mark.parametrize("complete", [True, False])
def test_the_cache_on_a_read_only_disk(complete, whole, tmp_path, disk, figures):
    place = Place(tmp_path)
    disk(place.cache, "size=50m")
    if complete:
        shutil.copytree(whole.cache, place.cache, dirs_exist_ok=True)
    disk(place.cache, "ro")
    assert place.run() == 0, place.stderr
    assert "Traceback" not in place.stderr
    assert ("cannot be written" in place.stderr) is not complete
    assert place.scores() == whole.scores()
    figures.add(GROUP, "read-only disk of the cache", 1, 1)


def nobody(_number):
    raise KeyError("no such user")


def no_user():
    pwd.getpwuid = nobody


@pytest.mark.parametrize("how", ["file", "none"])
def test_no_home(how, whole, tmp_path, figures):
    place = Place(tmp_path)
    (tmp_path / "file").touch()
    home = str(tmp_path / "file") if how == "file" else None
    environment = {"HOME": home, "BENCHMARK_CACHE": None, "XDG_CACHE_HOME": None}
    code = place.run(environment=environment, before=no_user)
    assert code == 0, place.stderr
    assert ("cannot be written" in place.stderr) is (how == "file")
    assert place.scores() == whole.scores()
    figures.add(GROUP, "no home folder", 1, 1)


@pytest.mark.parametrize("count", [6])
def test_runs_on_one_folder(count, whole, tmp_path, kills, figures):
    for index in range(max(1, kills // 20)):
        place = Place(tmp_path / f"{index}")
        pids = [place.start(jobs=1 + number % 2) for number in range(count)]
        assert [ended(pid) for pid in pids] == [0] * count, place.stderr
        assert place.scores() == whole.scores()
        assert place.records() == whole.records()
        assert not place.leftovers()
        figures.add("together", f"{count} runs on one empty folder and cache", 1, 1)
