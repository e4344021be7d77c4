"""Engines answer as the model does, wherever they are used, and none that does not is used."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import subprocess
import sys
import types
import weakref
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch.autograd import forward_ad

from benchmark.cli.parser import main
from benchmark.core.errors import UsageError
from benchmark.core.identity import model_digest
from benchmark.core.sources import Sources
from benchmark.core.types import TASKS, Split
from benchmark.engines import choosing
from benchmark.engines.choosing import equip
from benchmark.engines.installed import uninstall
from benchmark.engines.names import ENGINES
from benchmark.models.metering import Meter
from benchmark.records.provenance import Environment, RecordProvenance
from benchmark.running.built import forget_tasks
from benchmark.running.presets import PRESETS
from benchmark.scoring.evaluator import Evaluator
from tests import toys

EXPORTING = ("onnxruntime", "openvino")
WALKED_TOO = ("compile",) if os.environ.get("BENCHMARK_WALK_COMPILE") else ()  # `tox -e engines`: a minute a task


def needs(engine):
    for package in choosing.PACKAGES.get(engine, ()):
        pytest.importorskip(package)


def in_32_bits(modality):
    """Return a toy as tasks are: engines need not know models of 64 bits."""
    task = toys.TASKS[modality]()
    x = task.test.x if modality == "text" else task.test.x.float()
    return replace(task, model=task.model.float(), train=Split(x, task.train.y), test=Split(x, task.test.y))


def fake(monkeypatch, change, name="fake"):
    """Register an engine that gives the model's logits, changed."""
    module = types.ModuleType("tests.fake_engine")
    module.asked = 0

    def build(exported, rows, precision):
        def forward(x):
            module.asked += len(x)
            return change(exported.module.forward(x))

        return forward

    module.build = build
    monkeypatch.setitem(sys.modules, "tests.fake_engine", module)
    monkeypatch.setitem(ENGINES, name, "tests.fake_engine")
    monkeypatch.setitem(choosing.WORTH["cpu"], name, 0.0)
    return module


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Where no choice of an engine is remembered."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("engine", ["channels_last", *EXPORTING])
@pytest.mark.parametrize("modality", toys.TASKS)
def test_an_engine_answers_as_the_model_for_any_number_of_rows(engine, modality):
    needs(engine)
    task = in_32_bits(modality)
    if engine == "channels_last" and modality != "image":
        with pytest.raises(UsageError, match="is for images"):
            equip(task, engine)
        return
    with torch.no_grad():
        expected = task.model(task.test.x)
    assert equip(task, engine).difference < 1e-5
    with torch.no_grad():
        for rows in (1, 2, 5, len(expected)):
            assert torch.allclose(task.model(task.test.x[:rows]), expected[:rows], atol=1e-5)


def test_only_what_an_engine_gives_is_asked_of_it(monkeypatch):
    module = fake(monkeypatch, lambda logits: logits)
    task = toys.image()
    equip(task, "fake")
    module.asked, x = 0, task.test.x
    task.model(x.clone().requires_grad_()).sum().backward()
    assert module.asked == 0, "gradients"
    with torch.no_grad():
        task.model(x.float().double())
        assert module.asked == len(x)
        seen = []
        hook = task.model[0].register_forward_hook(lambda *_: seen.append(1))
        task.model(x)
        hook.remove()
        assert (seen, module.asked) == ([1], len(x)), "a layer"
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
            task.model(x.float())  # by the model itself, which is of float64
        assert module.asked == len(x)
        meter = Meter()
        with meter.phase("asking", task.model):
            task.model(x)
            assert module.asked == 2 * len(x)
        assert meter.phases["asking"].forwards == len(x)
        copied = copy.deepcopy(task.model)
        copied(x)
        assert module.asked == 2 * len(x), "a copy is another model"


def test_16_bits_of_another_kind_are_not_asked_of_an_engine(monkeypatch):
    module = fake(monkeypatch, lambda logits: logits)
    task = in_32_bits("image")
    equip(task, "fake", "bf16")
    with torch.no_grad():
        module.asked = 0
        with torch.autocast("cpu", torch.float16):
            task.model(task.test.x)
        assert module.asked == 0
        with torch.autocast("cpu", torch.bfloat16):
            task.model(task.test.x)
        assert module.asked == len(task.test.x)


def zeroed(model):
    """Take the model's weights away for a while."""
    before = [weight.detach().clone() for weight in model.parameters()]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    yield
    with torch.no_grad():
        for weight, content in zip(model.parameters(), before, strict=True):
            weight.copy_(content)


