"""Which hosts may run Foundry Local: this machine and its network may, well-known cloud services never do."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

# Services that are never Foundry Local, whatever a program calls them.
_CLOUD: Final = re.compile(
    r"(?:.*\.)?(?:openai\.com|azure\.com|microsoft\.com|anthropic\.com|googleapis\.com|mistral\.ai|deepseek\.com"
    r"|perplexity\.ai|openrouter\.ai|groq\.com|x\.ai|together\.(?:ai|xyz)|fireworks\.ai|huggingface\.co|cohere\.(?:ai|com)"
    r"|amazonaws\.com|nvidia\.com|cerebras\.ai|deepinfra\.com|github\.(?:ai|com)|moonshot\.(?:ai|cn))",
    re.IGNORECASE,
)


def is_cloud(host: str) -> bool:
    """Whether a host belongs to a cloud service, which is never Foundry Local, whatever a program calls it."""
    return _CLOUD.fullmatch(host.rstrip(".")) is not None


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its loopback interface, which no other machine answers."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def is_near(host: str) -> bool:
    """Whether a host is this machine, one of its containers, or in a private network."""
    name = host.lower().rstrip(".").strip("[]")
    try:
        address = ip_address(name)
    except ValueError:
        return name in ("localhost", "host.docker.internal") or name.endswith((".localhost", ".local", ".internal"))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_private or mapped.is_link_local
