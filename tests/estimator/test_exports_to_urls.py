"""export_saved_model and the exporters, with a URL for their exports."""

import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.errors import ModelDirError
from runner.storage.directory import Directory
from runner.storage.transfer import download_file
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn

FILES = [
    "saved_model.pb",
    "variables/variables.data-00000-of-00001",
    "variables/variables.index",
]

receiver_fn = tfe.export.build_raw_serving_input_receiver_fn({"x": np.array([1.0, 2.0], np.float32)})


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("s3_url") if request.param == "s3" else f"memory://{uuid.uuid4()}/exports"


@pytest.fixture
def estimator(tmp_path: Path) -> tfe.Estimator:
    """Trained for 10 steps, with checkpoints at 1, 5 and 10."""
    config = tfe.RunConfig(save_checkpoints_steps=5)
    return tfe.Estimator(linear_model_fn, str(tmp_path / "model"), config=config, params={}).train(linear_input_fn)


def names_in(directory: Directory) -> list[str]:
    return [entry.name for entry in directory.list(recursive=True)]


def download(directory: Directory, folder: Path) -> Path:
    for name in names_in(directory):
        download_file(directory, name, folder / name)
    return folder


def test_a_saved_model_on_a_url_is_that_of_a_local_export(estimator: tfe.Estimator, url: str, tmp_path: Path) -> None:
    path = estimator.export_saved_model(url, receiver_fn).decode()

    assert re.fullmatch(rf"{url}/\d{{10}}", path)
    assert names_in(open_directory(url)) == [f"{path.rpartition('/')[2]}/{name}" for name in FILES]
    local = download(open_directory(path), tmp_path / "copy")
    predict = tf.saved_model.load(str(local)).signatures["serving_default"]
    (values,) = predict(tf.constant([3.0])).values()
    assert values.numpy() == pytest.approx([6.0], rel=1e-3)


def test_a_text_model_and_files_from_urls_go_along(estimator: tfe.Estimator, url: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    open_directory(f"{url}-sources").write_bytes("folder/words.txt", b"words")
    extra = {"notes.txt": str(tmp_path / "notes.txt"), "deep/words.txt": f"{url}-sources/folder/words.txt"}

    path = estimator.export_saved_model(url, receiver_fn, assets_extra=extra, as_text=True).decode()
    local = estimator.export_saved_model(str(tmp_path / "local"), receiver_fn, assets_extra=extra).decode()

    directory = open_directory(path)
    assert "saved_model.pbtxt" in names_in(directory)
    assert directory.read_bytes("assets.extra/notes.txt") == b"notes"
    assert directory.read_bytes("assets.extra/deep/words.txt") == b"words"
    assert Path(local, "assets.extra/deep/words.txt").read_bytes() == b"words"


def test_a_base_that_is_no_place_is_refused(estimator: tfe.Estimator) -> None:
    with pytest.raises(ModelDirError, match="fsspec knows no protocol 'nosuch'"):
        estimator.export_saved_model("nosuch://bucket/exports", receiver_fn)


def test_an_exporter_keeps_the_newest_on_a_url(estimator: tfe.Estimator, url: str) -> None:
    exporter = tfe.LatestExporter("latest", receiver_fn, exports_to_keep=2)
    directory = open_directory(url)
    directory.write_bytes("mine/notes.txt", b"")

    paths = [
        exporter.export(estimator, url, estimator.latest_checkpoint() or "", {}, is_the_final_export=False)
        for _ in range(3)
    ]

    kept = [path.decode().rpartition("/")[2] for path in paths[1:]]
    assert names_in(directory) == [*(f"{name}/{file}" for name in kept for file in FILES), "mine/notes.txt"]


def test_the_best_exporter_knows_the_exports_on_a_url_after_a_restart(estimator: tfe.Estimator, url: str) -> None:
    def export(step: int) -> Any:
        checkpoint = f"{estimator.model_dir}/model.ckpt-{step}"
        result = estimator.evaluate(linear_input_fn, checkpoint_path=checkpoint)
        return tfe.BestExporter("best", receiver_fn).export(
            estimator, url, checkpoint, result, is_the_final_export=False
        )

    assert [export(step) is not None for step in (5, 1, 10)] == [True, False, True]
    assert len(names_in(open_directory(url))) == 2 * len(FILES)
