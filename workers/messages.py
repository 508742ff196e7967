"""What a supervisor and its training process say to each other, one JSON object a line.

The supervisor writes to the process's standard input: first a TrainerTask, later a Cluster (once the roster is
sealed). The end of that pipe means that the supervisor is gone, and the training process ends itself and its process
group at once. The training process writes Report lines to the file descriptor named by RUNNER_REPORT_FD. Standard
output and error are its log.
"""

from pydantic import JsonValue

from runner.cluster import ClusterSpec, TaskType
from runner.jobs.spec import Model
from runner.jobs.state import Outcome, Progress

__all__ = ["REPORT_FD_VARIABLE", "Cluster", "Report", "TrainerTask"]

REPORT_FD_VARIABLE = "RUNNER_REPORT_FD"


class TrainerTask(Model):
    """What one training process is to do.

    Attributes:
        entry: "module:function" that makes the Experiment.
        code: sha256 of the code snapshot, which checkpoints name; None: the entry comes with the environment.
        code_dir: The snapshot, unpacked: working directory and first on sys.path; None: the entry comes with the
            environment.
    """

    job_id: str
    generation: int
    task_type: TaskType
    index: int
    entry: str
    params: dict[str, JsonValue]
    model_dir: str
    code: str | None = None
    code_dir: str | None = None


class Cluster(Model):
    """The sealed roster; empty for a chief alone, which runs without a server."""

    addresses: ClusterSpec


class Report(Model):
    """Either a sign of life, or, as the last line, how the task ended."""

    progress: Progress | None = None
    outcome: Outcome | None = None
