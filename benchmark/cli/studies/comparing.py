"""Commands that compare explanations or draw records: ablate, plot, optimality."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.arguments import (
    Verb,
    add_allow_weak,
    add_kind,
    add_metrics,
    add_out,
    add_sources,
    chosen_records,
    chosen_sources,
    positive,
    settings_of,
)
from benchmark.cli.boards import FORMS
from benchmark.cli.classes import add_rows
from benchmark.cli.inspect import applicable, built
from benchmark.cli.studies.class_plots import CLASS_PLOTS, class_plot, one_board
from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.core.files import check_file
from benchmark.core.selection import select_labels
from benchmark.core.types import METHODS, TASKS, VALUE_TABLE_LIMIT
from benchmark.processes.interruption import held, stop_on_signals
from benchmark.running.presets import PRESETS

if TYPE_CHECKING:
    from benchmark.records.record import Record
    from benchmark.running.plan import MethodChoice

log = logging.getLogger("benchmark")

PLOTS = ("cost", "curves", "intervals", "critical", *CLASS_PLOTS)


def add_studies(verb: Verb) -> None:
    """Add the commands to the parser."""
    ablate = verb("ablate", ablate_command, "Leave out parts of DeepFaith, one at a time, and rank what is left.")
    ablate.add_argument("--task", required=True)
    ablate.add_argument("--of", default="deepfaith", metavar="METHOD", help="deepfaith (default) or deepfaith_hinted")
    ablate.add_argument("--variants", default="all", help="names separated by commas (default: all)")
    ablate.add_argument("--seeds", type=positive, default=3, metavar="N", help="training seeds (default: 3)")
    ablate.add_argument("--limit", type=positive, metavar="N", help="only the first N test samples")
    ablate.add_argument("--preset", choices=tuple(PRESETS), default="standard")
    ablate.add_argument("--jobs", type=positive, metavar="N", help="worker processes (default: cores)")
    ablate.add_argument("--format", choices=FORMS, default="table")
    add_allow_weak(ablate)
    add_out(ablate)
    add_sources(ablate)

    plot = verb(
        "plot",
        plot_command,
        "Draw stored records: rank against cost, intervals of ranks, training curves, critical differences; of tuned "
        "settings, rank against rows, and ranks beside those of default settings.",
    )
    plot.add_argument("what", choices=PLOTS)
    plot.add_argument("--task", required=True, help="one; for critical also globs, all, or names with commas")
    plot.add_argument("--methods", default="all", help="names, labels or globs of the methods to draw, !name")
    add_kind(plot)
    add_rows(plot)
    add_metrics(plot, "ten", "the ten")
    plot.add_argument("--figure", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    add_out(plot)

    best = verb("optimality", optimality_command, "Compare explanations with each metric's exact optimum on a table.")
    best.add_argument("--task", required=True)
    best.add_argument("--methods", default="deepfaith,lime,occlusion,integrated_gradients",
                      help="names, globs, all, !name, name[parameter=value]")  # fmt: skip
    best.add_argument("--limit", type=positive, metavar="N", help="only the first N test samples")
    best.add_argument("--figure", type=Path, metavar="FILE", help="also draw it: a .png, .svg or .pdf file")
    add_allow_weak(best)
    add_sources(best)


def ablate_command(arguments: argparse.Namespace) -> int:
    """Run all variants and print their table; CSV, Markdown and a figure go beside the records."""
    stop_on_signals()
    with held():
        from benchmark.records.store import RecordStore
        from benchmark.running.plan import MethodChoice, parse_methods
        from benchmark.scheduling.batch import planned, run_all
        from deepfaith.ablations import VARIANTS
        from leaderboards.ablation import ablation, render
        from leaderboards.figures import ablation_figure, save

    task = TASKS.one(arguments.task)
    of = select_labels(arguments.of, VARIANTS, "method with variants", "")
    if len(of) > 1:
        raise UsageError(f"expected one method, got {arguments.of!r}, which is {len(of)}")
    settings_by_name = VARIANTS[of[0]]
    chosen = select_labels(arguments.variants, settings_by_name, "variant", "")
    variants = {name: MethodChoice(of[0], tuple(sorted(settings_by_name[name].items()))) for name in chosen}
    store = RecordStore(arguments.out).open()
    settings = settings_of(arguments, store.root)
    rivals = [choice for choice in parse_methods("all") if _is_rival(choice)]
    records: list[Record] = []
    failed: dict[str, str] = {}
    planned_labels: set[str] = set()
    for seed in range(arguments.seeds):
        plans, missing = planned(
            [task], [*variants.values(), *rivals], chosen_sources(arguments), seed=seed,
            limit=arguments.limit, preset=arguments.preset, device=settings.device,
        )  # fmt: skip
        outcomes, unbuilt = run_all(plans, store, settings)
        if missing or unbuilt:
            return DataError.exit_code
        planned_labels |= {choice.label for plan in plans for _, choice in plan.cells}
        failed |= {o.label: o.reason for o in outcomes if o.bad}
        kept = [outcome for outcome in outcomes if outcome.state in ("kept", "computed")]
        # A cell may be stored under the label of another variant with the same settings.
        records += [replace(store.read(store.folder(o.cell)), label=o.label) for o in kept]
    repeated = [name for name, choice in variants.items() if choice.label not in planned_labels]
    if repeated:
        log.warning(f"left out on {task}, where they are the same as an earlier variant: {', '.join(repeated)}")
    labels = {
        name: choice.label for name, choice in variants.items() if choice.label not in failed and name not in repeated
    }
    failures = "; ".join(f"{label} failed: {reason}" for label, reason in failed.items())
    if not labels:
        raise BenchmarkError(f"no variant is left: {failures}")
    result = ablation([record for record in records if record.label not in failed], labels)
    ending = "" if of[0] == "deepfaith" else f"-{of[0]}"
    stem = arguments.out / "ablation" / f"{result.board.source}-{result.board.task}{ending}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    for form in ("md", "csv"):
        stem.with_name(f"{stem.name}.{form}").write_text(render(result, form) + "\n", encoding="utf-8")
    save(ablation_figure(result), stem.with_name(f"{stem.name}.png"))
    print(render(result, arguments.format))
    log.warning(f"also written: {stem}.md, .csv, .png")
    if failed:
        log.error(f"left out: {failures}")
    return int(bool(failed))


def _is_rival(choice: MethodChoice) -> bool:
    """Tell whether a method is one of the benchmark's own baselines and controls, whatever else is included."""
    entry = METHODS.entry(choice.name)
    return entry.built_in and entry.facts.get("kind") in ("baseline", "control")


