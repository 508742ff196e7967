"""Retention: which checkpoints stay when a new one is published."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["KeepBest", "Published", "Retained", "Retention"]

_HOUR_SECS = 3600


@dataclass(frozen=True)
class KeepBest:
    """Also keep the checkpoint whose evaluation is the best so far.

    Args:
        metric: Name of the metric, as evaluate() returns it.
        mode: Whether the best is the highest value, "max", or the lowest, "min".

    Raises:
        ValueError: The mode is another one, or the metric has no name.
    """

    metric: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        if not self.metric or self.mode not in {"max", "min"}:
            raise ValueError(f'{self!r}: expected the name of a metric, and the mode "max" or "min".')

    def select(self, evaluations: Mapping[str, Mapping[str, float]]) -> str | None:
        """The best of the checkpoints, by their metrics; of equal ones the first. None if none has the metric."""
        values = {name: metrics[self.metric] for name, metrics in evaluations.items() if self.metric in metrics}
        comparable = {name: value for name, value in values.items() if not math.isnan(value)}
        if not comparable:
            return None
        return (max if self.mode == "max" else min)(comparable, key=comparable.__getitem__)


@dataclass(frozen=True)
class Published:
    """A checkpoint that retention counts.

    Attributes:
        basename: `model.ckpt-<step>`.
        timestamp: When it was published, in seconds since the epoch.
    """

    basename: str
    timestamp: float


@dataclass(frozen=True)
class Retained:
    """What becomes of the checkpoints.

    Attributes:
        listed: Those that go on being counted, from the oldest to the newest.
        kept: Those that from now on are kept for good.
        dropped: Those to delete.
        last_preserved: What the next n hours count from, in seconds since the epoch.
    """

    listed: tuple[Published, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    last_preserved: float


@dataclass(frozen=True)
class Retention:
    """As tf.compat.v1.train.Saver: the newest, and one of those before for every so many hours; and the best.

    Args:
        max_to_keep: How many of the newest are kept; None or 0 keeps all, and for good.
        every_n_hours: One of the older checkpoints is kept for good for each period of so many hours; None keeps none.
        best: Which one is kept for its metric, as long as no other is better; None keeps none.
    """

    max_to_keep: int | None = 5
    every_n_hours: float | None = None
    best: KeepBest | None = None

    def retain(
        self,
        listed: Sequence[Published],
        *,
        last_preserved: float,
        evaluations: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Retained:
        """Decides on the checkpoints, the newest of which has just been published and always stays.

        Args:
            listed: Those that are counted, from the oldest to the newest.
            last_preserved: When the run began, or what `Retained.last_preserved` was, also in an earlier run.
            evaluations: Basename -> metrics, of those that have been evaluated.
        """
        if not self.max_to_keep:
            return Retained(tuple(listed[-1:]), tuple(each.basename for each in listed[:-1]), (), last_preserved)
        old, newest = listed[: -self.max_to_keep], listed[-self.max_to_keep :]
        names = {each.basename for each in listed}
        evaluated = {name: metrics for name, metrics in (evaluations or {}).items() if name in names}
        best = self.best.select(evaluated) if self.best else None
        kept, dropped = [], []
        for each in old:
            if each.basename == best:
                continue
            if self._is_due(each.timestamp, last_preserved):
                last_preserved = self._period_of(each.timestamp, last_preserved)
                kept.append(each.basename)
            else:
                dropped.append(each.basename)
        best_listed = [each for each in old if each.basename == best]
        return Retained((*best_listed, *newest), tuple(kept), tuple(dropped), last_preserved)

    def _is_due(self, timestamp: float, last_preserved: float) -> bool:
        return bool(self.every_n_hours) and timestamp > last_preserved + (self.every_n_hours or 0) * _HOUR_SECS

    def _period_of(self, timestamp: float, last_preserved: float) -> float:
        """The begin of the period that holds a timestamp: periods do not drift, and those without a save are over."""
        period_secs = (self.every_n_hours or 0) * _HOUR_SECS
        begun = last_preserved + math.floor((timestamp - last_preserved) / period_secs) * period_secs
        return min(begun, timestamp)
