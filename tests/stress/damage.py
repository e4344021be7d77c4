"""One bit flipped in each kind of stored file: the next run gives the same scores."""

from __future__ import annotations

import os
import random
import shutil
import signal
from dataclasses import dataclass

import pytest

from tests.stress.runs import METHODS, Place

DEEPFAITH = "deepfaith[iterations=6,rows=30,priors=quick]"
EVERY = f"{METHODS},{DEEPFAITH}"


@dataclass(frozen=True)
class Kind:
    """Where files of a kind are; what has to be away so that they are read; which methods read them."""

    files: str
    away: tuple[str, ...] = ()
    methods: str = METHODS


KINDS = {
    "weights of the model": Kind("cache/models/*.safetensors", ("out",), "saliency,random"),
    "decoded data": Kind("cache/data/*.safetensors", ("out",), "saliency,random"),
    "shared answers": Kind("cache/shared/*.safetensors", ("out",), "saliency,random"),
    "explainers": Kind("cache/explainers/[cf]*.safetensors", ("out",)),
    "explanations to learn from": Kind(
        "cache/explanations/*/[sio]*.safetensors", ("out", "cache/explainers"), DEEPFAITH
    ),
    "run.json": Kind("out/s*/*/*/run.json", methods=EVERY),
    "scores.parquet": Kind("out/s*/*/*/scores.parquet", methods=EVERY),
    "examples.json": Kind("out/s*/*/*/examples.json", methods=EVERY),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("whole"))
    assert place.run(methods=EVERY) == 0, place.stderr
    return place


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def remove(place, away):
    for name in away:
        shutil.rmtree(place.folder / name, ignore_errors=True)


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_changes_no_score(name, whole, tmp_path, kills, figures):
    kind, rng = KINDS[name], random.Random(name)
    scores, records = whole.scores(), whole.records()
    for _ in range(max(2, round(0.4 * kills))):
        place = Place(tmp_path / "damaged")
        shutil.copytree(whole.folder, place.folder)
        path = rng.choice(sorted(place.folder.glob(kind.files)))
        flip(path, rng)
        remove(place, kind.away)
        assert place.run(methods=kind.methods) == 0, place.stderr
        resumed = place.scores()
        assert resumed, name
        assert resumed == {key: scores[key] for key in resumed}, f"{path}: other scores"
        assert place.records() == {key: records[key] for key in resumed}, path
        named = "set aside as" in place.stderr
        figures.add("one flipped bit", name, 1, 1, named=named)
        assert named, f"{path}: nothing names it"
        shutil.rmtree(place.folder)


def die_at_checkpoint(number):
    """Kill this process when it has written its `number`-th checkpoint."""
    from benchmark.learning import fitting

    fitting.CHECKPOINT_SECONDS = 0.0
    real, written = fitting.store, 0

    def store(path, content):
        nonlocal written
        real(path, content)
        written += path.suffix == ".pt"
        if written == number:
            os.kill(os.getpid(), signal.SIGKILL)

    fitting.store = store


def test_a_flipped_bit_of_a_checkpoint_changes_no_score(whole, tmp_path, kills, figures):
    scores, records, rng = whole.scores(), whole.records(), random.Random(0)
    for index in range(max(2, round(0.4 * kills))):
        place = Place(tmp_path / "damaged")
        shutil.copytree(whole.folder, place.folder)
        remove(place, ("out", "cache/explainers"))
        methods = METHODS.split(",", 3)[3]  # the two that learn
        number = 1 + index % 3
        assert place.run(methods=methods, before=lambda n=number: die_at_checkpoint(n)) == -signal.SIGKILL
        (path,) = place.cache.glob("explainers/*.pt")
        flip(path, rng)
        assert place.run(methods=methods) == 0, place.stderr
        resumed = place.scores()
        assert len(resumed) == 2
        assert resumed == {key: scores[key] for key in resumed}
        assert place.records() == {key: records[key] for key in resumed}
        assert "is damaged" in place.stderr
        figures.add("one flipped bit", "checkpoints", 1, 1, named=1)
        shutil.rmtree(place.folder)
