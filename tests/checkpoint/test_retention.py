"""Which checkpoints stay, decided from their times and metrics."""

from collections.abc import Mapping, Sequence

import pytest

from runner.checkpoint.retention import KeepBest, Published, Retained, Retention

HOUR = 3600.0


def published(*steps: int, minutes: float = 1) -> list[Published]:
    return [Published(f"model.ckpt-{step}", step * minutes * 60) for step in steps]


def steps_of(names: Sequence[Published | str]) -> list[int]:
    return [int((each if isinstance(each, str) else each.basename).rpartition("-")[2]) for each in names]


def run(
    retention: Retention,
    *,
    saves: int,
    minutes: float,
    evaluations: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[list[int], list[int]]:
    """A training that saves every so many minutes: the steps that are counted in the end, and those kept for good."""
    state, kept = Retained((), (), (), last_preserved=0), list[str]()
    for each in published(*range(1, saves + 1), minutes=minutes):
        state = retention.retain([*state.listed, each], last_preserved=state.last_preserved, evaluations=evaluations)
        kept += state.kept
        assert not set(state.dropped) & {*kept, *(listed.basename for listed in state.listed)}
    return steps_of(state.listed), steps_of(kept)


@pytest.mark.parametrize(("keep", "left"), [(1, [9]), (2, [8, 9]), (20, [*range(1, 10)])])
def test_the_newest_are_kept(keep: int, left: list[int]) -> None:
    assert run(Retention(keep), saves=9, minutes=1) == (left, [])


@pytest.mark.parametrize("keep", [None, 0])
def test_without_a_number_all_are_kept_for_good(keep: int | None) -> None:
    assert run(Retention(keep), saves=4, minutes=1) == ([4], [1, 2, 3])


def test_less_than_before_drops_all_that_are_too_many() -> None:
    retained = Retention(2).retain(published(1, 2, 3, 4, 5), last_preserved=0)

    assert (steps_of(retained.listed), steps_of(retained.dropped)) == ([4, 5], [1, 2, 3])


def test_one_for_every_n_hours_is_kept_for_good_and_the_periods_do_not_drift() -> None:
    # Every 25 minutes; the first after each full hour: minutes 75, 125, 200, 250.
    listed, kept = run(Retention(2, every_n_hours=1), saves=13, minutes=25)

    assert listed == [12, 13]
    assert kept == [3, 5, 8, 10]


def test_after_a_long_pause_one_checkpoint_is_kept_and_not_one_for_each_hour() -> None:
    retention = Retention(1, every_n_hours=1)
    times = [0, 10 * HOUR, 10 * HOUR + 60, 10 * HOUR + 120, 11 * HOUR + 60]
    state, kept = Retained((), (), (), last_preserved=0), list[str]()

    for step, time in enumerate(times):
        state = retention.retain(
            [*state.listed, Published(f"model.ckpt-{step}", time)], last_preserved=state.last_preserved
        )
        kept += state.kept

    assert steps_of(kept) == [1]


def test_the_best_is_kept_as_long_as_no_other_is_better() -> None:
    values = [0.1, 0.9, 0.3, 0.9, float("nan"), 0.2, 0.95, 0.4, 0.4]
    evaluations = {f"model.ckpt-{step}": {"accuracy": value} for step, value in enumerate(values, start=1)}
    retention = Retention(2, best=KeepBest("accuracy"))

    left = [run(retention, saves=saves, minutes=1, evaluations=evaluations)[0] for saves in range(1, 10)]

    assert left == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [2, 5, 6], [6, 7], [7, 8], [7, 8, 9]]


def test_the_best_may_be_the_lowest_and_need_not_be_known() -> None:
    evaluations = {"model.ckpt-2": {"loss": 0.5}, "model.ckpt-3": {"loss": 0.75, "accuracy": 1}}

    assert run(Retention(1, best=KeepBest("loss", "min")), saves=5, minutes=1, evaluations=evaluations)[0] == [2, 5]
    assert run(Retention(1, best=KeepBest("nosuch")), saves=5, minutes=1, evaluations=evaluations)[0] == [5]


@pytest.mark.parametrize(("metric", "mode"), [("", "max"), ("loss", "lowest")])
def test_a_policy_that_says_nothing_is_refused(metric: str, mode: str) -> None:
    with pytest.raises(ValueError, match='the mode "max" or "min"'):
        KeepBest(metric, mode)  # type: ignore[arg-type]
