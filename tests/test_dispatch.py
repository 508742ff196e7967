"""Messages to the workers, through a real Valkey."""

import pytest

from runner.cluster import Place
from runner.coordinator.dispatch import TASK_NAME, CeleryDispatcher
from runner.errors import RedisUnavailableError
from runner.settings import Settings

CHIEF, WORKER1 = Place.parse("chief:0"), Place.parse("worker:1")


def test_the_message_of_a_place_is_plain_json_on_the_queue(settings: Settings) -> None:
    dispatcher = CeleryDispatcher(settings)

    dispatcher.send("iris-aaaaaaaa", 3, WORKER1, "gpu")

    with dispatcher._app.connection_for_read() as connection:
        message = connection.SimpleQueue("gpu").get(block=False)
    assert message.headers["task"] == TASK_NAME
    assert message.content_type == "application/json"
    assert message.payload[1] == {"job_id": "iris-aaaaaaaa", "generation": 3, "task_type": "worker", "index": 1}
    dispatcher.close()


def test_a_message_that_cannot_be_sent_is_refused_within_seconds(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    dispatcher = CeleryDispatcher(Settings(redis_url=f"unix://{nowhere}/redis.sock", runtime_dir=nowhere))

    with pytest.raises(RedisUnavailableError):
        dispatcher.send("iris-aaaaaaaa", 1, CHIEF, "default")

    dispatcher.close()
