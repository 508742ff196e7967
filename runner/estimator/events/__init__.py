"""Event files for TensorBoard, in a model_dir on any store."""

from runner.estimator.events.event_file import EventFile, remote_writers
from runner.estimator.events.history import EventHistory
from runner.estimator.events.summaries import write_graph, write_graph_text, write_metrics

__all__ = ["EventFile", "EventHistory", "remote_writers", "write_graph", "write_graph_text", "write_metrics"]
