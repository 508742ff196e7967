"""The export of a model as a SavedModel: one graph for each mode asked for, with the weights of one checkpoint."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

# TensorFlow exports these under no public name since tf.estimator is gone.
from tensorflow.python.saved_model.model_utils import export_utils
from tensorflow.python.util import deprecation

from runner.checkpoint.saver import Checkpoints, as_saver
from runner.estimator.export.exports import exports_in
from runner.estimator.model_fn import EstimatorSpec, ModeKeys
from runner.estimator.remote import is_remote
from runner.estimator.run_config import RunConfig
from runner.storage.transfer import download_file
from runner.storage.urls import open_directory, resolve_model_dir

__all__ = ["SavedModelExport"]

_v1 = tf.compat.v1

# The first graph is the one whose variables are written: that of training, as checkpoints are, has them all.
_MODES = (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)


@dataclass
class SavedModelExport:
    """What export_saved_model() was asked to do.

    Attributes:
        model_dir: Where checkpoints are.
        config: The estimator's.
        call_model_fn: (features, labels, mode) -> EstimatorSpec.
        receiver_fns: The user's input_receiver_fn of each mode to export.
        checkpoint_path: Prefix of the checkpoint whose weights are exported.
        assets_extra: Files to copy: path below `assets.extra/` -> source, a path or a URL.
        as_text: Whether the graph is written as a text proto.
        strip_default_attrs: Whether attributes that have their default are left out, which older TensorFlow may need.
    """

    model_dir: str
    config: RunConfig
    call_model_fn: Callable[[Any, Any, str], EstimatorSpec]
    receiver_fns: Mapping[str, Callable[[], Any]]
    checkpoint_path: str
    assets_extra: Mapping[str, str] | None = None
    as_text: bool = False
    strip_default_attrs: bool = True

    def run(self, export_dir_base: str | bytes | os.PathLike[str]) -> bytes:
        """Writes the SavedModel to `<export_dir_base>/<seconds since 1970>`, which appears whole or not at all.

        Returns:
            Its path.

        Raises:
            ValueError: No mode is known, the checkpoint lacks variables of the model, or there is none.
            tf.errors.InvalidArgumentError: The checkpoint does not fit the model.
        """
        modes = [mode for mode in _MODES if self.receiver_fns.get(mode)]
        if not modes:
            raise ValueError(f"No valid modes for exporting found. Got {self.receiver_fns.keys()}.")
        return exports_in(export_dir_base).publish(functools.partial(self._write, modes=modes))

    def _write(self, directory: bytes, modes: list[str]) -> None:
        builder = _v1.saved_model.Builder(directory)
        for mode in modes:
            with tf.Graph().as_default():
                self._add_graph(builder, mode, with_variables=mode == modes[0])
        builder.save(self.as_text)
        for name, source in (self.assets_extra or {}).items():
            target = os.path.join(directory, b"assets.extra", os.fsencode(name))
            tf.io.gfile.makedirs(os.path.dirname(target))
            _copy(source, target)

    def _add_graph(self, builder: Any, mode: str, *, with_variables: bool) -> None:
        if self.config.tf_random_seed is not None:
            _v1.set_random_seed(self.config.tf_random_seed)
        _v1.train.create_global_step()
        receiver = self.receiver_fns[mode]()
        spec = self.call_model_fn(receiver.features, getattr(receiver, "labels", None), mode)
        # The saver is also that of the SavedModel.
        saver = as_saver(spec.scaffold.saver) or _v1.train.Saver(sharded=True)
        saver.build()
        signatures = _signatures(receiver, spec)
        local_init_op = spec.scaffold.local_init_op
        if local_init_op is None:
            local_init_op = _v1.train.Scaffold.default_local_init_op()
        arguments = {
            "tags": export_utils.EXPORT_TAG_MAP[mode],
            "signature_def_map": signatures,
            "assets_collection": _v1.get_collection(_v1.GraphKeys.ASSET_FILEPATHS),
            "main_op": local_init_op,
            "saver": saver,
            "strip_default_attrs": self.strip_default_attrs,
        }
        builder._add_train_op(spec.train_op)  # noqa: SLF001 - the Builder has no public way to be told
        with _v1.Session(config=self.config.session_config) as session:
            self._restore(session, saver, mode)
            if with_variables:
                builder.add_meta_graph_and_variables(session, **arguments)
            else:
                builder.add_meta_graph(**arguments)

    def _restore(self, session: Any, saver: Any, mode: str) -> None:
        checkpoints = Checkpoints(self.model_dir, saver)
        try:
            loaded = checkpoints.load(self.checkpoint_path, training=False)
        except tf.errors.NotFoundError as error:
            raise ValueError(
                "Could not load all requested variables from checkpoint. Please make sure your model_fn does not "
                f"expect variables that were not saved in the checkpoint.\n\nEncountered error with mode `{mode}` "
                f"while restoring checkpoint from: `{self.checkpoint_path}`. Full Traceback:\n\n{error}"
            ) from error
        checkpoints.restore(session, loaded)


def _copy(source: str, target: bytes) -> None:
    if is_remote(source):
        folder, _, name = source.rpartition("/")
        download_file(open_directory(resolve_model_dir(folder)), name, Path(os.fsdecode(target)))
    else:
        tf.io.gfile.copy(source, target)


def _signatures(receiver: Any, spec: EstimatorSpec) -> dict[str, Any]:
    outputs = export_utils.export_outputs_for_mode(
        mode=spec.mode,
        serving_export_outputs=spec.export_outputs,
        predictions=spec.predictions,
        loss=spec.loss,
        metrics=spec.eval_metric_ops,
    )
    with deprecation.silence():  # it calls functions of TensorFlow that warn of themselves
        return export_utils.build_all_signature_defs(
            receiver.receiver_tensors,
            outputs,
            getattr(receiver, "receiver_tensors_alternatives", None),
            serving_only=spec.mode == ModeKeys.PREDICT,
        )
