#!/usr/bin/env python3
"""Compute what the tests compare with: tests/data/smollm2.json and tests/data/tiny/.

    python3 -m venv /some/where && /some/where/bin/pip install -r reference-requirements.txt
    /some/where/bin/python reference.py [smollm2] [tiny] [texts] [NAME of a tiny model ...]

Everything runs in transformers 4.51.3 on torch 2.6.0 (all pins: reference-requirements.txt), on the
CPU, in float32 whatever type the weights are stored in, with eager attention and no key/value cache.

`smollm2` needs models/smollm2/ (smollm2.sh makes it) and tests/data/text.txt. `tiny` makes small
random models itself, and `texts` reads those: as they are stored, and rounded to 4 bits (int4.py).
Python 3.9 to 3.12.
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
from transformers import AutoModelForCausalLM, AutoTokenizer

from int4 import round_to_int4
from tiny import EOS, TINY, VOCAB, fill, tiny_tokenizer, unrotate

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


def load(directory, kind=AutoModelForCausalLM, **overrides):
    model = kind.from_pretrained(
        directory, torch_dtype=torch.float32, attn_implementation="eager", **overrides
    ).eval()
    return unrotate(model) if hasattr(model.config, "no_rope_layers") else model


def logits_of(model, ids):
    """[positions, vocabulary]"""
    return model(torch.tensor([ids]), use_cache=False).logits[0]


def greedy(model, ids, steps, eos, least=-1.0):
    """(new ids, difference of the two best logits at each step, whether eos ended it)

    An eos is the last of the new ids. None where a difference is below `least`.
    """
    new, margins = [], []
    while len(new) < steps:
        best = logits_of(model, ids + new)[-1].topk(2)
        new.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
        if margins[-1] < least:
            return None
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

LENGTH = 40
GREEDY = 12
# First, last, and both sides of the place where a window of 8 begins to hide keys.
POSITIONS = [0, 1, 7, 8, 20, LENGTH - 1]


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
    if name == "phi3-long":
        # So few tokens that the other factors are used.
        few = config.original_max_position_embeddings
        reference["few"] = {"ids": ids[:few], "logits": short(logits_of(model, ids[:few])[-1])}
        assert (logits_of(model, ids[:few])[-1] - logits[few - 1]).abs().max() > 0.1
    if name in ("gemma2", "gpt-neox"):
        # What the last position looks at, in each layer and head.
        seen = model(torch.tensor([ids]), use_cache=False, output_attentions=True).attentions
        reference["attention"] = short(torch.stack([layer[0, :, -1] for layer in seen]))
    if name == "smollm3":
        path = directory / "config.json"
        known = {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3"}
        path.write_text(json.dumps({**json.loads(path.read_text()), **known}, indent=2) + "\n")
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


def tiny(names=TINY):
    for name in names:
        # The first seed whose greedy text has no near-ties, so that a correct engine that rounds
        # otherwise chooses the same tokens.
        seed = next(seed for seed in range(1, 500) if tiny_one(name, seed))
        assert name != "sharded" or seed == tiny.seeds.get("llama", seed)
        tiny.seeds[name] = seed


tiny.seeds = {}


# Prompts of a batch: shorter than a window of 8, over a page of 32 tokens, and over two pages and a step of 64 rows.
LENGTHS = [6, 43, 85]
# Tokens after each: the last prompt ends in its fourth page, far beyond the window.
NEW = 24
# Where the logits of the last prompt are compared.
LATE = [8, 64, LENGTHS[-1] - 1]


def texts_one(directory, kind):
    """What follows three prompts, as the model is stored and with its matrices rounded to 4 bits."""
    models = {"f16": load(directory, kind), "q4": round_to_int4(load(directory, kind))}
    prompts = []
    for length in LENGTHS:
        # The first prompt whose greedy texts have no near-ties.
        for seed in range(1, 5000):
            random = torch.Generator().manual_seed(5000 + seed)
            ids = torch.randint(3, VOCAB, (length,), generator=random).tolist()
            found = {}
            for bits, model in models.items():
                text = greedy(model, ids, NEW, None, least=0.1)
                if text is None or len(set(text[0])) < 6:
                    break
                found[bits] = text[:2]
            if len(found) == len(models):
                break
        else:
            raise SystemExit(f"{directory.name}: every prompt of {length} tokens is nearly undecided somewhere")
        margins = {f"margins_{bits}": short(margins) for bits, (_, margins) in found.items()}
        prompts.append({"ids": ids} | {f"greedy_{bits}": new for bits, (new, _) in found.items()} | margins)
    content = {"versions": VERSIONS, "prompts": prompts, "positions": LATE}
    logits = {bits: logits_of(model, prompts[-1]["ids"])[LATE] for bits, model in models.items()}
    for bits, rows in logits.items():
        content[f"logits_{bits}"] = [[float(f"{x:.6g}") for x in row] for row in rows.tolist()]
    write(directory / "texts.json", content)
    apart = (logits["f16"] - logits["q4"]).pow(2).mean().sqrt() / logits["f16"].std()
    print(f"{directory.name}: 4 bits move logits by {apart:.2f} of their deviation")


def texts():
    for name in TINY:
        # The same weights as `llama`.
        if name != "sharded":
            texts_one(DATA / "tiny" / name, TINY[name][1])


def main(arguments):
    parts = {"smollm2": smollm2, "tiny": tiny, "texts": texts}
    if set(arguments) - set(parts) - set(TINY):
        print("usage: reference.py [smollm2] [tiny] [texts] [NAME of a tiny model ...]", file=sys.stderr)
        return 2
    DATA.mkdir(parents=True, exist_ok=True)
    for name in arguments or parts:
        parts[name]() if name in parts else tiny([name])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
