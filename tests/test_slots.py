"""The slots of one worker, without Celery."""

from pathlib import Path

import pytest

from runner.errors import SettingsError
from runner.settings import Settings
from workers.slots import Slots


def make(settings: Settings) -> Slots:
    return Slots(settings, queue_name="default", count=1, environ={})


@pytest.fixture(autouse=True)
def _nobody_has_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))


def test_code_without_a_home_goes_to_a_private_directory(settings: Settings) -> None:
    make(settings)

    assert settings.runtime_dir.stat().st_mode & 0o777 == 0o700


def test_code_is_not_unpacked_where_others_could_have_put_theirs(settings: Settings) -> None:
    settings.runtime_dir.mkdir(mode=0o755)

    with pytest.raises(SettingsError, match="not private"):
        make(settings)