def plot_command(arguments: argparse.Namespace) -> int:
    """Draw what is stored."""
    from leaderboards.figures import ENDINGS, cost_figure, critical_figure, curves_figure, intervals_figure, save
    from leaderboards.overall import overall
    from leaderboards.rank import rankings
    from leaderboards.selection import with_metrics

    check_file("--figure", arguments.figure, ENDINGS)
    if arguments.what in CLASS_PLOTS or arguments.rows:
        print(save(class_plot(arguments), arguments.figure))
        return 0
    records = with_metrics(chosen_records(arguments), arguments.metrics)
    if arguments.source == "auto" and any(record.cell.source == "real" for record in records):
        records = [record for record in records if record.cell.source == "real"]
    tasks = sorted({record.cell.task for record in records})
    if arguments.what == "critical":
        if len(tasks) < 2:
            raise UsageError(f"plot critical compares methods over two tasks at least, got {tasks[0]}: choose more")
        print(save(critical_figure(overall(rankings(records))), arguments.figure))
        return 0
    if len(tasks) > 1:
        raise UsageError(f"plot {arguments.what} draws one task, got {', '.join(tasks)}: choose with --task")
    if arguments.what == "curves":
        figure = curves_figure(records)
    else:
        board = one_board([ranking.board for ranking in rankings(records)], arguments.task)
        figure = cost_figure(board) if arguments.what == "cost" else intervals_figure(board)
    print(save(figure, arguments.figure))
    return 0


def optimality_command(arguments: argparse.Namespace) -> int:
    """Score the best map S* and some methods beside each metric's own optimum."""
    from benchmark.running.plan import parse_methods, plan_task
    from deepfaith.study import compare_with_optimum
    from leaderboards.figures import ENDINGS, optimum_figure, save
    from leaderboards.tables import TextTable, in_text

    check_file("--figure", arguments.figure, ENDINGS)
    plan = plan_task(TASKS.one(arguments.task), parse_methods(arguments.methods), chosen_sources(arguments), 0, None)
    if plan.spec.modality != "table":
        raise UsageError(
            f"optimality needs a table, whose removal sets can all be asked; {plan.name} is {plan.spec.modality}"
        )
    if plan.spec.n_features > VALUE_TABLE_LIMIT:
        raise UsageError(
            f"optimality asks the model about every removal set, which it does for up to {VALUE_TABLE_LIMIT} features; "
            f"{plan.name} has {plan.spec.n_features}"
        )
    methods = applicable(plan, arguments.methods)
    task, build = built(plan, arguments.allow_weak_model)
    scores, shares, failed = compare_with_optimum(task, methods, arguments.limit, build=build)
    data = "SYNTHETIC data" if plan.located.source == "synthetic" else "real data"
    rows = len(task.test.x)
    heading = f"{task.name} · {data} · {min(arguments.limit or rows, rows)} test samples"
    cells = [[str(name), *(f"{value:.3f}" for value in row)] for name, row in scores.iterrows()]
    lines = [
        "optimum: the best score that any attribution can have, found exactly, metric by metric.",
        "S*: the map whose removed mass correlates best with the drops where each feature is removed with that chance.",
    ]
    print(in_text(TextTable(heading, ["explanation", *scores.columns], cells, lines)))
    if arguments.figure:
        print(save(optimum_figure(shares, heading), arguments.figure))
    return int(bool(failed))
