"""Settings from the environment."""

import ssl
from pathlib import Path

import pytest

from runner.errors import SettingsError
from runner.settings import Settings
from workers.celery import make_app


def test_without_an_environment_redis_is_the_socket_of_this_user(tmp_path: Path) -> None:
    settings = Settings.from_environ({"XDG_RUNTIME_DIR": str(tmp_path)})

    assert settings.redis_url == f"unix://{tmp_path}/runner/redis.sock"
    assert (settings.redis_password, settings.host, settings.ports) == (None, None, None)


def test_every_variable_is_read(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss\n")

    settings = Settings.from_environ(
        {
            "RUNNER_REDIS_URL": "rediss://redis.internal:6380/1",
            "RUNNER_PASSWORD_FILE": str(tmp_path / "password"),
            "RUNNER_HOST": "10.0.0.7",
            "RUNNER_PORTS": "20000-20100",
            "RUNNER_CACHE_DIR": "/scratch/runner",
            "RUNNER_DATA_CACHE_BYTES": "20e9",
        }
    )

    assert settings.redis_url == "rediss://redis.internal:6380/1"
    assert settings.redis_password == "p@ss"
    assert (settings.host, settings.ports) == ("10.0.0.7", (20000, 20100))
    assert (settings.cache_dir, settings.data_cache_bytes) == (Path("/scratch/runner"), 20_000_000_000)


@pytest.mark.parametrize("text", ["0", "-1", "many", "inf", "nan", "10GB"])
def test_a_size_of_the_cache_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"RUNNER_DATA_CACHE_BYTES='.*': expected a number of bytes such as 20e9"):
        Settings.from_environ({"RUNNER_DATA_CACHE_BYTES": text})


def test_an_empty_variable_is_an_absent_one() -> None:
    environ = dict.fromkeys(("RUNNER_REDIS_URL", "RUNNER_PASSWORD_FILE", "RUNNER_HOST", "RUNNER_PORTS"), "")
    environ |= {"RUNNER_CACHE_DIR": "", "RUNNER_DATA_CACHE_BYTES": ""}

    assert Settings.from_environ(environ) == Settings.from_environ({})


def test_a_single_port_is_a_range() -> None:
    assert Settings.from_environ({"RUNNER_PORTS": "20000"}).ports == (20000, 20000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNNER_REDIS_URL", "http://redis"),
        ("RUNNER_REDIS_URL", "redis"),
        ("RUNNER_REDIS_URL", "redis://redis:many"),
        ("RUNNER_REDIS_URL", "redis://redis:65536"),
        ("RUNNER_PASSWORD_FILE", "/nowhere/password"),
        ("RUNNER_PORTS", "many"),
        ("RUNNER_PORTS", "2-1"),
        ("RUNNER_PORTS", "0"),
        ("RUNNER_PORTS", "65535-65536"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}={value!r}"):
        Settings.from_environ({name: value})


@pytest.mark.parametrize(
    ("redis_url", "password", "broker_url"),
    [
        ("redis://h:6379/0", None, "redis://h:6379/0"),
        ("redis://h:6379/0", "p@ss/", "redis://:p%40ss%2F@h:6379/0"),
        ("redis://alice@h:6379/0", "p@ss", "redis://alice:p%40ss@h:6379/0"),
        ("redis://alice@h:6379/0", None, "redis://alice@h:6379/0"),
        ("rediss://h:6379/0", None, "rediss://h:6379/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", None, "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://h:6379/0?ssl_cert_reqs=none", None, "rediss://h:6379/0?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock", None, "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=2", "p@ss", "redis+socket://:p%40ss@/run/redis.sock?virtual_host=2"),
    ],
)
def test_the_broker_of_celery_is_the_same_redis(redis_url: str, password: str | None, broker_url: str) -> None:
    settings = Settings(redis_url=redis_url, runtime_dir=Path("/run"), redis_password=password)

    assert settings.celery_broker_url == broker_url


def test_the_broker_must_show_a_valid_certificate(tmp_path: Path) -> None:
    settings = Settings(redis_url="rediss://redis.internal:6380/0", runtime_dir=tmp_path)

    # Without our parameter Celery's transport has CERT_NONE here.
    assert make_app(settings).connection_for_write().ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("redis://:p%40ss@redis:6379/0", "redis://redis:6379/0"),
        ("rediss://alice:p%40ss@redis/0", "rediss://alice@redis/0"),
        ("unix://:p%40ss@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_password_in_the_url_is_taken_out_of_it(url: str, without: str) -> None:
    settings = Settings.from_environ({"RUNNER_REDIS_URL": url})

    # The URL is part of messages and logs.
    assert (settings.redis_url, settings.redis_password) == (without, "p@ss")


def test_a_password_is_not_told_even_of_a_url_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"RUNNER_REDIS_URL": "http://:p@ss@redis"})

    assert "p@ss" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p/ss@redis",
        "redis://:12/p#ss@redis",
        "redis://:p?ss@redis",
        "redis://redis?password=p/ss",
        "alice:p/ss@redis:6379",
        "unix://:p/ss@/run/redis.sock",
        "redis://[p/ss",
        "redis://:p/ss@redis:many",
    ],
)
def test_a_password_out_of_place_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(SettingsError, match="RUNNER_REDIS_URL") as caught:
        Settings.from_environ({"RUNNER_REDIS_URL": url})

    assert "ss@" not in str(caught.value)
    assert "p/ss" not in str(caught.value).replace("[p/ss", "")


def test_the_path_of_a_socket_may_have_an_at_sign() -> None:
    url = "unix:///run/user@1000/redis.sock"

    assert Settings.from_environ({"RUNNER_REDIS_URL": url}).redis_url == url


def test_the_password_file_goes_before_the_password_of_the_url(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right")
    environ = {"RUNNER_REDIS_URL": "redis://:wrong@redis", "RUNNER_PASSWORD_FILE": str(tmp_path / "password")}

    assert Settings.from_environ(environ).redis_password == "right"
