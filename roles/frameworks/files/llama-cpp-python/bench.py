"""Tokens a second of a small model with random weights: prompt and generation, by the type of its
weights; one thread.

The model is written here, in GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), and
quantised by llama.cpp itself. It has no vocabulary: tokens are numbers.
"""

import ctypes
import json
import struct
import tempfile
import time
from pathlib import Path

import llama_cpp
import numpy as np

EMBEDDING, FORWARD, LAYERS, HEADS, TOKENS = 1024, 2816, 4, 16, 512
PROMPT, GENERATED = 96, 40
UINT32, FLOAT32, STRING = 4, 6, 8
"""GGUF's numbers for types of metadata values."""
BF16 = 30
"""GGML's number for tensors of bfloat16."""


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value)) + value.encode()


def metadata() -> list[bytes]:
    """What llama.cpp has to know of a model of the `llama` architecture."""
    numbers = {
        "context_length": 512,
        "embedding_length": EMBEDDING,
        "feed_forward_length": FORWARD,
        "block_count": LAYERS,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "rope.dimension_count": EMBEDDING // HEADS,
        "vocab_size": TOKENS,
    }
    strings = {"general.architecture": "llama", "tokenizer.ggml.model": "no_vocab"}
    return [
        *(text(name) + struct.pack("<I", STRING) + text(value) for name, value in strings.items()),
        *(
            text(f"llama.{name}") + struct.pack("<II", UINT32, value)
            for name, value in numbers.items()
        ),
        text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", FLOAT32, 1e-5),
    ]


def tensors() -> dict[str, tuple[int, ...]]:
    """Every tensor with its shape, rows first."""
    square, shapes = (EMBEDDING, EMBEDDING), {"token_embd.weight": (TOKENS, EMBEDDING)}
    for number in range(LAYERS):
        block = f"blk.{number}"
        shapes |= {
            f"{block}.attn_norm.weight": (EMBEDDING,),
            f"{block}.ffn_norm.weight": (EMBEDDING,),
        }
        shapes |= {f"{block}.attn_{name}.weight": square for name in ("q", "k", "v", "output")}
        shapes |= {
            f"{block}.ffn_gate.weight": (FORWARD, EMBEDDING),
            f"{block}.ffn_up.weight": (FORWARD, EMBEDDING),
            f"{block}.ffn_down.weight": (EMBEDDING, FORWARD),
        }
    return {**shapes, "output_norm.weight": (EMBEDDING,), "output.weight": (TOKENS, EMBEDDING)}


def write(path: Path) -> None:
    """A model of random weights: vectors as float32, matrices as bfloat16."""
    random, infos, data = np.random.default_rng(1), [], bytearray()
    for name, shape in tensors().items():
        values = (
            random.standard_normal(shape, dtype=np.float32) * 0.02
            if len(shape) > 1
            else np.ones(shape, dtype=np.float32)
        )
        kind, raw = (
            (BF16, (values.view(np.uint32) >> 16).astype(np.uint16))
            if len(shape) > 1
            else (0, values)
        )
        sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        infos.append(
            text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, len(data))
        )
        data += raw.tobytes()
        data += b"\0" * (-len(data) % 32)
    known = metadata()
    head = (
        b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(known)) + b"".join(known) + b"".join(infos)
    )
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)


def quantized(source: Path, kind: int) -> Path:
    """The model with weights of another type."""
    target = source.with_suffix(f".{kind}")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = kind, 1
    assert (
        llama_cpp.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(params)
        )
        == 0
    )
    return target


def measure(path: Path) -> tuple[float, float]:
    """Tokens a second of a prompt, and of generation one by one."""
    asked = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), asked)
    assert model, path
    wanted = llama_cpp.llama_context_default_params()
    wanted.n_ctx, wanted.n_batch, wanted.n_ubatch, wanted.n_threads, wanted.n_threads_batch = (
        512,
        512,
        512,
        1,
        1,
    )
    context = llama_cpp.llama_init_from_model(model, wanted)
    assert context

    def decode(count: int) -> None:
        tokens = (llama_cpp.llama_token * count)(*(number % TOKENS for number in range(count)))
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count)) == 0

    decode(8)
    began = time.process_time()
    decode(PROMPT)
    prompted = time.process_time()
    for _ in range(GENERATED):
        decode(1)
    ended = time.process_time()
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return PROMPT / (prompted - began), GENERATED / (ended - prompted)


@llama_cpp.llama_log_callback
def silent(_level: int, _text: bytes, _data: object) -> None:
    """llama.cpp says much on standard error."""


llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()
found = {}
with tempfile.TemporaryDirectory() as folder:
    model = Path(folder, "model.gguf")
    write(model)
    kinds = {
        "bf16": None,
        "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    }
    for name, kind in kinds.items():
        found[f"prompt {name}"], found[f"generation {name}"] = measure(
            quantized(model, kind) if kind else model
        )
print(json.dumps(found))
