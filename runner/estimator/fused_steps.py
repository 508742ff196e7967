"""FusedSteps: many steps of a graph in one call of the session.

What a step runs is imported once more, as the body of a loop in the graph. The variables, the tables and the iterator
of the input are those of the step itself.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import while_v2

__all__ = ["Fused", "FusedSteps"]

_v1 = tf.compat.v1

_SCOPE = "fused_step"
_COPIED_NAME = re.compile(rf"(\{{\{{function_node fused_steps[^}}]*\}}\}})?\{{\{{node [^}}]*\b{_SCOPE}/")

_ALLOWED = re.compile(
    r"Assert|Print(V2)?|IteratorGetNext(Sync)?"
    r"|VarHandleOp|ReadVariableOp|VariableShape|VarIsInitializedOp|Assign(Add|Sub)?VariableOp"
    r"|Resource(Gather\w*|Scatter\w+|Apply\w+|SparseApply\w+|StridedSliceAssign)"
    r"|LookupTable(Find|Size)V2|(Stateful)?PartitionedCall|If|While|Case"
)
"""Stateful operations that do the same in another place of the graph.

A random one does not: it would have a generator of its own, so that its numbers depended on which steps are fused.
"""


_MOST_BYTES = 2**25
"""Of a step, with its constants, that is copied: a large one would need its memory several times over."""


class Fused(NamedTuple):
    """What a call has done.

    Attributes:
        runs: Number of steps that ran.
        loss: The loss of the last one; None if there was none.
        step: The global_step reached.
        stride: By how much the last one increased it.
    """

    runs: int
    loss: Any
    step: int
    stride: int


class FusedSteps:
    """The loop over one graph's step.

    Args:
        session: An open session of the graph, which is finalized, and is again when this returns.
        train_op: Operation or tensor that is one step.
        loss: Scalar, of the same run.
        step: int64 scalar, the global_step that the same run reached.
    """

    def __init__(self, session: Any, *, train_op: Any, loss: Any, step: Any) -> None:
        self._session = session
        graph = session.graph
        graph._unsafe_unfinalize()  # noqa: SLF001 - nothing that a user could have seen is changed
        try:
            # A device function has placed the operations of the step; the copies stay where those are.
            with graph.as_default(), tf.device(None), tf.name_scope("fused_steps"):
                self._build(_step_of(graph, [train_op, loss, step]), train_op, loss, step)
        finally:
            graph.finalize()
        self._call = self._prepare()

    @staticmethod
    def is_possible(session: Any, *, train_op: Any, loss: Any, step: Any) -> bool:
        """Whether the graph allows it: its step is small, and has no control flow of TensorFlow 1 and no state."""
        step_def = _step_of(session.graph, [train_op, loss, step])
        return bool(loss.dtype.is_floating) and step_def.ByteSize() <= _MOST_BYTES and _is_movable(step_def)

    def run(self, step: int, *, stride: int, due: int, max_runs: int, max_secs: float = math.inf) -> Fused:
        """Runs steps up to the one before `due`, or until the loss is not a number.

        Args:
            step: The global_step now.
            stride: By how much a run may increase it.
            due: The step to stop before.
            max_runs: How many runs at most.
            max_secs: Seconds after which no more runs begin: the input, for one, may become slower at any time.

        Raises:
            tf.errors.OutOfRangeError: The input ended; see `progress`.
        """
        feeds = (np.int64(step), np.int64(stride), np.int64(due), np.int64(max_runs), np.float64(max_secs))
        runs, loss, reached, before = self._session._do_call(self._named, feeds)  # noqa: SLF001 - as Session.run
        return Fused(int(runs), loss, int(reached), int(reached - before))

    def progress(self) -> tuple[int, Any]:
        """The runs of the last call, and the loss of the last of them, if the end of the input ended it."""
        runs = int(self._session.run(self._runs_done))
        return runs, self._session.run(self._last_loss) if runs else None

    def _build(self, step_def: Any, train_op: Any, loss: Any, step: Any) -> None:
        graph = _v1.get_default_graph()
        handles = [graph.get_operation_by_name(node.name).outputs[0] for node in step_def.node if _is_handle(node)]
        moved = _without(step_def, {handle.op.name for handle in handles})
        feeds = [_v1.placeholder(tf.int64, [], name=name) for name in ("step", "stride", "due", "max_runs")]
        feeds.append(_v1.placeholder(tf.float64, [], name="max_secs"))
        first_step, stride, due, max_runs, max_secs = feeds
        start_secs = tf.timestamp()
        runs_done, last_loss = _cell(tf.int64, "runs"), _cell(loss.dtype, "loss")
        with tf.control_dependencies([tf.raw_ops.AssignVariableOp(resource=runs_done, value=tf.zeros([], tf.int64))]):
            first_step = tf.identity(first_step)

        def goes_on(runs: Any, previous_loss: Any, reached: Any, before: Any) -> Any:
            fits = reached + tf.maximum(reached - before, stride) < due
            with tf.control_dependencies([runs]):  # now, and not when the loop began
                is_time = (runs < 1) | (tf.timestamp() - start_secs < max_secs)
            return fits & (runs < max_runs) & is_time & ~tf.math.is_nan(previous_loss)

        def body(runs: Any, previous_loss: Any, reached: Any, before: Any) -> Any:  # noqa: ARG001 - see `goes_on`
            inner = {handle.name: _v1.get_default_graph().capture(handle) for handle in handles}
            names = [train_op.name, loss.name, step.name]
            done, new_loss, new_step = tf.graph_util.import_graph_def(moved, inner, names, name=_SCOPE)
            with tf.control_dependencies([done, new_loss, new_step]):
                runs = runs + 1
            # The end of the input ends the loop with an error, and without results.
            kept = [
                tf.raw_ops.AssignVariableOp(resource=runs_done, value=runs),
                tf.raw_ops.AssignVariableOp(resource=last_loss, value=new_loss),
            ]
            with tf.control_dependencies(kept):
                return tf.identity(runs), tf.reshape(new_loss, []), tf.identity(new_step), reached

        start = [tf.zeros([], tf.int64), tf.zeros([], loss.dtype), first_step, first_step]
        self._results = while_v2.while_loop(goes_on, body, start, return_same_structure=True)
        self._feeds = feeds
        self._runs_done = tf.raw_ops.ReadVariableOp(resource=runs_done, dtype=tf.int64)
        self._last_loss = tf.raw_ops.ReadVariableOp(resource=last_loss, dtype=loss.dtype)

    def _prepare(self) -> Any:
        options = config_pb2.CallableOptions(
            feed=[feed.name for feed in self._feeds], fetch=[result.name for result in self._results]
        )
        options.run_options.inter_op_thread_pool = -1  # in this thread; see PreparedRun
        return self._session._make_callable_from_options(options)  # noqa: SLF001 - see PreparedRun

    def _named(self, feeds: tuple[Any, ...]) -> Any:
        """Runs; an error names the operation of the step, not its copy."""
        try:
            return self._call(*feeds)
        except tf.errors.OpError as error:
            message = _COPIED_NAME.sub("{{node ", error.message)
            raise type(error)(error.node_def, error.op, message) from error


def _cell(dtype: Any, name: str) -> Any:
    """The handle of a variable that belongs to no collection and is in no checkpoint."""
    unique = _v1.get_default_graph().unique_name(name, mark_as_used=False)
    return tf.raw_ops.VarHandleOp(dtype=dtype, shape=[], shared_name=unique, name=name)


def _step_of(graph: Any, fetches: Iterable[Any]) -> Any:
    """The GraphDef of what the fetches need."""
    graph_def = graph.as_graph_def()
    nodes = {node.name: node for node in graph_def.node}
    pending = [fetch.name.partition(":")[0] for fetch in fetches]
    needed: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending += [source.lstrip("^").partition(":")[0] for source in nodes[name].input]
    return _without(graph_def, nodes.keys() - needed)


def _without(graph_def: Any, names: Iterable[str]) -> Any:
    """A copy without some nodes, and without wishes of the others to be placed beside one that may not be there."""
    dropped = set(names)
    copy = _v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name not in dropped:
            copied = copy.node.add()
            copied.CopyFrom(node)
            copied.attr.pop("_class", None)
            copied.input[:] = [source for source in node.input if source.lstrip("^") not in dropped or source[0] != "^"]
            if copied.op == "IteratorGetNext":  # in the thread of the loop, which would wait for another one
                copied.op = "IteratorGetNextSync"
    return copy


def _is_handle(node: Any) -> bool:
    """Whether a node makes a resource, such as a variable, a table or an iterator."""
    if (op_def := op_def_registry.get(node.op)) is None:  # a function, called by its name
        return False
    outputs = op_def.output_arg
    return not node.input and len(outputs) == 1 and outputs[0].type == tf.resource.as_datatype_enum


def _is_movable(step_def: Any) -> bool:
    functions = {function.signature.name: function for function in step_def.library.function}
    pending, seen = [step_def.node], set[str]()
    while pending:
        for node in pending.pop():
            if node.op in functions:
                names = {node.op}
            elif not _is_allowed(node):
                return False
            else:
                names = {name for value in node.attr.values() for name in _functions_in(value)}
            pending += [functions[name].node_def for name in names - seen if name in functions]
            seen |= names
    return True


def _functions_in(value: Any) -> list[str]:
    return [function.name for function in (value.func, *value.list.func) if function.name]


def _is_allowed(node: Any) -> bool:
    op_def = op_def_registry.get(node.op)
    is_reference = any(argument.is_ref for argument in (*op_def.input_arg, *op_def.output_arg))
    is_control_flow = node.op in {"Enter", "Exit", "Merge", "NextIteration", "Switch", "Placeholder"}
    if is_reference or is_control_flow:
        return False
    return not op_def.is_stateful or _is_handle(node) or _ALLOWED.fullmatch(node.op) is not None
