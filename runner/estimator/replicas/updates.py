"""Updates: the operations of a training step that write variables, and what the values that they write come from."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tensorflow.python.framework.auto_control_deps_utils import RESOURCE_READ_OPS, get_read_write_resource_inputs
from tensorflow.python.ops.control_flow_util import GetContainingWhileContext

__all__ = ["Updates"]

_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
_PASSING = {"Identity", "Enter", "Switch", "RefIdentity", "RefEnter", "RefSwitch"}
"""What hands the handle, or the reference, of a variable on."""
_CHECKS = {"VarIsInitializedOp", "IsVariableInitialized"}
_CALLS = {"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"}
"""Stateful for what they may hold, while what they return is a matter of what they are given."""


class Updates:
    """The updates of one step.

    Args:
        fetches: Operations and tensors that a step runs.
    """

    def __init__(self, fetches: Iterable[Any]) -> None:
        self._ops: list[Any] = []
        self._of_variable: dict[Any, list[Any]] = defaultdict(list)
        self._step = _ancestors(getattr(fetch, "op", fetch) for fetch in fetches)
        for op in self._step:
            if variables := _written(op):
                self._ops.append(op)
            for variable in variables:
                self._of_variable[variable].append(op)

    def unaveraged(
        self, trainables: Sequence[Any], *, averaged: Sequence[Any], applying: Iterable[Any], rounds: Iterable[Any]
    ) -> list[str]:
        """Names of trainable variables that the replicas could come to disagree on.

        An optimizer that was given means may do what it likes. Any other update has to have averaged variables or
        gradients behind it, and nothing that each replica has for itself: the batch, random numbers, or variables that
        depend on these. So slow weights, projections and target networks pass.

        Args:
            trainables: Variables.
            averaged: Those whose gradients were averaged.
            applying: Operations of the optimizers that were given means.
            rounds: Operations whose outputs are the same in all replicas.
        """
        trusted, same = set(applying), set(rounds)
        trainable_ops = {variable.op for variable in trainables}
        averaged_ops = {variable.op for variable in averaged}

        def is_safe(update: Any) -> bool:
            is_averaged, seen, stack = False, set(), [update]
            while stack:
                op = stack.pop()
                if op in seen:
                    continue
                seen.add(op)
                if op in same or op in averaged_ops:
                    is_averaged = True
                elif op.type in _VARIABLES:
                    if op not in trainable_ops:
                        stack += [other for other in self._of_variable[op] if other not in trusted]
                elif _is_local(op):
                    return False
                else:
                    stack += [tensor.op for tensor in op.inputs]
            return is_averaged

        return sorted(
            variable.op.name
            for variable in trainables
            if not all(update in trusted or is_safe(update) for update in self._of_variable[variable.op])
        )

    def precede(self, op: Any) -> bool:
        """Whether any of them has to run before `op`."""
        ancestors = _ancestors([op])
        return any(update in ancestors for update in self._ops)

    def hold_back(self, gate: Any, *, inputs: Iterable[Any]) -> None:
        """Lets none of them run before `gate` has succeeded, except those it waits for itself.

        Those within a loop of v1 control flow are not held back: their frame cannot wait for an operation outside.

        Args:
            gate: An operation.
            inputs: Tensors that it is to wait for, if the step does.
        """
        for op in {tensor.op: None for tensor in inputs if tensor.op in self._step}:
            gate._add_control_input(op)  # noqa: SLF001 - no public way
        ancestors = _ancestors([gate])
        for update in self._ops:
            in_loop = GetContainingWhileContext(update._get_control_flow_context())  # noqa: SLF001
            if update not in ancestors and in_loop is None:
                update._add_control_input(gate)  # noqa: SLF001


def _ancestors(ops: Iterable[Any]) -> dict[Any, None]:
    """The operations that have to run before these, and these, in an order that is the same in every process."""
    seen: dict[Any, None] = {}
    stack = list(ops)
    while stack:
        op = stack.pop()
        if op not in seen:
            seen[op] = None
            stack += [tensor.op for tensor in op.inputs]
            stack += op.control_inputs
    return seen


def _written(op: Any) -> list[Any]:
    """The variables that an operation, or a function that it calls, may write."""
    if op.type in _PASSING or op.type in _CHECKS:
        return []
    handles = list(get_read_write_resource_inputs(op)[1])
    handles += [tensor for argument, tensor in zip(op.op_def.input_arg, op.inputs, strict=False) if argument.is_ref]
    sources = [_source(handle) for handle in handles]
    return [source for source in sources if source.type in _VARIABLES]


def _source(handle: Any) -> Any:
    op = handle.op
    while op.type in _PASSING:
        op = op.inputs[0].op
    return op


def _is_local(op: Any) -> bool:
    """Whether an operation makes something that another replica need not have."""
    if op.type == "Placeholder":
        return True
    return op.op_def.is_stateful and op.type not in _CALLS and op.type not in RESOURCE_READ_OPS and not _written(op)
