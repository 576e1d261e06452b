"""SmolLM2-135M-Instruct from its GGUF file to a folder of ONNX Runtime GenAI, which Foundry Local runs.

Tensors keep GGUF's names, and the output of a layer is named after the layer. The packages of the extra ``offline``
have types too loose to be checked and are used without.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from shim.errors import import_extra

if TYPE_CHECKING:
    from pathlib import Path

# In tokens. Foundry Local sets 2048 aside for an answer where a request names no limit, and refuses what does not fit.
_CONTEXT_LENGTH = 4096
_CONTROL_TOKEN = 3  # GGUF's type of <|im_start|> and its like


class _Source:
    """The GGUF file: its header and its tensors."""

    def __init__(self, path: Path) -> None:
        """Read the header; tensors are read when they are asked for."""
        reader = import_extra("offline", "gguf").GGUFReader(path)
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.layers: int = self.value("llama.block_count")
        self.hidden_size: int = self.value("llama.embedding_length")
        self.heads: int = self.value("llama.attention.head_count")
        self.kv_heads: int = self.value("llama.attention.head_count_kv")
        self.head_size: int = self.hidden_size // self.heads
        self.tokens: list[str] = self.value("tokenizer.ggml.tokens")

    def value(self, key: str) -> Any:
        """One field of the header."""
        return self._fields[key].contents()

    def token_id(self, role: str) -> int:
        """The token that begins (``bos``) or ends (``eos``) a turn, fills up (``padding``) or is ``unknown``."""
        return self.value(f"tokenizer.ggml.{role}_token_id")

    def tensor(self, name: str) -> Any:
        """One weight as float32; a matrix has a row for each output."""
        tensor = self._tensors[f"{name}.weight"]
        return import_extra("offline", "gguf").dequantize(tensor.data, tensor.tensor_type)

    def shape(self, name: str) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs) of a matrix."""
        columns, rows = self._tensors[f"{name}.weight"].shape
        return int(rows), int(columns)


