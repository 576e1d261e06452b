"""Finding a service by what Foundry Local has left behind: only addresses of this machine, whatever stands there."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from shim.doctor import diagnose
from shim.errors import ServiceError
from shim.service.find import (
    find_service,
    is_loopback,
    known_addresses,
    resolve_model,
    split_credentials,
    without_credentials,
)
from support.openai_server import MODEL, openai_server
from support.raw_server import Hold, RawServer, Send, Sleep, plain_response, response_head
from support.raw_server import chunk as http_chunk

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="it is made as on POSIX")


@pytest.fixture(autouse=True)
def daemon(tmp_path, monkeypatch):
    """The daemon's file in an empty home folder; no command, no variable, and a proxy where nobody listens."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("FOUNDRY_LOCAL_ENDPOINT", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".foundry").mkdir()
    return tmp_path / ".foundry" / "daemon.json"


def message() -> str:
    """The error of a search, which takes no time worth mentioning."""
    started = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        find_service()
    assert time.monotonic() - started < 30
    assert len(caught.value.message) < 1500
    assert caught.value.message.isprintable()
    return caught.value.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "daemon.json is not valid JSON"),
        (b"{", "daemon.json is not valid JSON"),
        (b"\xff\xfe", "daemon.json is not valid JSON"),
        (b"[" * 200_000, "daemon.json is not valid JSON"),
        (b'{"web_urls": ' + b"[" * 200_000, "daemon.json is not valid JSON"),
        (b"[]", "daemon.json names no web_urls"),
        (b'{"web_urls": null}', "daemon.json names no web_urls"),
        (b'{"web_urls": true}', "daemon.json has web_urls that are not a list"),
        (b'{"web_urls": "http://127.0.0.1:1"}', "daemon.json has web_urls that are not a list"),
        (b'{"web_urls": [null, 8080, {}]}', "not of this machine"),
        (b'{"web_urls": ["http://["]}', "not of this machine"),
        (b'{"web_urls": ["http://192.0.2.1:1", "http://127.0.0.1@192.0.2.1:1"]}', "not of this machine"),
        (b"x" * (2**20 + 1), "daemon.json is larger than 1048576 bytes"),
        (json.dumps({"web_urls": [f"http://127.0.0.1:{n}" for n in range(1, 5000)]}).encode(), "of which the first 8"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_strange_content_is_named_in_one_line(daemon, content, reason):
    """Nothing of it is waited for, and nothing of it is asked."""
    daemon.write_bytes(content)
    assert reason in message()
    problems = [problem.message for problem in diagnose().problems]
    assert any(reason in problem for problem in problems) or "first 8" in reason


@POSIX
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "unreadable"])
def test_what_is_not_a_regular_file_is_named(daemon, kind):
    """A FIFO would be waited for, and a device read without end."""
    match kind:
        case "fifo":
            os.mkfifo(daemon)
        case "folder":
            daemon.mkdir()
        case "device":
            daemon.symlink_to("/dev/zero")
        case "unreadable":
            daemon.symlink_to(daemon)
    assert "daemon.json is not a regular file" in message() or "daemon.json cannot be read" in message()


def test_addresses_of_other_machines_are_passed_over(daemon):
    """The first address of this machine is taken."""
    with openai_server() as server:
        daemon.write_text(json.dumps({"web_urls": ["http://192.0.2.1:1", 7, server.url, server.url]}), encoding="utf-8")
        assert list(known_addresses()) == [("~/.foundry/daemon.json", server.url)]
        assert find_service() == server.base_url


def test_no_home_folder_is_no_daemon(monkeypatch):
    """As in a container without one."""

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    assert "neither ~/.foundry/daemon.json nor" in message()


@POSIX
@pytest.mark.parametrize("path", [".", "", f":{os.defpath}", "./bin"])
def test_command_of_the_current_folder_is_not_run(tmp_path, monkeypatch, path):
    """Anybody may have put it there."""
    for folder in (tmp_path, tmp_path / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "foundry").write_text(f"#!/bin/sh\necho run > {tmp_path}/proof\n", encoding="utf-8")
        (folder / "foundry").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path)
    assert list(known_addresses()) == []
    assert not (tmp_path / "proof").exists()


