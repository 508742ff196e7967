"""What the estimator tests share: the log."""

import logging

import pytest


@pytest.fixture
def info_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """The log of TensorFlow's logger at INFO, which does not propagate by itself."""
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    caplog.set_level(logging.INFO, logger="tensorflow")
    return caplog