class _Network:
    """The ONNX graph of the model, from the tokens to the logits."""

    def __init__(self, source: _Source) -> None:
        """Build the whole graph."""
        self._source = source
        self._numpy, self._onnx = import_extra("offline", "numpy"), import_extra("offline", "onnx")
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._add_positions()
        state = self._add_embedding()
        for layer in range(source.layers):
            state = self._add_attention(state, layer)
            state = self._add_feed_forward(state, layer)
        logits = self._output("logits", "FLOAT", "batch", "new", len(source.tokens))
        # The matrix of the embedding, once more.
        self._add_product(self._add_norm(state, "output_norm"), "token_embd", logits)

    def save(self, path: Path) -> None:
        """Write the graph, and the weights into a file beside it."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "SmolLM2", self._inputs, self._outputs, self._weights)
        operators = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=operators, ir_version=10)
        self._onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        shutil.copymode(path, path.with_name(f"{path.name}.data"))  # which onnx makes for this user's eyes only

    def _add_positions(self) -> None:
        """What the attention asks for: where each sequence ends, how wide the mask is, and the tables of angles."""
        mask = self._input("attention_mask", "INT64", "batch", "all")
        one = self._constant("one", [1], "int64")
        length = self._node("ReduceSum", [mask, one], "length", keepdims=1)
        self._node("Cast", [self._node("Sub", [length, one], "last")], "last_position", to=self._type("INT32"))
        width = self._node("Gather", [self._node("Shape", [mask], "mask_shape"), one], "width", axis=0)
        self._node("Cast", [width], "total_length", to=self._type("INT32"))
        numpy, size = self._numpy, self._source.head_size
        frequencies = 1 / self._source.value("llama.rope.freq_base") ** (numpy.arange(0, size, 2) / size)
        angles = numpy.outer(numpy.arange(_CONTEXT_LENGTH), frequencies)
        self._constant("cosines", numpy.cos(angles), "float32")
        self._constant("sines", numpy.sin(angles), "float32")

    def _add_embedding(self) -> str:
        """Look up the tokens' rows of the 8-bit matrix, and turn them back into numbers."""
        ids = self._input("input_ids", "INT64", "batch", "new")
        quants, scales = self._add_quantized("token_embd")
        by_row = self._constant("by_row", [len(self._source.tokens), -1, 1], "int64")
        scales = self._node("Gather", [self._node("Reshape", [scales, by_row], "scale_rows"), ids], "scales", axis=0)
        quants = self._node("Gather", [quants, ids], "quants", axis=0)
        unsigned = self._node("Cast", [quants], "unsigned", to=self._type("FLOAT"))
        signed = self._node("Sub", [unsigned, self._constant("zero_point", [128], "float32")], "signed")
        blocks = self._node("Mul", [signed, scales], "blocks")
        joined = self._constant("joined", [0, 0, self._source.hidden_size], "int64")
        return self._node("Reshape", [blocks, joined], "embedding")

    def _add_attention(self, state: str, layer: int) -> str:
        """Grouped-query attention, and its residual."""
        block, source = f"blk.{layer}", self._source
        normed = self._add_norm(state, f"{block}.attn_norm")
        projected = [self._add_linear(normed, f"{block}.attn_{part}") for part in "qkv"]
        past: list[str] = []
        present: list[str] = []
        for part in ("key", "value"):
            shape = ("batch", source.kv_heads, f"{part}s", source.head_size)
            past.append(self._input(f"past_key_values.{layer}.{part}", "FLOAT", *shape))
            present.append(self._output(f"present.{layer}.{part}", "FLOAT", *shape))
        attended = self._node(
            "GroupQueryAttention",
            [*projected, *past, "last_position", "total_length", "cosines", "sines"],
            f"{block}.attn",
            *present,
            num_heads=source.heads,
            kv_num_heads=source.kv_heads,
            scale=source.head_size**-0.5,
            do_rotary=1,
            rotary_interleaved=1,  # GGUF orders the rows of q and k so that the two of a pair are neighbours
        )
        return self._node("Add", [state, self._add_linear(attended, f"{block}.attn_output")], f"{block}.attn_sum")

    def _add_feed_forward(self, state: str, layer: int) -> str:
        """The gated feed-forward layer (SwiGLU), and its residual."""
        block = f"blk.{layer}"
        normed = self._add_norm(state, f"{block}.ffn_norm")
        gate = self._add_linear(normed, f"{block}.ffn_gate")
        up = self._add_linear(normed, f"{block}.ffn_up")
        swish = self._node("Mul", [gate, self._node("Sigmoid", [gate], f"{block}.sigmoid")], f"{block}.swish")
        down = self._add_linear(self._node("Mul", [swish, up], f"{block}.gated"), f"{block}.ffn_down")
        return self._node("Add", [state, down], f"{block}.ffn_sum")

    def _add_norm(self, state: str, name: str) -> str:
        """Normalise by the root of the mean square."""
        weight = self._constant(f"{name}.weight", self._source.tensor(name), "float32")
        epsilon = self._source.value("llama.attention.layer_norm_rms_epsilon")
        inputs = [state, weight]
        return self._node("SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=epsilon, stash_type=1)

    def _add_linear(self, state: str, name: str) -> str:
        """Quantise a matrix, and multiply with it."""
        self._add_quantized(name)
        return self._add_product(state, name, name)

    def _add_product(self, state: str, name: str, output: str) -> str:
        """Multiply with a matrix that has been quantised."""
        rows, columns = self._source.shape(name)
        # Level 4 computes in int8, too: 60 tokens/s on two cores, where 4-bit weights with GGUF's offsets give 3.
        how = {"N": rows, "K": columns, "bits": 8, "block_size": 32, "accuracy_level": 4}
        return self._node("MatMulNBits", [state, f"{name}.quants", f"{name}.scales"], output, **how)

    def _add_quantized(self, name: str) -> tuple[str, str]:
        """Add a matrix in 8 bits, 32 weights to a scale."""
        numpy, weights = self._numpy, self._source.tensor(name)
        blocks = weights.reshape(len(weights), -1, 32)
        scales = numpy.abs(blocks).max(-1) / 127
        scales[scales == 0] = 1e-8  # a block of zeros
        quants = (numpy.rint(blocks / scales[..., None]) + 128).clip(0, 255)
        return (
            self._constant(f"{name}.quants", quants, "uint8"),
            self._constant(f"{name}.scales", scales.reshape(-1), "float32"),
        )

    def _constant(self, name: str, value: Any, kind: str) -> str:
        """Add an array under a name."""
        array = self._numpy.ascontiguousarray(value, dtype=kind)
        self._weights.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, *more_outputs: str, **attributes: Any) -> str:
        """Add an operation, and name it after its first output."""
        domain = "com.microsoft" if operator in {"MatMulNBits", "GroupQueryAttention"} else ""
        outputs = [output, *more_outputs]
        make_node = self._onnx.helper.make_node
        self._nodes.append(make_node(operator, inputs, outputs, name=output, domain=domain, **attributes))
        return output

    def _input(self, name: str, kind: str, *shape: str | int) -> str:
        """Add an input of the graph."""
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, self._type(kind), shape))
        return name

    def _output(self, name: str, kind: str, *shape: str | int) -> str:
        """Add an output of the graph."""
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, self._type(kind), shape))
        return name

    def _type(self, kind: str) -> int:
        """ONNX's number for a type."""
        return self._onnx.TensorProto.DataType.Value(kind)


