"""A directory in memory does what every directory must."""

import uuid

import pytest

from runner.storage.directory import Directory
from runner.storage.memory_directory import MemoryDirectory
from runner.storage.urls import open_directory
from tests.storage.conformance import ConditionConformance


@pytest.fixture
def directory() -> Directory:
    return open_directory(f"memory://{uuid.uuid4()}/iris")


class TestMemoryDirectory(ConditionConformance):
    pass


def test_a_url_of_memory_opens_it(directory: Directory) -> None:
    assert isinstance(directory, MemoryDirectory)
    assert not directory.locks