@POSIX
def test_command_runs_in_its_own_folder(tmp_path, monkeypatch):
    """So that nothing of the current one is a part of it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "foundry").write_text('#!/bin/sh\necho "http://127.0.0.1:5273 in $PWD"\n', encoding="utf-8")
    (tmp_path / "bin" / "foundry").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert list(known_addresses()) == [("`foundry service status`", "http://127.0.0.1:5273")]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *(
            (address, True)
            for address in ("http://localhost:1", "http://127.0.0.1", "https://[::1]:2", "http://127.9.9.9")
        ),
        *((address, False) for address in ("http://evil.example", "http://localhost.evil.example", "http://0.0.0.0:1")),
        *((address, False) for address in ("http://127.0.0.1@evil.example", "http://192.168.0.1", "http://[", "x")),
        *((address, False) for address in ("http://localhost\\@evil.example", "http://evil.example#@localhost", "")),
    ],
)
def test_what_is_an_address_of_this_machine(address, expected):
    """By the parser that decides where a request goes."""
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("address", "shown", "authorization"),
    [
        ("http://user:PASS@host:1/v1", "http://host:1/v1", "Basic dXNlcjpQQVNT"),
        ("http://user@host", "http://host", "Basic dXNlcg=="),
        ("http://us%40er:PA%2FSS@host", "http://host", "Basic dXNAZXI6UEEvU1M="),
        ("http://a@b:PASS@host", "http://host", "Basic YUBiOlBBU1M="),
        ("user:PASS@host:1", "host:1", "Basic dXNlcjpQQVNT"),
        ("http://host", "http://host", None),
        ("http://user:PASS@[", "http://[", "Basic dXNlcjpQQVNT"),
    ],
)
def test_name_and_password_are_taken_out_of_an_address(address, shown, authorization):
    """Whatever is shown of it."""
    assert split_credentials(address) == (shown, authorization)
    assert without_credentials(address) == shown


def test_malformed_address_is_shown_without_what_may_be_a_password():
    """Everything before the last @, wherever its name and password would end."""
    for password in ("PASS", "PA/SS", "PA?SS", "PA#SS", "PA\nSS", "1/PASS"):
        assert without_credentials(f"http://user:{password}@host/v1") == "http://host/v1"
        assert without_credentials(f"user:{password}@host/v1") == "host/v1"


@pytest.mark.parametrize(
    "address",
    [
        *("http://user:PASS@127.0.0.1:9", "http://user:PASS@[", "http://user:x:PASS@h:port"),
        *("http://user:PASS/x@127.0.0.1:9", "http://user:PASS#x@127.0.0.1:9", "user:9?PASS@127.0.0.1:9"),
        *("http://user:PASS@127.0.0.1:99999", "http://user:PASS@\u2100:1"),
    ],
)
def test_no_error_shows_a_password(address):
    """Neither where nothing answers, nor where the address is malformed."""
    with pytest.raises(ServiceError) as caught:
        find_service(address)
    assert "PASS" not in str(caught.value)
    diagnosis = diagnose(address, deadline=1)
    assert "PASS" not in f"{diagnosis.base_url} {diagnosis.problems}"


def test_diagnosis_does_not_show_a_password():
    """The service gets it, the reader does not."""
    with openai_server() as server:
        address = server.base_url.replace("http://", "http://user:PASS@")
        diagnosis = diagnose(address, deadline=5)
        assert diagnosis.is_usable
        assert diagnosis.base_url == server.base_url
        assert {request.header("authorization") for request in server.requests} == {"Basic dXNlcjpQQVNT"}


def test_model_is_resolved_with_the_given_authorization():
    """A service that wants a key gets it with each look-up."""
    with openai_server() as server:
        assert resolve_model(server.base_url, None, authorization="Bearer key") == MODEL
        assert {request.header("authorization") for request in server.requests} == {"Bearer key"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (plain_response(b"[" * 100_000), "not JSON"),
        (plain_response(b'{"data": [{"id": 1}, {"id": null}, 2]}'), None),
        ([Send(response_head(headers=[])), *[Send(http_chunk(b" " * 2**20))] * 20, Hold()], "too large"),
        (plain_response(b"{}", headers=[("Content-Encoding", "gzip, gzip")]), "more than once"),
    ],
    ids=["deep", "ids", "large", "compressed"],
)
def test_strange_list_of_models_is_a_reason(script, reason):
    """It is read up to a size, and understood as far as it goes."""
    with RawServer(script) as server:
        if reason is None:
            assert find_service(server.base_url) == server.base_url
            with pytest.raises(ServiceError, match="does not have a model"):
                resolve_model(server.base_url, None)
        else:
            with pytest.raises(ServiceError, match=reason):
                find_service(server.base_url)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (response_head(headers=[]), http_chunk(b" ")),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "head", "interim responses"],
)
def test_response_that_drips_is_given_up(monkeypatch, start, piece):
    """Each of its pieces comes in time, all of them do not."""
    monkeypatch.setattr("shim.service.find._PROBE_SECONDS", 0.5)
    steps = [Send(start), *(step for _ in range(600) for step in (Send(piece), Sleep(0.1)))]
    with RawServer(steps) as server, pytest.raises(ServiceError, match="does not finish its response"):
        find_service(server.base_url)
