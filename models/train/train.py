"""Trains the reasoner family: small Llama models that answer the questions of `infer tasks`.

    python train.py data                         # questions -> data/*.npz, tokenizer -> data/tokenizer.json
    python train.py train --size 1m              # both stages; goes on where it was stopped
    python train.py export --size 1m --to DIR    # F16 safetensors with configuration and tokenizer

First next-token training on whole traces (question, thought, answer), short ones before long ones: looking a letter up
is learned in small tables, in few tokens, and carries over. Then supervised fine-tuning on the same kind of text with
the loss on the reply alone. Every size sees the same examples in the same order.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, processors
from torch import nn

HERE = Path(__file__).resolve().parent
INFER = os.environ.get("INFER", str(HERE.parents[1] / "target/release/infer"))

# hidden size, layers, heads, intermediate size; all divide into groups of 32 weights.
SIZES = {
    "0.1m": (64, 2, 2, 192),
    "0.4m": (96, 4, 3, 256),
    "1m": (128, 5, 4, 320),
    "3m": (256, 4, 4, 640),
}
CONTEXT = 256
SEED = 1
AMX = torch.cpu._is_amx_tile_supported()  # then matrix products in BF16 take half the time of a step; weights stay F32
DIRECT_SHARE = 0.25  # of the examples have no thought
PARTS = 2  # of a batch, sorted by length, so that little is padding
QUESTION_WEIGHT = 0.2  # of a question's tokens in the loss of next-token training: most of them are random

# Phases: name of the data, most steps of a question, share of them taken (the shortest of each task), how many more
# there are of some tasks, examples a step.
OFTEN = [("recall", 2), ("logic", 1), ("ordering", 1)]
DRILL = [("recall", 9), ("logic", 5)]
MORE = [("recall", 19), ("logic", 3), ("arithmetic", 1), ("tracking", 1)]
PHASES = [
    ("short", 2, 0.4, OFTEN, 64),
    ("middle", 4, 0.6, OFTEN, 64),
    ("full", 8, 1.0, OFTEN, 48),
    ("full", 8, 1.0, OFTEN, 48),
    ("drill", 2, 0.4, DRILL, 64),
    ("more", 8, 1.0, MORE, 48),
]
TUNED = 3  # the first phase with the loss on the reply alone

# Text that is the same in every question; everything else is one token a character. A letter and what is said of it
# are one token, so that looking it up is one step of attention.
SAID = ["->", " is heavier than ", ">"]
PIECES = [letter + said for letter in "abcdefghijkl" for said in SAID] + [
    "Question: ", "\nThought:", "\nAnswer:", ". ", ", ", "; ", ": ", " = ",
    "Start with ", "Add ", "Subtract ", "What is the result modulo 100?",
    "Arrows: ", "->", "Start at ", " and follow ", " arrow", "s. Where do you end?", ". Where do you end?",
    "Evaluate ", " and ", " or ", " xor ",
    " is heavier than ", " is the heaviest. ", "Which is heavier, ",
    "The coin is in box ", "Swap ", "Where is the coin?",
    "Codes: ", "What is the code of ",
]
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]


def tokenizer():
    characters = ["\n"] + [chr(c) for c in range(0x20, 0x7F)]
    vocab = [(t, 0.0) for t in SPECIAL] + [(c, -10.0) for c in characters] + [(p, -1.0) for p in PIECES]
    t = Tokenizer(models.Unigram(vocab, unk_id=SPECIAL.index("<unk>"), byte_fallback=False))
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.decoder = decoders.Fuse()
    t.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)]
    )
    return t


def questions(split, n, seed, most, share, often):
    """Every task and number of steps alike, and some tasks more often; of each the shortest."""
    kept = []
    for i, (task, times) in enumerate([("all", 1), *often]):
        command = [INFER, "tasks", "generate", "--task", task, "-n", str(n * times), "--seed", str(seed + i)]
        if task != "recall":
            command += ["--steps", f"1-{most}"]
        lines = subprocess.run(command + ["--split", split], check=True, capture_output=True, text=True).stdout.splitlines()
        groups = {}
        for q in map(json.loads, lines):
            groups.setdefault((q["task"], q["steps"]), []).append(q)
        for group in groups.values():
            kept += sorted(group, key=lambda q: len(q["prompt"]))[: math.ceil(len(group) * share)]
    return kept


def encode(t, examples, direct):
    """Flat tokens, where each example starts, and where its reply starts."""
    heads, tails = [], []
    for q, d in zip(examples, direct):
        head = f"Question: {q['prompt']}\n" + ("Answer:" if d else "Thought:")
        tail = f" {q['answer']}" if d else f" {'; '.join(q['thought'])}\nAnswer: {q['answer']}"
        heads.append(head)
        tails.append(tail)
    heads = [e.ids for e in t.encode_batch(heads)]
    tails = [e.ids for e in t.encode_batch(tails, add_special_tokens=False)]
    flat, starts, replies = [], [0], []
    for h, r in zip(heads, tails):
        replies.append(len(h))
        flat += h + r + [2]
        starts.append(len(flat))
    assert 3 not in flat, "a character that the vocabulary lacks"
    return dict(flat=np.array(flat, np.uint8), starts=np.array(starts, np.int32), replies=np.array(replies, np.int32))


def make_data(args):
    out = Path(args.data)
    out.mkdir(parents=True, exist_ok=True)
    t = tokenizer()
    t.save(str(out / "tokenizer.json"))
    rng = np.random.default_rng(SEED)
    total = 0
    for i, (name, most, share, often, _) in enumerate(PHASES):
        if name in [phase[0] for phase in PHASES[:i]]:
            continue
        n = args.n // 3 if name == "more" else args.n
        kept = questions("train", n, SEED + 10 * i, most, share, often)
        kept = [kept[j] for j in rng.permutation(len(kept))]
        encoded = encode(t, kept, rng.random(len(kept)) < DIRECT_SHARE)
        np.savez(out / f"{name}.npz", **encoded)
        total += len(kept)
        print(f"{name}: {len(kept)} examples, {encoded['flat'].size / len(kept):.1f} tokens each")
    test = questions("test", 20, SEED + 100, 8, 1.0, [])
    for mode in (0, 1):
        np.savez(out / f"test-{mode}.npz", **encode(t, test, [mode == 1] * len(test)),
                 task=np.array([q["task"] for q in test]), steps=np.array([q["steps"] for q in test]))
    print(f"{total} training questions, vocabulary {t.get_vocab_size()}")


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class Layer(nn.Module):
    def __init__(self, hidden, heads, intermediate):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = Norm(hidden), Norm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.o = nn.Linear(hidden, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x, cos, sin):
        b, n, h = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)

        def turn(y):  # rotary positions, halves as in Hugging Face's Llama
            y1, y2 = y.chunk(2, -1)
            return torch.cat([y1 * cos - y2 * sin, y2 * cos + y1 * sin], -1)

        q, k = turn(q), turn(k)
        with torch.autocast("cpu", enabled=False):  # short rows are slower in BF16
            a = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, n, h))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Reasoner(nn.Module):
    def __init__(self, size, vocab):
        super().__init__()
        hidden, layers, heads, intermediate = SIZES[size]
        self.embed = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, intermediate) for _ in range(layers))
        self.norm = Norm(hidden)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5
                if name.endswith(("o.weight", "down.weight")):
                    std /= math.sqrt(2 * layers)
                nn.init.normal_(p, std=std)
        d = hidden // heads
        angle = torch.outer(torch.arange(CONTEXT).float(), 10000.0 ** (-torch.arange(0, d, 2).float() / d))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens):
        x = self.embed(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed.weight)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal by Newton-Schulz steps (Jordan et al., 2024)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "m" not in state:
                    state["m"] = torch.zeros_like(p)
                m = state["m"].lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp(m, group["momentum"])
                # qkv and gate_up are several matrices on top of each other.
                x = torch.stack(g.split(min(g.shape), 0)) if g.shape[0] % g.shape[1] == 0 else g.unsqueeze(0)
                tall = x.shape[1] > x.shape[2]
                x = x.mT if tall else x
                x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(torch.bfloat16 if AMX else torch.float32)
                for _ in range(5):
                    s = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
                x = (x.mT if tall else x).reshape(p.shape).float()
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape[0] if g.shape[0] % g.shape[1] else g.shape[1], p.shape[1])))


def batch(data, ids):
    """Tokens [n, longest], and which of them are part of a reply."""
    rows = [data["flat"][data["starts"][i]: data["starts"][i + 1]] for i in ids]
    longest = max(map(len, rows))
    tokens = np.zeros((len(rows), longest), np.int64)
    reply = np.zeros((len(rows), longest), bool)
    used = np.zeros((len(rows), longest), bool)
    for i, (row, k) in enumerate(zip(rows, ids)):
        tokens[i, : len(row)] = row
        used[i, : len(row)] = True
        reply[i, data["replies"][k]: len(row)] = True
    return torch.from_numpy(tokens), torch.from_numpy(used), torch.from_numpy(reply)


@torch.no_grad()
def evaluate(model, data):
    """Which test replies are right in every token, as greedy decoding would make them; mean loss of the reply."""
    right, losses = [], []
    n = len(data["replies"])
    for start in range(0, n, 205):
        tokens, _, reply = batch(data, range(start, min(start + 205, n)))
        logits = model(tokens[:, :-1])
        hit = (logits.argmax(-1) == tokens[:, 1:]) | ~reply[:, 1:]
        right.append(hit.all(1))
        losses.append(F.cross_entropy(logits[reply[:, 1:]], tokens[:, 1:][reply[:, 1:]], reduction="none"))
    return torch.cat(right).numpy(), torch.cat(losses).mean().item()


def report(model, tests):
    lines = []
    for mode, data in zip(("thought", "direct"), tests):
        right, loss = evaluate(model, data)
        for task in dict.fromkeys(data["task"]):
            by = [right[(data["task"] == task) & (data["steps"] == k)] for k in range(1, 9)]
            lines.append(f"  {mode:8}{task:11}" + " ".join(f"{b.mean() * 100:4.0f}" for b in by if len(b)))
        lines.append(f"  {mode:8}reply loss {loss:.4f}, all right {right.mean() * 100:.1f}%")
    return "\n".join(lines)


def train(args):
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    args.lr = args.lr or 3e-3 * math.sqrt(96 / SIZES[args.size][0])
    out = Path(args.runs) / args.size
    out.mkdir(parents=True, exist_ok=True)
    sets = [dict(np.load(Path(args.data) / f"{name}.npz")) for name, *_ in PHASES]
    tests = [dict(np.load(Path(args.data) / f"test-{mode}.npz")) for mode in (0, 1)]
    vocab = Tokenizer.from_file(str(Path(args.data) / "tokenizer.json")).get_vocab_size()
    model = Reasoner(args.size, vocab)
    count = sum(p.numel() for p in model.parameters())
    body = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    if args.optimizer == "muon":
        optimizers = [Muon(body, args.lr), torch.optim.AdamW(rest, args.lr, (0.9, 0.95), weight_decay=0.0)]
    else:
        optimizers = [torch.optim.AdamW(model.parameters(), args.lr, (0.9, 0.98), weight_decay=0.01)]
    steps = args.steps
    before = [sum(steps[:i]) for i in range(len(steps) + 1)]
    step, tokens_seen, spent = 0, 0, 0.0
    state = out / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=False)
        model.load_state_dict(saved["model"])
        for o, s in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(s)
        step, tokens_seen, spent = saved["step"], saved["tokens"], saved["seconds"]
    log = open(out / "log.jsonl", "a")
    began = time.time() - spent
    while step < sum(steps):
        phase = max(i for i in range(len(steps)) if step >= before[i])
        tuned = phase >= TUNED
        # Next-token training falls off along a cosine, fine-tuning along another, which ends at nothing.
        first, last, (top, end) = (TUNED, len(steps), (0.8, 0.0)) if tuned else (0, TUNED, (1.0, 0.4))
        since, length = step - before[first], before[last] - before[first]
        rate = min(1.0, (since + 1) / 100) * (end + (top - end) * 0.5 * (1 + math.cos(math.pi * since / length)))
        for o in optimizers:
            for group in o.param_groups:
                group["lr"] = args.lr * rate
        data, size = sets[phase], PHASES[phase][4]
        at = step - before[2 if phase == TUNED else phase]  # fine-tuning goes on where the full questions were left
        ids = np.arange(at * size, (at + 1) * size) % len(data["replies"])
        ids = ids[np.argsort((data["starts"][1:] - data["starts"][:-1])[ids], kind="stable")]
        parts = [batch(data, part) for part in np.array_split(ids, PARTS)]
        weigh = [(p[2].float() if tuned else p[1] * torch.where(p[2], 1.0, QUESTION_WEIGHT))[:, 1:] for p in parts]
        total = sum(w.sum().item() for w in weigh)
        loss_sum = 0.0
        for (tokens, _, _), w in zip(parts, weigh):
            with torch.autocast("cpu", torch.bfloat16, enabled=AMX):
                logits = model(tokens[:, :-1]).float()
            used = w > 0
            each = F.cross_entropy(logits[used], tokens[:, 1:][used], reduction="none")
            loss = (each * w[used]).sum() / total
            loss.backward()
            loss_sum += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
        model.zero_grad(set_to_none=True)
        tokens_seen += sum(p[1].sum().item() for p in parts)
        step += 1
        if step % 25 == 0:
            entry = dict(step=step, phase=phase + 1, tokens=tokens_seen, flops=6 * count * tokens_seen,
                         loss=round(loss_sum, 5), seconds=round(time.time() - began, 1))
            if step % args.every == 0 or step in before[1:]:
                (right, reply_loss), (_, direct_loss) = evaluate(model, tests[0]), evaluate(model, tests[1])
                entry |= dict(test_reply_loss=reply_loss, test_direct_loss=direct_loss, test_right=float(right.mean()))
                print(json.dumps(entry), flush=True)
            log.write(json.dumps(entry) + "\n")
            log.flush()
        if step % args.every == 0 or step in before[1:]:
            saved = dict(model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers], step=step,
                         tokens=tokens_seen, seconds=time.time() - began)
            torch.save(saved, out / "new.pt")
            os.replace(out / "new.pt", state)
            if step == before[TUNED]:
                torch.save(model.state_dict(), out / "base.pt")
    torch.save(model.state_dict(), out / "tuned.pt")
    print(f"{args.size}: {count} parameters, {tokens_seen} tokens, {time.time() - began:.0f} s\n" + report(model, tests))


TEMPLATE = "{{ bos_token }}Question: {{ messages[-1]['content'] }}\nThought:"


def export(args):
    """F16 safetensors in Hugging Face's layout, with what goes with them."""
    hidden, layers, heads, intermediate = SIZES[args.size]
    state = torch.load(Path(args.runs) / args.size / f"{args.stage}.pt", weights_only=True)
    out = Path(args.to)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": state["embed.weight"], "model.norm.weight": state["norm.weight"]}
    for i in range(layers):
        here, there = f"layers.{i}.", f"model.layers.{i}."
        for name, part in zip("qkv", state[here + "qkv.weight"].split(hidden)):
            tensors[f"{there}self_attn.{name}_proj.weight"] = part
        tensors[there + "self_attn.o_proj.weight"] = state[here + "o.weight"]
        for name, part in zip(("gate", "up"), state[here + "gate_up.weight"].split(intermediate)):
            tensors[f"{there}mlp.{name}_proj.weight"] = part
        tensors[there + "mlp.down_proj.weight"] = state[here + "down.weight"]
        tensors[there + "input_layernorm.weight"] = state[here + "norm1.weight"]
        tensors[there + "post_attention_layernorm.weight"] = state[here + "norm2.weight"]
    save_file({n: t.half().contiguous() for n, t in tensors.items()}, out / "model.safetensors", {"format": "pt"})
    vocab = state["embed.weight"].shape[0]
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=vocab, hidden_size=hidden,
        intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        hidden_act="silu", max_position_embeddings=CONTEXT, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, attention_bias=False, mlp_bias=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        torch_dtype="float16",
    )
    generation = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0, do_sample=False)
    words = dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
                 unk_token="<unk>", model_max_length=CONTEXT, chat_template=TEMPLATE)
    for name, what in [("config", config), ("generation_config", generation), ("tokenizer_config", words)]:
        (out / f"{name}.json").write_text(json.dumps(what, indent=2) + "\n")
    shutil.copy(Path(args.data) / "tokenizer.json", out / "tokenizer.json")
    log = Path(args.runs) / args.size / "log.jsonl"
    if args.log:
        shutil.copy(log, args.log)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="data")
    p.add_argument("--runs", default="runs")
    sub = p.add_subparsers(required=True)
    d = sub.add_parser("data")
    d.add_argument("-n", type=int, default=6000, help="training questions of each task and number of steps")
    d.set_defaults(run=make_data)
    t = sub.add_parser("train")
    t.add_argument("--size", choices=SIZES, required=True)
    t.add_argument("--steps", type=int, nargs=6, default=[700, 400, 400, 750, 400, 1500], help="of each phase")
    t.add_argument("--lr", type=float, help="default: 3e-3 at hidden size 96, falling with the root of it")
    t.add_argument("--optimizer", default="muon", choices=["muon", "adamw"])
    t.add_argument("--every", type=int, default=200)
    t.add_argument("--threads", type=int, default=1)
    t.set_defaults(run=train)
    e = sub.add_parser("export")
    e.add_argument("--size", choices=SIZES, required=True)
    e.add_argument("--stage", default="tuned", choices=["tuned", "base"])
    e.add_argument("--to", required=True)
    e.add_argument("--log", help="where the log of training goes")
    e.set_defaults(run=export)
    args = p.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
