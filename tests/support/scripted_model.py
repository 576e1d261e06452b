"""A language model that says what a test wants it to say, on the real runtime.

It is an ONNX graph without weights: the answer to a prompt that holds the marker ``<|haiku|>`` is the text
``SCRIPTS["haiku"]``, token by token, looked up in a table. The last marker of the conversation decides. A test
instrument, never to be shown to a user as a model.

Release 2.2 instructs a model that has tools how to write and lets it write nothing else (see ``_as_instructed``). The
model obeys: then it says the same as ever, in that form.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCRIPTS: dict[str, str] = {
    "haiku": "Cherry blossoms fall,\nGentle spring breeze carries dreams,\nPeace in nature's song.",
    "tool": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "tools": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    ),
    # What 1.x and 2.0 let a model say that has to call a tool.
    "array": '[{"name": "get_weather", "parameters": {"city": "Paris"}}]',
    # The tokenizer has learned none of these: a token is a byte, so that each character is cut, and whatever is made
    # of several characters (a family, a tone of skin) twice.
    "emoji": "naïve café 🌸 日本語 👩\u200d👩\u200d👧 line\u2028separator 👋\U0001f3fd done",
    "think": "<think>Let me see. 7*6=42.</think>The answer is 42.",
    "count": " ".join(str(number) for number in range(1, 151)),
    "long": "".join(f"{number} tick tock\n" for number in range(1, 801)),
    "empty": "",
    # Whatever might be taken for the framing of a stream if it did not travel inside of a JSON string.
    "crlf": (
        'He said: "C:\\temp\\new"\r\n\r\ndata: [DONE]\n\ndata: {"choices": []}\r\tevent: error\n'
        ": comment\x0b\x0c\x1b\x7f\n\nend"
    ),
}
"""What the model can be made to say, by marker."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
"""The function that the scripts call, as a request declares it."""

# Part of the key in the cache, next to the scripts: raise it when anything else about the folder changes.
FORMAT = 1
CONTEXT_LENGTH = 16384
MODEL_FILE = "model.onnx"

_END_OF_TEXT, _TURN_START, _TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_TURN_START_ID, _TURN_END_ID = 1, 2
# Begin and end of tool calls and of reasoning. Release 2.2 wants each to be a token, and to be told its id.
_SINGLE_TOKENS = {
    "bot_token_id": "<tool_call>",
    "eot_token_id": "</tool_call>",
    "bor_token_id": "<think>",
    "eor_token_id": "</think>",
}
# What the instructions of 2.2 want ordinary text to begin with, and a word that nobody else uses in a prompt.
_MESSAGE = "MESSAGE\n"
INSTRUCTIONS_WORD = " protocol"
"""2.2 writes it into the prompt itself. 2.1 does not, and wants the same form of a call where one is required."""
_ANSWER_PROMPT = f"{_TURN_START}assistant\n"
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] %}{{ message['content'] }}{% endif %}"
    "{{ '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def marker(script: str) -> str:
    """Return what a prompt must hold for the model to answer with that script."""
    if script not in SCRIPTS:
        raise KeyError(script)
    return f"<|{script}|>"


