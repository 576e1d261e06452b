"""What lies on this machine: files that somebody else put there, variables, and what discovery makes of them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checks.attacks.attacks import attack
from checks.attacks.target import Target
from support.commands import command, lonely
from support.environments import REPOSITORY
from support.openai_server import openai_server
from support.raw_server import RawServer, Send, Sleep

FOREIGN = [
    "http://192.0.2.1:5273",
    "http://evil.example:5273",
    "http://127.0.0.1@evil.example:1",
    "https://[2001:db8::1]:1",
]
FOREIGN += [
    "http://localhost.evil.example:1",
    "http://127.0.0.1.evil.example:1",
    "//evil.example:1",
    "file:///etc/passwd",
]
KEYS = {
    "OPENAI_API_KEY": "sk-private-1",
    "OPENAI_ORG_ID": "org-private-2",
    "OPENAI_PROJECT_ID": "proj-private-3",
    "OPENAI_ADMIN_KEY": "sk-private-4",
    "OPENAI_CUSTOM_HEADERS": "X-Secret: private-5",
}


@contextmanager
def home() -> Iterator[tuple[Path, dict[str, str]]]:
    """A home folder, and the environment of a user who has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / ".foundry").mkdir()
        yield path, {**lonely(path), "PYTHONPATH": str(REPOSITORY)}


