"""What may stay in a redacted recording: what the repair looks at, and what describes an exchange, never its content.

A test compares these lists with the fields and words that the repair reads.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from shim.core.dialects import DIALECTS
from shim.core.foundry import FOREIGN


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FIELDS: Final = FOREIGN | _words(
    """$defs $ref additionalProperties allOf annotations anyOf arguments background bytes cached_tokens call_id
    cancelled_at choices citations code completed_at completion_tokens completion_tokens_details const content
    content_filter_offsets content_filter_results content_index continuous_usage_stats cost cost_details created
    created_at custom data default definitions delta description detail details effort encoding_format enum Error
    error error_message error_msg ErrorMessage errorMessage Errors errors event exception failed_at finish_details
    finish_reason first_id format frequency_penalty function function_call functions has_more http_status id
    image_url include include_usage incomplete_details index input input_schema input_tokens input_tokens_details
    instructions is_byok item item_id items json_schema kv_transfer_params last_id loc logit_bias logprob logprobs
    max_completion_tokens max_output_tokens max_tokens max_tool_calls Message message messages metadata modalities
    model models msg n name native_finish_reason nullable num_sources_used nvext obfuscation object oneOf output
    output_index output_text output_tokens output_tokens_details owned_by parallel_tool_calls param parameters
    parent part permission presence_penalty previous_response_id prompt prompt_cache_hit_tokens prompt_cache_key
    prompt_filter_results prompt_logprobs prompt_token_ids prompt_tokens prompt_tokens_details properties provider
    queue_time reason reasoning reasoning_content reasoning_effort reasoning_tokens refusal required response
    response_format response_id role root safety_identifier schema search_context_size search_results seed
    sequence_number service_tier status status_code statusCode stop stop_reason store stream stream_options strict
    success suffix summary summary_index system_fingerprint temperature text timings title token token_ids tokens
    tool_call_id tool_calls tool_choice tools top_k top_logprobs top_p total_tokens truncation type usage user value
    verbosity x_groq"""
)
"""Keys that stay; any other key is a name."""
NAMES: Final = {
    "name": re.compile(r"(?!)"),
    # How the answers of a model begin.
    "model": re.compile(r"(?<![a-z0-9])(?:r1|qwq|thinking)(?![a-z0-9])", re.IGNORECASE),
}
_ID: Final = re.compile(r"\Achat\.id\.(?:\d{1,3}\Z|(?=\d+\Z))|\A(?:chatcmpl-|call_|resp_|msg_)")
IDS: Final = {
    **dict.fromkeys(_words("call_id id item_id previous_response_id response_id tool_call_id"), _ID),
    "system_fingerprint": re.compile(r"\A(?:fp_|vllm-|b\d{1,5}-[0-9a-f]{6,12}\Z)"),
}
"""What is kept of a name or an id in these fields."""
ENUMS: Final = _words(
    "code event finish_reason http_status object reason role status statusCode status_code tool_choice type"
)
VALUES: Final = _words(
    """abort aborted added alive annotation api arguments array assistant authentication auto bad boolean call calls
    canceled cancelled chat chatcompletionfinishreason chatfinishreason chunk code complete completed completion
    content context created custom delta denied developer done embedding end eos error event exceeded exception
    failed failure file filter finishreason found function heartbeat in incomplete input insufficient integer
    internal invalid item json keep keepalive key length limit list loaded loading max message model none not null
    number object out output overloaded part pending permission ping pong processing progress queued quota rate
    reasoning refusal request required response schema sequence server stop string summary system text timeout token
    tokens tool toolcalls turn url use user waiting"""
)
"""The words of which the value of such a field may consist."""
NUMBERS: Final = _words(
    """code completion_tokens content_index created created_at http_status HttpStatusCode index input_tokens n
    output_index output_tokens prompt_tokens sequence_number status status_code statusCode total_tokens"""
)
"""Fields whose numbers stay up to three digits; longer ones are names."""
MESSAGES: Final = _words(
    """Error ErrorMessage Errors Message detail error errorMessage error_message error_msg exception message messages
    msg title"""
)
OF_ANSWERS: Final = _words("arguments choices item output part")
"""Fields that hold the message of an error, and those below which they hold what a model wrote."""

_SPELLINGS: Final = (
    *(spelling for dialect in DIALECTS for spelling in (dialect.opening, *dialect.closing)),
    *("<think> </think>", "</parameter>"),
    *("<|channel|>analysis <|channel|>final <|channel|>", "<|start|>assistant <|start|> <|message|> <|return|>"),
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
    | [:\[,=(>]\s*{_VALUE}(?=\s*[,}}\])<]) | (?<![\w.])0(?=\d) | (?<=\d)\.0+(?!\w) | (?<=\d)[eE](?=[+-]?\d)
"""
"""What is kept of a text, or is a name in it: the form of calls, of JSON, of Python, and of numbers."""

IN_ERRORS: Final = r"""
      (?i:<!doctype\ html|<(?:html|head|body|title))\b | \bserver=oatpp | ^message= | \.(?:cc|cpp|h):(?=\d)
    | \bfl:: | (?<=\)\ )const\  | \bjson\.exception\.
    | (?i:\bmodel\b|(?:\b(?:is|was)\ )?\bnot\ (?:loaded|found)|\bdoes\ not\ exist|no\ openaiservice\ provider\ found)
    | Provided\ tools\ are\ not\ defined\ using\ an\ OpenAI-compatible | Invalid\ OpenAI\ JSON\ request
    | Failed\ to\ handle\ OpenAI\ completion | before\ getting\ a\ ChatClient | No\ model\ matching
    | must\ be\ loaded\ before\ inference | strict'?\ true\ is\ not\ supported(?:\ until)?
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
"""Headers whose values may stay, too."""
HEADER_NAME: Final = re.compile(
    r"""\A(?:authorization|api-key|cookie|set-cookie|x-api-key|x-foundry-shim(?:-repairs)?|openai-(?:organization|project
    |version|processing-ms)|apim-request-id|x-generation-id)\Z
    | \A(?:azureml-|x-ms-|x-groq|x-or-|mistral-|anthropic-|x-vllm-)""",
    re.VERBOSE | re.IGNORECASE,
)
"""What is kept of the name of another header: credentials, and what other services are known by."""
HEADER: Final = re.compile(
    r"""(?:age|content-length|retry-after(?:-ms)?|x-stainless-re[a-z-]+):\d{1,10}(?:,\ ?\d{1,10})*(?!\d)
    | (?:date|expires):[a-z]{3},\ \d\d\ [a-z]{3}\ \d{4}\ [\d:]{8}\ gmt
    | x-stainless-[a-z]+-version:\d{1,2}(?:\.\d{1,3}){2} | host:(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?
    | [a-z-]+:(?:(?:accept|accept-encoding|application|arm64|async|asyncio|asyncopenai|br|bytes|charset|chunked|close
    |cpython|deflate|event-stream|false|get|groq|gzip|html|httpx|identity|json|keep-alive|kestrel|linux|llama\.cpp|macos|max|max-age|no
    |no-cache|no-store|nosniff|oatpp|openai|origin|plain|post|private|public|python|text|timeout|true|utf-8|uvicorn
    |windows|x64|zstd)(?![a-z0-9])(?:[/=\ ]\d{1,3}(?:\.\d{1,3}){0,2}(?![\d.]))? | [\ ,;:/+*="])*""",
    re.VERBOSE | re.IGNORECASE,
)
"""What is kept of such a header: its name, a colon and the beginning of its value."""
