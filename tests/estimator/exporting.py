"""An exporter that writes down what it is told."""

from pathlib import Path
from typing import Any


class RecordingExporter:
    """Keeps its calls, and returns the path it was given and the step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[dict[str, Any]] = []

    def export(
        self,
        *,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> bytes:
        self.calls.append(
            {
                "export_path": export_path,
                "checkpoint": Path(checkpoint_path).name,
                "step": int(eval_result["global_step"]),
                "is_final": is_the_final_export,
            }
        )
        return f"{export_path}/{eval_result['global_step']}".encode()

    @property
    def steps(self) -> list[int]:
        return [call["step"] for call in self.calls]