def replaced(model):
    """Let other tensors be the model's weights for a while."""
    weight = model[0].weight
    model[0].weight = torch.nn.Parameter(torch.zeros_like(weight))
    yield
    model[0].weight = weight


def in_training(model):
    """Put a layer into training mode for a while."""
    model[-1].train()
    yield
    model[-1].eval()


@pytest.mark.parametrize("change", [zeroed, replaced, in_training])
def test_a_model_that_is_changed_for_a_while_answers_by_itself(monkeypatch, change):
    module = fake(monkeypatch, lambda logits: logits)
    task = toys.image()
    equip(task, "fake")
    module.asked = 0
    changing = contextlib.contextmanager(change)
    with torch.no_grad():
        with changing(task.model):
            task.model(task.test.x)
        assert module.asked == 0


def test_weights_given_for_one_call_are_used(monkeypatch):
    module = fake(monkeypatch, lambda logits: logits)
    task = toys.image()
    equip(task, "fake")
    module.asked = 0
    zeros = {name: torch.zeros_like(weight) for name, weight in task.model.named_parameters()}
    with torch.no_grad():
        assert torch.func.functional_call(task.model, zeros, (task.test.x,)).eq(0).all()
        assert module.asked == 0
        task.model(task.test.x)
        assert module.asked == len(task.test.x), "its own weights are back, and nobody wrote to them"


def test_derivatives_that_are_taken_forward_are_of_the_model_itself():
    task = in_32_bits("image")
    x, v = task.test.x, torch.ones_like(task.test.x)
    expected = torch.func.jvp(task.model.forward, (x,), (v,))[1]
    equip(task, "channels_last")
    with torch.no_grad():
        assert torch.allclose(torch.func.jvp(task.model, (x,), (v,))[1], expected)
        with forward_ad.dual_level():
            found = forward_ad.unpack_dual(task.model(forward_ad.make_dual(x, v))).tangent
        assert torch.allclose(found, expected)
        alone = torch.func.vmap(lambda each: task.model(each.unsqueeze(0))[0])(x)
        assert torch.allclose(alone, task.model.forward(x), atol=1e-6)


@pytest.mark.parametrize("engine", ["channels_last", *EXPORTING, pytest.param("compile", marks=pytest.mark.slow)])
def test_an_engine_ends_with_its_task(engine):
    """At once, and not when garbage is collected next: what it holds may be as large as the model."""
    needs(engine)
    task = in_32_bits("image")
    layout = task.model[0].weight.stride()
    equip(task, engine)
    assert task.model[0].weight.stride() == layout, "the model's own weights lie as they did"
    installed = weakref.ref(task.model._compiled_call_impl)
    gc.disable()
    try:
        assert installed() is not None
        del task
        assert installed() is None
    finally:
        gc.enable()


SIGNALLED = """
import os, signal, time
from benchmark.engines.choosing import equip
from tests.benchmark.test_engines import in_32_bits

signal.signal(signal.SIGINT, lambda *_: print("received"))
tasks = [in_32_bits(modality) for modality in ("table", "image")]
for task in tasks:
    equip(task, "openvino")
while tasks:
    del task
    task = tasks.pop(0)
del task
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
"""


def test_a_process_can_be_interrupted_after_its_engines_have_ended():
    needs("openvino")
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "received\n"), done.stderr


def test_hooks_on_a_model_do_what_they_do_without_an_engine(monkeypatch):
    fake(monkeypatch, lambda logits: logits)
    task = toys.image()
    with torch.no_grad():
        expected = task.model(task.test.x)
        equip(task, "fake")
        doubling = task.model.register_forward_hook(lambda _module, _inputs, logits: 2 * logits)
        assert torch.equal(task.model(task.test.x), 2 * expected)
        doubling.remove()
        seen = []
        hook = task.model.register_forward_hook(lambda *given: seen.append(len(given)), with_kwargs=True)
        assert torch.equal(task.model(task.test.x), expected)
        hook.remove()
        hook = torch.nn.modules.module.register_module_forward_hook(lambda *given: seen.append(len(given)))
        task.model(task.test.x)
        hook.remove()
        assert seen == [4] + [3] * len(list(task.model.modules()))


def test_the_digest_of_a_model_is_without_its_engine(monkeypatch):
    fake(monkeypatch, lambda logits: logits)
    task = toys.table()
    before = model_digest(task.model, [task.test.x])
    equip(task, "fake")
    assert model_digest(task.model, [task.test.x]) == before


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("change", [
    lambda logits: logits + 1e-3 * torch.arange(3), lambda logits: logits * torch.nan, lambda logits: logits[:, :2],
])  # fmt: skip
def test_an_engine_that_answers_otherwise_is_refused(monkeypatch, change):
    fake(monkeypatch, change)
    task = toys.table()
    with pytest.raises(UsageError, match=r"^toy: fake gives .* expected at most 1e-05; use auto or eager$"):
        equip(task, "fake")
    assert task.model._compiled_call_impl is None
    assert equip(task, "auto").name == "eager"


