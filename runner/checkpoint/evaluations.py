"""Evaluations: what the checkpoints of a model_dir were worth, which outlasts the checkpoints themselves."""

import json
import logging
from collections.abc import Collection, Mapping

from runner.errors import ObjectNotFoundError
from runner.storage.directory import Directory

__all__ = ["EVALUATIONS", "read_evaluations", "record_evaluation"]

EVALUATIONS = ".runner/evaluations"

_logger = logging.getLogger(__name__)


def record_evaluation(directory: Directory, basename: str, metrics: Mapping[str, float], *, name: str = "eval") -> None:
    """Writes down the metrics of a checkpoint; those of an earlier evaluation of that name are replaced.

    Args:
        directory: The model_dir.
        basename: Of the checkpoint: `model.ckpt-<step>`.
        metrics: By name.
        name: Of the evaluation: that of its folder in the model_dir.
    """
    data = json.dumps({"metrics": {key: float(value) for key, value in metrics.items()}}, indent=1)
    directory.write_bytes(f"{EVALUATIONS}/{name}/{basename}.json", data.encode())


def read_evaluations(
    directory: Directory, basenames: Collection[str] | None = None
) -> Mapping[str, Mapping[str, float]]:
    """Basename -> metrics of every checkpoint that was evaluated, whether it still exists or not.

    Where several evaluations of a checkpoint have a metric of the same name, that of `eval` counts, else the last by
    name.

    Args:
        directory: The model_dir.
        basenames: Of which checkpoints; None: of all.
    """
    found: dict[str, dict[str, float]] = {}
    names = [entry.name for entry in directory.list(EVALUATIONS, recursive=True) if entry.name.endswith(".json")]
    for name in sorted(names, key=lambda name: (name.startswith(f"{EVALUATIONS}/eval/"), name)):
        basename = name.rpartition("/")[2].removesuffix(".json")
        if basenames is not None and basename not in basenames:
            continue
        found.setdefault(basename, {}).update(_read(directory, name))
    return found


def _read(directory: Directory, name: str) -> Mapping[str, float]:
    try:
        metrics = json.loads(directory.read_bytes(name))["metrics"]
        return {key: float(value) for key, value in metrics.items()}
    except ObjectNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _logger.warning("%s/%s is no record of an evaluation, and is left out: %r", directory.url, name, error)
        return {}
