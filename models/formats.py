#!/usr/bin/env python3
"""Makes what the tests of packed weight formats compare with: tests/data/formats/.

    python3 -m venv /some/where && /some/where/bin/pip install -r formats-requirements.txt
    /some/where/bin/pip install --no-deps -r formats-only.txt
    /some/where/bin/python formats.py

Small random models in packed files, with the numbers that the formats' own libraries read from them, and with the
logits that transformers computes from those numbers on the CPU, in float32.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
torch.set_grad_enabled(False)

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "formats"
VERSIONS = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
gguf_version = importlib.metadata.version("gguf")

# Where a block of each type has its f16 constants, and about how large its codes are.
BLOCKS = {
    Type.Q4_0: ([0], 5),
    Type.Q4_1: ([0, 2], 4.6),
    Type.Q5_0: ([0], 9),
    Type.Q5_1: ([0, 2], 9),
    Type.Q8_0: ([0], 73),
    Type.Q2_K: ([80, 82], 10),
    Type.Q3_K: ([108], 40),
    Type.Q4_K: ([0, 2], 170),
    Type.Q5_K: ([0, 2], 340),
    Type.Q6_K: ([208], 1300),
    Type.IQ4_NL: ([0], 67),
    Type.IQ4_XS: ([0], 1200),
    Type.MXFP4: ([], 1),
}


def blocks(random, kind, rows, cols, size):
    """Random blocks [rows, bytes] whose numbers are about `size` large."""
    elements, width = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (rows * cols // elements, width), dtype=np.uint8)
    # Offsets that move each group's numbers to about 0, as in real files: they come from the middle code and the
    # group's own scale.
    if kind == Type.Q2_K:
        data[:, :16] = (data[:, :16] & 15) * 17
    elif kind in (Type.Q4_K, Type.Q5_K):
        data[:, 8:12] = data[:, 4:8]
        data[:, 12:16] = (data[:, 12:16] & 15) * 17
    middle = {Type.Q4_1: -7.5, Type.Q5_1: -15.5, Type.Q2_K: 1.5, Type.Q4_K: 7.5, Type.Q5_K: 15.5}.get(kind)
    constants, gain = BLOCKS[kind]
    d = random.uniform(0.7, 1.4, len(data)) * size / gain
    for place, at in enumerate(constants):
        d = d * middle if place else d * (random.choice([-1, 1], len(data)) if len(constants) == 1 else 1)
        data[:, at : at + 2] = d.astype(np.float16).reshape(-1, 1).view(np.uint8)
    if kind == Type.MXFP4:
        data[:, 0] = 127 + np.round(np.log2(size / 2.6)) + random.integers(-1, 2, len(data))
    return data.reshape(rows, -1)


def short(values):
    return [float(f"{v:.8g}") for v in values]


def llama(name, kinds, write):
    """A Llama of two layers whose matrices are of `kinds`; `write` gets its configuration and blocks."""
    config = LlamaConfig(
        vocab_size=131, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )
    random = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    model = LlamaForCausalLM(config).eval()
    stored, kinds = {}, iter(kinds * 4)
    for key, weight in model.named_parameters():
        if weight.ndim == 1:
            stored[key] = (1 + 0.2 * random.standard_normal(len(weight))).astype(np.float32)
            weight.copy_(torch.from_numpy(stored[key]))
            continue
        rows, cols = weight.shape
        gain = {"embed_tokens": 16, "lm_head": 3.0}.get(key.split(".")[-2], 1.2)
        kind = next(kinds)
        data = blocks(random, kind, rows, cols, gain / 16)
        stored[key] = (kind, data)
        numbers = gguf.quants.dequantize(data, kind)
        print(f"  {key}: {kind.name}, standard deviation {numbers.std() * 16:.2f} / 16")
        if ".q_proj" in key or ".k_proj" in key:
            # The file has the halves of a head in turn.
            d = config.hidden_size // config.num_attention_heads
            numbers = numbers.reshape(-1, d // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
        weight.copy_(torch.from_numpy(numbers.copy()))
    write(config, stored)
    ids = random.integers(3, 131, 40).tolist()
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    positions = [0, 1, 20, 39]
    print(f"{name}: logits' deviation {logits.std():.2f}")
    return {"ids": ids, "positions": positions, "logits": [short(logits[p].tolist()) for p in positions]}


NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "model.layers.": "blk.",
}


def add_sizes(writer, config):
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", config.num_attention_heads))
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(getattr(config, "layer_norm_eps", None) or config.layer_norm_epsilon)
    if hasattr(config, "rope_theta"):
        writer.add_rope_freq_base(config.rope_theta)


def write_gguf(path):
    def write(config, stored):
        writer = gguf.GGUFWriter(path, "llama")
        add_sizes(writer, config)
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
        # Byte-level: three special tokens, 96 characters, 32 merges.
        letters = ["Ġ", "Ċ"] + [chr(code) for code in range(33, 127)]
        merges = (
            "Ġ t|h e|Ġ a|i n|Ġt he|e r|o n|r e|Ġ s|a t|Ġ w|n d|o u|e n|i t|Ġ o|Ġ b|i s|e s|Ġ c|"
            "o r|Ġ f|in g|Ġ p|e d|Ġa nd|Ġ m|a l|l e|a r|Ġo f|Ġ l"
        ).split("|")
        tokens = ["<unk>", "<s>", "</s>"] + letters + [merge.replace(" ", "") for merge in merges]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([2, 3, 3] + [1] * (len(tokens) - 3))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        for key, value in stored.items():
            for there, here in NAMES.items():
                key = key.replace(there, here)
            if isinstance(value, tuple):
                kind, data = value
                writer.add_tensor(key, data, raw_dtype=kind)
            else:
                writer.add_tensor(key, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write


def make_gguf():
    """Blocks of every type with their numbers, and two models: of types that run as they are, and of the others."""
    random = np.random.default_rng(1)
    entries = {}
    for kind in BLOCKS:
        elements, _ = gguf.GGML_QUANT_SIZES[kind]
        data = blocks(random, kind, 1, 2 * elements, 1.0)
        numbers = gguf.quants.dequantize(data, kind).astype("<f4")
        entries[kind.name] = {"blocks": data.tobytes().hex(), "numbers": numbers.tobytes().hex()}
    lines = [f'"{name}":{json.dumps(entry)}' for name, entry in entries.items()]
    (DATA / "ggml-blocks.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")

    native = [Type.Q6_K, Type.Q4_K, Type.Q5_0, Type.Q6_K, Type.Q4_1, Type.Q4_0, Type.Q8_0, Type.Q4_K]
    others = [Type.Q5_1, Type.Q2_K, Type.Q3_K, Type.Q5_K, Type.IQ4_NL, Type.IQ4_XS, Type.MXFP4]
    for name, kinds in [("gguf-native", native), ("gguf-others", others)]:
        reference = llama(name, kinds, write_gguf(DATA / f"{name}.gguf"))
        write_json(DATA / f"{name}.json", {"versions": VERSIONS | {"gguf": gguf_version}, **reference})


# The small models of reference.py by the architecture's name in GGUF, with what that format takes for granted.
GEMMA3 = {"query_pre_attn_scalar": 16, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6, "num_hidden_layers": 6,
          "hidden_size": 32, "intermediate_size": 48}
FAMILIES = {"llama-gqa-llama3": {}, "qwen2": {}, "qwen3": {}, "olmo2": {}, "granite": {}, "phi3": {"sliding_window": None}, "phi3-long": {"sliding_window": None},
            "gemma2": {"query_pre_attn_scalar": 16}, "gemma3": GEMMA3, "mixtral": {}, "qwen3-moe": {"norm_topk_prob": True}, "stablelm": {}, "gpt-neox": {},
            "gpt-neox-serial": {"hidden_act": "gelu"}, "gpt2": {}}
# What GGUF calls them, where it is something else.
ARCHITECTURES = {"llama-gqa-llama3": "llama", "phi3-long": "phi3", "mixtral": "llama", "qwen3-moe": "qwen3moe", "gpt-neox": "gptneox",
                 "gpt-neox-serial": "gptneox"}


def together(named):
    """The experts' matrices of a layer as one tensor [experts, rows, cols], by the name that gguf-py knows."""
    experts = {}
    for key, values in named:
        if ".experts." not in key:
            yield key, values.detach()
            continue
        begin, end = key.split(".experts.")
        number, end = end.split(".", 1)
        experts.setdefault(f"{begin}.experts.{end}", []).append(values.detach())
        assert len(experts[f"{begin}.experts.{end}"]) == int(number) + 1
    for key, matrices in experts.items():
        yield key, torch.stack(matrices)


