"""The command `score`: a model, inputs and attributions from files, to records, a board and a page."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from benchmark.cli.arguments import Verb, add_metrics, add_out, natural
from benchmark.core.errors import BenchmarkError, SomeFailedError, UsageError, few
from benchmark.core.files import check_file
from benchmark.core.types import Modality
from benchmark.scoring.metrics import select_metrics

if TYPE_CHECKING:
    import numpy as np

    from benchmark.api.result import Result
    from benchmark.core.types import Method, Task
    from benchmark.running.plan import MethodChoice

log = logging.getLogger("benchmark")
FILES = "a .npy, .npz, .safetensors, .parquet or .csv file; FILE:KEY chooses one of several arrays"


def add_score(verb: Verb) -> None:
    """Add the command to the parser."""
    score = verb(
        "score", score_command, "Score attributions from files on a model of your own, and methods beside them."
    )
    score.add_argument("--model", required=True, metavar="FILE.py:NAME",
                       help="a module, an estimator, a function of a batch, or what builds one")  # fmt: skip
    score.add_argument("--inputs", required=True, metavar="FILE", help=f"what is explained, (N, ...): {FILES}")
    score.add_argument("--attributions", nargs="+", default=[], metavar="FILE",
                       help="(N, G), (N, H, W) or (N, C, H, W) each, called as the file or as its KEY")  # fmt: skip
    score.add_argument("--methods", default="", help="names, globs, !name, name[parameter=value], beside them")
    score.add_argument(
        "--background", metavar="FILE", help="other rows, such as those of training: what removal fills in"
    )
    score.add_argument("--labels", metavar="FILE", help="a class for each input, (N,) whole numbers from 0")
    score.add_argument("--target", default="predicted", metavar="WHAT",
                       help="the class explained: predicted (default), label, or a number or name for all")  # fmt: skip
    score.add_argument("--mask-id", type=natural, metavar="ID", help="of texts: the token that a removed one becomes")
    score.add_argument("--pad-id", type=natural, metavar="ID", help="of texts: the token of padding")
    score.add_argument("--spatial", metavar="LAYER", help="of an image model: the layer that CAM methods look at")
    score.add_argument("--removal", metavar="NAME", help="how features are removed (default: what the modality has)")
    score.add_argument("--modality", choices=get_args(Modality), help="of the inputs (default: by their shape)")
    score.add_argument(
        "--output", choices=("logits", "probabilities"), help="what the model gives (default: found out)"
    )
    add_metrics(score, "ten", "the ten")
    score.add_argument("--name", default="own", help="of the task, in records and headings (default: own)")
    score.add_argument("--seed", type=natural, default=0, help="base of every random draw (default: 0)")
    score.add_argument("--overwrite", choices=("never", "always"), default="never",
                       help="always: replace what is there under the same labels (default: never)")  # fmt: skip
    score.add_argument("--page", type=Path, metavar="FILE.html", help="also write a report of what was scored")
    add_out(score)


def score_command(arguments: argparse.Namespace) -> int:
    """Score attributions of files, and methods beside them."""
    import numpy as np
    import pandas as pd

    from benchmark.api.inputs import in_order_of
    from benchmark.api.task import task as make_task
    from benchmark.data.arrays import column_names, in_order, read, row_names
    from benchmark.models.others.loading import load_model
    from benchmark.records.store import RecordStore
    from benchmark.running.plan import parse_methods

    if not arguments.attributions and not arguments.methods:
        raise UsageError("expected --attributions FILE ... or --methods NAMES, got neither: say what is to be scored")
    check_file("--page", arguments.page, (".html",))
    target, files = _target(arguments), _named(arguments.attributions)
    choices = parse_methods(arguments.methods) if arguments.methods else []
    if twice := [choice.label for choice in choices if choice.label in files]:
        raise UsageError(f"{twice[0]!r} is both a file of --attributions and one of --methods: rename the file")
    select_metrics(arguments.metrics)  # said before any file is read
    inputs = read(arguments.inputs, finite=True, dims=(2, 3, 4))
    columns = column_names(arguments.inputs)

    def rows(file: str, finite: bool = True) -> np.ndarray:
        nonlocal columns
        array, columns = in_order(read(file, finite=finite), column_names(file), columns, file)
        return array

    def of_inputs(array: np.ndarray, file: str) -> np.ndarray:
        """Return rows in the order of the inputs, where both files say which is which."""
        places = pd.Series(np.arange(len(array)), index=row_names(file))
        return array[in_order_of(places, row_names(arguments.inputs), file).to_numpy()]

    background = None if arguments.background is None else rows(arguments.background)
    labels = None
    if arguments.labels is not None:
        labels = _labels(of_inputs(read(arguments.labels, finite=True), arguments.labels), len(inputs), arguments)
    given: dict[str, Any] = {
        label: _attributions(of_inputs(rows(file, False), file), file, inputs) for label, file in files.items()
    }
    model = load_model(arguments.model)
    classes = getattr(model, "classes_", None)
    if classes is not None and np.asarray(classes).dtype.kind not in "iufb":  # files hold the numbers of classes
        labels = None if labels is None else np.asarray(_own(labels.tolist(), classes, "--labels"))
        target = _own([target], classes, "--target")[0] if isinstance(target, int) else target
    task = make_task(
        model, inputs, background=background, labels=labels, target=target,
        modality=arguments.modality, removal=arguments.removal, output=arguments.output, name=arguments.name,
        feature_names=columns, mask_id=arguments.mask_id, pad_id=arguments.pad_id, spatial=arguments.spatial,
    )  # fmt: skip
    methods, skipped, failed = _applicable(task, choices)
    store = RecordStore(arguments.out).open()
    result = _evaluated(task, given | methods, arguments, skipped, failed)
    print(result)
    for line in [f"skipped: {why}" for why in skipped] + [f"failed: {why}" for why in failed]:
        print(line)
    result.save(store.root, overwrite=arguments.overwrite == "always")
    if arguments.page is not None:
        from leaderboards.report import page

        arguments.page.write_text(page(result.rankings(), store.examples), encoding="utf-8")
    print(f"{len(result.records)} scored, {len(skipped)} skipped, {len(failed)} failed; records in {store.root}")
    return int(bool(failed) or any(record.n_failed for record in result.records))


def _applicable(task: Task, choices: Sequence[MethodChoice]) -> tuple[dict[str, Method], list[str], list[str]]:
    """Return the methods that explain the task by label, and a sentence for each that does not, or fails.

    Raises:
        UsageError: methods were asked for, and none explains it; or two are the same.
    """
    from benchmark.running.plan import method_for, suited

    methods: dict[str, Method] = {}
    skipped, failed = [], []
    for choice in choices:
        method = method_for(choice)  # a parameter that there is not ends all
        try:
            method, why = suited(method, task, choice.name, choice.label)
        except UsageError as error:
            failed.append(str(error))
            continue
        if why is not None:
            skipped.append(f"{choice.label}: {why}")
        elif twin := next((label for label, other in methods.items() if other == method), None):
            raise UsageError(
                f"{twin!r} and {choice.label!r} of --methods are the same method with the same parameters: drop one"
            )
        else:
            methods[choice.label] = method
    if choices and not methods and not failed:
        raise UsageError(f"none of --methods explains these inputs: {few(skipped)}")
    return methods, skipped, failed


def _evaluated(
    task: Task, what: dict[str, Any], arguments: argparse.Namespace, skipped: list[str], failed: list[str]
) -> Result:
    """Return the scores of what can be evaluated; a sentence for each other method is added to the lists.

    Raises:
        UsageError: the attributions of a file are none.
        BenchmarkError: nothing could be evaluated.
    """
    from benchmark.api.evaluate import evaluate

    if not what:
        raise BenchmarkError(f"nothing could be scored: {few(failed)}")
    try:
        return evaluate(task, what, metrics=arguments.metrics, seed=arguments.seed)
    except SomeFailedError as error:
        for label, sentence in error.failures.items():
            (skipped if label in error.unsuited else failed).append(f"{label}: {sentence}")
        if error.result is None:
            raise
        return error.result


def _target(arguments: argparse.Namespace) -> str | int:
    """Return which class is explained."""
    text = arguments.target
    if text.isdecimal():
        return int(text)
    if text == "label" and arguments.labels is None:
        raise UsageError("--target label expects --labels FILE, got none: name the file of the labels")
    return text


def _own(numbers: Sequence[int], classes: Sequence[Any], option: str) -> list[Any]:
    """Return an estimator's own classes by their numbers.

    Raises:
        UsageError: there are fewer.
    """
    if wrong := [number for number in numbers if number >= len(classes)]:
        raise UsageError(f"{option} expects numbers of classes from 0 to {len(classes) - 1}, got {few(wrong)}")
    return [classes[number] for number in numbers]


def _named(files: Sequence[str]) -> dict[str, str]:
    """Return the files of attributions by what they are called: their names without the ending, or their keys."""
    from benchmark.data.arrays import split_key

    named: dict[str, str] = {}
    for text in files:
        file, key = split_key(text)
        label = key or file.stem
        if label in named:
            raise UsageError(f"two of --attributions are called {label!r}, {named[label]} and {text}: rename one")
        named[label] = text
    return named


def _labels(labels: np.ndarray, rows: int, arguments: argparse.Namespace) -> np.ndarray:
    """Return class numbers (N,)."""
    import numpy as np

    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # a table of one column
    if labels.shape != (rows,):
        raise UsageError(f"{arguments.labels}: expected a label for each of {rows} inputs, got shape {labels.shape}")
    if (wrong := labels[(labels != np.floor(labels)) | (labels < 0)]).size:
        raise UsageError(
            f"{arguments.labels}: expected whole numbers of classes from 0, got {wrong[0]:g}; number the classes"
        )
    return labels.astype(np.int64)


def _attributions(array: np.ndarray, file: str, inputs: np.ndarray) -> np.ndarray:
    """Return attributions, one for each input; their shape is checked against the task's features later."""
    if len(array) != len(inputs):
        raise UsageError(
            f"{file}: expected attributions of the {len(inputs)} inputs, got {len(array)} rows; give those of the same"
        )
    return array
