"""Restoring from a real S3 server, which many do at once, and which is not always there."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf

from runner import estimator as tfe
from runner.checkpoint.saver import Checkpoints
from runner.storage.urls import open_directory
from tests.estimator.data import linear_input_fn, linear_model_fn
from tests.estimator.remote import upload
from tests.s3_proxy import S3Proxy, running_proxy
from tests.seaweed import SeaweedFS, use

_v1 = tf.compat.v1


@pytest.fixture
def proxy(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """All requests to the S3 server of the session go through it."""
    with running_proxy(s3.server.endpoint_url) as proxy:
        use({**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.endpoint, "AWS_ENDPOINT_URL": proxy.endpoint}, monkeypatch)
        yield proxy


def load_latest(url: str) -> tuple[int, float]:
    """global_step and the weight of a linear model, restored in a session of its own."""
    with tf.Graph().as_default():
        step = _v1.train.create_global_step()
        weight = _v1.get_variable("weight", [])
        saver = _v1.train.Saver()
        saver.build()
        checkpoints = Checkpoints(url, saver)
        loaded = checkpoints.load_latest()
        assert loaded is not None
        with _v1.Session() as session:
            checkpoints.restore(session, loaded)
            values: tuple[int, float] = session.run((step, weight))
            return values


@pytest.fixture
def linear_url(s3: SeaweedFS, proxy: S3Proxy, tmp_path: Path) -> str:
    """A model_dir on S3 with a linear model at steps 1 and 4."""
    config = tfe.RunConfig(save_checkpoints_steps=100)
    tfe.Estimator(linear_model_fn, str(tmp_path), config, params={}).train(linear_input_fn, steps=4)
    return upload(tmp_path, s3.new_url())


def test_a_chief_and_eight_readers_read_every_byte_once_each(linear_url: str, proxy: S3Proxy) -> None:
    names = ("model.ckpt-4.index", "model.ckpt-4.data-00000-of-00001")
    directory = open_directory(linear_url)
    sizes = {name: len(directory.read_bytes(name)) for name in names}
    start = threading.Barrier(9)

    def restore(_: int) -> tuple[int, float]:
        start.wait()
        return load_latest(linear_url)

    before = proxy.read_bytes
    with ThreadPoolExecutor(9) as readers:
        restored = list(readers.map(restore, range(9)))

    assert len(set(restored)) == 1
    assert restored[0][0] == 4
    assert {name: proxy.read_bytes[name] - before[name] for name in names} == {
        name: 9 * size for name, size in sizes.items()
    }
    assert not [name for name in proxy.read_bytes if "ckpt-1." in name]


@pytest.mark.parametrize("ways", [("busy",), ("cut",), ("busy", "cut", "busy")])
def test_an_outage_in_mid_restore_is_waited_for(
    linear_url: str, proxy: S3Proxy, ways: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    proxy.fail(*ways)

    step, _ = load_latest(linear_url)

    assert step == 4
    assert "set aside" not in caplog.text