def make_families(names=FAMILIES):
    """A small random model of each family in F16, its tensors named as gguf-py names them; one of them in two files."""
    import reference

    for name in names:
        changes = FAMILIES[name]
        config, kind, _, _ = reference.TINY[name]
        arch_name = ARCHITECTURES.get(name, name)
        config = type(config)(**{k: v for k, v in config.to_dict().items() if k != "layer_types"} | changes)
        # Only this one knows of soft caps.
        config._attn_implementation = "eager"
        model = kind(config)
        reference.fill(model, 3)
        model.half().float().eval()
        # The second file says nothing of the model, and may have the output matrix.
        split = {"split_max_tensors": 14} if name in ("qwen2", "olmo2") else {}
        assert name != "olmo2" or not config.tie_word_embeddings
        writer = gguf.GGUFWriter(DATA / f"family-{name}.gguf", arch_name, **split)
        add_sizes(writer, config)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        partial = getattr(config, "rotary_pct", getattr(config, "partial_rotary_factor", 1.0))
        writer.add_rope_dimension_count(int(head_dim * partial))
        if name.startswith("gpt-neox"):
            writer.add_parallel_residual(config.use_parallel_residual)
        if name == "stablelm":
            # As the conversion does where a configuration leaves it out.
            writer.add_parallel_residual(True)
        if name.startswith("gemma"):
            writer.add_sliding_window(config.sliding_window)
        if name == "gemma2":
            writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
            writer.add_final_logit_softcapping(config.final_logit_softcapping)
        if name == "gemma3" and config.rope_scaling:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config.rope_scaling["factor"])
        if name == "granite":
            writer.add_embedding_scale(config.embedding_multiplier)
            writer.add_residual_scale(config.residual_multiplier)
            writer.add_attention_scale(config.attention_multiplier)
            writer.add_logit_scale(config.logits_scaling)
        if name == "phi3-long":
            writer.add_rope_scaling_attn_factors(model.model.rotary_emb.attention_scaling)
            writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
            for length in ("long", "short"):
                factors = np.array(config.rope_scaling[f"{length}_factor"], np.float32)
                writer.add_tensor(f"rope_factors_{length}.weight", factors)
        if name in ("mixtral", "qwen3-moe"):
            writer.add_expert_count(config.num_local_experts if name == "mixtral" else config.num_experts)
            writer.add_expert_used_count(config.num_experts_per_tok)
        if name == "qwen3-moe":
            writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        if name == "llama-gqa-llama3":
            # As a tensor of what each frequency is divided by.
            turned = model.model.rotary_emb.inv_freq
            plain = config.rope_theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)
            writer.add_tensor("rope_freqs.weight", (plain / turned).numpy().astype(np.float32))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(["<unk>", "<s>", "</s>"] + [chr(0x100 + i) for i in range(config.vocab_size - 4)] + ["Āā"])
        writer.add_token_merges(["Ā ā"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        arch = next(arch for arch, text in gguf.MODEL_ARCH_NAMES.items() if text == arch_name)
        names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        for key, values in together(model.named_parameters()):
            if name.startswith("gemma") and key.endswith("norm.weight"):
                values = values + 1
            if ".query_key_value." in key:
                # Head by head; the file has all queries, then all keys, then all values.
                parts = values.reshape(config.num_attention_heads, 3, head_dim, *values.shape[1:])
                values = parts.swapaxes(0, 1).reshape(values.shape)
            if name == "gpt2" and ".c_" in key and values.ndim == 2:
                values = values.T.contiguous()
            if arch_name in ("llama", "granite") and (".q_proj" in key or ".k_proj" in key):
                rows, cols = values.shape
                values = values.reshape(rows // head_dim, 2, head_dim // 2, cols).swapaxes(1, 2).reshape(rows, cols)
            values = values.numpy()
            writer.add_tensor(names.get_name(key, (".weight", ".bias")), values.astype(np.float16) if values.ndim > 1 else values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        ids = torch.randint(3, config.vocab_size, (40,), generator=torch.Generator().manual_seed(5)).tolist()
        logits = reference.logits_of(model, ids)
        positions = [0, 1, 20, 39]
        content = {"versions": VERSIONS | {"gguf": gguf_version}, "ids": ids, "positions": positions}
        write_json(DATA / f"family-{name}.json", content | {"logits": [short(logits[p].tolist()) for p in positions]})
        print(f"{name}: logits' deviation {logits.std():.2f}")


TEXTS = ["The king had three sons.", "  two spaces", "a\nnew line", "naïve ☀️ 日本語", "1234 and more", " ", "the\tend "]


def make_sentence_piece():
    """A small vocabulary of SentencePiece's BPE in a GGUF file, with the tokens that the library cuts texts into."""
    import sentencepiece

    work = DATA / "sentencepiece"
    sentencepiece.SentencePieceTrainer.train(
        input=str(DATA.parent / "text.txt"), model_prefix=str(work), vocab_size=480, model_type="bpe", byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=f"{work}.model")
    size = model.vocab_size()
    writer = gguf.GGUFWriter(DATA / "sentencepiece.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([model.id_to_piece(i) for i in range(size)])
    writer.add_token_scores([model.get_score(i) for i in range(size)])
    writer.add_token_types([
        2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1 for i in range(size)
    ])
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    writer.add_unk_token_id(model.unk_id())
    writer.add_tensor("token_embd.weight", np.zeros((size, 8), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for suffix in ("model", "vocab"):
        work.with_suffix(f".{suffix}").unlink()
    texts = [{"text": text, "ids": model.encode(text)} for text in TEXTS]
    versions = {"sentencepiece": sentencepiece.__version__}
    write_json(DATA / "sentencepiece.json", {"versions": versions, "bos": model.bos_id(), "texts": texts})
    print(f"sentencepiece: {size} tokens")


# ---------------------------------------------------------------------------------------------
# Safetensors

SMALL = LlamaConfig(
    vocab_size=131, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
)


def alone(package, path, name):
    """A module of a package that asks for more than this machine has, by itself."""
    root = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(name, root / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def affine(weight, bits, group, symmetric):
    """Codes [rows, cols], scales [rows, groups] of f16 and zeros."""
    rows, cols = weight.shape
    w = weight.reshape(rows, -1, group)
    top = 2**bits - 1
    if symmetric:
        scale = (w.abs().amax(-1) / (top // 2)).half().float()
        zero = torch.full_like(scale, 2 ** (bits - 1))
    else:
        scale = ((w.amax(-1) - w.amin(-1)) / top).half().float()
        zero = (-w.amin(-1) / scale).round().clamp(0, top)
    codes = (w / scale[..., None] + zero[..., None]).round().clamp(0, top)
    return codes.reshape(rows, cols).int(), scale, zero.int()


def pack_words(values, bits):
    """Neighbours along the last dimension in an i32, the first in the low bits."""
    n = 32 // bits
    padded = torch.nn.functional.pad(values.long(), (0, -values.shape[-1] % n))
    words = sum(padded[..., i::n] << bits * i for i in range(n))
    return torch.where(words >= 2**31, words - 2**32, words).int()


def gptq(version, bits, group, act_order, symmetric):
    module = alone("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py", "qlinear")

    def quantize(name, weight):
        rows, cols = weight.shape
        size = cols if group == -1 else group
        g_idx = torch.arange(cols) // size
        if act_order:
            g_idx = g_idx[torch.randperm(cols, generator=torch.Generator().manual_seed(cols + rows))]
        order = torch.argsort(g_idx, stable=True)
        codes, scale, zero = affine(weight[:, order], bits, size, symmetric)
        linear = torch.nn.Linear(cols, rows, bias=False)
        linear.weight.copy_((codes - zero.repeat_interleave(size, 1)) * scale.repeat_interleave(size, 1))
        linear.weight.copy_(linear.weight[:, torch.argsort(order)].clone())
        layer = module.QuantLinear(bits, group, cols, rows, bias=False, weight_dtype=torch.float16)
        layer.pack(linear, scale, zero, g_idx.int())
        layer.autogptq_cuda_available = False
        # One row of the matrix a column of the unit matrix: the library's own numbers.
        numbers = layer(torch.eye(cols)).T.float()
        stem = name.removesuffix(".weight")
        tensors = {f"{stem}.{part}": getattr(layer, part) for part in ("qweight", "qzeros", "scales", "g_idx")}
        if version == 2:
            # As version 1, with zeros that are not stored as one less. From the documented layout.
            tensors[f"{stem}.qzeros"] = pack_words(zero.T, bits)
        return tensors, numbers, torch.float16

    settings = {
        "quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric,
        "checkpoint_format": "gptq" if version == 1 else "gptq_v2",
    }
    return quantize, {"quantization_config": settings}, False


def awq():
    module = alone("awq", "utils/packing_utils.py", "packing_utils")

    def quantize(name, weight):
        codes, scale, zero = affine(weight, 4, 32, False)
        order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])

        def pack(values):
            return pack_words(values.T.reshape(values.shape[1], -1, 8)[..., order].reshape(values.shape[1], -1), 4)

        qweight, qzeros, scales = pack(codes), pack(zero), scale.T.contiguous().half()
        numbers = module.dequantize_gemm(qweight, qzeros, scales, 4, 32).T.float()
        stem = name.removesuffix(".weight")
        return {f"{stem}.qweight": qweight, f"{stem}.qzeros": qzeros, f"{stem}.scales": scales}, numbers, torch.float16

    settings = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    return quantize, {"quantization_config": settings}, False


def compressed(bits, symmetric, group):
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import pack_to_int32, unpack_from_int32
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    def quantize(name, weight):
        size = group or weight.shape[1]
        codes, scale, zero = affine(weight, bits, size, symmetric)
        middle = 2 ** (bits - 1)
        scale = scale.bfloat16() if symmetric else scale.half()
        tensors = {
            f"{name}_packed": pack_to_int32((codes - middle).to(torch.int8), bits),
            f"{name}_scale": scale,
            f"{name}_shape": torch.tensor(weight.shape),
        }
        zeros = (zero - middle).to(torch.int8)
        if not symmetric:
            tensors[f"{name}_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0)
        back = unpack_from_int32(tensors[f"{name}_packed"], bits, weight.shape)
        args = QuantizationArgs(num_bits=bits, symmetric=symmetric, strategy="group" if group else "channel", group_size=group)
        # The scales widened, or the library would round its numbers to the scales' type.
        numbers = dequantize(back, scale.float(), zeros, args, dtype=torch.float32)
        return tensors, numbers.float(), torch.float32

    weights = {
        "num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group" if group else "channel",
        "group_size": group,
    }
    settings = {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"],
    }
    return quantize, {"quantization_config": settings}, False


def mlx(bits):
    import mlx.core as mx

    def quantize(name, weight):
        words, scales, biases = mx.quantize(mx.array(weight.numpy()), 32, bits)
        # As in a file of 16-bit floats; the numbers without rounding once more.
        scales, biases = scales.astype(mx.float16), biases.astype(mx.float16)
        wide = [part.astype(mx.float32) for part in (scales, biases)]
        numbers = mx.dequantize(words, *wide, 32, bits)
        stem = name.removesuffix(".weight")
        parts = [("weight", np.array(words).view(np.int32)), ("scales", np.array(scales)), ("biases", np.array(biases))]
        tensors = {f"{stem}.{part}": torch.from_numpy(values.copy()) for part, values in parts}
        tensors[name] = np.array(words)
        return tensors, torch.from_numpy(np.array(numbers)), torch.float32

    return quantize, {"quantization": {"group_size": 32, "bits": bits}}, True


def bitsandbytes(kind, double):
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    def quantize(name, weight):
        data, state = quantize_4bit(weight.clone(), blocksize=64, quant_type=kind, compress_statistics=double)
        numbers = dequantize_4bit(data, state).float()
        return {name: data} | {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}, numbers, torch.float32

    settings = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": kind,
        "bnb_4bit_use_double_quant": double,
    }
    return quantize, {"quantization_config": settings}, False


def mxfp4():
    """gpt-oss's layout. The numbers are those that gguf-py reads from the same codes in its order of nibbles."""
    states = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])

    def quantize(name, weight):
        rows, cols = weight.shape
        w = weight.numpy().reshape(rows, cols // 32, 32)
        scales = (127 + np.floor(np.log2(abs(w).max(-1))) - 2).astype(np.uint8)
        scaled = w / 2.0 ** (scales[..., None].astype(np.float64) - 127)
        codes = abs(abs(scaled)[..., None] - states).argmin(-1).astype(np.uint8) | np.where(w < 0, 8, 0).astype(np.uint8)
        blocks = codes[..., 0::2] | codes[..., 1::2] << 4
        ggml = np.concatenate([scales[..., None], codes[..., :16] | codes[..., 16:] << 4], -1)
        numbers = gguf.quants.dequantize(ggml.reshape(rows, -1), Type.MXFP4).astype(np.float32)
        # Both ways to name them.
        dash = "." if ".mlp." in name else "_"
        parts = {f"{name}{dash}blocks": torch.from_numpy(blocks), f"{name}{dash}scales": torch.from_numpy(scales)}
        return parts, torch.from_numpy(numbers), torch.float32

    return quantize, {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}}, False


PACKED = {
    "gptq": lambda: gptq(1, 4, 32, False, False),
    "gptq-3": lambda: gptq(1, 3, 32, False, False),
    "gptq-act-order": lambda: gptq(1, 4, 32, True, True),
    "gptq-8-channel": lambda: gptq(1, 8, -1, False, True),
    "gptq-v2": lambda: gptq(2, 4, 32, False, False),
    "awq": awq,
    "compressed": lambda: compressed(4, True, 32),
    "compressed-zeros": lambda: compressed(4, False, 32),
    "compressed-8-channel": lambda: compressed(8, True, None),
    "mlx-4": lambda: mlx(4),
    "mlx-3": lambda: mlx(3),
    "mlx-6": lambda: mlx(6),
    "bitsandbytes-nf4": lambda: bitsandbytes("nf4", True),
    "bitsandbytes-fp4": lambda: bitsandbytes("fp4", False),
    "mxfp4": mxfp4,
}


def make_packed():
    for name, method in PACKED.items():
        quantize, settings, tables = method()
        random = torch.Generator().manual_seed(7)
        # bitsandbytes 0.50.2 unpacks rows that are not whole blocks of 64 wrongly on the CPU.
        small = LlamaConfig(**SMALL.to_dict() | {"intermediate_size": 128}) if "bits" in name else SMALL
        model = LlamaForCausalLM(small).eval()
        tensors, digests, matrices = {}, {}, 0
        for key, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            gain = 16 if "embed" in key else 3 if "lm_head" in key else 1.2
            weight.copy_(1 + 0.2 * noise if weight.ndim == 1 else noise * gain / weight.shape[1] ** 0.5)
            table = "embed" in key or "lm_head" in key
            if weight.ndim == 1 or (table and not tables):
                tensors[key] = weight.half()
                weight.copy_(tensors[key].float())
                continue
            parts, numbers, rounded = quantize(key, weight.detach().clone())
            tensors |= parts
            assert numbers.shape == weight.shape and (numbers - weight).abs().max() < gain, key
            digests[key] = hashlib.sha256(numbers.to(rounded).numpy().tobytes()).hexdigest()
            rounding = str(rounded).removeprefix("torch.")
            weight.copy_(numbers)
        directory = DATA / name
        directory.mkdir()
        config = small.to_dict() | {"architectures": ["LlamaForCausalLM"], "torch_dtype": "float16"} | settings
        kept = {k: v for k, v in config.items() if k in LlamaConfig().to_dict() or k in settings or k == "architectures"}
        (directory / "config.json").write_text(json.dumps(kept, indent=1) + "\n")
        save = save_file
        if tables:
            # MLX's words have no sign, which torch cannot write.
            save, tensors = save_numpy, {k: np.asarray(v) for k, v in tensors.items()}
        else:
            tensors = {k: v.contiguous() for k, v in tensors.items()}
        save(tensors, directory / "model.safetensors", {"format": "pt"})
        ids = torch.randint(3, 131, (40,), generator=random).tolist()
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        positions = [0, 1, 20, 39]
        reference = {
            "versions": VERSIONS, "rounded_to": rounding, "sha256": digests, "ids": ids, "positions": positions,
            "logits": [short(logits[p].tolist()) for p in positions],
        }
        write_json(directory / "reference.json", reference)
        print(f"{name}: logits' deviation {logits.std():.2f}, {(directory / 'model.safetensors').stat().st_size} bytes")


def write_json(path, content):
    lines = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    make_gguf()
    make_families()
    make_sentence_piece()
    make_packed()
