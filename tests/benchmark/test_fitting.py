"""The loop that fits explainers: the best weights, early stopping, and a kill that changes nothing."""

from __future__ import annotations

import random
import time

import pytest
import torch
from torch import nn

from benchmark.core.errors import BenchmarkError
from benchmark.core.seeding import seeded
from benchmark.learning import fitting
from benchmark.learning.fitting import DivergedError, Fitting, fit
from benchmark.models.metering import Meter


class Line:
    """Fits a linear module with dropout to a line, drawing from both generators."""

    def __init__(self, module, poison=None, losses=None):
        self.module, self.poison, self.losses, self.calls = module, poison, losses, 0

    def loss(self, generator):
        self.calls += 1
        x = torch.randn(16, 4, generator=generator)
        loss = ((self.module(x) - x.sum(1, keepdim=True)) ** 2).mean()
        return loss * float("nan") if self.calls == self.poison else loss

    def validate(self):
        if self.losses:
            return {"loss": self.losses.pop(0)}
        x = torch.eye(4)
        loss = ((self.module(x) - 1) ** 2).mean().item()
        return {"loss": loss, "calls": float(self.calls)}

    def state(self):
        return {"calls": self.calls}

    def restore(self, state):
        self.calls = state["calls"]


def module():
    with seeded(0):
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1))


def weights(net):
    return torch.cat([p.flatten() for p in net.parameters()])


SETTINGS = Fitting(iterations=60, rate=1e-2, checks=6)


def test_it_fits_and_the_same_seed_gives_the_same_weights():
    first, second, other = module(), module(), module()
    before = Line(first).validate()["loss"]
    curves = fit(first, Line(first), SETTINGS, 0)
    fit(second, Line(second), SETTINGS, 0)
    fit(other, Line(other), SETTINGS, 1)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))
    assert [row["iteration"] for row in curves] == [10, 20, 30, 40, 50, 60]
    assert curves[-1]["loss"] < before / 2
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())


