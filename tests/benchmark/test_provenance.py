"""What tasks and records say of where things come from: typed, checked, and honest about what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmark.core.errors import RecordError
from benchmark.core.provenance import UNKNOWN, DataProvenance, ModelProvenance, Provenance, shown
from benchmark.core.types import Task
from benchmark.records.provenance import Environment, Packing, RecordProvenance, environment
from tests import toys

STORED = {
    "data": {"digest": "9d37", "licence": "CC BY 4.0", "name": "nap", "origin": "nap.csv", "test_rows": 456,
             "train_rows": 1822},
    "environment": {"code": "3b5f", "commit": "9792", "cpus": 2, "device": "cpu", "threads": 1,
                    "created": "2026-11-25T18:17:32+00:00", "difference": 0.0, "engine": "eager",
                    "peak_bytes": 996761600, "platform": "Linux",
                    "versions": {"torch": "2.14.1"}},
    "model": {"accuracy": 0.717, "balanced_accuracy": 0.709, "digest": "4897", "floor": 0.62, "predicted_classes": 2,
              "recipe": {"width": 64, "features": ["a", "b"]}, "weak": False, "accuracy_50%_removed": 0.6},
    "packing": {"byte_budget": 8388608, "halvings": 0, "rows_per_forward": 10180},
}  # fmt: skip
"""As a record holds it."""


def test_what_a_record_stores_is_read_and_written_alike():
    back = RecordProvenance.from_plain(STORED)
    assert back.data.train_rows == 1822
    assert back.model.measures == {"accuracy_50%_removed": 0.6}
    assert back.environment.versions == {"torch": "2.14.1"}
    assert back.packing == Packing(10180, 8388608, 0)
    assert back.traceback == ""
    assert json.loads(json.dumps(back.plain())) == STORED


def test_what_nobody_said_is_unknown_and_is_not_stored():
    nothing = RecordProvenance.from_plain({})
    assert nothing == RecordProvenance()
    assert {nothing.data.origin, nothing.model.digest, nothing.environment.device} == {UNKNOWN}
    assert nothing.model.accuracy is None
    assert nothing.plain() == {"model": {"weak": False}, "environment": {"engine": "eager", "difference": 0.0}}
    assert shown(nothing.model.accuracy) == UNKNOWN
    assert shown(0.5) == "0.500"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data": {"train_rows": "many"}}, "DataProvenance: train_rows is 'many', expected a whole number or nothing"),
        ({"data": {"origin": 3}}, "DataProvenance: origin is 3, expected text"),
        ({"data": {"colour": "red"}}, "no DataProvenance says anything called 'colour'"),
        ({"data": "nap"}, "data is 'nap', expected names and values"),
        ({"model": {"accuracy": True}}, "ModelProvenance: accuracy is True, expected a number or nothing"),
        ({"model": {"accuracy": float("nan")}}, "ModelProvenance: accuracy is nan, expected a number or nothing"),
        ({"model": {"weak": 1}}, "ModelProvenance: weak is 1, expected true or false"),
        ({"model": {"recipe": []}}, r"ModelProvenance: recipe is \[\], expected names and values"),
        ({"environment": {"versions": "2.1"}}, "Environment: versions is '2.1', expected names and values"),
        ({"packing": {"halvings": 0.5}}, "Packing: halvings is 0.5, expected a whole number or nothing"),
        ({"traceback": 7}, "RecordProvenance: traceback is 7, expected text"),
        ({"mood": "good"}, "provenance: no record says anything called 'mood'"),
    ],
)
def test_a_value_of_another_type_is_refused_in_a_sentence(change, sentence):
    with pytest.raises(RecordError, match=sentence):
        RecordProvenance.from_plain(STORED | change)


def test_a_whole_number_is_a_number():
    assert ModelProvenance(accuracy=1).accuracy == 1
    assert type(ModelProvenance(accuracy=np.float32(0.5)).accuracy) is float


def test_this_process_says_all_of_itself():
    now = environment("cpu", "openvino", 1e-7)
    assert None not in (now.cpus, now.threads, now.peak_bytes)
    assert UNKNOWN not in (now.created, now.code, now.platform)
    assert {"python", "torch", "numpy"} <= now.versions.keys()
    assert (now.device, now.engine, now.difference) == ("cpu", "openvino", 1e-7)
    assert Environment(**vars(now)) == now


def test_a_task_says_nothing_of_itself_unless_told():
    assert toys.table().provenance == Provenance(DataProvenance(), ModelProvenance())


def test_a_task_with_another_kind_of_provenance_is_refused():
    with pytest.raises(TypeError, match="the provenance of toy is a dict, expected a Provenance"):
        Task(**vars(toys.table()) | {"provenance": {"data": {"origin": "here"}}})
