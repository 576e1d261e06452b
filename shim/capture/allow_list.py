"""What may stay in a redacted recording: what the repair looks at, and what describes an exchange, never its content.

A test compares these lists with the fields and words that the repair reads.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from shim.core.foundry import FOREIGN


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FIELDS: Final = FOREIGN | _words(
    """$defs Error ErrorMessage Message additionalProperties allOf annotations anyOf arguments background bytes
    cached_tokens call_id cancelled_at choices code completed_at completion_tokens completion_tokens_details const
    content content_index continuous_usage_stats created created_at custom data default definitions delta description
    detail details effort encoding_format enum error errorMessage errors event failed_at finish_details finish_reason
    first_id format frequency_penalty function function_call functions has_more id image_url include include_usage
    incomplete_details index input input_schema input_tokens input_tokens_details instructions item item_id items
    json_schema last_id loc logit_bias logprob logprobs max_completion_tokens max_output_tokens max_tokens message
    messages metadata modalities model models msg n name object oneOf output output_index output_text output_tokens
    output_tokens_details owned_by parallel_tool_calls param parameters parent part permission presence_penalty
    previous_response_id prompt prompt_tokens prompt_tokens_details properties reason reasoning reasoning_content
    reasoning_effort reasoning_tokens refusal required response response_format response_id role root
    safety_identifier schema seed sequence_number service_tier status status_code stop store stream stream_options
    strict suffix summary summary_index system_fingerprint temperature text title token tokens tool_call_id
    tool_calls tool_choice tools top_k top_logprobs top_p total_tokens truncation type usage user value verbosity"""
)
"""Keys that stay; any other key is a name."""
NAMES: Final = {
    "name": re.compile(r"(?!)"),
    # How the answers of a model begin.
    "model": re.compile(r"(?<![a-z0-9])(?:r1|qwq|thinking)(?![a-z0-9])", re.IGNORECASE),
}
_ID: Final = re.compile(r"\Achat\.id\.(?:\d{1,3}\Z|(?=\d+\Z))|\A(?:chatcmpl-|call_|resp_|msg_)")
IDS: Final = dict.fromkeys(_words("call_id id item_id previous_response_id response_id tool_call_id"), _ID)
"""What stays of a name or an id in these fields."""
ENUMS: Final = _words("code event finish_reason object reason role status tool_choice type")
VALUES: Final = _words(
    """added annotation api arguments array assistant authentication auto boolean call calls cancelled chat chunk code
    complete completed completion content created custom delta developer done embedding end eos error event exceeded
    failed file filter found function in incomplete input integer internal invalid item json length limit list loaded
    max message model none not null number object out output part permission progress queued rate reasoning refusal
    request required response schema sequence server stop string summary system text token tokens tool toolcalls turn
    url use user"""
)
"""The words of which the value of such a field may consist."""
NUMBERS: Final = _words(
    """HttpStatusCode code completion_tokens content_index created created_at index input_tokens n output_index
    output_tokens prompt_tokens sequence_number status status_code total_tokens"""
)
"""Fields whose numbers stay up to three digits; longer ones are names."""
MESSAGES: Final = _words("Error ErrorMessage Message detail error errorMessage message messages msg title")
OF_ANSWERS: Final = _words("arguments choices item output part")
"""Fields that hold the message of an error, and those below which they hold what a model wrote."""

_SPELLINGS: Final = (
    *(f"<{tag}> </{tag}>" for tag in ("tool_call", "tool_calls", "function_call", "tools", "response", "think")),
    *("functools[", "[TOOL_CALLS]", "<function={name}> </function>", "</parameter>"),
)
"""The delimiters of tool calls and reasoning in texts; between blanks and placeholders they stay as they are."""
_DELIMITERS: Final = {part for spelling in _SPELLINGS for part in re.split(r"\{\w+\}| ", spelling)} - {""}
_IN_ORDER: Final = "|".join(map(re.escape, sorted(_DELIMITERS, key=len, reverse=True)))
LITERAL: Final = r"-?(?:true|false|null|NaN|Infinity|True|False|None)"
_VALUE: Final = rf"""(?:["']?{LITERAL}["']?)"""
IN_TEXT: Final = rf"""
      <parameter=(?P<parameter>[^<>"\\{{}}\[\]\s]{{1,200}})>(?:\s*{_VALUE}(?=\s*<))? | {_IN_ORDER}
    | ["']type["']\s*:\s*["'](?:function|object|string|number|integer|boolean|array|null)["']
    | (?P<quote>["'])(?P<key>[^"'<{{\[\n]{{1,200}})(?P=quote)(?=\s*:)
    | (?<![\w"'\\])(?P<keyword>[a-zA-Z_]\w{{0,99}})(?=\s?=(?!=))
    | [:\[,=(>]\s*{_VALUE}(?=\s*[,}}\])<]) | (?<![\w.])0(?=\d) | (?<=\d)[eE](?=[+-]?\d)
"""
"""What stays of a text, or is a name in it: the form of calls, of JSON, of Python, and of numbers."""

IN_ERRORS: Final = r"""
      (?i:<!doctype\ html|<(?:html|head|body|title))\b | (?i:\A\s*server=oatpp) | ^message= | \.(?:cc|cpp|h):(?=\d)
    | (?i:model\b|\b(?:not\ loaded|not\ found|does\ not\ exist)|no\ openaiservice\ provider\ found)
    | (?<=\)\ )const\ | 'strict'\ true\ is\ not\ supported
"""
"""What the repair looks for in the message of an error."""
PHRASES: Final = frozenset(status.phrase for status in HTTPStatus)
WORD_OF_ERRORS: Final = r"(?<![^\s\"'(\[>])(?P<word>[A-Za-z_]+)(?![^\s\"'.,:;!?)\]<])"
_WORDS_OF_PHRASES: Final = _words(re.sub(r"\b\w{1,2}\b", "", " ".join(PHRASES)).lower())
_WORDS_OF_SERVICES: Final = _words(
    """above and api are argument array before below boolean buffer cached cannot completion context could count
    decimal device exceeded exceeds expected failed field fields for from generation getting got handle has
    incorrect inference input instead integer invalid json key large length less load loaded loading matching max
    maximum memory message method minimum missing must negative null number one only openai openaiservice out parse
    please positive provided provider range required requires role size small sse stream streaming string supported
    than the token total true type unavailable unknown unsupported value was which with"""
)
WORDS_OF_ERRORS: Final = FIELDS | _WORDS_OF_PHRASES | _WORDS_OF_SERVICES
"""Words that stay in the message of an error where they stand by themselves; none that a key in short runs may be."""

PATHS: Final = _words("v1 chat completions responses embeddings models loaded openai loadedmodels")
HEADERS: Final = _words(
    """accept accept-encoding accept-ranges age allow cache-control connection content-encoding content-length
    content-type date expires host keep-alive pragma retry-after retry-after-ms server transfer-encoding user-agent
    vary x-accel-buffering x-content-type-options x-should-retry x-stainless-arch x-stainless-async x-stainless-lang
    x-stainless-os x-stainless-package-version x-stainless-read-timeout x-stainless-retry-count x-stainless-runtime
    x-stainless-runtime-version"""
)
CREDENTIALS: Final = _words("authorization api-key cookie openai-organization openai-project set-cookie x-api-key")
"""Headers whose values may stay, and others whose names may."""
HEADER: Final = re.compile(
    r"""(?:age|content-length|retry-after(?:-ms)?|x-stainless-re[a-z-]+):\d{1,10}(?:,\ ?\d{1,10})*(?!\d)
    | (?:date|expires):[a-z]{3},\ \d\d\ [a-z]{3}\ \d{4}\ [\d:]{8}\ gmt
    | x-stainless-[a-z]+-version:\d{1,2}(?:\.\d{1,3}){2} | host:(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?
    | [a-z-]+:(?:(?:accept|accept-encoding|application|arm64|async|asyncio|asyncopenai|br|bytes|charset|chunked|close
    |cpython|deflate|event-stream|false|get|gzip|html|httpx|identity|json|keep-alive|kestrel|linux|macos|max|max-age|no
    |no-cache|no-store|nosniff|oatpp|openai|origin|plain|post|private|public|python|text|timeout|true|utf-8|uvicorn
    |windows|x64|zstd)(?![a-z0-9])(?:[/=\ ]\d{1,3}(?:\.\d{1,3}){0,2}(?![\d.]))? | [\ ,;:/+*="])*""",
    re.VERBOSE | re.IGNORECASE,
)
"""What stays of such a header: its name, a colon and the beginning of its value."""
