"""Checkpoints of tf.compat.v1.train optimizers, restored by a model that has optimizers of tf_keras.

The v1 classes of tf.estimator wrote those. The variables of the model have the names that ours have, but
what the optimizers add has not:

| | v1 | here |
|---|---|---|
| slot | `<variable>/<Optimizer>`, `<variable>/{t_0,part_0}/<Optimizer>` | `<scope>/<Optimizer>/<variable>/<slot>` |
| number of steps | `<scope>/beta1_power`, `beta2_power` of Adam | global_step |
| learning rate and the like | not stored | `<scope>/<Optimizer>/<name>` |

A model whose optimizer is one of tf.compat.v1.train wants the names of v1 but for that `t_0/` or `part_0/`, which the
partitioned variables of the v1 classes bring, and for the scope of the powers.

The v2 classes made the tables of `tf.feature_column.shared_embeddings`, and never trained them: these have no slots.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import tensorflow as tf

from runner.checkpoint.compatibility import TensorSpecs

__all__ = ["ForeignNames", "find_foreign_names"]

_SLOTS = {
    "Adadelta": {"accum_grad": "Adadelta", "accum_var": "Adadelta_1"},
    "Adagrad": {"accumulator": "Adagrad"},
    "Adam": {"m": "Adam", "v": "Adam_1"},
    "Ftrl": {"accumulator": "Ftrl", "linear": "Ftrl_1"},
    "RMSprop": {"rms": "RMSProp", "momentum": "RMSProp_1"},
    # That of v1's Momentum is another quantity: it lacks the factor -learning_rate.
    "SGD": {},
}
"""Optimizer of tf_keras -> slot -> what the same slot is called by that of tf.compat.v1.train."""

_CENTERED_SLOTS = {"rms": "RMSProp", "mg": "RMSProp_1", "momentum": "RMSProp_2"}
"""Of an RMSprop that is centered; v1 numbers its slots in the order of their creation."""

_HYPER_PARAMETERS = {
    "beta", "beta_1", "beta_2", "decay", "l1_regularization_strength", "l2_regularization_strength", "learning_rate",
    "learning_rate_power", "momentum", "rho",
}  # fmt: skip

_SHARED_SLOT = re.compile(r"(?P<optimizer>training(_\d+)?/\w+/)(?P<table>[^/]+)/\w+")
"""Of a shared embedding: its table is in no scope, other than all variables that the canned estimators make."""

_POWER = re.compile(r"beta[12]_power(_\d+)?")
_GLOBAL_STEP = "global_step"

_Slots = Mapping[tuple[str, str], str]
"""(variable, last part of the slot's name) -> name in the checkpoint."""


@dataclass(frozen=True)
class ForeignNames:
    """Where the tensors that a model wants come from, if not from those of the same name.

    Attributes:
        sources: Wanted name -> name in the checkpoint, where the two differ.
        initial: Wanted names that the checkpoint has nothing for: they keep their initial values.
        implied: Names in the checkpoint that say nothing which is not restored from elsewhere.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    initial: frozenset[str] = frozenset()
    implied: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.sources or self.initial)

    def translate(self, wanted: TensorSpecs, stored: TensorSpecs) -> TensorSpecs:
        """What the checkpoint has, under the names that the model wants."""
        used = {*self.sources.values()} - wanted.keys()  # global_step may be wanted for itself as well
        own = {name: spec for name, spec in stored.items() if name not in used | self.implied}
        renamed = {name: _renamed(stored[source], name) for name, source in self.sources.items()}
        return {**own, **renamed, **{name: wanted[name] for name in self.initial}}


def find_foreign_names(wanted: TensorSpecs, stored: TensorSpecs) -> ForeignNames:
    """Recognizes slots of tf.compat.v1.train optimizers that a model wants by other names, and tables without slots.

    Args:
        wanted: What the model wants, by name.
        stored: What the checkpoint has, by name.

    Returns:
        The difference in names; false if there is none that this knows of. Wanted tensors may still be missing.
    """
    missing = sorted(wanted.keys() - stored.keys())
    if not missing or any(_is_hyper_parameter(name) for name in stored):
        return ForeignNames(initial=frozenset(name for name in missing if _is_of_untrained_table(name, stored)))
    slots = _slots_of(stored)
    found = {name: _slot_source(name, slots) or _step_source(name, stored) for name in missing}
    sources = {name: source for name, source in found.items() if source is not None}
    initial = frozenset(name for name in missing if name not in sources and _is_hyper_parameter(name))
    return ForeignNames(sources, initial, _implied(wanted, stored.keys() - wanted.keys() - {*sources.values()}))


def _slots_of(stored: TensorSpecs) -> _Slots:
    """The slots that a checkpoint has: `<variable>/<slot>`, or with a piece of the part's name between.

    v1 names the slot of a part by what follows as many characters as the name of the part has. In DNN and Linear slots
    are in one more scope, `dnn/` or `linear/`, so that as many characters of the part's name remain: `t_0/`, `part_0/`.
    A variable of several parts has as many such slots, each with a piece of the values: these are left out.
    """
    slots: dict[tuple[str, str], list[str]] = {}
    for name in stored:
        scopes = name.split("/")
        for end in range(len(scopes) - 1, 0, -1):
            variable, between = "/".join(scopes[:end]), "/".join(scopes[end:-1])
            if variable in stored and f"{variable}/part_".endswith(between.rstrip("0123456789")):
                slots.setdefault((variable, scopes[-1]), []).append(name)
                break
    return {key: names[0] for key, names in slots.items() if len(names) == 1}


def _slot_source(name: str, slots: _Slots) -> str | None:
    """The name in the checkpoint of a slot that the model has by a name of tf_keras or of tf.compat.v1.train."""
    scopes = name.split("/")
    for index, scope in enumerate(scopes[:-2]):
        if optimizer := _optimizer_of(scope):
            variable = "/".join(scopes[index + 1 : -1])
            is_centered = optimizer == "RMSprop" and (variable, _CENTERED_SLOTS["momentum"]) in slots
            names = _CENTERED_SLOTS if is_centered else _SLOTS[optimizer]
            if source := slots.get((variable, names.get(scopes[-1], ""))):
                return source
    return slots.get(("/".join(scopes[:-1]), scopes[-1]))


def _step_source(name: str, stored: TensorSpecs) -> str | None:
    """The name in the checkpoint of what counts the steps of an optimizer."""
    scopes = name.split("/")
    if scopes[-1] == "iter" and scopes[-2:-1] and _optimizer_of(scopes[-2]):
        return _GLOBAL_STEP if _GLOBAL_STEP in stored else None
    if not _POWER.fullmatch(scopes[-1]):
        return None
    powers = [other for other in stored if other.rpartition("/")[2] == scopes[-1]]
    return powers[0] if len(powers) == 1 else None


def _is_of_untrained_table(name: str, stored: TensorSpecs) -> bool:
    """Whether that is a slot of a table that has none in the checkpoint, although others have of that optimizer."""
    match = _SHARED_SLOT.fullmatch(name)
    if match is None or match["table"] not in stored:
        return False
    slots = [other for other in stored if other.startswith(match["optimizer"]) and other.count("/") > name.count("/")]
    return bool(slots) and not any(f"/{match['table']}/" in other for other in stored)


def _implied(wanted: TensorSpecs, unused: Iterable[str]) -> frozenset[str]:
    """What tf_keras does not store: Adam's powers follow from global_step, an RMSprop without momentum has no slot."""
    optimizers = {_optimizer_of(scope) for name in wanted for scope in name.split("/")[:-1]}
    last = {name: name.rpartition("/")[2] for name in unused}
    powers = {name for name in last if "Adam" in optimizers and _POWER.fullmatch(last[name])}
    momenta = {name for name in last if "RMSprop" in optimizers and last[name] == "RMSProp_1"}
    return frozenset(powers | momenta)


def _is_hyper_parameter(name: str) -> bool:
    """Whether a tf_keras optimizer stores a hyper-parameter by that name."""
    *_, scope, hyper_parameter = ["", *name.split("/")]
    return _optimizer_of(scope) is not None and hyper_parameter in _HYPER_PARAMETERS


def _optimizer_of(scope: str) -> str | None:
    """The optimizer of tf_keras that the scope is named after; the second of its class has a number."""
    name = re.sub(r"_\d+$", "", scope)
    return name if name in _SLOTS else None


def _renamed(spec: tf.TensorSpec, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, spec.dtype, name=name)
