"""A model_dir on a real S3 server."""

import pytest

from runner.errors import ConditionFailedError
from runner.storage.directory import Directory, IfUnchanged
from runner.storage.s3_directory import S3Directory
from tests.s3_proxy import running_proxy
from tests.seaweed import SeaweedFS, use
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


@pytest.mark.parametrize("settings", [{}, {"RUNNER_S3_REQUESTS": "s3fs"}], ids=["own", "s3fs"])
def test_a_condition_on_an_object_that_aws_tells_to_be_gone_does_not_hold(
    s3: SeaweedFS, s3_url: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_proxy(s3.server.endpoint_url) as proxy:
        use({**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.endpoint, "AWS_ENDPOINT_URL": proxy.endpoint}, monkeypatch)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        directory = S3Directory(s3_url)
        tag = directory.write_bytes("checkpoint", b"before")
        assert directory.conditional
        proxy.has_lost_objects = True

        with pytest.raises(ConditionFailedError, match="has been deleted"):
            directory.write_bytes("checkpoint", b"after", only=IfUnchanged(tag))
