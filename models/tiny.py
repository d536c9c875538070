"""The small models of tests/data/tiny/: configurations, random weights, and a tokenizer."""

import json

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
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
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

VOCAB = 131
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
    "qwen3-moe": (
        Qwen3MoeConfig(
            **GROUPED,
            tie_word_embeddings=False,
            num_experts=5,
            num_experts_per_tok=3,
            moe_intermediate_size=32,
            norm_topk_prob=False,
        ),
        Qwen3MoeForCausalLM,
        torch.bfloat16,
        {},
    ),
    "mixtral": (
        MixtralConfig(
            **{**GROUPED, "intermediate_size": 40},
            tie_word_embeddings=False,
            num_local_experts=4,
            num_experts_per_tok=2,
        ),
        MixtralForCausalLM,
        torch.bfloat16,
        {},
    ),
    "olmo2": (Olmo2Config(**GROUPED, tie_word_embeddings=False), Olmo2ForCausalLM, torch.float16, {}),
    # transformers 4.51.3 has no SmolLM3, which is Llama with layers that do not rotate: see `unrotate`.
    "smollm3": (
        LlamaConfig(**GROUPED, tie_word_embeddings=True, no_rope_layers=[1, 0]),
        LlamaForCausalLM,
        torch.bfloat16,
        {},
    ),
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
    # 12 dimensions of 16 rotate, each pair slowed by a number of its own, all of them differently in texts of more than 5
    # tokens.
    "phi3-long": (
        Phi3Config(
            **GROUPED,
            pad_token_id=0,
            tie_word_embeddings=False,
            partial_rotary_factor=0.75,
            original_max_position_embeddings=5,
            rope_scaling={
                "type": "longrope",
                "short_factor": [1.0, 1.05, 1.1, 1.3, 1.6, 2.0],
                "long_factor": [1.1, 1.5, 2.25, 4.0, 9.5, 23.0],
            },
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
    # With a model of images beside it, which is not looked at.
    "gemma3-multimodal": (
        Gemma3Config(
            text_config={
                **{**GROUPED, "hidden_size": 72, "num_key_value_heads": 1, "intermediate_size": 136},
                "model_type": "gemma3_text",
                "query_pre_attn_scalar": 24,
                "sliding_window": 8,
                "sliding_window_pattern": 2,
                "rope_local_base_freq": 100.0,
            },
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
            mm_tokens_per_image=4,
            image_token_index=VOCAB,
            eos_token_id=EOS,
        ),
        Gemma3ForConditionalGeneration,
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


def unrotate(model):
    """Takes the rotary embedding out of the layers that have a 0 in no_rope_layers."""

    def still(attention, args, kwargs):
        cos, sin = kwargs["position_embeddings"]
        return args, {**kwargs, "position_embeddings": (torch.ones_like(cos), torch.zeros_like(sin))}

    for layer, rotates in zip(model.model.layers, model.config.no_rope_layers):
        if not rotates:
            layer.self_attn.register_forward_pre_hook(still, with_kwargs=True)
    return model


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
                middle = 4.0 if ".post_" in name or name.endswith("model.norm.weight") else 0.0
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
