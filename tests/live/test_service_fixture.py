import http.client
import json
import os
import signal
from contextlib import closing, nullcontext
from urllib.parse import urlsplit

import pytest

from support.releases import HERE
from support.scripted_model import SCRIPTS, marker
from support.service import (
    LIVE_VARIABLE,
    LiveService,
    RunningService,
    ServiceFailedError,
    live_setting,
    running_services,
)
from support.service_pool import ServicePool


def stream_text(service, script):
    """Return the text of a streamed answer, read without any of the libraries that are to be tested."""
    address = urlsplit(service.base_url)
    request = {
        "model": service.model_id,
        "messages": [{"role": "user", "content": marker(script)}],
        "stream": True,
        "max_tokens": 1000,
    }
    with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=30)) as connection:
        connection.request(
            "POST",
            f"{address.path}/chat/completions",
            body=json.dumps(request),
            headers={"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        assert response.status == 200
        events = [line.removeprefix(b"data: ") for line in response.read().splitlines() if line.startswith(b"data: ")]
    assert events.pop() == b"[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def test_each_release_says_the_script(service):
    assert stream_text(service, "haiku") == SCRIPTS["haiku"]


def test_characters_cut_across_tokens_arrive_whole(service):
    assert stream_text(service, "emoji") == SCRIPTS["emoji"]


def test_the_service_is_shared(service, get_service):
    assert get_service(service.version) is service


@pytest.mark.live
def test_a_service_that_died_is_replaced(monkeypatch):
    monkeypatch.delenv(LIVE_VARIABLE, raising=False)  # those are not ours to kill
    with ServicePool(nullcontext) as pool:
        first = pool.get(HERE)
        os.kill(first.pid, signal.SIGTERM)
        first.wait()
        second = pool.get(HERE)
        assert second.pid != first.pid
        assert stream_text(second, "haiku") == SCRIPTS["haiku"]
    assert not second.alive


def test_a_service_stops_when_its_parent_is_gone(launch_service):
    service = launch_service(HERE)
    service._process.stdin.close()  # as the operating system does
    assert service.wait() == 0


@pytest.mark.live
def test_a_service_that_does_not_start_says_why(tmp_path):
    service = LiveService(HERE, model=tmp_path)
    with pytest.raises(ServiceFailedError, match=r"must contain a regular genai_config\.json"):
        service.start()
    assert not service.alive


def test_a_release_that_cannot_be_had_is_a_reason_to_skip_unless_it_is_required(monkeypatch, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("FOUNDRY_SHIM_CACHE", str(in_the_way))
    monkeypatch.delenv("FOUNDRY_SHIM_REQUIRE", raising=False)
    monkeypatch.delenv(LIVE_VARIABLE, raising=False)
    with ServicePool(nullcontext) as pool:
        for _ in range(2):
            with pytest.raises(pytest.skip.Exception, match=r"cannot make releases/1\.2\.4"):
                pool.get("1.2.4")
        monkeypatch.setenv("FOUNDRY_SHIM_REQUIRE", "2.2.1, 1.2.4")
        with pytest.raises(pytest.fail.Exception, match=r"cannot make releases/1\.2\.4"):
            pool.get("1.2.4")


def test_services_are_handed_on_to_another_test_run():
    running = [
        RunningService("1.2.4", "http://127.0.0.1:1/v1", "a:1"),
        RunningService("2.2.1", "http://127.0.0.1:2", "b"),
    ]
    assert running_services(live_setting(running)) == {service.version: service for service in running}
    assert running_services("") == {}
    assert not running[0].alive


def test_a_service_of_somebody_else_is_used_and_left_alone(launch_service, monkeypatch):
    mine = launch_service(HERE)
    monkeypatch.setenv(LIVE_VARIABLE, live_setting([mine]))
    with ServicePool(nullcontext) as pool:
        assert pool.get(HERE).base_url == mine.base_url
    assert mine.alive
