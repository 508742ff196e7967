"""What the runs of train() and evaluate() write into their event files, besides summaries of the user."""

import logging
import os
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from runner.estimator.remote import is_remote
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["write_graph", "write_graph_text", "write_metrics"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")


def write_graph(writer: Any, graph: Any, saver: Any) -> None:
    """Writes graph and meta graph, as the Graphs tab of TensorBoard wants them."""
    writer.add_graph(graph)
    graph_def = graph.as_graph_def(add_shapes=True)
    writer.add_meta_graph(
        _v1.train.export_meta_graph(graph_def=graph_def, saver_def=saver.saver_def if saver else None)
    )


def write_graph_text(path: str, graph: Any) -> None:
    """Writes the graph as a text proto, whole or not at all.

    Args:
        path: Of the file, which is replaced; a local one or a URL.
        graph: A tf.Graph.
    """
    directory, name = os.path.split(path)
    graph_def = graph.as_graph_def(add_shapes=True)
    if is_remote(path):
        text = text_format.MessageToString(graph_def)
        open_directory(resolve_model_dir(directory)).write_bytes(name, text.encode())
    else:
        tf.io.write_graph(graph_def, directory, name)


def write_metrics(writer: Any, metrics: dict[str, Any], *, step: int, checkpoint_path: str | None) -> None:
    """Writes the results of an evaluation as summaries at `step`, except global_step itself.

    Args:
        writer: Of the eval directory.
        metrics: Numbers, arrays (tensor summaries), or bytes (a serialized Summary each).
        step: global_step of the checkpoint.
        checkpoint_path: Written as a text summary beside the metrics; None if the weights were only initialized.
    """
    _logger.info(
        "Saving dict for global step %d: %s",
        step,
        ", ".join(f"{name} = {value!s}" for name, value in sorted(metrics.items()) if not isinstance(value, bytes)),
    )
    summary = _v1.Summary()
    for name, value in sorted(metrics.items()):
        if name != _v1.GraphKeys.GLOBAL_STEP:
            _add_value(summary, name, value)
    writer.add_summary(summary, step)
    if checkpoint_path:
        path = _v1.Summary()
        metadata = _v1.SummaryMetadata(plugin_data=_v1.SummaryMetadata.PluginData(plugin_name="text"))
        tensor = tf.make_tensor_proto(checkpoint_path, dtype=tf.string)
        path.value.add(tag="checkpoint_path", tensor=tensor, metadata=metadata)
        writer.add_summary(path, step)
        _logger.info("Saving 'checkpoint_path' summary for global step %d: %s", step, checkpoint_path)
    writer.flush()


def _add_value(summary: Any, name: str, value: Any) -> None:
    if isinstance(value, bytes):
        try:
            parsed = _v1.Summary.FromString(value)
        except DecodeError:
            _logger.warning("Skipping summary for %s, cannot parse string to Summary.", name)
            return
        for index, item in enumerate(parsed.value):
            item.tag = f"{name}/{index}"
            summary.value.add().CopyFrom(item)
    elif isinstance(value, np.ndarray) and value.ndim:
        summary.value.add(tag=name, node_name=name, tensor=tf.make_tensor_proto(value))
        _logger.info(
            "Summary for np.ndarray is not visible in Tensorboard by default. Consider using a Tensorboard plugin for "
            "visualization (see https://github.com/tensorflow/tensorboard-plugin-example/blob/master/README.md for "
            "more information)."
        )
    elif isinstance(value, (np.floating, np.integer, int, float)):
        summary.value.add(tag=name, simple_value=float(value))
    else:
        _logger.warning(
            "Skipping summary for %s, must be a float, np.float32, np.int64, np.int32 or int or np.ndarray or a "
            "serialized string of Summary.",
            name,
        )