@pytest.mark.parametrize("killed", [1, 17, 40, 59])
def test_a_killed_fit_ends_with_the_same_weights(killed, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    whole = module()
    curves = fit(whole, Line(whole), SETTINGS, 3)

    class Killed(Line):
        def loss(self, generator):
            if self.calls == killed:
                raise KeyboardInterrupt
            return super().loss(generator)

    path = tmp_path / "checkpoint.pt"
    net = module()
    with pytest.raises(KeyboardInterrupt):
        fit(net, Killed(net), SETTINGS, 3, path)
    assert path.exists()
    again = module()
    objective = Line(again)
    assert fit(again, objective, SETTINGS, 3, path) == curves
    assert torch.equal(weights(again), weights(whole))
    assert objective.calls == 60, "what was done is not done again, but counted"
    assert not path.exists(), "a finished fit leaves no checkpoint"


def test_a_fit_that_was_killed_costs_what_it_has_cost_before(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    asked, path = torch.nn.Linear(2, 2), tmp_path / "checkpoint.pt"

    class Asking(Line):
        killed = None

        def loss(self, generator):
            if self.calls == self.killed:
                raise KeyboardInterrupt
            asked(torch.zeros(5, 2)).sum().backward()
            return super().loss(generator)

    def trained(killed=None):
        net, meter = module(), Meter()
        objective = Asking(net)
        objective.killed = killed
        try:
            with meter.phase("training", asked):
                asked(torch.zeros(7, 2))  # what comes before the fit is done again, and so counted as it is
                fit(net, objective, SETTINGS, 3, path)
        except KeyboardInterrupt:
            time.sleep(0.2)
        return meter.phases["training"]

    whole = trained()
    assert (whole.forwards, whole.backwards) == (7 + 60 * 5, 60 * 5)
    before = trained(17)
    assert trained(40).forwards == 7 + 40 * 5
    found = trained()
    assert (found.forwards, found.backwards) == (whole.forwards, whole.backwards)
    assert before.seconds < found.seconds < before.seconds + 10, "without the time between two runs"


def test_the_best_weights_are_kept():
    net = module()
    seen = []

    class Watched(Line):
        def validate(self):
            seen.append(weights(self.module).clone())
            return super().validate()

    fit(net, Watched(net, losses=[3.0, 1.0, 2.0, 5.0, 4.0, 1.0]), SETTINGS, 0)
    assert torch.equal(weights(net), seen[1])


def test_it_ends_early_where_nothing_gets_better():
    net = module()
    curves = fit(net, Line(net, losses=[1.0, 2.0, 2.0, 2.0, 2.0, 2.0]), Fitting(60, 1e-2, checks=6, patience=2), 0)
    assert [row["iteration"] for row in curves] == [10, 20, 30]


def test_it_does_not_end_before_what_is_watched_has_begun():
    net = module()

    class Late(Line):
        def validate(self):
            return super().validate() | ({"waiting": 1.0} if self.calls <= 30 else {})

    losses = [1.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    curves = fit(net, Late(net, losses=losses), Fitting(60, 1e-2, checks=6, patience=2), 0)
    assert [row["iteration"] for row in curves] == [10, 20, 30, 40, 50], "patience counts from where waiting ends"


def test_a_diverging_loss_ends_with_a_reason():
    net = module()
    with pytest.raises(DivergedError, match=r"not finite at iteration 7; try a lower rate than 0.01"):
        fit(net, Line(net, poison=7), SETTINGS, 0)
    with pytest.raises(DivergedError, match="validation"):
        fit(net, Line(net, losses=[float("nan")] * 6), SETTINGS, 0)


def test_what_is_no_number_is_not_in_the_curves():
    net = module()

    class Partly(Line):
        def validate(self):
            return super().validate() | {"rank": float("nan")}

    curves = fit(net, Partly(net), SETTINGS, 0)
    assert all(set(row) == {"iteration", "loss", "calls"} for row in curves), "a record holds no NaN"


class Trap:
    def __reduce__(self):
        return print, ("the trap was sprung",)


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    with caplog.at_level("WARNING", "benchmark"):
        yield caplog


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """What a kill after the 40th iteration left."""
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint.pt"
    net = module()

    class Killed(Line):
        def loss(self, generator):
            if self.calls == 40:
                raise KeyboardInterrupt
            return super().loss(generator)

    with pytest.raises(KeyboardInterrupt):
        fit(net, Killed(net), SETTINGS, 0, path)
    monkeypatch.undo()
    return path


def anew(path, settings=SETTINGS, seed=0, net=None):
    """Fit with what is at `path`; return the weights and how many iterations were made."""
    net = net or module()
    objective = Line(net)
    resumed = []
    restore = objective.restore
    objective.restore = lambda state: (resumed.append(state["calls"]), restore(state))
    fit(net, objective, settings, seed, path)
    return weights(net), objective.calls - sum(resumed)


@pytest.mark.parametrize("digest", [False, True])
def test_a_checkpoint_is_never_unpickled(digest, tmp_path, said, capsys):
    import hashlib
    import io

    path = tmp_path / "checkpoint.pt"
    sink = io.BytesIO()
    torch.save({"module": Trap()}, sink)
    content = sink.getvalue()
    path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content if digest else content)
    assert torch.equal(anew(path)[0], anew(None)[0])
    assert "sprung" not in capsys.readouterr().out
    assert ("cannot be read" if digest else "is damaged") in said.text


def test_every_bit_of_a_checkpoint_counts(checkpoint, said):
    whole, content = anew(None)[0], checkpoint.read_bytes()
    rng = random.Random(0)
    spoilt = [bytearray(content) for _ in range(20)]
    for damaged in spoilt:
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    for damaged in [*spoilt, content[:-1], content[: len(content) // 2], b"", bytes(len(content)), content + b"x"]:
        checkpoint.write_bytes(damaged)
        said.clear()
        found, made = anew(checkpoint)
        assert torch.equal(found, whole)
        assert made == 60, "training begins anew"
        assert f"checkpoint {checkpoint} is damaged (its digest does not match): set aside as" in said.text
        (aside,) = checkpoint.parent.glob("*.damaged-*")  # the latest alone
        assert aside.read_bytes() == damaged
    checkpoint.write_bytes(content)
    said.clear()
    assert anew(checkpoint)[1] == 20
    assert not said.messages


def test_a_folder_in_the_place_of_a_checkpoint(tmp_path, said):
    (tmp_path / "checkpoint.pt" / "more").mkdir(parents=True)
    assert torch.equal(anew(tmp_path / "checkpoint.pt")[0], anew(None)[0])
    assert "cannot be read (Is a directory): set aside" in said.text


def narrow():
    with seeded(0):
        return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1), nn.Tanh(), nn.Linear(3, 1))


@pytest.mark.parametrize(
    "other", [{"settings": Fitting(50, 1e-2, checks=6)}, {"settings": Fitting(60, 1e-3, checks=6)}, {"seed": 1},
              {"net": narrow}]
)  # fmt: skip
def test_a_checkpoint_of_another_fit_is_set_aside(other, checkpoint, said):
    def fresh(path):
        return anew(path, **{key: value() if callable(value) else value for key, value in other.items()})

    found, made = fresh(checkpoint)
    expected, iterations = fresh(None)
    assert torch.equal(found, expected)
    assert made == iterations
    assert "is of a training with other settings: set aside" in said.text


def test_a_checkpoint_of_another_objective_is_set_aside(checkpoint, said, monkeypatch):
    monkeypatch.setattr(Line, "state", lambda self: {"count": 0})
    monkeypatch.setattr(Line, "restore", lambda self, state: state["count"])
    assert torch.equal(anew(checkpoint)[0], anew(None)[0])
    assert "is of another objective: set aside" in said.text


def test_training_goes_on_where_no_checkpoint_can_be_written(tmp_path, said, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    (tmp_path / "file").touch()
    assert torch.equal(anew(tmp_path / "file" / "checkpoint.pt")[0], anew(None)[0])
    assert said.text.count("cannot be written") == 1


# Seconds in place of iterations


class Clock:
    """Moves by a hundredth of a second each time it is read."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(fitting.time, "monotonic", self)

    def __call__(self):
        self.now += 0.01
        return self.now


def in_seconds(seconds, **more):
    return Fitting(iterations=3, rate=1e-2, checks=6, seconds=seconds, **more)


def test_seconds_end_training_and_the_cycle_of_the_rate_with_it(monkeypatch):
    Clock(monkeypatch)
    net, rates, shares = module(), [], []

    class Watched(Line):
        def loss(self, generator):
            shares.append(self.progress)
            return super().loss(generator)

    real = torch.optim.AdamW.step

    def step(self, *given):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    curves = fit(net, Watched(net), in_seconds(2.0), 0)
    done = int(curves[-1]["iteration"])
    assert done == len(rates) > 3, "iterations do not end it"
    assert len(curves) == 6, "checks at equal distances of the seconds"
    assert shares == sorted(shares)
    assert (shares[0], round(shares[-1], 1)) == (0.0, 1.0)
    assert max(rates) == pytest.approx(1e-2, rel=1e-2)
    assert 0.2 < rates.index(max(rates)) / done < 0.4, "the peak of one cycle is at three tenths"
    assert rates[-1] < 1e-4, "the rate has fallen when the seconds end"


def test_training_by_seconds_goes_on_with_what_is_left_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    clock = Clock(monkeypatch)
    path, net = tmp_path / "checkpoint.pt", module()
    whole = module()
    expected = fit(whole, Line(whole), in_seconds(2.0), 0, tmp_path / "other.pt")[-1]["iteration"]

    class Killed(Line):
        def loss(self, generator):
            if self.calls == 20:
                raise KeyboardInterrupt
            return super().loss(generator)

    with pytest.raises(KeyboardInterrupt):
        fit(net, Killed(net), in_seconds(2.0), 0, path)
    clock.now += 1000.0
    again = module()
    objective = Line(again)
    curves = fit(again, objective, in_seconds(1.98), 0, path)  # what comes before a fit takes a little more, or less
    assert curves[-1]["iteration"] == objective.calls == pytest.approx(expected, abs=4)


def test_one_iteration_is_made_however_few_the_seconds():
    net = module()
    curves = fit(net, Line(net), in_seconds(1e-9), 0)
    assert [row["iteration"] for row in curves] == [1]


def test_what_is_left_of_seconds():
    assert Fitting(3, 1e-2).less(100.0, "asking") == Fitting(3, 1e-2)
    assert in_seconds(5.0).less(2.0, "asking").seconds == 3.0
    assert in_seconds(6.0).part(4) == Fitting(1, 1e-2, checks=6, seconds=1.5)
    with pytest.raises(BenchmarkError, match=r"asking took 7.0 s, and nothing is left of 5 s to train in: give more"):
        in_seconds(5.0).less(7.0, "asking")


def test_iterations_of_several_fits():
    def rows(*counts):
        return [{"iteration": float(count)} for count in counts]

    assert [fitting.iterations(rows(*counts)) for counts in ((), (5,), (5, 10), (5, 10, 5, 9), (4, 4))] == [
        0, 5, 10, 19, 8,
    ]  # fmt: skip