@pytest.mark.usefixtures("own_cache")
def test_an_engine_that_cannot_run_a_model_is_refused_and_auto_goes_on(monkeypatch):
    def broken(logits):
        raise RuntimeError("no such operator")

    fake(monkeypatch, broken)
    task = toys.table()
    with pytest.raises(UsageError, match="fake cannot run Sequential: RuntimeError: no such operator"):
        equip(task, "fake")
    found = equip(task, "auto")
    assert (found.name, found.difference, set(found.milliseconds)) == ("eager", 0.0, {"eager"})


@pytest.mark.usefixtures("own_cache")
def test_auto_takes_the_fastest_and_remembers_it(monkeypatch):
    module = fake(monkeypatch, lambda logits: logits)
    monkeypatch.setattr(choosing, "seconds_of", lambda forward, rows, repeats: 1.0 if "Trial" in repr(forward) else 0.5)
    for name in ("channels_last", *EXPORTING, "compile"):
        monkeypatch.setitem(choosing.WORTH["cpu"], name, float("inf"))
    task = toys.table()
    first = equip(task, "auto")
    assert (first.name, set(first.milliseconds)) == ("fake", {"fake", "eager"})
    monkeypatch.setattr(choosing.Trial, "choose", lambda self: pytest.fail("it was chosen before"))
    module.asked = 0
    assert equip(task, "auto") == first
    with torch.no_grad():
        task.model(task.test.x)
    assert module.asked > len(task.test.x), "it was compared again, and asked"
    uninstall(task.model)


@pytest.mark.usefixtures("own_cache")
def test_a_remembered_engine_that_answers_otherwise_by_now_is_not_used(monkeypatch, caplog):
    module = fake(monkeypatch, lambda logits: logits)
    made = ({}, {"name": "fake", "difference": 0.0, "milliseconds": {"fake": 1.0, "eager": 2.0}})
    monkeypatch.setattr(choosing.Trial, "choose", lambda self: made)
    task = toys.table()
    assert equip(task, "auto").name == "fake"
    build = module.build
    monkeypatch.setattr(module, "build", lambda *given: lambda x: build(*given)(x) + 1e-3 * torch.arange(3))
    assert equip(task, "auto") == choosing.Engine("eager", 0.0, {"fake": 1.0, "eager": 2.0})
    assert task.model._compiled_call_impl is None
    assert "toy: fake gives probabilities" in caplog.text
    assert "the model answers by itself" in caplog.text


@pytest.mark.usefixtures("own_cache")
def test_the_difference_of_a_remembered_engine_is_that_of_now(monkeypatch):
    fake(monkeypatch, lambda logits: logits + 1e-6 * torch.arange(3))
    monkeypatch.setattr(choosing.Trial, "choose", lambda self: ({}, {"name": "fake", "difference": 0.0}))
    assert 1e-8 < equip(toys.table(), "auto").difference < 1e-6


