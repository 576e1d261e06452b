"""The forms in which an address is written, each of which stands for one base URL."""

import pytest

from shim.transport.addresses import api_path, normalised, variables_naming

ORIGIN = "http://127.0.0.1:5273"
LOCAL = "/catalogs/local/v1"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/v1"),
        ("/", "/v1"),
        ("/v1", "/v1"),
        ("/v1/", "/v1"),
        ("/v1//", "/v1"),
        ("//v1", "/v1"),
        ("/v1/chat/completions", "/v1"),
        ("/v1/chat/completions/", "/v1"),
        ("/v1/models", "/v1"),
        ("/v1/models/qwen2.5-1.5b-instruct-generic-cpu:4", "/v1"),
        ("/v1/responses", "/v1"),
        ("/openai/status", "/v1"),
        ("/models/loaded", "/v1"),
        ("/catalogs/local", LOCAL),
        ("/catalogs/local/", LOCAL),
        ("/catalogs/local/v1", LOCAL),
        ("/catalogs/local/v1/", LOCAL),
        ("/catalogs/local/v1/chat/completions", LOCAL),
        ("/catalogs/local/models", LOCAL),
        ("/catalogs", "/v1"),
        ("/gateway/v1/chat/completions", "/gateway/v1"),
        ("/?prompt=a#/v1", "/v1"),
        ("/#/catalogs/local", "/v1"),
        ("/index.html", "/v1"),
    ],
)
@pytest.mark.parametrize("start", [ORIGIN, "127.0.0.1:5273", "//127.0.0.1:5273", "HTTP://127.0.0.1:5273"])
def test_each_path_stands_for_one_base_url(start, path, expected):
    """With a scheme or without, with slashes at the end or without, and as a command, a page or a program shows it."""
    assert normalised(start + path) == ORIGIN + expected
    assert normalised(f"  {start}{path}\n") == ORIGIN + expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost", "http://localhost/v1"),
        ("localhost:5272", "http://localhost:5272/v1"),
        ("https://gateway.example", "https://gateway.example/v1"),
        ("[::1]:5273", "http://[::1]:5273/v1"),
        ("http://[::1]:5273/v1", "http://[::1]:5273/v1"),
        ("user:PASS@host:1", "http://user:PASS@host:1/v1"),
        ("http://user:PASS@host:1/catalogs/local", "http://user:PASS@host:1/catalogs/local/v1"),
        ("localhost:5273/?next=http://other.example", "http://localhost:5273/v1"),
    ],
)
def test_host_port_and_credentials_are_kept(address, expected):
    """Nothing of where the service is gets lost."""
    assert normalised(address) == expected
    assert normalised(expected) == expected


@pytest.mark.parametrize(
    "address",
    [
        *("", " ", "http://", "http:///v1", "ftp://localhost/v1", "file:///etc/passwd", "http://[", "http://h:port"),
        *("http://user:1/PASS@host", "user:1?PASS@host", "http://user:1#PASS@host:1/v1"),
    ],
)
def test_what_is_not_an_address_is_refused(address):
    """It has no host, another scheme, a port that is not a number, or a password that is cut into its parts."""
    with pytest.raises(ValueError, match=r".+"):
        normalised(address)


def test_path_of_the_api_stays():
    """So a program can compare it with the path that it has."""
    for path in ("/v1", LOCAL, "/gateway/v1"):
        assert api_path(path) == path


def test_variables_that_hold_an_address_are_named(monkeypatch):
    """In whatever form they hold it; others are not."""
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", "127.0.0.1:5273")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:PASS@127.0.0.1:5273/v1")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:5274/v1")
    assert variables_naming(ORIGIN) == ["FOUNDRY_LOCAL_ENDPOINT", "OPENAI_BASE_URL"]
    monkeypatch.setenv("FOUNDRY_LOCAL_ENDPOINT", "http://[")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert variables_naming(ORIGIN) == []