def run(environment: dict[str, str], *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        command(*arguments), env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


@attack("local", own=True)
def program_in_current_folder(_: Target) -> str:
    """A pip.py in the current folder is run by the offline download."""
    with home() as (folder, environment):
        for name in ("pip.py", "pip/__init__.py", "pip/__main__.py", "sitecustomize.py", "json.py", "ssl.py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("import os; open(os.environ['PROOF'], 'a').write(__file__ + '\\n')")
        program = (
            "import sys; sys.path.remove('') if '' in sys.path else None\n"
            "from pathlib import Path\nfrom shim.offline import fetch\n"
            "try:\n    fetch.ensure_model(cache_dir=Path(sys.argv[1]))\nexcept fetch.ServiceError as error:\n"
            "    print(error)\n"
        )
        variables = {
            "PROOF": str(folder / "proof"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
        }
        subprocess.run(
            [sys.executable, "-P", "-c", program, str(folder / "cache")],
            cwd=folder,
            env={**environment, **variables},
            capture_output=True,
            timeout=60,
            check=False,
        )
        proof = folder / "proof"
        return proof.read_text() if proof.exists() else ""


@attack("local", own=True)
def command_in_current_folder(_: Target) -> str:
    """A program in the current folder is run by a command."""
    with home() as (folder, environment):
        # Python's own library and openai's start some of them.
        for name in ("foundry", "uname", "lsb_release", "git", "node", "sh", "ldconfig", "cc", "objdump", "file"):
            program = folder / name
            program.write_text(f"#!/bin/sh\necho {name} >> {folder}/proof\n")
            program.chmod(0o755)
        with openai_server() as server:
            for path in (".", "", f":{os.defpath}", f"./:{os.defpath}"):
                run({**environment, "PATH": path}, "doctor", cwd=folder)
            run({**environment, "PATH": "."}, "capture", folder / "capture", "--base-url", server.base_url, cwd=folder)
        return (folder / "proof").read_text() if (folder / "proof").exists() else ""


@attack("local", own=True)
def daemon_files(_: Target) -> str:
    """A strange daemon.json stops the command, or is waited for."""
    contents: dict[str, bytes] = {
        "nulls": b'{"web_urls": [null, 1, true, {}, []]}',
        "true": b'{"web_urls": true}',
        "numbers": b'{"web_urls": [8080]}',
        "text": b'{"web_urls": "http://127.0.0.1:1"}',
        "deep": b'{"web_urls": ' + b"[" * 200_000,
        "deep object": b'{"a":' * 200_000,
        "thousands": json.dumps({"web_urls": [f"http://127.0.0.1:{n}" for n in range(1, 9000)]}).encode(),
        "long": json.dumps({"web_urls": ["http://127.0.0.1:1/" + "a" * 900_000]}).encode(),
        "binary": bytes(range(256)) * 100,
        "empty": b"",
        "odd": json.dumps(
            {"web_urls": ["http://[", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://\n", ""]}
        ).encode(),
        "controls": json.dumps({"web_urls": ["http://127.0.0.1:1\x1b[2J\x07"]}).encode(),
    }
    wrong = []
    with home() as (folder, environment):
        file = folder / ".foundry" / "daemon.json"
        for name, content in contents.items():
            file.write_bytes(content)
            wrong += _wrong(name, environment)
        with file.open("wb") as large:
            large.truncate(300 * 2**20)
        wrong += _wrong("300 MB", environment)
        file.unlink()
        os.mkfifo(file)
        wrong += _wrong("FIFO", environment)
        file.unlink()
        file.mkdir()
        wrong += _wrong("folder", environment)
        file.rmdir()
        file.symlink_to("/dev/zero")
        wrong += _wrong("/dev/zero", environment)
    return "; ".join(wrong)


def _wrong(name: str, environment: dict[str, str]) -> list[str]:
    program = (
        "import time; from shim.service.find import find_service; from shim.errors import ServiceError\n"
        "started = time.process_time()\ntry:\n    find_service()\nexcept ServiceError as error:\n    print(error)\n"
        "print(f'{time.process_time() - started:.1f}')"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"{name}: hangs"]
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != 2 or "No Foundry Local service answers" not in lines[0]:
        return [f"{name}: {done.stdout[-200:]} {done.stderr[-200:]}"]
    if float(lines[1]) > 3 or len(lines[0]) > 1500:
        return [f"{name}: {lines[1]} s, {len(lines[0])} characters"]
    return []


@attack("local", own=True)
def foreign_addresses(_: Target) -> str:
    """Discovery asks an address of another machine."""
    with home() as (folder, environment):
        (folder / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": FOREIGN}))
        done = run(environment, "doctor")
        said = (done.stdout + done.stderr).replace("\n", " ")
        if "not of this machine" not in said:
            return said
        program = "from shim.service.find import known_addresses\nprint(list(known_addresses()))"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return "" if done.stdout == "[]\n" else done.stdout + done.stderr


@attack("local", own=True)
def endless_responses(_: Target) -> str:
    """A program at a recorded address is waited for without end."""
    pieces = {
        "head": (b"HTTP/1.1 200 OK\r\n", b"X"),
        "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "body": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    }
    wrong = []
    for name, (start, piece) in pieces.items():
        steps = [Send(start), *(step for _ in range(600) for step in (Send(piece), Sleep(0.5)))]
        with home() as (folder, environment), RawServer(steps) as server:
            (folder / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": [server.url]}))
            wrong += _wrong(name, environment)
    return "; ".join(wrong)


@attack("local", own=True)
def passwords(_: Target) -> str:
    """The password in an address is shown by a command."""
    wrong = []
    with home() as (_folder, environment), openai_server() as server:
        for password in ("PASS", "PASS/x", "PASS#x", "1/PASS", "a@PASS", "PASS%zz", "PASS["):
            address = f"http://user:{password}@127.0.0.1:{server.port}"
            run_program = ("run", "--attach", "--", sys.executable, "-c", "")
            others = (("chat", "Hi"), run_program) if password == "PASS" else ()  # noqa: S105 - not a real one
            for arguments in (("models",), *others):
                done = run({**environment, "FOUNDRY_LOCAL_ENDPOINT": address}, *arguments)
                wrong += [f"{password}: {line}" for line in (done.stdout + done.stderr).splitlines() if "PASS" in line]
    return "; ".join(wrong)


@attack("local", own=True)
def keys_of_the_environment(_: Target) -> str:
    """A key of the environment is sent to a service."""
    wrong = []
    with home() as (folder, clean), openai_server() as server:
        environment = {**clean, **KEYS}
        (folder / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": [server.url]}))
        run(environment, "doctor")
        run(environment, "doctor", "--base-url", server.base_url)
        run(environment, "capture", folder / "a.json", "--base-url", server.base_url)
        run(environment, "capture", folder / "b.json")
        if len(server.requests) < 10:
            wrong.append(f"only {len(server.requests)} requests")
        wrong += [
            f"{request.path}: {name}: {value}"
            for request in server.requests
            for name, value in request.headers
            if "private" in value
        ]
        wrong += [name for name in ("a.json", "b.json") if "private" in (folder / name).read_text()]
    return "; ".join(wrong)


@attack("local", own=True)
def proxies_of_the_environment(_: Target) -> str:
    """Requests to this machine go through a proxy of the environment."""
    with home() as (folder, clean), openai_server() as proxy, openai_server() as server:
        names = ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "https_proxy")
        environment = {**clean, **dict.fromkeys(names, proxy.url), "NO_PROXY": "", "no_proxy": ""}
        (folder / ".foundry" / "daemon.json").write_text(json.dumps({"web_urls": [server.url]}))
        run(environment, "doctor")
        run(environment, "capture", folder / "a.json")
        run(environment, "models")
        return ", ".join(request.path for request in proxy.requests)


@attack("local", own=True)
def captures(_: Target) -> str:
    """A capture is written through a link, over a file, or for everybody to read."""
    wrong = []
    with home() as (folder, environment), openai_server() as server:
        (folder / "mine").write_text("mine")
        (folder / "link").symlink_to(folder / "mine")
        (folder / "dangling").symlink_to(folder / "other")
        for name in ("link", "dangling", "mine"):
            done = run(environment, "capture", folder / name, "--base-url", server.base_url)
            if done.returncode == 0:
                wrong.append(f"{name} is written without --force")
        run(environment, "capture", folder / "link", "--base-url", server.base_url, "--force")
        if (folder / "mine").read_text() != "mine" or (folder / "other").exists():
            wrong.append("a link is followed")
        run(environment, "capture", folder / "new", "--base-url", server.base_url)
        for name in ("new", "link"):
            mode = (folder / name).lstat().st_mode & 0o777
            if mode != 0o600:
                wrong.append(f"{name}: {mode:o}")
    return "; ".join(wrong)


@attack("local", own=True)
def caches(_: Target) -> str:
    """A model in a cache folder of somebody else is used."""
    if os.getuid() != 0:
        return ""  # only root can give a folder away
    wrong = []
    with home() as (folder, environment):
        program = (
            "import sys; from pathlib import Path; from shim.offline import fetch\n"
            "try:\n    print('used', fetch.ensure_model(cache_dir=Path(sys.argv[1])))\n"
            "except fetch.ServiceError as error:\n    print(error)\n"
        )
        for place in (".", "models", "models/SmolLM2-135M-Instruct-1"):
            cache = folder / place.replace("/", "-").replace(".", "root")
            model = cache / "models" / "SmolLM2-135M-Instruct-1"
            model.mkdir(parents=True)
            (model / "genai_config.json").write_text("{}")
            os.chown(cache / place, 65534, 65534)
            done = subprocess.run(
                [sys.executable, "-c", program, str(cache)],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if "belongs to another user" not in done.stdout:
                wrong.append(f"{place}: {done.stdout}{done.stderr}")
    return "; ".join(wrong)
