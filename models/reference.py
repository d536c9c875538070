#!/usr/bin/env python3
"""Compute what the tests compare with: tests/data/smollm2.json and tests/data/tiny/.

    python3 -m venv /some/where && /some/where/bin/pip install -r reference-requirements.txt
    /some/where/bin/python reference.py [smollm2] [tiny] [NAME of a tiny model ...]

Everything runs in transformers 4.51.3 on torch 2.6.0 (all pins: reference-requirements.txt), on the
CPU, in float32 whatever type the weights are stored in, with eager attention and no key/value cache.

`smollm2` needs models/smollm2/ (smollm2.sh makes it) and tests/data/text.txt. `tiny` makes small
random models itself. Python 3.9 to 3.12.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# One thread: sums are then always taken in the same order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
SMOLLM2 = ROOT / "models" / "smollm2"

VERSIONS = {
    "torch": torch.__version__.split("+")[0],
    "transformers": transformers.__version__,
    "tokenizers": tokenizers.__version__,
    "numpy": numpy.__version__,
}


def short(values):
    """Floats with 8 significant digits; lists likewise."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    if isinstance(values, list):
        return [short(value) for value in values]
    return float(f"{values:.8g}")


def write(path, content):
    """JSON with a line for each top-level value, and for each element of a list of objects."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            text = "[\n" + ",\n".join(compact(element) for element in value) + "\n]"
        else:
            text = compact(value)
        lines.append(f"{json.dumps(key)}:{text}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def load(directory, **overrides):
    return AutoModelForCausalLM.from_pretrained(
        directory, torch_dtype=torch.float32, attn_implementation="eager", **overrides
    ).eval()


def logits_of(model, ids):
    """[positions, vocabulary]"""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, ids, steps, eos):
    """(new ids, difference of the two best logits at each step, whether eos ended it)

    An eos is the last of the new ids.
    """
    new, margins = [], []
    while len(new) < steps:
        best = logits_of(model, ids + new)[-1].topk(2)
        new.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
        if new[-1] == eos:
            return new, margins, True
    return new, margins, False


def losses(model, ids, ctx, targets):
    """NLL in nats of each of the first `targets` targets.

    Window i reads tokens [i*ctx, i*ctx+ctx) and is scored on tokens [i*ctx+1, i*ctx+ctx], so every
    token but the first is a target once, and the text before a window is not seen.
    """
    assert targets % ctx == 0 and len(ids) > targets
    parts = []
    for start in range(0, targets, ctx):
        # The softmax of float32 logits is taken in float64, to add no rounding of its own.
        log_probs = logits_of(model, ids[start : start + ctx]).double().log_softmax(-1)
        wanted = torch.tensor(ids[start + 1 : start + ctx + 1])
        parts.append(-log_probs.gather(1, wanted[:, None])[:, 0])
    return torch.cat(parts)


# ---------------------------------------------------------------------------------------------
# SmolLM2

# The story was chosen among a few for having no near-tie in its greedy text.
PROMPTS = [
    ("plain", "The capital of France is"),
    ("code", "def fibonacci(n):\n    if n <= 1:\n        return n\n"),
    ("list", "Counting by fives: 5, 10, 15, 20, 25, 30,"),
    ("story", "Once upon a time there was a king who had three sons. The eldest son"),
    ("chat", [{"role": "user", "content": "What is the capital of France?"}]),
    ("unicode", "Les jours de la semaine sont : lundi, mardi, mercredi ☀️ — été, naïve, 日本語, Ελλάδα. Les mois"),
]


def smollm2():
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    model = load(SMOLLM2)
    eos = model.config.eos_token_id

    prompts = []
    for name, prompt in PROMPTS:
        entry = {"name": name}
        if isinstance(prompt, list):
            entry["messages"] = prompt
            prompt = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        new, margins, stopped = greedy(model, ids, 24, eos)
        entry.update(
            text=prompt,
            ids=ids,
            greedy_ids=new,
            greedy_text=tokenizer.decode(new, skip_special_tokens=True),
            margins=short(margins),
            stopped_at_eos=stopped,
        )
        if name == "plain":
            top = logits_of(model, ids)[-1].topk(16)
            entry["top"] = {"ids": top.indices.tolist(), "logits": short(top.values)}
        print(f"{name}: {len(ids)} ids, least margin {min(margins):.4f}: {entry['greedy_text']!r}")
        prompts.append(entry)

    # newline="" keeps the text as it is on every system.
    with open(DATA / "text.txt", encoding="utf-8", newline="") as file:
        ids = tokenizer(file.read(), add_special_tokens=False)["input_ids"]
    nll = []
    for ctx, targets in ((512, 1024), (128, 128), (64, 64)):
        mean = losses(model, ids, ctx, targets).mean().item()
        nll.append({"ctx": ctx, "targets": targets, "mean_nll": short(mean)})
        print(f"text: {len(ids)} ids, ctx {ctx}, {targets} targets: mean NLL {mean:.6f}")

    write(
        DATA / "smollm2.json",
        {"versions": VERSIONS, "prompts": prompts, "text_ids": ids, "nll": nll},
    )


# ---------------------------------------------------------------------------------------------
# Tiny models

VOCAB = 131
LENGTH = 40
GREEDY = 12
# First, last, and both sides of the place where a window of 8 begins to hide keys.
POSITIONS = [0, 1, 7, 8, 20, LENGTH - 1]
BOS, EOS = 1, 2

COMMON = {
    "vocab_size": VOCAB,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "rms_norm_eps": 1e-5,
}
# Multi-head attention, an output matrix of its own, and sizes that are multiples of 8 only.
PLAIN = {
    **COMMON,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "tie_word_embeddings": False,
}
GROUPED = {
    **COMMON,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}



def without(settings, *names):
    return {name: value for name, value in settings.items() if name not in names}


# name -> (configuration, model class, stored type, options of save_pretrained)
TINY = {
    "llama": (LlamaConfig(**PLAIN), LlamaForCausalLM, torch.float32, {}),
    # Of the eight frequencies, the first is kept, the second blended, the others divided.
    "llama-gqa-llama3": (
        LlamaConfig(
            **GROUPED,
            tie_word_embeddings=True,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        LlamaForCausalLM,
        torch.bfloat16,
        {},
    ),
    # Four heads of 24 make 96, which is not the hidden size.
    "llama-linear-bias": (
        LlamaConfig(
            **{**GROUPED, "head_dim": 24, "intermediate_size": 136},
            tie_word_embeddings=False,
            attention_bias=True,
            mlp_bias=True,
            rope_scaling={"rope_type": "linear", "factor": 4.0},
        ),
        LlamaForCausalLM,
        torch.float16,
        {},
    ),
    # A position sees itself and the 7 before it.
    "mistral": (
        MistralConfig(**GROUPED, tie_word_embeddings=False, sliding_window=8),
        MistralForCausalLM,
        torch.float16,
        {},
    ),
    # Of the eight pairs the first is kept, two are blended, the others slowed.
    "llama-yarn": (
        LlamaConfig(
            **GROUPED,
            tie_word_embeddings=True,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
        LlamaForCausalLM,
        torch.bfloat16,
        {},
    ),
    "qwen2": (Qwen2Config(**GROUPED, tie_word_embeddings=True), Qwen2ForCausalLM, torch.bfloat16, {}),
    # Four heads of 24 make 96, which is not the hidden size.
    "qwen3": (
        Qwen3Config(
            **{**GROUPED, "head_dim": 24, "intermediate_size": 136}, tie_word_embeddings=False
        ),
        Qwen3ForCausalLM,
        torch.bfloat16,
        {},
    ),
    "olmo2": (Olmo2Config(**GROUPED, tie_word_embeddings=False), Olmo2ForCausalLM, torch.float16, {}),
    # An eps that matters, because the residual stream is kept otherwise there.
    "granite": (
        GraniteConfig(
            **{**GROUPED, "intermediate_size": 136, "rms_norm_eps": 1e-2},
            tie_word_embeddings=False,
            embedding_multiplier=1.5,
            residual_multiplier=0.6,
            attention_multiplier=0.125,
            logits_scaling=1.5,
        ),
        GraniteForCausalLM,
        torch.bfloat16,
        {},
    ),
    # 12 dimensions of 16 rotate.
    "phi3": (
        Phi3Config(
            **GROUPED, pad_token_id=0, tie_word_embeddings=False, partial_rotary_factor=0.75, sliding_window=8
        ),
        Phi3ForCausalLM,
        torch.float16,
        {},
    ),
    # The first layer has the window. Caps that bend much, and a scale that is not the heads'.
    "gemma2": (
        Gemma2Config(
            **{**GROUPED, "hidden_size": 72},
            query_pre_attn_scalar=24,
            sliding_window=8,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=8.0,
        ),
        Gemma2ForCausalLM,
        torch.bfloat16,
        {},
    ),
    # Again the first layer has the window; the bases are far enough apart to be told from each other.
    "gemma3": (
        Gemma3TextConfig(
            **{**GROUPED, "hidden_size": 72, "num_key_value_heads": 1},
            query_pre_attn_scalar=24,
            sliding_window=8,
            sliding_window_pattern=2,
            rope_theta=1000000.0,
            rope_local_base_freq=100.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ),
        Gemma3ForCausalLM,
        torch.bfloat16,
        {},
    ),
    # 4 dimensions of 16 rotate.
    "stablelm": (
        StableLmConfig(
            **without(GROUPED, "rms_norm_eps", "head_dim"),
            tie_word_embeddings=False,
            layer_norm_eps=1e-5,
            use_qkv_bias=True,
            partial_rotary_factor=0.25,
        ),
        StableLmForCausalLM,
        torch.float16,
        {},
    ),
    "gpt-neox": (
        GPTNeoXConfig(
            **without(GROUPED, "rms_norm_eps", "head_dim", "num_key_value_heads"),
            tie_word_embeddings=False,
            rotary_pct=0.5,
        ),
        GPTNeoXForCausalLM,
        torch.float16,
        {},
    ),
    "gpt-neox-serial": (
        GPTNeoXConfig(
            **without(PLAIN, "rms_norm_eps", "num_key_value_heads", "tie_word_embeddings"),
            tie_word_embeddings=True,
            rotary_pct=1.0,
            hidden_act="gelu_new",
            use_parallel_residual=False,
        ),
        GPTNeoXForCausalLM,
        torch.float16,
        {},
    ),
    "gpt2": (
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=128,
            n_embd=64,
            n_layer=2,
            n_head=4,
            bos_token_id=BOS,
            eos_token_id=EOS,
        ),
        GPT2LMHeadModel,
        torch.float16,
        {},
    ),
    # The weights of `llama` again, in two files.
    "sharded": (LlamaConfig(**PLAIN), LlamaForCausalLM, torch.float32, {"max_shard_size": 140_000}),
}


GAINS = {
    "q_proj": 1.8,
    "k_proj": 1.8,
    "qkv_proj": 1.8,
    "query_key_value": 1.8,
    "c_attn": 1.8,
    "lm_head": 3.0,
    "embed_out": 3.0,
}


def fill(model, seed):
    """Random weights, large enough that attention is not even and logits are not flat."""
    random = torch.Generator().manual_seed(seed)
    gemma = "gemma" in model.config.model_type
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=random)
        if name.endswith("bias"):
            weight.copy_(0.3 * noise)
        elif "norm" in name or "ln_" in name:
            middle = 1.0
            if gemma:
                # Stored as what they differ from 1. What layers add is to count beside the large embeddings.
                middle = 4.0 if ".post_" in name or name == "model.norm.weight" else 0.0
            weight.copy_(0.2 * noise + middle)
        elif "wpe" in name:
            weight.copy_(0.3 * noise)
        elif any(embedding in name for embedding in ("embed_tokens", "embed_in", "wte")):
            # Where it is the output matrix as well, its size sets the size of the logits.
            tied = 0.08 if gemma else 0.4
            weight.copy_(noise * (tied if model.config.tie_word_embeddings else 1.0))
        else:
            gain = GAINS.get(name.split(".")[-2], 1.2)
            # GPT-2's are stored as [inputs, outputs].
            inputs = weight.shape[0 if name.startswith("transformer.h.") else 1]
            weight.copy_(noise * gain / inputs**0.5)


def tiny_one(name, seed):
    """Makes the model of that name; whether its greedy text is clear enough to be a test."""
    config, kind, dtype, options = TINY[name]
    directory = DATA / "tiny" / name
    shutil.rmtree(directory, ignore_errors=True)
    model = kind(config)
    fill(model, seed)
    model.to(dtype).save_pretrained(directory, **options)
    # Says nothing that config.json does not.
    (directory / "generation_config.json").unlink()

    model = load(directory)
    random = torch.Generator().manual_seed(1000 + seed)
    ids = torch.randint(3, VOCAB, (LENGTH,), generator=random).tolist()
    logits = logits_of(model, ids)
    new, margins, stopped = greedy(model, ids, GREEDY, EOS)
    if stopped or min(margins) < 0.2 or len(set(new)) < 8:
        return False

    if name in ("mistral", "phi3", "gemma2", "gemma3"):
        # The window must be what transformers applied, and nothing else may have changed.
        window = config.sliding_window
        open_logits = logits_of(load(directory, sliding_window=4096), ids)
        assert torch.allclose(logits[:window], open_logits[:window], atol=1e-5)
        changed = (logits - open_logits)[window:].abs().amax(-1)
        assert changed.min() > 0.02, changed
        print(f"  window off: logits at positions >= {window} change by {changed.min():.2f} or more")

    # The whole text is one window here: all tokens but the first are targets.
    nll = losses(model, ids, LENGTH - 1, LENGTH - 1).mean().item()
    reference = {
        "versions": VERSIONS,
        "ids": ids,
        "positions": POSITIONS,
        "logits": short(logits[POSITIONS]),
        "mean_nll": short(nll),
        "greedy_ids": new,
        "margins": short(margins),
    }
    if name == "llama":
        reference["tokenizer"] = tiny_tokenizer(directory)
    write(directory / "reference.json", reference)

    shards = len(list(directory.glob("*.safetensors")))
    assert shards == (2 if options else 1)
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    assert size < 250_000, size
    print(
        f"{name}: seed {seed}, {size} bytes of weights, logits' deviation {logits.std():.2f}, "
        f"mean NLL {nll:.6f}, least margin {min(margins):.3f}"
    )
    return True


def tiny_tokenizer(directory):
    """Byte-level BPE for ASCII: three special tokens, 96 characters and 32 merges are all 131 ids.

    Bytes outside ASCII have no token and vanish. A text begins with <s>, as Llama's do.
    """
    # In the byte-level alphabet a space is written Ġ and a newline Ċ.
    letters = ["Ġ", "Ċ"] + [chr(code) for code in range(33, 127)]
    merges = (
        "Ġ t|h e|Ġ a|i n|Ġt he|e r|o n|r e|Ġ s|a t|Ġ w|n d|o u|e n|i t|Ġ o|Ġ b|i s|e s|Ġ c|"
        "o r|Ġ f|in g|Ġ p|e d|Ġa nd|Ġ m|a l|l e|a r|Ġo f|Ġ l"
    ).split("|")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokens = ["<unk>", "<s>", "</s>"] + letters + ["".join(pair) for pair in pairs]
    assert len(tokens) == len(set(tokens)) == VOCAB

    tokenizer = tokenizers.Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, pairs))
    tokenizer.add_special_tokens(tokens[:3])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "add_bos_token": True,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_max_length": COMMON["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    loaded = AutoTokenizer.from_pretrained(directory)
    text = "The other thing is\n  all of 7 words, and more: é is not one.</s>"
    return {
        "text": text,
        "ids": loaded(text, add_special_tokens=False)["input_ids"],
        "ids_with_special": loaded(text)["input_ids"],
    }


def tiny(names=TINY):
    for name in names:
        # The first seed whose greedy text has no near-ties, so that a correct engine that rounds
        # otherwise chooses the same tokens.
        seed = next(seed for seed in range(1, 500) if tiny_one(name, seed))
        assert name != "sharded" or seed == tiny.seeds.get("llama", seed)
        tiny.seeds[name] = seed


tiny.seeds = {}


def main(arguments):
    parts = {"smollm2": smollm2, "tiny": tiny}
    if set(arguments) - set(parts) - set(TINY):
        print("usage: reference.py [smollm2] [tiny] [NAME of a tiny model ...]", file=sys.stderr)
        return 2
    DATA.mkdir(parents=True, exist_ok=True)
    for name in arguments or parts:
        parts[name]() if name in parts else tiny([name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
