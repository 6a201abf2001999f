"""What the study of extractors found: figures, tables and sentences from the fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from tskd_tune.reports.judge import statistics
from tskd_tune.studies.extractor.fits import LINEAR, ORDERS, Fit, Fitted, Job
from tskd_tune.studies.extractor.laws import LAWS
from tskd_tune.studies.found import Cell, Chart, Figure, Found, NamedTable, Table

BEST = "best forecast"
HELD_OUT = "R² on held-out sequences"
SPREAD = ("R2", "low", "high", "seeds")
Values: TypeAlias = Mapping[int, float]


@dataclass(frozen=True)
class Generated:
    """A fit to generated sequences, and what came of it."""

    job: Job
    fitted: Fitted


@dataclass(frozen=True)
class OnRecording:
    """A fit to the recorded sequences of one training, and what came of it."""

    tap: str
    target: str
    seed: int
    fit: Fit
    fitted: Fitted


@dataclass(frozen=True)
class Results:
    """All fits of the study.

    Attributes:
        generated: the fits to generated sequences.
        recorded: the fits to recorded sequences.
        base: the sizes with which all extractors are compared: k, layers, hidden.
        sizes: the sizes of `conv_lstm` on the blob.
    """

    generated: tuple[Generated, ...]
    recorded: tuple[OnRecording, ...]
    base: Mapping[str, int]
    sizes: Sequence[Mapping[str, int]]

    def of(self, law: str, extractor: str, order: str = "forward") -> Values:
        """Return seed -> R^2 of an extractor with the sizes of the comparison."""
        options = {key: self.base[key] for key in ("hidden", "layers")}
        return {
            one.job.seed: one.fitted.r2
            for one in self.generated
            if (one.job.law, one.job.k) == (law, self.base["k"])
            and (one.job.fit.extractor, one.job.fit.order) == (extractor, order)
            and all(options[key] == value for key, value in one.job.fit.options)
            and one.fitted.r2 is not None
        }

    def best(self, law: str) -> Values:
        """Return seed -> R^2 of the best forecast on the same held-out sequences."""
        return {
            one.job.seed: one.fitted.best
            for one in self.generated
            if (one.job.law, one.job.k) == (law, self.base["k"]) and one.fitted.best is not None
        }

    def at(self, sizes: Mapping[str, int]) -> Values:
        """Return seed -> R^2 of `conv_lstm` of these sizes on the blob."""
        return {
            one.job.seed: one.fitted.r2
            for one in self.generated
            if (one.job.law, one.job.k, one.job.fit.extractor, one.job.fit.order)
            == ("blob", sizes["k"], "conv_lstm", "forward")
            and dict(one.job.fit.options) == {key: sizes[key] for key in ("hidden", "layers")}
            and one.fitted.r2 is not None
        }

    def on(self, tap: str, target: str, extractor: str, order: str = "forward") -> Values:
        """Return seed -> R^2 on recorded sequences."""
        return {
            one.seed: one.fitted.r2
            for one in self.recorded
            if (one.tap, one.target, one.fit.extractor, one.fit.order) == (tap, target, extractor, order)
            and one.fitted.r2 is not None
        }

    @property
    def extractors(self) -> list[str]:
        """The extractors of the comparison."""
        return list(dict.fromkeys(one.fit.extractor for one in self.recorded if one.fit.order == "forward"))

    @property
    def time(self) -> list[str]:
        """The extractors that claim to predict in time and space."""
        return [name for name in self.extractors if name not in LINEAR]

    @property
    def orders_of(self) -> list[str]:
        """The extractors with arms of another order."""
        return list(dict.fromkeys(one.fit.extractor for one in self.recorded if one.fit.order != "forward"))

    @property
    def order_laws(self) -> list[str]:
        """The laws with arms of another order."""
        return [law for law in LAWS if any(self.of(law, name, ORDERS[1]) for name in self.orders_of)]

    @property
    def places(self) -> list[tuple[str, str]]:
        """The recorded taps and targets."""
        return list(dict.fromkeys((one.tap, one.target) for one in self.recorded))


def found(results: Results) -> Found:
    """Return what the study found."""
    figures = (_laws(results), _orders(results), _sizes(results), _recorded(results), _recorded_orders(results))
    return Found(tuple(_sentences(results)), figures, (_ceilings(results),), _counted(results))


def _spread(values: Values) -> tuple[Cell, Cell, Cell, Cell]:
    """Return mean, both ends of the 95 % t interval over seeds, and the number of seeds."""
    arm = statistics.arm(values)
    low, high = (None, None) if arm.interval is None else (arm.interval.low, arm.interval.high)
    return arm.mean, low, high, arm.n


def _bars(x: str, group: str) -> Chart:
    return Chart("bars", x, "R2", group=group, low="low", high="high", x_title=x, y_title=HELD_OUT, reference=0.0)


def _laws(results: Results) -> Figure:
    rows = []
    for law, known in LAWS.items():
        ceiling = known.ceiling(results.base["k"])
        arms = {name: results.of(law, name) for name in results.extractors} | {BEST: results.best(law)}
        for name, values in arms.items():
            spread = _spread(values)
            share = spread[0] / ceiling if ceiling and isinstance(spread[0], float) else None
            rows.append((law, name, *spread, ceiling, share))
    return Figure(
        "generated",
        "What extractors explain of generated sequences",
        "R² on held-out sequences, with 95 % t intervals over seeds. The best forecast knows the law of the sequences. "
        f"{', '.join(LINEAR)} take each pixel alone and are fitted by least squares; the others also take in space.",
        Table(("law", "extractor", *SPREAD, "ceiling", "share of ceiling"), tuple(rows)),
        _bars("extractor", "law"),
    )


def _orders(results: Results) -> Figure:
    rows = [
        (f"{name}, {law}", order, *_spread(results.of(law, name, order)))
        for law in results.order_laws
        for name in results.orders_of
        for order in ORDERS
    ]
    return Figure(
        "orders",
        "Generated sequences in another order",
        "Extractors that were fitted to, and measured on, sequences in another order. An arm without the order of the "
        "maps (shuffled), with the last map only (repeat_last) or with nothing (zeros) shows what the order gives.",
        Table(("arm", "order", *SPREAD), tuple(rows)),
        _bars("order", "arm"),
    )


def _sizes(results: Results) -> Figure:
    rows = [
        (
            f"k {sizes['k']}, layers {sizes['layers']}, hidden {sizes['hidden']}",
            sizes["k"],
            sizes["layers"],
            sizes["hidden"],
            *_spread(results.at(sizes)),
            LAWS["blob"].ceiling(sizes["k"]),
        )
        for sizes in results.sizes
    ]
    return Figure(
        "sizes",
        "Length of the sequence, depth and width of conv_lstm",
        "R² on the moving blob. The first row has the sizes of all other figures; in each other row one size differs. "
        "The dotted line is the ceiling.",
        Table(("sizes", "k", "layers", "hidden", *SPREAD, "ceiling"), tuple(rows)),
        Chart(
            "intervals",
            "sizes",
            "R2",
            low="low",
            high="high",
            y_title=HELD_OUT,
            reference=LAWS["blob"].ceiling(results.base["k"]),
        ),
    )


def _recorded(results: Results) -> Figure:
    rows = [
        (f"{target}, {tap}", name, *_spread(results.on(tap, target, name)))
        for tap, target in results.places
        for name in results.extractors
    ]
    return Figure(
        "recorded",
        "What extractors explain of recorded trainings",
        "R² on validation images; the extractors were fitted to training images of the same student. R² is 0 for the "
        "mean map of the fitted targets. last_step, mean and linear have one bias for all pixels and can be below 0.",
        Table(("target", "extractor", *SPREAD), tuple(rows)),
        _bars("extractor", "target"),
    )


def _recorded_orders(results: Results) -> Figure:
    rows = [
        (f"{name}, {target}, {tap}", order, *_spread(results.on(tap, target, name, order)))
        for tap, target in results.places
        for name in results.orders_of
        for order in ORDERS
    ]
    return Figure(
        "recorded_orders",
        "Recorded sequences in another order",
        "The arms of another order on the sequences of real trainings.",
        Table(("arm", "order", *SPREAD), tuple(rows)),
        _bars("order", "arm"),
    )


def _ceilings(results: Results) -> NamedTable:
    rows = tuple(
        (name, law.says, law.ceiling(results.base["k"]), _spread(results.best(name))[0], law.derivation)
        for name, law in LAWS.items()
    )
    return NamedTable(
        "ceilings",
        "The laws and their ceilings",
        "The ceiling is the R² of the best forecast by its formula. Beside it is the R² of the same forecast on the "
        "held-out sequences of this study.",
        Table(("law", "sequences", "ceiling", "measured", "formula"), rows),
    )


def _counted(results: Results) -> Table:
    fitted = [*(one.fitted for one in results.generated), *(one.fitted for one in results.recorded)]
    rows = (
        ("fits", len(fitted)),
        ("constant targets, left out", sum(one.constant for one in fitted)),
        ("fits that failed (predictions not finite), left out", sum(one.failed for one in fitted)),
    )
    return Table(("what", "number"), rows)


def _sentences(results: Results) -> Iterator[str]:
    ceiling = LAWS["blob"].ceiling(results.base["k"])
    blob = {name: results.of("blob", name) for name in results.time}
    worst = min((name for name in blob if blob[name]), key=lambda name: _mean(blob[name]), default=None)
    if worst is not None:
        yield (
            f"On the moving blob every extractor in time and space explains at least {_mean(blob[worst]):.3f} of the "
            f"variance; the ceiling is {ceiling:.3f}. The lowest is {worst}: {_said(blob[worst])}."
        )
    noise = {name: results.of("noise", name) for name in results.extractors}
    farthest = max((name for name in noise if noise[name]), key=lambda name: abs(_mean(noise[name])), default=None)
    if farthest is not None:
        yield f"On noise the R² farthest from 0 is that of {farthest}: {_said(noise[farthest])}."
    for name in results.orders_of:
        for law in results.order_laws:
            yield from _order_matters(
                f"{name} on the sequences of {law}", results.of(law, name), results.of(law, name, "shuffled")
            )
        for tap, target in results.places:
            yield from _order_matters(
                f"{name} on recorded sequences ({target}, {tap})",
                results.on(tap, target, name),
                results.on(tap, target, name, "shuffled"),
            )


def _order_matters(where: str, forward: Values, shuffled: Values) -> Iterator[str]:
    """Say what the order gives, with the seeds paired."""
    gains = {seed: forward[seed] - shuffled[seed] for seed in forward.keys() & shuffled.keys()}
    if gains:
        yield (
            f"The order of the maps gives {where} an R² higher by {_said(gains)}: {_mean(forward):.3f} against "
            f"{_mean(shuffled):.3f} with shuffled maps."
        )


def _said(values: Values) -> str:
    mean, low, high, n = _spread(values)
    ends = f"[{low:.3f}, {high:.3f}], " if isinstance(low, float) and isinstance(high, float) else ""
    return f"{mean:.3f} ({ends}{n} seeds)"


def _mean(values: Values) -> float:
    return fmean(values.values())