@pytest.mark.usefixtures("own_cache")
def test_shared_answers_of_one_engine_are_not_taken_for_those_of_another(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fake(monkeypatch, lambda logits: logits + 1e-6 * torch.arange(logits.shape[1]))
    words = ["run", "--task", "nap_mlp", "--source", "synthetic", "--methods", "saliency", "--preset", "quick",
             "--jobs", "1", "--limit", "10"]  # fmt: skip
    scores = {}
    forgetful = types.SimpleNamespace(path=lambda *_: None, get=lambda _, make: make())
    monkeypatch.setattr(choosing, "CHOSEN", forgetful)
    for out, engine in {"fake": "fake", "auto": "eager"}.items():
        monkeypatch.setattr(choosing.Trial, "choose", lambda self, engine=engine: ({}, {"name": engine}))
        forget_tasks()
        assert main([*words, "--engine", "auto", "--out", out]) == 0
        scores[out] = next((tmp_path / out).rglob("scores.parquet")).read_bytes()
    forget_tasks()
    assert main([*words, "--engine", "eager", "--out", "eager"]) == 0
    scores["eager"] = next((tmp_path / "eager").rglob("scores.parquet")).read_bytes()
    assert scores["fake"] != scores["eager"]
    assert scores["auto"] == scores["eager"]


@pytest.mark.usefixtures("own_cache")
def test_an_engine_that_is_not_installed_is_said(monkeypatch, capsys):
    monkeypatch.setattr(choosing, "find_spec", lambda name: None)
    words = ["run", "--task", "nap_mlp", "--source", "synthetic", "--methods", "random", "--preset", "quick"]
    assert main([*words, "--engine", "openvino"]) == 2
    assert "the engine openvino needs openvino: pip install 'deepfaith-benchmark[openvino]'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*words, "--engine", "tensorrt"])
    assert ended.value.code == 2
    assert main([*words, "--engine", "auto"]) == 0


def test_a_record_says_what_answered(tmp_path, monkeypatch, capsys):
    fake(monkeypatch, lambda logits: logits + 1e-7 * torch.arange(logits.shape[1]))
    monkeypatch.chdir(tmp_path)
    words = ["run", "--task", "nap_mlp", "--source", "synthetic", "--methods", "random", "--preset", "quick"]
    monkeypatch.setattr("benchmark.cli.arguments.CHOICES", ("auto", "eager", "fake"))
    assert main([*words, "--engine", "fake", "--jobs", "1"]) == 0
    said = json.loads(next(tmp_path.glob("results/**/run.json")).read_text())["provenance"]["environment"]
    assert said["engine"] == "fake"
    assert 0 < said["difference"] < 1e-6
    assert main([*words, "--engine", "eager"]) == 0
    assert "1 kept" in capsys.readouterr().out, "another engine is no reason to compute it again"


def test_evaluate_lets_an_engine_answer_and_leaves_the_model_as_it_was(monkeypatch):
    import benchmark as fb

    module = fake(monkeypatch, lambda logits: logits)
    monkeypatch.setattr(choosing, "CHOICES", ("auto", "eager", "fake"))
    model = torch.nn.Linear(4, 3)
    task = fb.task(model, torch.randn(5, 4), background=torch.randn(20, 4))
    given = {"mine": torch.randn(5, 4), "lime": fb.method("lime", n_samples=20)}
    eager = fb.evaluate(task, given)
    assert module.asked == 0
    found = fb.evaluate(task, given, engine="fake")
    assert module.asked > 0
    assert model._compiled_call_impl is None
    assert all(found.scores[name].equals(scores) for name, scores in eager.scores.items())
    assert {record.provenance.environment.engine for record in found.records} == {"fake"}
    with pytest.raises(UsageError, match="no engine 'fakes'; did you mean 'fake'"):
        fb.evaluate(task, given, engine="fakes")


def test_a_model_that_somebody_compiled_stays_so(monkeypatch):
    module = fake(monkeypatch, lambda logits: logits)
    task, asked = toys.table(), []

    def compiled(x):
        asked.append(x)
        return task.model._call_impl(x)

    task.model._compiled_call_impl = compiled
    equip(task, "fake")
    module.asked = 0
    with torch.no_grad():
        task.model(task.test.x)
        assert (module.asked, len(asked)) == (len(task.test.x), 0)
        equip(task, "eager")
        task.model(task.test.x)
    assert len(asked) == 1


def test_records_of_before_say_it_in_their_words():
    said = RecordProvenance.from_plain({"environment": {"compiled": True, "device": "cpu"}})
    assert said.environment == Environment(device="cpu", engine="compile")
    assert RecordProvenance.from_plain({"environment": {"compiled": False}}).environment == Environment()


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS.discover("benchmark.tasks") or TASKS.names())
def test_scores_of_every_engine_are_those_of_eager_on_every_stand_in(name):
    task = TASKS.get(name)().build(TASKS.get(name)().locate(Sources("synthetic")), name, "cpu")
    task = replace(task, budget=PRESETS["quick"].budget(task.budget))
    samples = list(range(4))
    attributions = torch.rand(len(samples), task.n_features, generator=torch.Generator().manual_seed(0))
    expected = Evaluator(task, 0, samples).score(attributions).scores
    for engine in ("channels_last", *EXPORTING, *WALKED_TOO):
        if not all(map(find_spec, choosing.PACKAGES.get(engine, ()))):
            continue
        if engine == "channels_last" and task.modality != "image":
            with pytest.raises(UsageError, match="is for images"):
                equip(task, engine)
            continue
        assert equip(task, engine).difference <= 1e-5
        found = Evaluator(task, 0, samples).score(attributions).scores
        for metric, scores in expected.items():
            torch.testing.assert_close(
                found[metric], scores, atol=1e-5, rtol=0, equal_nan=True, msg=f"{engine} {metric}"
            )
