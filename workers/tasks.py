"""The task that the coordinator rings for."""

from typing import Any

from celery import shared_task

from runner.cluster import Place, TaskType

__all__ = ["RUN_TASK", "run_task"]

RUN_TASK = "workers.run_task"


@shared_task(name=RUN_TASK, bind=True)
def run_task(task: Any, job_id: str, generation: int, task_type: str, index: int) -> None:
    """Runs one task of one generation in a slot of this worker, from the claim of its place to the release."""
    task.app.slots.run(job_id, generation, Place(TaskType(task_type), index))
