"""The report of timings is made and put together: its smallest sections, and no bounds of times."""

from __future__ import annotations

import pytest

from tests.performance import engines, imagenet_plan, measuring, report, surrogates, workloads

QUICK = ("overhead", "surrogates", "plan")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in report.MEASURED]
)
def test_a_section_is_made(name):
    if name == "quantus":
        pytest.importorskip("quantus")
    module = report.MEASURED[name][1]
    text = module.section(**module.TINY)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) >= 3
    assert "## " not in text, "headings are the report's"
    widths = [line.count("|") for line in lines]
    assert all(width == widths[i - 1] for i, width in enumerate(widths) if lines[i].startswith("| ---"))


def test_a_renewed_section_leaves_the_others_as_they_are():
    first, kept = report.read(report.TARGET.read_text(encoding="utf-8"))
    assert set(kept) <= set(report.ORDER)
    assert report.read(report.page(first, kept)) == (first, kept)
    changed = report.page(first, kept | {"Engines": "made up"})
    assert report.read(changed) == (first, kept | {"Engines": "made up"})
    assert changed.index("## Overhead") < changed.index("## Engines") < changed.index("## Scaling")


def test_every_section_has_a_place():
    assert sorted(report.ORDER) == sorted(
        [*(heading for heading, _ in report.MEASURED.values()), report.FULL_SIZE, *report.WRITTEN]
    )


def test_engines_that_are_not_here_are_dashes(monkeypatch):
    monkeypatch.setattr(engines, "check_installed", _refuse)
    cells = engines.milliseconds(engines.Trial(workloads.image(samples=2, subsets=1), "fp32"), engines.NAMES, 2, 1)
    assert cells[1:] == ["–"] * len(engines.NAMES)
    assert float(cells[0]) > 0


def _refuse(name):
    raise engines.UsageError(name)


def test_the_evaluator_is_compared_with_as_many_rows():
    tasks = [workloads.image(samples=2, steps=4, subsets=3) for _ in range(2)]
    found = engines.overhead(*tasks, workloads.attributions(tasks[0], 2), 4, 1)
    assert found.rows == 2 * (2 + 2 * 3) + 2 * 2 * (4 + 2 * (4 - 2))
    assert min(found.bare, found.eager, found.auto) > 0


def test_the_forwards_of_an_explanation_are_those_it_asked_for():
    task = workloads.table(samples=3)
    asked = surrogates.inputs_of(task.model, lambda: task.model(task.test.x))
    assert [len(x) for x in asked] == [3]
    assert not task.model._forward_hooks


def test_rows_and_hours_of_the_plan():
    plan = imagenet_plan.Plan(images=10, methods=3, devices=2, steps=48, subsets=100, explaining=50)
    assert (plan.shared, plan.probing, plan.explanations) == (10 * 202, 10 * 3 * 187, 10 * 3 * 50)
    assert plan.hours(7200, rows_a_second=1.0) == pytest.approx(1.0)
    text = imagenet_plan.section((1.0,), plan)
    assert f"| altogether | {2020 + 5610 + 1500:,} | {9130 / 7200:.1f} |" in text


def test_what_is_compared_is_called_by_turns():
    called = []
    assert len(measuring.by_turns([lambda: called.append(1), lambda: called.append(2)], 2)) == 2
    assert called == [1, 2, 1, 2]
