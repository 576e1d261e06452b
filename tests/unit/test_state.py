"""The records of started services: for the user alone, and never of a process that has ended."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from shim.errors import ServiceError
from shim.service.state import forget, record, recorded_addresses, state_folder

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="it is so on POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows when a process started")
ADDRESS = "http://127.0.0.1:5273/v1"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the records, in a cache of its own."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    return state_folder()


def write(folder: Path, name: str, **fields) -> Path:
    """A record of this process, with other fields."""
    made = record(ADDRESS, "m:1")
    entry = json.loads(made.read_text(encoding="utf-8"))
    path = folder / name
    if path != made:
        made.unlink()
    path.write_text(json.dumps({**entry, **fields}), encoding="utf-8")
    path.chmod(0o600)
    return path


def test_folder_is_in_the_cache_of_the_platform(monkeypatch):
    """Where platformdirs has it, too; FOUNDRY_SHIM_CACHE is for models, and may be shared or read-only."""
    monkeypatch.undo()
    monkeypatch.setenv("FOUNDRY_SHIM_CACHE", "/nowhere")
    assert state_folder() == Path(platformdirs.user_cache_path("foundry-local-shim", appauthor=False)) / "services"


def test_record_has_address_process_and_model(folder):
    """And is gone once the service is."""
    path = record(ADDRESS, "m:1")
    entry = json.loads(path.read_text(encoding="utf-8"))
    assert (entry["base_url"], entry["model"], entry["pid"]) == (ADDRESS, "m:1", os.getpid())
    assert recorded_addresses() == [ADDRESS]
    forget(path)
    assert recorded_addresses() == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("system", "cache"),
    [
        ("win32", "AppData/Local/foundry-local-shim/Cache"),
        ("darwin", "Library/Caches/foundry-local-shim"),
        ("linux", ".cache/foundry-local-shim"),
    ],
)
def test_each_platform_has_a_folder_of_its_own(monkeypatch, tmp_path, system, cache):
    """In the home of the user, where the platform has caches."""
    monkeypatch.setattr(sys, "platform", system)
    assert state_folder() == tmp_path / cache / "services"


@POSIX
def test_record_is_found_without_the_files_of_linux(monkeypatch):
    """Where no file shows when a process started, its id and the name of the machine have to do."""

    def fail(path, *_, **__):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "readlink", fail)
    monkeypatch.setattr(Path, "read_text", fail)
    path = record(ADDRESS, "m:1")
    entry = json.loads(path.read_bytes())
    assert (entry["started"], entry["machine"]) == (None, socket.gethostname())
    assert recorded_addresses() == [ADDRESS]


@POSIX
def test_record_is_for_the_user_alone(folder):
    """Whatever the umask: nobody else may read where a service is, or say so."""
    before = os.umask(0)
    try:
        path = record(ADDRESS, "m:1")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


@POSIX
def test_link_in_the_place_of_a_record_is_not_followed(folder, tmp_path):
    """Neither when a record is written, nor when one is read."""
    target = tmp_path / "target"
    target.write_text("mine", encoding="utf-8")
    folder.mkdir(parents=True)
    (folder / f"{os.getpid()}.json").symlink_to(target)
    path = record(ADDRESS, "m:1")
    assert target.read_text(encoding="utf-8") == "mine"
    assert not path.is_symlink()
    path.rename(tmp_path / "elsewhere.json")
    (folder / "1.json").symlink_to(tmp_path / "elsewhere.json")
    assert recorded_addresses() == []


@POSIX
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", ["record", "folder", "cache"])
def test_what_another_user_may_have_written_is_ignored(folder, whose):
    """It could send prompts to a program of theirs."""
    path = record(ADDRESS, "m:1")
    os.chown({"record": path, "folder": folder, "cache": folder.parent}[whose], 65534, 65534)
    assert recorded_addresses() == []
    if whose != "record":
        with pytest.raises(ServiceError, match="belongs to another user"):
            record(ADDRESS, "m:1")


@POSIX
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_record_that_others_may_write_is_ignored(mode):
    """The same."""
    record(ADDRESS, "m:1").chmod(mode)
    assert recorded_addresses() == []


def test_record_of_an_ended_process_is_removed(folder):
    """Its program was killed, and could not remove it."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
        if sys.platform == "win32":
            pytest.skip("there a process cannot be looked for without harm")
    path = write(folder, f"{ended.pid}.json", pid=ended.pid)
    assert recorded_addresses() == []
    assert not path.exists()


@LINUX
def test_record_of_a_process_whose_id_is_another_ones_now_is_removed(folder):
    """The id is in use again, by a process that started later."""
    path = write(folder, f"{os.getpid()}.json", started="1")
    assert recorded_addresses() == []
    assert not path.exists()


def test_record_of_another_machine_is_ignored_and_kept(folder):
    """A home folder may be shared between machines and containers; their ids of processes mean nothing here."""
    path = write(folder, "1.json", pid=2**22 + 1, machine="another")
    assert recorded_addresses() == []
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 2**17, b'{"pid": 1}'],
    ids=lambda content: content[:20].decode("latin-1"),
)
def test_damaged_record_is_ignored(folder, content):
    """It hides no other one, and stops nothing."""
    record(ADDRESS, "m:1")
    (folder / "1.json").write_bytes(content)
    assert recorded_addresses() == [ADDRESS]


@pytest.mark.parametrize("pid", ["1", True, 0, -1, 10**40, None, 1.5])
def test_record_with_a_strange_process_is_ignored(folder, pid):
    """No signal is sent to a group of processes, or to all."""
    write(folder, "1.json", pid=pid)
    assert recorded_addresses() == []


@POSIX
def test_what_is_not_a_file_is_not_waited_for(folder):
    """A FIFO has no end."""
    record(ADDRESS, "m:1")
    os.mkfifo(folder / "1.json")
    (folder / "2.json").mkdir()
    assert recorded_addresses() == [ADDRESS]


def test_newest_is_first(folder):
    """By the time at which each was written."""
    for number, age in ((1, 30), (2, 10), (3, 20)):
        path = write(folder, f"{number}.json", base_url=f"http://127.0.0.1:{number}/v1")
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    assert recorded_addresses() == [f"http://127.0.0.1:{number}/v1" for number in (2, 3, 1)]


@POSIX
def test_forked_child_leaves_the_record(folder):
    """It has no service; its parent has."""
    path = record(ADDRESS, "m:1")
    path = path.rename(folder / f"{os.getpid() + 1}.json")
    forget(path)
    assert path.exists()


def test_no_home_folder_is_no_record(monkeypatch):
    """As in a container without one."""

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    assert recorded_addresses() == []
