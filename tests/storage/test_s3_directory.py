"""A model_dir on a real S3 server."""

import pytest

from runner.storage.directory import Directory
from runner.storage.s3_directory import S3Directory
from tests.storage.conformance import ConditionConformance, TransferConformance


class TestS3Directory(ConditionConformance):
    @pytest.fixture
    def directory(self, s3_url: str) -> Directory:
        return S3Directory(s3_url)


class TestS3DirectoryByS3fs(TransferConformance):
    @pytest.fixture
    def directory(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Directory:
        monkeypatch.setenv("RUNNER_S3_REQUESTS", "s3fs")
        return S3Directory(s3_url)