def convert(gguf_file: Path, folder: Path) -> None:
    """Write the folder that the runtime loads; the file that makes it a model is written last."""
    source = _Source(gguf_file)
    folder.mkdir()
    _Network(source).save(folder / "model.onnx")
    template = source.value("tokenizer.chat_template")
    # Its line ends are a part of each prompt: the same on every platform.
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")
    _write_json(folder / "tokenizer.json", _tokenizer(source))
    _write_json(folder / "tokenizer_config.json", _tokenizer_settings(source) | {"chat_template": template})
    _write_json(folder / "genai_config.json", _runtime_settings(source))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one of the model's JSON files."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _tokenizer(source: _Source) -> dict[str, Any]:
    """The tokenizer of the header ("gpt2", split as "smollm") in the form of Hugging Face's tokenizers."""
    added = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    kinds = source.value("tokenizer.ggml.token_type")
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE",
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
        "vocab": {token: number for number, token in enumerate(source.tokens)},
        "merges": source.value("tokenizer.ggml.merges"),
    }
    return {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "added_tokens": [
            {"id": number, "content": token, **added}
            for number, (token, kind) in enumerate(zip(source.tokens, kinds, strict=True))
            if kind == _CONTROL_TOKEN
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level | {"add_prefix_space": False}]},
        "decoder": byte_level | {"add_prefix_space": True},
        "model": model,
    }


def _tokenizer_settings(source: _Source) -> dict[str, Any]:
    """What the runtime asks about the tokenizer, but for the chat template."""
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {
        "tokenizer_class": "GPT2Tokenizer",
        **{f"{short}_token": source.tokens[source.token_id(role)] for short, role in roles.items()},
        "add_bos_token": False,
        "model_max_length": source.value("llama.context_length"),
        "clean_up_tokenization_spaces": False,
    }


def _runtime_settings(source: _Source) -> dict[str, Any]:
    """How the runtime drives the graph, and how it picks tokens unless the request sets it: the likeliest."""
    past = {f"past_{part}_names": f"past_key_values.%d.{part}" for part in ("key", "value")}
    present = {f"present_{part}_names": f"present.%d.{part}" for part in ("key", "value")}
    decoder: dict[str, Any] = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": source.head_size,
        "hidden_size": source.hidden_size,
        "num_attention_heads": source.heads,
        "num_key_value_heads": source.kv_heads,
        "num_hidden_layers": source.layers,
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **past},
        "outputs": {"logits": "logits", **present},
    }
    search = {
        "do_sample": False,
        "num_beams": 1,
        "temperature": 1.0,
        "top_k": 1,
        "top_p": 1.0,
        # Without it a greedy answer of so small a model goes round in circles to the limit.
        "repetition_penalty": 1.15,
    }
    search |= {"max_length": _CONTEXT_LENGTH, "past_present_share_buffer": True}
    return {
        "model": {
            "type": "llama",
            "bos_token_id": source.token_id("bos"),
            "eos_token_id": [source.token_id("eos")],
            "pad_token_id": source.token_id("padding"),
            "context_length": _CONTEXT_LENGTH,
            "vocab_size": len(source.tokens),
            "decoder": decoder,
        },
        "search": search,
    }
