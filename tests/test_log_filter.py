"""What is shown of a job's log: the user's own lines, and TensorFlow's INFO lines of the chief."""

import pytest

from runner.cli.log_filter import LogFilter
from runner.cluster import Place
from runner.jobs.state import LogLine

CHIEF, WORKER = Place.parse("chief:0"), Place.parse("worker:0")


def shown(text: str, place: Place = CHIEF) -> list[str]:
    """Those of the lines that pass, the others of which another task has interrupted."""
    log_filter = LogFilter()
    passed = []
    for line in text.splitlines():
        if log_filter.passes(LogLine("1-0", 1, place, line)):
            passed.append(line)
        assert log_filter.passes(LogLine("1-0", 1, Place.parse("worker:1"), "printed"))
    return passed


@pytest.mark.parametrize(
    "noise",
    [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795366666.281399   10629 port.cc:153] oneDNN custom operations are on.",
        "E0000 00:00:1795366675.231228   10624 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error",
        "2026-11-22 16:58:08.123456: W tensorflow/core/framework/op_kernel.cc:1] slow",
        "To enable the following instructions: AVX2 FMA, rebuild TensorFlow with the appropriate compiler flags.",
        "INFO:tensorflow:Using config: {'_model_dir': '/m', '_session_config': None}",
        "INFO:tensorflow:Using config: {'_session_config': graph_options {\n  a {\n  }\n}\n, '_max': 5, '_x': {}}",
        "WARNING:tensorflow:From a.py:1: f (from b) is deprecated and will be removed.\n"
        "Instructions for updating:\nUse g.",
    ],
)
@pytest.mark.parametrize("place", [CHIEF, WORKER])
def test_what_tensorflow_prints_while_it_starts_is_left_out(noise: str, place: Place) -> None:
    assert shown(f"before\n{noise}\nafter", place) == ["before", "after"]


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "I1122 16:58:08.123456 1234 train.py:12] logged by the user's code",
        "F0000 00:00:1795366675.231228   10624 tensor.cc:52] Check failed: false",
        "Traceback (most recent call last):",
        "WARNING:tensorflow:something else",
        "",
    ],
)
@pytest.mark.parametrize("place", [CHIEF, WORKER])
def test_what_the_user_prints_is_shown(line: str, place: Place) -> None:
    assert shown(f"{line}\nafter", place) == [line, "after"]


def test_of_the_progress_that_tensorflow_prints_the_chief_is_enough() -> None:
    line = "INFO:tensorflow:loss = 1.4690514, step = 1"

    assert shown(line, CHIEF) == [line]
    assert shown(line, WORKER) == []


def test_a_block_whose_end_was_lost_hides_no_more_than_some_lines() -> None:
    lines = ["INFO:tensorflow:Using config: {'a': b {", *("line" for _ in range(60))]

    assert shown("\n".join(lines)) == ["line"] * 10
