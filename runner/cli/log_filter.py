"""LogFilter: what a person wants to read of a job's log."""

import re

from runner.cluster import Place, TaskType
from runner.jobs.state import LogLine

__all__ = ["LogFilter"]

_INFO = "INFO:tensorflow:"
_NOISE = re.compile(
    # TensorFlow's C++ code, before and after it has set up its log; a fatal line, F, says why a process ended.
    r"[IWE]\d{4} [\d:.]+ +\d+ \S+\.(cc|h):\d+\] "
    r"|\d{4}-\d\d-\d\d [\d:.]+: [IWE] \S+\.(cc|h):\d+\] "
    r"|WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|To enable the following instructions: .* rebuild TensorFlow with the appropriate compiler flags"
    r"|INFO:tensorflow:(Using config: |TF_CONFIG environment variable: )"
)
# What prints a session_config or a deprecation needs several lines for it: how they begin, and the last of them.
_BLOCKS = (
    (re.compile(r"INFO:tensorflow:Using config: \{(?!.*\}$)"), re.compile(r", '_")),
    (re.compile(r"WARNING:tensorflow:From .* deprecated"), re.compile(r"(?!Instructions for updating:)")),
)
_MAX_BLOCK_LINES = 50


class LogFilter:
    """Passes what the user's code printed, and TensorFlow's INFO lines of the chief alone."""

    def __init__(self) -> None:
        self._blocks: dict[Place, tuple[re.Pattern[str], int]] = {}

    def passes(self, line: LogLine) -> bool:
        """Whether a line, the next one of the log, is worth showing."""
        if line.place in self._blocks:
            self._continue(line)
            return False
        for first, last in _BLOCKS:
            if first.match(line.line):
                self._blocks[line.place] = last, _MAX_BLOCK_LINES
                return False
        if _NOISE.match(line.line):
            return False
        return line.place.task_type is TaskType.CHIEF or not line.line.startswith(_INFO)

    def _continue(self, line: LogLine) -> None:
        last, lines_left = self._blocks.pop(line.place)
        # Lines can be dropped on their way, the last one too.
        if lines_left > 1 and not last.match(line.line):
            self._blocks[line.place] = last, lines_left - 1