def ensure_scripted_model(cache: Path, *, boundary_ids: bool = False, scripts: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the model, built before if this version of it is not in the cache yet.

    Args:
        cache: A folder to keep it in.
        boundary_ids: Whether its configuration says which tokens begin and end a tool call and a line of reasoning.
            Release 2.2 calls no tools without; the runtimes of older releases do not load a model with it.
        scripts: What the model says, by single characters for markers, in place of `SCRIPTS`. Where it is instructed
            how to write, this is ordinary text.
    """
    said = SCRIPTS if scripts is None else scripts
    content = json.dumps([FORMAT, said, boundary_ids], sort_keys=True).encode()
    parent = cache / "scripted-model"
    folder = parent / hashlib.sha256(content).hexdigest()[:16]
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=parent))
    try:
        _build(building, said, boundary_ids=boundary_ids)
        os.rename(building, folder)  # noqa: PTH104 - Path.rename would overwrite on some platforms and not on others
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster, with the same result
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _build(folder: Path, scripts: Mapping[str, str], *, boundary_ids: bool) -> None:
    import onnx  # noqa: PLC0415 - the other users of this module have no onnx

    tokenizer = _tokenizer()
    model = _model(tokenizer, scripts)
    onnx.checker.check_model(model)
    onnx.save(model, folder / MODEL_FILE)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(_CHAT_TEMPLATE, encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "genai_config.json", _genai_config(tokenizer, boundary_ids=boundary_ids))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _tokenizer() -> "Tokenizer":
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[_END_OF_TEXT, _TURN_START, _TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = ["tick tock user assistant system tool", f"{_MESSAGE}{INSTRUCTIONS_WORD}", *map(marker, SCRIPTS)]
    texts = [text for name in ("haiku", "tool", "think") for text in (SCRIPTS[name], _as_instructed(SCRIPTS[name]))]
    tokenizer.train_from_iterator(words + texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _SINGLE_TOKENS.values()])
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": _TURN_START,
        "eos_token": _TURN_END,
        "unk_token": _END_OF_TEXT,
        "pad_token": _TURN_END,
        "model_max_length": CONTEXT_LENGTH,
        "chat_template": _CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }


def _genai_config(tokenizer: "Tokenizer", *, boundary_ids: bool) -> dict[str, Any]:
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": MODEL_FILE,
        "head_size": 1,
        "hidden_size": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    ids = {name: tokenizer.token_to_id(token) for name, token in _SINGLE_TOKENS.items()}
    return {
        "model": {
            "type": "llama",
            "bos_token_id": _TURN_START_ID,
            "eos_token_id": [_TURN_END_ID],
            "pad_token_id": _TURN_END_ID,
            "context_length": CONTEXT_LENGTH,
            "vocab_size": tokenizer.get_vocab_size(),
            "decoder": decoder,
            **(ids if boundary_ids else {}),
        },
        "search": {
            "do_sample": False,
            "max_length": CONTEXT_LENGTH,
            "past_present_share_buffer": False,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
            "num_beams": 1,
            "repetition_penalty": 1.0,
        },
    }


class _Graph:
    """Collects the nodes and constants of an ONNX graph; a value goes by the name of the node that makes it."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: str = "int64") -> str:
        import numpy as np  # noqa: PLC0415
        from onnx import numpy_helper  # noqa: PLC0415

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper  # noqa: PLC0415

        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def model(self, vocabulary_size: int) -> Any:
        from onnx import TensorProto, helper  # noqa: PLC0415

        def tensor(name: str, kind: int, *shape: str | int) -> Any:
            return helper.make_tensor_value_info(name, kind, shape)

        inputs = [
            tensor("input_ids", TensorProto.INT64, "batch", "sequence"),
            tensor("attention_mask", TensorProto.INT64, "batch", "total"),
            tensor("past_key_values.0.key", TensorProto.FLOAT, "batch", 1, "past", 1),
            tensor("past_key_values.0.value", TensorProto.FLOAT, "batch", 1, "past", 1),
        ]
        outputs = [
            tensor("logits", TensorProto.FLOAT, "batch", "sequence", vocabulary_size),
            tensor("present.0.key", TensorProto.FLOAT, "batch", 1, "total", 1),
            tensor("present.0.value", TensorProto.FLOAT, "batch", 1, "total", 1),
        ]
        graph = helper.make_graph(self.nodes, "scripted", inputs, outputs, self.constants)
        # Versions that the runtime of the oldest release reads.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _model(tokenizer: "Tokenizer", scripts: Mapping[str, str]) -> Any:
    """Return the model: which script is asked for, how far the answer has come, and so which token is next."""
    table = _script_table(tokenizer, scripts)
    graph = _Graph()
    history = _remember(graph)
    length = graph.node("length", "Gather", graph.node("shape", "Shape", history), graph.constant(1), axis=0)
    positions = graph.node("positions", "Range", graph.constant(0), length, graph.constant(1))
    script = _requested_script(graph, tokenizer, history, positions, scripts)
    written = _tokens_written(graph, history, positions, length, len(tokenizer.encode(_ANSWER_PROMPT).ids))
    column = graph.node("column", "Min", written, graph.constant(len(table[0]) - 1))
    row = graph.node("row", "Gather", graph.constant(table), script, axis=0)
    _write(graph, graph.node("token", "Gather", row, column, axis=1), tokenizer.get_vocab_size())
    return graph.model(tokenizer.get_vocab_size())


def _script_table(tokenizer: "Tokenizer", scripts: Mapping[str, str]) -> list[list[int]]:
    """Return the token ids of all scripts, then again as instructed, each filled up with the end of the turn."""
    own = scripts is SCRIPTS
    texts = [*scripts.values(), *(_as_instructed(text) if own else f"{_MESSAGE}{text}" for text in scripts.values())]
    answers = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    width = max(map(len, answers)) + 1
    return [ids + [_TURN_END_ID] * (width - len(ids)) for ids in answers]


def _as_instructed(text: str) -> str:
    """Return an answer as 2.2 wants it of a model with tools.

    All calls make one array, with the arguments named "parameters"; other text begins with a line of its own.
    """
    begin, end = _SINGLE_TOKENS["bot_token_id"], _SINGLE_TOKENS["eot_token_id"]
    words, *blocks = text.split(begin)
    calls = [json.loads(block.partition(end)[0]) for block in blocks]
    array = json.dumps([{"name": call["name"], "parameters": call["arguments"]} for call in calls])
    framed = f"{_MESSAGE}{words}" if words or not calls else ""
    return framed + (begin + array + end if calls else "")


def _remember(graph: _Graph) -> str:
    """Return the ids of all tokens so far.

    The only thing that the runtime keeps for a model between two tokens is the key-value cache. With one layer of one
    head of size one, it has room for a number per token: the id.
    """
    from onnx import TensorProto  # noqa: PLC0415

    numbers = graph.node("numbers", "Cast", "input_ids", to=TensorProto.FLOAT)
    new = graph.node("new", "Reshape", numbers, graph.constant([0, 1, -1, 1]))
    keys = graph.node("present.0.key", "Concat", "past_key_values.0.key", new, axis=2)
    graph.node("present.0.value", "Concat", "past_key_values.0.value", new, axis=2)
    flat = graph.node("flat", "Reshape", keys, graph.constant([1, -1]))
    return graph.node("history", "Cast", flat, to=TensorProto.INT64)


def _requested_script(
    graph: _Graph, tokenizer: "Tokenizer", history: str, positions: str, scripts: Mapping[str, str]
) -> str:
    """Return the row of the table for the script whose marker came last; the first script if there was none.

    A marker is no token of its own, for 2.2 with tools takes care that the text of a message never becomes a special
    one. It is found by the token of the name, right after the token of the opening bracket.
    """
    bracket = _single_id(tokenizer, "<|")
    script_of_token = [0] * tokenizer.get_vocab_size()
    for number, name in enumerate(scripts, start=1):
        script_of_token[_single_id(tokenizer, name)] = number
    named = graph.node("named", "Gather", graph.constant(script_of_token), history, axis=0)
    all_but_last = graph.node("all_but_last", "Slice", history, *map(graph.constant, ([0], [-1], [1])))
    previous = graph.node("previous", "Concat", graph.constant([[0]]), all_but_last, axis=1)
    after_bracket = _equal(graph, "after_bracket", previous, bracket)
    marked = graph.node("marked", "Mul", named, after_bracket)
    is_marker = graph.node("is_marker", "Sign", marked)
    marker_positions = graph.node("marker_positions", "Mul", is_marker, positions)
    last = graph.node("last_marker", "ArgMax", marker_positions, axis=1, keepdims=0)
    number = graph.node("number", "Gather", graph.node("flat_marked", "Reshape", marked, graph.constant([-1])), last)
    row = graph.node("plain_row", "Max", graph.node("below", "Sub", number, graph.constant(1)), graph.constant(0))
    return graph.node("script", "Add", row, _instructed_offset(graph, tokenizer, history, len(scripts)))


def _instructed_offset(graph: _Graph, tokenizer: "Tokenizer", history: str, scripts: int) -> str:
    """Return how many rows further down the script lies in the form that was asked for: none, without instructions."""
    is_word = _equal(graph, "is_word", history, _single_id(tokenizer, INSTRUCTIONS_WORD))
    instructed = graph.node("instructed", "ReduceMax", is_word, graph.constant([1]), keepdims=0)
    return graph.node("instructed_offset", "Mul", instructed, graph.constant(scripts))


def _equal(graph: _Graph, name: str, tokens: str, token_id: int) -> str:
    """Return 1 for each token that is the given one, and 0 for the others."""
    from onnx import TensorProto  # noqa: PLC0415

    truth = graph.node(f"{name}_truth", "Equal", tokens, graph.constant(token_id))
    return graph.node(name, "Cast", truth, to=TensorProto.INT64)


def _single_id(tokenizer: "Tokenizer", text: str) -> int:
    (token_id,) = tokenizer.encode(text, add_special_tokens=False).ids
    return token_id


def _tokens_written(graph: _Graph, history: str, positions: str, length: str, prompt_length: int) -> str:
    """Return how many tokens follow the prompt of the last turn, which is the answer's."""
    is_start = _equal(graph, "is_start", history, _TURN_START_ID)
    weighted = graph.node("start_positions", "Mul", is_start, positions)
    last = graph.node("last_start", "ReduceMax", weighted, graph.constant([1]), keepdims=0)
    since = graph.node("since_start", "Sub", length, last)
    written = graph.node("since_prompt", "Sub", since, graph.constant(prompt_length))
    return graph.node("written", "Max", written, graph.constant(0))


def _write(graph: _Graph, token: str, vocabulary_size: int) -> None:
    """Make that token the certain one, at each position of the input; only the last of them is ever looked at."""
    single = graph.node("single", "Reshape", token, graph.constant([1, 1]))
    certainty = graph.constant([0.0, 50.0], "float32")
    one = graph.node("one", "OneHot", single, graph.constant(vocabulary_size), certainty, axis=-1)
    input_shape = graph.node("input_shape", "Shape", "input_ids")
    sequence = graph.node("sequence", "Gather", input_shape, graph.constant([1]), axis=0)
    shape = graph.node(
        "logits_shape", "Concat", graph.constant([1]), sequence, graph.constant([vocabulary_size]), axis=0
    )
    graph.node("logits", "Expand", one, shape)
