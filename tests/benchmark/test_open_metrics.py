"""The registry of metrics, and what a metric beyond the ten may need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
import torch

from benchmark.core.errors import BenchmarkError, DataError, UsageError
from benchmark.core.types import METHODS
from benchmark.inspection.crosscheck.cases import CASES, OTHERS, slopes
from benchmark.scoring.evaluator import Evaluator
from benchmark.scoring.metrics import (
    FIXED,
    LOGITS,
    METRICS,
    MODEL_NON_FINITE,
    MORF,
    NO_EXPLAINER,
    NON_FINITE,
    NOT_APPLICABLE,
    OK,
    TEN,
    UNDEFINED,
    EffectMetric,
    ExplainerMetric,
    OrderedProbe,
    ProbeMetric,
    SharedProbe,
    activations,
    all_logits,
    correlation,
    drop,
    mean,
    probability,
)
from benchmark.scoring.removal_sets import MaskSets
from benchmark.scoring.shared_predictions import SharedPredictions
from tests import references, toys

CASE = next(case for case in CASES if case.name.startswith("mlp10"))
TEXT = next(case for case in CASES if case.name.startswith("tokens with padding, 8"))


def same(a, b):
    return torch.equal(a.nan_to_num(99.0), b.nan_to_num(99.0))


@dataclass(frozen=True)
class Pairs(SharedProbe):
    """Each pair of neighbouring features."""

    kind, mass = "pairs", True

    def sets(self, samples):
        one = torch.eye(samples.valid.shape[1], dtype=torch.bool, device=samples.valid.device)
        masks = (one[:-1] | one[1:]).expand(len(samples.valid), -1, -1)
        return MaskSets.of(masks, (samples.valid.unsqueeze(1) | ~masks).all(-1))


@dataclass(frozen=True)
class KeptAlone(OrderedProbe):
    """The k most relevant features are kept alone, k = 1 and 2, as masks."""

    mass = True

    def sets(self, samples, ordering):
        removed = torch.stack([(ordering.rank >= k) & samples.valid for k in (1, 2)], 1)
        return MaskSets.of(removed)


def composed(probe, effect=drop, aggregate=mean, **more):
    return EffectMetric(title="Made up", probe=probe, effect=effect, aggregate=aggregate, higher_is_better=True, **more)


def add(name, metric, **facts):
    METRICS.register(name, **{"group": "own"} | facts)(metric)
    return METRICS[name]


# The registry


def test_it_is_a_mapping_in_which_the_ten_come_first():
    assert isinstance(METRICS, Mapping)
    assert list(METRICS)[:10] == list(TEN) == [name for name in METRICS if METRICS.group(name) == "ten"]
    add("LAST", composed(MORF))
    assert list(METRICS)[-1] == METRICS.keys()[-1] == "LAST"
    assert len(METRICS) == len(METRICS.values()) == len(METRICS.items())
    assert "LAST" in METRICS
    assert METRICS.get("NONE", None) is None
    with pytest.raises(KeyError):
        METRICS["NONE"]
    with pytest.raises(UsageError, match="did you mean 'LAST'"):
        METRICS.get("LASTS")


def test_what_is_registered_knows_its_name_and_its_facts():
    shared = composed(MORF)
    one, two = add("ONE", shared), add("TWO", shared, group="second", family="ONE", higher_is_better=False)
    assert (one.name, one.group, one.family, one.higher_is_better) == ("ONE", "own", "ONE", True)
    assert (two.name, two.group, two.family, two.higher_is_better) == ("TWO", "second", "ONE", False)
    assert shared.name == ""
    assert METRICS.entry("ONE").module == __name__
    assert METRICS.entry("ONE").summary == "Made up"
    assert METRICS.groups()[:1] == ["ten"]
    assert {"own", "second"} < set(METRICS.groups())


class Scoreless(ProbeMetric):
    probe = MORF


class Unprobed(ProbeMetric):
    def score(self, response):
        return mean(drop(response), response)


class Reversed(Unprobed):
    probe, low, high = MORF, 1.0, 0.0


@dataclass
class Thawed(SharedProbe):
    def sets(self, samples):
        return None


class Unhashable(Unprobed):
    probe = Thawed()


class Unversioned(Unprobed):
    probe, version = MORF, "1"


@pytest.mark.parametrize(
    ("made", "message"),
    [(Scoreless, "abstract method score"), (Unprobed, "its probe is None"),
     (Unhashable, "its probe Thawed has no hash: write @dataclass"),
     (Reversed, "expected low < high"),
     (Unversioned, "its version is '1'"), (int, "expected a ProbeMetric or an ExplainerMetric, got 0"),
     (lambda _: None, "making it without arguments fails")],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_a_sentence(made, message):
    METRICS.register("BAD", group="own")(made)
    with pytest.raises(UsageError, match=f"the metric 'BAD' cannot be used: .*{message}"):
        METRICS["BAD"]


@pytest.mark.parametrize(
    ("name", "facts", "message"),
    [("Ten", {}, "stands for several"), ("all", {}, "no metric can be called 'all'"), ("a/b", {}, "can be called"),
     ("MINE", {"group": "ten"}, "is the paper's"), ("MINE", {"group": "all"}, "group expects a word"),
     ("MINE", {"title": "x"}, "no fact is called 'title'"), ("MINE", {"higher_is_better": 2}, "expects one word")],
)  # fmt: skip
def test_names_and_facts_that_are_not_allowed(name, facts, message):
    with pytest.raises(UsageError, match=message):
        METRICS.register(name, **facts)


@pytest.mark.parametrize("name", ["DEL", "del", "SENS"])
def test_no_name_is_there_twice_in_whatever_capitals(name):
    with pytest.raises(ValueError, match="two metrics are called"):
        METRICS.register(name, group="own")(composed(MORF))


@pytest.mark.parametrize("name", OTHERS)
def test_our_further_metrics_are_complete(name):
    metric = METRICS[name]
    assert name in references.METRICS, f"add a slow twin of {name}"
    assert metric.title
    assert metric.formula
    assert metric.meaning.endswith("?")
    assert metric.blind_to
    assert metric.redundancy
    assert metric.source
    assert METRICS.entry(name).facts["higher_is_better"] is metric.higher_is_better


# What is asked, and what it changes


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_others_change_nothing_of_the_ten(case):
    """To the last bit, and in what the ten cost; nor do the ten change what others score."""
    task = case.task()
    attributions = case.attributions(task)
    ten, both, others = (case.evaluator(task, names) for names in (TEN, [*TEN, *OTHERS], OTHERS))
    alone, together, apart = (
        ten.score(attributions),
        both.score(attributions, slopes(task)),
        others.score(attributions, slopes(task)),
    )
    for name in TEN:
        assert same(alone.scores[name], together.scores[name])
        assert torch.equal(alone.reasons[name], together.reasons[name])
    for name in OTHERS:
        assert torch.allclose(apart.scores[name], together.scores[name], rtol=0, atol=1e-12, equal_nan=True)
        assert torch.equal(apart.reasons[name], together.reasons[name])
    add("IDLE", composed(Pairs()))
    again = case.evaluator(task)
    assert again.score(attributions).meter.summary()["probe"]["forwards"] == alone.meter.summary()["probe"]["forwards"]
    assert again.meter.summary()["shared"]["forwards"] == ten.meter.summary()["shared"]["forwards"]


@pytest.mark.parametrize("make", toys.TASKS.values(), ids=toys.TASKS)
def test_scores_of_others_do_not_depend_on_batch_order_or_company(make):
    task = make()
    add("PAIRS", composed(Pairs(), aggregate=correlation))
    add("KEPT", composed(KeptAlone(), aggregate=correlation))
    names = [*OTHERS, "PAIRS", "KEPT"]
    attributions, explain = toys.scores(task), None if task.removal.pads else slopes(task)
    whole = Evaluator(task, metrics=names, byte_budget=2**30).score(attributions, explain)
    chosen = [7, 2, 9, 0]
    evaluator = Evaluator(task, samples=chosen, metrics=names[::-1], byte_budget=task.n_features * 256)
    mine, other = evaluator.score_all([attributions[chosen], attributions[chosen].flip(1)], [explain, explain])
    for name in names:
        assert whole.scores[name].isfinite().any() or name == "SENS"
        for a, b in ((whole.scores, mine.scores), (whole.reasons, mine.reasons)):
            torch.testing.assert_close(a[name][chosen], b[name], rtol=0, atol=1e-12, equal_nan=True)
        if name in ("KL", "KEPT"):
            assert not torch.allclose(other.scores[name], mine.scores[name], equal_nan=True)


@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("probe", [Pairs(), KeptAlone()], ids=["shared", "ordered"])
def test_a_probe_of_ones_own_by_hand(probe, lookup):
    task = CASES[0].task()
    add("MINE", composed(probe))
    add("LIKE", composed(probe, aggregate=correlation))
    evaluator = Evaluator(task, metrics=["MINE", "LIKE"], value_table=lookup)
    attributions = CASES[0].attributions(task)
    found = evaluator.score_all([attributions, -attributions])
    sets = 6 if isinstance(probe, Pairs) else 2
    asked = evaluator.meter.phases["shared"].forwards, sum(each.meter.phases["probe"].forwards for each in found)
    shared = 6 * sets if isinstance(probe, Pairs) else 0
    assert asked == ((6 * 2**7, 0) if lookup else (6 + shared, 2 * 6 * sets - 2 * shared))
    for row in range(6):
        one = references.loops.Sample(task, task.test.x[row], attributions[row])
        pairs, kept = [[i, i + 1] for i in range(6)], [one.order[k:] for k in (1, 2)]
        removed = pairs if isinstance(probe, Pairs) else kept
        assert found[0].scores["MINE"][row] == pytest.approx(
            sum(one.v0 - one.v(each) for each in removed) / sets, abs=1e-12
        )
        assert found[0].scores["LIKE"][row] == pytest.approx(references.loops.on_subsets(one, removed), abs=1e-10)


def test_padding_has_no_pairs():
    task = TEXT.task()
    add("MINE", composed(Pairs()))
    found = TEXT.evaluator(task, ["MINE"]).score(TEXT.attributions(task).nan_to_num(0.0))
    lengths = task.removal.valid(task.test.x).sum(1)
    for row, length in enumerate(lengths.tolist()):
        one = references.loops.Sample(task, task.test.x[row], torch.zeros(task.n_features))
        drops = [one.v0 - one.v([i, i + 1]) for i in range(length - 1)]
        if drops:
            assert found.scores["MINE"][row] == pytest.approx(sum(drops) / len(drops), abs=1e-12)
        else:
            assert found.reasons["MINE"][row] == UNDEFINED


def test_equal_probes_are_asked_once_whatever_the_number_of_metrics():
    task = CASE.task()
    for number in range(3):
        add(f"MINE{number}", composed(KeptAlone(), effect=(drop, probability)[number % 2]))
    few, many = (
        Evaluator(task, metrics=names, value_table=False).score(CASE.attributions(task))
        for names in (["MINE0"], ["MINE0", "MINE1", "MINE2"])
    )
    assert few.meter.phases["probe"].forwards == many.meter.phases["probe"].forwards == 12


def test_all_logits_are_those_of_the_model_with_the_features_removed():
    class Highest(ProbeMetric):
        probe, reading, higher_is_better = FIXED, LOGITS, True

        def score(self, response):
            logits, clean = all_logits(response)
            seen.append((logits, clean, response))
            return logits[..., 0].mean(-1) - clean[:, 0]

    seen = []
    METRICS.register("HIGHEST", group="own")(Highest)
    for case in (CASES[0], CASE, CASES[3]):
        task = case.task()
        evaluator = case.evaluator(task, ["HIGHEST", "FC"])
        found = evaluator.score(case.attributions(task))
        sets = evaluator.subsets("fixed", slice(0, 6))
        logits, clean, response = seen[-1]
        assert torch.equal(clean, task.model(task.test.x))
        masks = sets.block(slice(0, 6), slice(0, 1))[0].expand(6, -1)
        torch.testing.assert_close(logits[0, :, 0], task.model(task.remove(task.test.x, masks)), rtol=0, atol=1e-12)
        target = evaluator.shared.target.view(-1, 1, 1).expand(-1, sets.shape[1], 1)
        prob = logits[0].softmax(-1).gather(-1, target).squeeze(-1)
        torch.testing.assert_close(response.prob[0], prob, rtol=0, atol=1e-12)
        assert found.reasons["HIGHEST"].eq(OK).all()


def test_layers_are_read_under_removal_and_their_hooks_are_gone_afterwards():
    class Layer(ProbeMetric):
        probe, higher_is_better = MORF, True

        def reading_on(self, task):
            return activations("1" if task.modality == "table" else "0")

        def score(self, response):
            (name,) = response.activations
            seen.append((response.activations[name], response.clean_activations[name]))
            return mean(drop(response), response)

    seen = []
    METRICS.register("LAYER", group="own")(Layer)
    for case in (CASE, CASES[2]):
        task = case.task()
        found = case.evaluator(task, ["LAYER"]).score(case.attributions(task))
        under, clean = seen[-1]
        whole = task.model[:2](task.test.x) if case is CASE else task.model[0](task.test.x)
        torch.testing.assert_close(clean, whole, rtol=0, atol=1e-12)
        assert under.shape == (1, 6, task.n_features, *whole.shape[1:])
        empty = task.remove(task.test.x, torch.ones(6, task.n_features, dtype=torch.bool))
        last = task.model[:2](empty) if case is CASE else task.model[0](empty)
        torch.testing.assert_close(under[0, :, -1], last, rtol=0, atol=1e-12)
        assert not any(module._forward_hooks for module in task.model.modules())
        assert found.reasons["LAYER"].eq(OK).all()


@dataclass(frozen=True)
class Wrong(SharedProbe):
    """What `made` says."""

    made: str

    def sets(self, samples):
        batch, features = samples.valid.shape
        masks = {"wide": (batch, 2, features + 1), "few": (batch - 1, 2, features), "none": (batch, 0, features)}
        return 3 if self.made == "number" else MaskSets.of(torch.zeros(masks[self.made], dtype=torch.bool))


@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (composed(MORF, reading=activations("nowhere")), UsageError, "the layer 'nowhere', which the model has not"),
        (composed(MORF, aggregate=lambda values, _: values), BenchmarkError, r"of shape \(1, 6\) .* got \(1, 6, 10\)"),
        (composed(MORF, aggregate=lambda _values, _r: 3), BenchmarkError, "got int"),
        (composed(MORF, aggregate=correlation), ValueError, "needs a probe that has one"),
        (composed(MORF, effect=lambda r: all_logits(r)[0]), ValueError, "give the metric the reading LOGITS"),
        (composed(Wrong("number")), UsageError, "expected removal sets such as MaskSets.of"),
        (composed(Wrong("wide")), UsageError, "expected masks of 10 features, got 11"),
        (composed(Wrong("few")), UsageError, "expected removal sets of 6 samples"),
        (composed(Wrong("none")), UsageError, "expected removal sets of 6 samples"),
    ],
    ids=["layer", "shape", "type", "mass", "logits", "number", "wide", "few", "none"],
)
def test_a_metric_that_goes_wrong_says_how(metric, error, message):
    add("WRONG", metric)
    task = CASE.task()
    with pytest.raises(error, match=message):
        Evaluator(task, metrics=["WRONG"]).score(CASE.attributions(task))
    assert not any(module._forward_hooks for module in task.model.modules())


def test_a_layer_that_gives_no_row_for_each_input_is_named():
    class Sums(torch.nn.Module):
        def forward(self, x):
            return x.sum(0)

    class Model(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.sums = inner, Sums()

        def forward(self, x):
            self.sums(x)
            return self.inner(x)

    task = CASE.task()
    task = replace(task, model=Model(task.model).eval())
    add("SUMS", composed(MORF, reading=activations("sums")))
    with pytest.raises(DataError, match="expected a row for each of"):
        Evaluator(task, metrics=["SUMS"]).score(CASE.attributions(task))


def test_what_is_undefined_has_a_reason():
    task = CASE.task()
    add("NAN", composed(MORF, aggregate=lambda values, _: values.mean(-1).masked_fill(torch.arange(6) == 2, torch.nan)))
    attributions = CASE.attributions(task)
    attributions[4] = torch.nan
    found = Evaluator(task, metrics=["NAN", "KL", "DEL"]).score(attributions)
    assert found.reasons["NAN"].tolist() == [OK, OK, UNDEFINED, OK, NON_FINITE, OK]
    assert found.reasons["KL"].tolist() == found.reasons["DEL"].tolist() == [OK] * 4 + [NON_FINITE, OK]


def test_a_sample_that_the_model_does_not_answer_is_marked_for_others_alone_where_they_alone_ask():
    """What others ask beyond the ten leaves the scores of the ten as they are."""

    class Model(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            alone = (x[:, :2] == 0).all(1) & (x[:, 2:] != 0).all(1)  # the first pair is gone, and nothing else
            return self.inner(x).masked_fill(alone.unsqueeze(1), torch.nan)

    task = next(case for case in CASES if case.name.startswith("mlp4")).task()
    task = replace(task, model=Model(task.model).eval())
    add("MINE", composed(Pairs()))
    attributions = torch.tensor([0.4, 0.1, 0.3, 0.2], dtype=torch.float64).repeat(6, 1)
    both = Evaluator(task, metrics=["DEL", "MINE"], value_table=False).score(attributions)
    assert both.reasons["MINE"].eq(MODEL_NON_FINITE).all()
    assert both.reasons["DEL"].eq(OK).all()


def test_what_others_share_is_stored_and_read_again(tmp_path):
    task = CASE.task()
    add("PAIRS", composed(Pairs()))
    names = ["DEL", "KL", "PAIRS"]
    first = Evaluator(task, metrics=names)
    first.shared.save(tmp_path / "shared", first.meter.summary())
    shared, costs = SharedPredictions.load(tmp_path / "shared", "cpu")
    again = Evaluator(task, metrics=names, shared=shared)
    assert again.meter.phases == {}
    assert costs["shared"]["forwards"] == first.meter.phases["shared"].forwards
    attributions = CASE.attributions(task)
    for name in names:
        assert same(first.score(attributions).scores[name], again.score(attributions).scores[name])


def test_probes_of_one_name_from_two_packages_have_answers_of_their_own(tmp_path):
    def package(first):
        @dataclass(frozen=True)
        class Half(SharedProbe):
            def sets(self, samples):
                columns = torch.arange(samples.valid.shape[1])
                gone = columns < 2 if first else columns > 6
                return MaskSets.of(gone.expand(len(samples.valid), 1, -1))

        Half.__qualname__ = "Half"
        return Half()

    one, other = package(True), package(False)
    assert repr(one) == repr(other)
    add("LEFT", composed(one, reading=LOGITS))
    add("RIGHT", composed(other, reading=LOGITS))
    task, names = CASE.task(), ["LEFT", "RIGHT"]
    attributions = CASE.attributions(task)
    both = Evaluator(task, metrics=names)
    both.shared.save(tmp_path / "shared", both.meter.summary())
    stored, _ = SharedPredictions.load(tmp_path / "shared", "cpu")
    for made in (both, Evaluator(task, metrics=names[::-1], shared=stored)):  # in whatever order they are asked for
        together = made.score(attributions).scores
        for name in names:
            assert same(together[name], Evaluator(task, metrics=[name]).score(attributions).scores[name]), name


def test_stored_answers_are_bound_to_the_source_of_each_metric(tmp_path, monkeypatch):
    """Two metrics whose files swap their names find no answers of each other."""
    from benchmark.core.registry import Entry
    from benchmark.running import built

    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(built, "metric_digest", lambda metric, module: module)
    paths = []
    for modules in (("one", "two"), ("two", "one")):
        for name, module in zip(("LEFT", "RIGHT"), modules, strict=True):
            METRICS._entries.pop(name, None), METRICS._objects.pop(name, None)
            add(name, composed(Pairs()))
            METRICS.add(Entry(name, module, "", {}))
        built._evaluator.__wrapped__(CASE.task(), 0, range(4), ("LEFT", "RIGHT"), "fp32", "eager")
        paths.append(set(tmp_path.rglob("*.safetensors")))
    assert len(paths[0]) == 1
    assert len(paths[1]) == 2


def test_a_metric_is_bound_to_the_source_of_its_probe_wherever_that_stands(tmp_path, monkeypatch):
    """A file may register a metric of an installed package, whose modules it alone does not lead to."""
    from benchmark.core import identity

    class Mine(ProbeMetric):
        def score(self, response):
            return mean(drop(response), response)

    found = []
    for number in (1, 2):
        name = f"probes_of_another_{number}"
        (tmp_path / f"{name}.py").write_text(
            f"from tests.benchmark.test_open_metrics import Pairs\nclass Probe(Pairs):\n    number = {number}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        Mine.probe = __import__(name).Probe()
        found.append(identity.metric_digest(Mine(), "benchmark.metrics.sufficiency"))
    assert found[0] != found[1]


def test_a_record_of_before_metrics_had_groups_is_read_and_ranked():
    from leaderboards.selection import group_of

    facts = {"version": 1, "higher_is_better": True, "family": "x", "order": 3, "title": "x"}
    assert [group_of("DEL", facts), group_of("MINE", facts)] == ["ten", "own"]
    assert group_of("MINE", facts | {"group": "ten"}) == "own"
    assert group_of("MINE", facts | {"group": "stability"}) == "stability"


# The explainer


class Again(ExplainerMetric):
    """The attribution of the input itself, explained again."""

    higher_is_better = True

    def score(self, subject):
        return (subject.explain(subject.x, subject.target) - subject.attribution).abs().amax(1)


def test_without_an_explainer_there_is_a_reason_and_no_error():
    task = CASE.task()
    found = Evaluator(task, metrics=["SENS", "DEL"]).score(CASE.attributions(task))
    assert list(found.scores) == ["SENS", "DEL"]
    assert found.scores["SENS"].isnan().all()
    assert found.reasons["SENS"].eq(NO_EXPLAINER).all()
    assert found.reasons["DEL"].eq(OK).all()
    text = TEXT.evaluator(TEXT.task(), ["SENS"]).score(torch.zeros(10, 70))
    assert text.reasons["SENS"].eq(NOT_APPLICABLE).all()


def test_an_explainer_is_asked_seeded_metered_and_sample_by_sample():
    METRICS.register("AGAIN", group="own")(Again)
    task = CASE.task()
    one = Evaluator(task, metrics=["AGAIN", "SENS"])
    found = one.evaluate(METHODS.get("saliency")(), "saliency")
    assert found.scores["AGAIN"].eq(0).all()
    assert (found.meter.phases["explain"].forwards, found.meter.phases["explain"].backwards) == (66, 66)
    assert found.meter.phases["attribute"].forwards == 6
    again = Evaluator(task, metrics=["SENS"]).evaluate(METHODS.get("saliency")(), "saliency")
    assert same(found.scores["SENS"], again.scores["SENS"])
    explained = Evaluator(task, metrics=["SENS"]).score(found.attributions, found.explain)
    assert same(found.scores["SENS"], explained.scores["SENS"])
    drawn = [Evaluator(task, metrics=["SENS"]).evaluate(METHODS.get("random")(), "random") for _ in range(2)]
    assert same(drawn[0].scores["SENS"], drawn[1].scores["SENS"])
    other = Evaluator(task, seed=1, metrics=["SENS"]).evaluate(METHODS.get("saliency")(), "saliency")
    assert not same(found.scores["SENS"], other.scores["SENS"])


def test_samples_without_an_answer_or_an_attribution_are_not_explained():
    class Counted(Again):
        def score(self, subject):
            seen.append(len(subject.x))
            return super().score(subject)

    seen = []
    METRICS.register("COUNTED", group="own")(Counted)
    task = CASE.task()
    attributions = CASE.attributions(task)
    attributions[1] = torch.inf
    found = Evaluator(task, metrics=["COUNTED"]).score(attributions, slopes(task))
    assert seen == [5]
    assert found.reasons["COUNTED"].tolist() == [OK, NON_FINITE, OK, OK, OK, OK]


def test_a_metric_that_leaves_the_model_changed_is_named_and_the_model_put_back():
    class Spoiling(ExplainerMetric):
        higher_is_better = True

        def score(self, subject):
            next(subject.task.model.parameters()).data.zero_()
            return subject.attribution.sum(1)

    METRICS.register("SPOILING", group="own")(Spoiling)
    task = CASE.task()
    before = [weight.clone() for weight in task.model.parameters()]
    with pytest.raises(BenchmarkError, match="it changed the weights of the model"):
        Evaluator(task, metrics=["SPOILING"]).score(CASE.attributions(task), slopes(task))
    assert all(torch.equal(a, b) for a, b in zip(before, task.model.parameters(), strict=True))


def test_a_method_can_be_prepared_on_another_model():
    class OnZeros(ExplainerMetric):
        higher_is_better = False

        def score(self, subject):
            other = torch.nn.Sequential(torch.nn.Linear(10, 3)).double().requires_grad_(False)
            other[0].weight.zero_()
            return subject.explain_model(other)(subject.x, subject.target).abs().sum(1)

    METRICS.register("ONZEROS", group="own")(OnZeros)
    found = Evaluator(CASE.task(), metrics=["ONZEROS"]).evaluate(METHODS.get("saliency")(), "saliency")
    assert found.scores["ONZEROS"].eq(0).all()


def test_noise_is_uniform_and_the_samples_own():
    seen = []

    class Noise(ExplainerMetric):
        higher_is_better = True

        def score(self, subject):
            seen.append(torch.stack([subject.uniform(str(i)) for i in range(100)]))
            return subject.attribution.sum(1)

    METRICS.register("NOISE", group="own")(Noise)
    task = next(case for case in CASES if case.name.startswith("cnn 3x")).task()
    for samples in (None, [3, 1]):
        evaluator = Evaluator(task, samples=samples, metrics=["NOISE"])
        evaluator.score(torch.zeros(len(evaluator.samples), task.n_features), slopes(task))
    noise, some = seen
    assert torch.equal(noise[:, [3, 1]], some)
    assert noise.shape[1:] == task.test.x.shape
    assert -1 <= noise.min() < -0.999
    assert 0.999 < noise.max() < 1
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.var()) == pytest.approx(1 / 3, abs=0.01)
    flat = noise.flatten(2).permute(1, 0, 2).flatten(1)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.02


def test_sensitivity_by_hand():
    task = CASE.task()
    steady, twice = (lambda x, target: torch.ones_like(x)), (lambda x, target: 2 * x)
    evaluator = Evaluator(task, metrics=["SENS"])
    assert evaluator.score(torch.ones(6, 10), steady).scores["SENS"].eq(0).all()
    linear = evaluator.score(2 * task.test.x, twice).scores["SENS"]
    bound = 0.02 * 10**0.5 / task.test.x.norm(dim=1)
    assert (linear < bound).all()
    assert (linear > bound / 3).all()
    assert evaluator.score(torch.zeros(6, 10), lambda x, _: torch.zeros_like(x)).scores["SENS"].eq(0).all()
