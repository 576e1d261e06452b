"""Record the exchanges that `foundry-shim demo` plays, from a real Foundry Local 1.2.4 with the offline model.

Run it on an idle machine with ``PYTHONPATH=.:tests python -m support.record_demo``: the times are recorded, too.
"""

import json
from pathlib import Path
from typing import Any

import httpx

import shim
from shim.capture.recording import Recording, RecordingTransport
from shim.demo.scenes import FOLDER
from shim.offline.fetch import MODEL_ID, ensure_model
from support.service import LiveService

RELEASE = "1.2.4"
TRIES = 5
KEPT_HEADERS = {"content-type"}
KEPT_DETAILS = {"shim", "openai", "httpx", "date"}

SEA = "Waves roll to the shore,\nfoam writes its name in the sand,\nthe tide reads it back."
MOON = "A lamp in the dark,\nthe moon walks across the lake\nand leaves no footprint."
HAIKU = [
    {"role": "user", "content": "Write me a haiku about the sea"},
    {"role": "assistant", "content": SEA},
    {"role": "user", "content": "Write me a haiku about the moon"},
    {"role": "assistant", "content": MOON},
    {"role": "user", "content": "Write me a haiku about streams"},
]
CALL = '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{}"}}}}\n</tool_call>'
WEATHER = [
    {"role": "system", "content": f"You call functions: get_weather(city). To call one, write:\n{CALL.format('…')}"},
    {"role": "user", "content": "Do I need a coat in Oslo?"},
    {"role": "assistant", "content": CALL.format("Oslo")},
    {"role": "user", "content": "Is it warm in Rome?"},
    {"role": "assistant", "content": CALL.format("Rome")},
    {"role": "user", "content": "Do I need an umbrella in Paris?"},
]
GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
REQUESTS: dict[str, dict[str, Any]] = {
    "haiku": {"model": MODEL_ID, "messages": HAIKU},
    "tool-call": {"model": MODEL_ID, "messages": WEATHER, "tools": [GET_WEATHER]},
    "unknown-model": {"model": "phi-4-mini", "messages": HAIKU[-1:]},
}


def record(base_url: str, body: dict[str, Any]) -> list[Recording]:
    """Ask with the shim; return what it asked of the service, and the responses."""
    transport = RecordingTransport()
    with shim.OpenAI(base_url=base_url, max_retries=0, http_client=httpx.Client(transport=transport)) as client:
        try:
            for _ in client.chat.completions.create(**body, stream=True):
                pass
        except Exception as error:  # noqa: BLE001 - that is what one of them shows
            print(f"{type(error).__name__}: {error}")
    return transport.recordings


def main() -> None:
    """Record each exchange several times, and keep the fastest."""
    service = LiveService(RELEASE, model=ensure_model())
    service.model_id = MODEL_ID
    with service:
        for name, body in REQUESTS.items():
            tries = [record(service.base_url, body) for _ in range(TRIES)]
            fastest = min(tries, key=lambda recordings: recordings[0].pieces[-1].at)
            for number, recording in enumerate(fastest):
                save(recording, FOLDER / f"{name}{f'-{number}' if number else ''}.json")


def save(recording: Recording, path: Path) -> None:
    """Write what belongs to the exchange, and nothing of this machine."""
    recording.headers = [each for each in recording.headers if each[0].lower() in KEPT_HEADERS]
    recording.details = {name: text for name, text in recording.details.items() if name in KEPT_DETAILS}
    recording.details |= {"service": f"Foundry Local {RELEASE}", "model": MODEL_ID}
    recording.save(path, overwrite=True)
    path.chmod(0o644)
    size = len(json.dumps(recording.answer.decode("latin-1")))
    print(f"{path.name}: {recording.method} {recording.target}, {len(recording.pieces)} pieces, {size} bytes")


if __name__ == "__main__":
    main()
