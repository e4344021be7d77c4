"""Algorithm 1, step by step, against a trace worked out by hand."""

from __future__ import annotations

import math

import pytest

from deepfaith.schedule import Schedule


def walk(schedule, values):
    state, trace = schedule.start(), []
    for value in values:
        trace.append(state.alpha)  # what weighs this iteration's losses
        state = schedule.step(state, value)
    return trace, state


def decayed(waited, constant):
    return 1 - 1 / (1 + math.exp(-waited / constant))


def test_a_trace_by_hand_with_a_reset():
    schedule = Schedule(window=3, settled=0.01, decay=2.0, reset=5.0)
    values = [1.0, 0.5, 0.5, 0.5, 0.5, 0.45, 1.2, 0.45, 0.45, 0.45]
    # windows of 3 and their variances, from the third value on:
    #   (1, .5, .5) .0556 > .05: not settled; (.5, .5, .5) 0 < .01: t0 = 4, alpha 1/2;
    #   (.5, .5, .5) 0: one iteration later; (.5, .5, .45) .00056: two later;
    #   (.5, .45, 1.2) .117 > .05: reset; (.45, 1.2, .45) .125: not; (1.2, .45, .45) .125: not;
    #   (.45, .45, .45) 0: t0 = 10, alpha 1/2
    trace, state = walk(schedule, values)
    expected = [1, 1, 1, 1, 0.5, decayed(1, 2), decayed(2, 2), 1, 1, 1]
    assert trace == pytest.approx(expected)
    assert state.alpha == 0.5
    assert state.converged_at == 10


def test_between_the_two_thresholds_nothing_changes():
    schedule = Schedule(window=2, settled=0.01, decay=10.0, reset=100.0)
    _, state = walk(schedule, [0.5, 0.5])
    assert state.alpha == 0.5
    after = schedule.step(state, 0.9)  # variance .04: above eps, below 100 eps
    assert after.converged_at == state.converged_at
    assert after.alpha == pytest.approx(decayed(1, 10))
    never, _ = walk(schedule, [0.5, 0.9, 0.5, 0.9])
    assert never == [1, 1, 1, 1], "copying that never settles goes on"


def test_decay_and_reset_are_two_settings():
    calm = [0.5] * 6
    slow, quick = Schedule(window=2, decay=100.0), Schedule(window=2, decay=1.0)
    assert walk(slow, calm)[1].alpha > 0.48
    assert walk(quick, calm)[1].alpha < 0.02
    jump = [*calm, 0.9]
    assert walk(Schedule(window=2, settled=1e-3, reset=1e3), jump)[1].alpha < 0.5
    assert walk(Schedule(window=2, settled=1e-3, reset=10.0), jump)[1].alpha == 1


@pytest.mark.parametrize("fixed", [0.0, 0.5, 1.0])
def test_a_fixed_alpha_stays(fixed):
    schedule = Schedule(fixed=fixed)
    trace, _ = walk(schedule, [1.0, 0.2] * 60)
    assert set(trace) == {fixed}
    assert schedule.copies == (fixed > 0)
    assert not schedule.dynamic


def test_a_state_is_a_value():
    schedule = Schedule(window=3)
    start = schedule.start()
    once = schedule.step(start, 0.3)
    assert start == schedule.start()
    assert once == schedule.step(start, 0.3)
    assert len(walk(schedule, [0.1] * 50)[1].recent) == 3
