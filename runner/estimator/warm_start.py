"""Warm start: initial weights that come from a checkpoint of another model."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import tensorflow as tf

from runner.checkpoint.local_copy import local_prefix
from runner.checkpoint.reading import exists, find_checkpoint
from runner.storage.urls import is_local

__all__ = ["VocabInfo", "WarmStartSettings", "settings_of", "warm_start"]

_v1 = tf.compat.v1
_logger = logging.getLogger("tensorflow")

VocabInfo = _v1.train.VocabInfo
"""How the vocabulary of a variable differs from the one that it was trained with: TensorFlow's own."""


class _Fields(NamedTuple):
    ckpt_to_initialize_from: str
    vars_to_warm_start: Any
    var_name_to_vocab_info: Mapping[str, Any]
    var_name_to_prev_var_name: Mapping[str, str]


class WarmStartSettings(_Fields):
    """Which variables get their initial values from which checkpoint.

    It has a say only as long as model_dir holds no checkpoint. global_step stays 0.

    Args:
        ckpt_to_initialize_from: A checkpoint's prefix, or a directory, which stands for its latest checkpoint; a local
            path or a URL.
        vars_to_warm_start: A regular expression, matched against the names of trainable variables; or a list of them,
            matched against those of all variables, such as slots and moving averages; or a list of variables; or None:
            only those of `var_name_to_vocab_info`.
        var_name_to_vocab_info: By name, the VocabInfo of each variable whose vocabulary differs; its rows (or columns)
            are matched by the words.
        var_name_to_prev_var_name: By name, the name in the checkpoint, where it differs.

    Raises:
        ValueError: No checkpoint is given.
    """

    __slots__ = ()

    def __new__(
        cls,
        ckpt_to_initialize_from: str,
        vars_to_warm_start: str | Sequence[Any] | None = ".*",
        var_name_to_vocab_info: Mapping[str, Any] | None = None,
        var_name_to_prev_var_name: Mapping[str, str] | None = None,
    ) -> Self:
        """Checks and completes the fields."""
        if not ckpt_to_initialize_from:
            raise ValueError("`ckpt_to_initialize_from` MUST be set in WarmStartSettings")
        return super().__new__(
            cls,
            ckpt_to_initialize_from,
            vars_to_warm_start,
            var_name_to_vocab_info or {},
            var_name_to_prev_var_name or {},
        )


def settings_of(warm_start_from: Any) -> WarmStartSettings | None:
    """The settings that an Estimator's `warm_start_from` stands for.

    Args:
        warm_start_from: WarmStartSettings; or the path or URL of a checkpoint, of a directory with checkpoints, or of a
            SavedModel, from which all trainable variables are to come; or None.

    Raises:
        ValueError: It is something else.
    """
    if warm_start_from is None or isinstance(warm_start_from, WarmStartSettings):
        return warm_start_from
    if not isinstance(warm_start_from, (str, bytes)):
        raise ValueError(  # noqa: TRY004 - as the original
            f"warm_start_from must be a string or a WarmStartSettings, instead got {type(warm_start_from)}"
        )
    variables = os.path.join(tf.compat.as_str_any(warm_start_from), "variables", "variables")
    if exists(variables):
        _logger.info("Warm-starting from a SavedModel")
        return WarmStartSettings(variables)
    return WarmStartSettings(tf.compat.as_str_any(warm_start_from))


def warm_start(settings: WarmStartSettings, until_initialized: ExitStack) -> None:
    """Makes the checkpoint's values the initial ones of variables in the default graph, after a model_fn built it.

    A checkpoint that is not on a local disk is copied to one, where the initializers of the graph read it.

    Args:
        settings: What starts from where.
        until_initialized: Deletes the copy when it is closed, which must be after the initializers have run.

    Raises:
        ValueError: A variable's shape is not that in the checkpoint; or there is none at a URL.
        tf.errors.NotFoundError: There is no such checkpoint.
        CheckpointDamagedError: That at a URL is damaged.
    """
    _logger.info("Warm-starting with WarmStartSettings: %s", settings)
    path = settings.ckpt_to_initialize_from
    if not is_local(path):
        prefix = find_checkpoint(path)
        scratch = until_initialized.enter_context(tempfile.TemporaryDirectory(prefix="runner-warm-start-"))
        path = local_prefix(prefix, Path(scratch))
    _v1.train.warm_start(*settings._replace(ckpt_to_initialize_from=path))
