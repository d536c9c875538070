#!/usr/bin/env python3
"""Checks what `infer quantize` wrote with the programs that it was written for. Not part of the tests; it prints and asserts.

    quantized.py transformers OUT INFER TEXT      a directory in compressed-tensors' layout, as formats.py's versions run it
    quantized.py loaded OUT INFER TEXT            the same, loaded as its users do, zeros too: wants transformers 4.57.1
                                                  (tokenizers 0.22.1) and compressed-tensors 0.15.0
    quantized.py blocks OUT.gguf MODEL            a GGUF file against the model that it was made of, by gguf-py
    quantized.py gptq OUT MODEL                   a directory in GPTQ's layout against its model, by auto-gptq
    quantized.py llama OUT.gguf INFER             greedy text of llama.cpp (xllamacpp 2026.10) and of infer
    quantized.py reference                        makes tests/data/quantized.json

All want the environment of formats.py but where another is named; the one with llama.cpp wants xllamacpp.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "data" / "tiny"


def infer(binary, *arguments):
    ran = subprocess.run([binary, *map(str, arguments), "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(ran.stdout)


def load(directory):
    """The model with its weights unpacked by compressed-tensors, in float32."""
    import torch
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(directory, torch_dtype=torch.float32).eval()
    # transformers unpacks matrices as they are used, in the type of the scales: here in float32, and with zeros, which
    # the library's own way in (up to 0.12.2 at least) refuses.
    numbers = {}
    for name, module in model.named_modules():
        if getattr(module, "quantization_scheme", None) is not None:
            data, args = module.state_dict(), module.quantization_scheme.weights
            shape, scale, zero = torch.Size(data["weight_shape"]), data["weight_scale"].float(), None
            codes = unpack_from_int32(data["weight_packed"], args.num_bits, shape)
            if not args.symmetric:
                zeros = torch.Size([shape[0], scale.shape[1]])
                zero = unpack_from_int32(data["weight_zero_point"], args.num_bits, zeros, packed_dim=0)
            numbers[f"{name}.weight"] = dequantize(codes, scale, zero, dtype=torch.float32).float()
    plain = AutoConfig.from_pretrained(directory)
    del plain.quantization_config
    whole = AutoModelForCausalLM.from_config(plain, torch_dtype=torch.float32).eval()
    state = {k: v for k, v in model.state_dict().items() if not any(part in k for part in ("weight_packed", "weight_scale", "weight_shape", "weight_zero_point"))}
    missing, unexpected = whole.load_state_dict(state | numbers, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model, whole, numbers


def same_nll(model, directory, binary, text):
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    ids = tokenizer(Path(text).read_text())["input_ids"][:257]
    logits = model(torch.tensor([ids[:-1]])).logits[0].double()
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:])).item()
    found = infer(binary, "perplexity", "-m", directory, "--file", text, "--ctx", 256, "-n", 256)
    print(f"mean NLL over {found['tokens']} tokens: transformers {nll:.6f}, infer {found['mean_nll']:.6f} ({found['format']})")
    assert found["tokens"] == len(ids) - 1 and abs(nll - found["mean_nll"]) < 1e-3, "they differ"


def transformers(directory, binary, text):
    packed, model, numbers = load(directory)
    print(f"{len(numbers)} matrices unpacked by compressed-tensors")
    same_nll(model, directory, binary, text)
    if "weight_zero_point" in "".join(packed.state_dict()):
        return
    same_nll(packed, directory, binary, text)


def loaded(directory, binary, text):
    import compressed_tensors
    import torch
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig, __version__

    torch.set_grad_enabled(False)
    how = CompressedTensorsConfig(run_compressed=False)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, quantization_config=how).eval()
    print(f"transformers {__version__}, compressed-tensors {compressed_tensors.__version__}")
    same_nll(model, directory, binary, text)


def gptq(directory, model):
    """Every matrix as auto-gptq's own layer multiplies with it; the error must be the one that the card tells."""
    import torch
    from formats import alone
    from safetensors import safe_open

    module = alone("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py", "qlinear")
    settings = json.loads((Path(directory) / "config.json").read_text())["quantization_config"]
    off = power = count = 0
    with safe_open(Path(directory) / "model.safetensors", "pt") as packed, safe_open(Path(model) / "model.safetensors", "pt") as file:
        for key in packed.keys():
            if not key.endswith(".qweight"):
                continue
            stem = key.removesuffix(".qweight")
            weight = file.get_tensor(f"{stem}.weight").float()
            rows, cols = weight.shape
            layer = module.QuantLinear(settings["bits"], settings["group_size"], cols, rows, bias=False, weight_dtype=torch.float16)
            for part in ("qweight", "qzeros", "scales", "g_idx"):
                buffer, tensor = getattr(layer, part), packed.get_tensor(f"{stem}.{part}")
                assert (buffer.shape, buffer.dtype) == (tensor.shape, tensor.dtype), (stem, part, buffer.shape, tensor.shape)
                buffer.copy_(tensor)
            layer.autogptq_cuda_available = False
            numbers = layer(torch.eye(cols).half()).T.float()
            off += ((numbers - weight) ** 2).double().sum().item()
            power += (weight**2).double().sum().item()
            count += 1
    print(f"{count} matrices, relative squared error {off / power:.4e}")
    print(next(line for line in (Path(directory) / "README.md").read_text().splitlines() if line.startswith("| all")))


def turned(numbers, head_dim):
    """Rows of queries and keys in a GGUF file's order."""
    rows, cols = numbers.shape[0], numbers.shape[1:]
    return numbers.reshape(rows // head_dim, 2, head_dim // 2, *cols).swapaxes(1, 2).reshape(rows, *cols)


def blocks(path, model):
    import gguf
    import numpy as np
    from safetensors import safe_open

    config = json.loads((Path(model) / "config.json").read_text())
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    kind = next(arch_ for arch_, text in gguf.MODEL_ARCH_NAMES.items() if text == arch)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    stored = {tensor.name: tensor for tensor in reader.tensors}
    sums = {}
    with safe_open(Path(model) / "model.safetensors", "pt") as file:
        for key in file.keys():
            name = names.get_name(key, (".weight", ".bias"))
            tensor = stored.pop(name)
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            expected = file.get_tensor(key).float().numpy()
            if arch == "llama" and ("q_proj" in key or "k_proj" in key):
                expected = turned(expected, head_dim)
            assert found.shape == expected.shape, (key, found.shape, expected.shape)
            off, power = ((found - expected) ** 2).sum(dtype=np.float64), (expected**2).sum(dtype=np.float64)
            a, b, n = sums.get(tensor.tensor_type.name, (0, 0, 0))
            sums[tensor.tensor_type.name] = (a + off, b + power, n + 1)
    assert set(stored) <= {"rope_freqs.weight"}, f"not in the model: {list(stored)}"
    for name, (off, power, n) in sums.items():
        print(f"{name}: {n} tensors, relative squared error {off / power:.4e}")


PROMPTS = ["The capital of France is", "Once upon a time, there was a", "def fibonacci(n):\n", "1, 2, 3, 4, 5,"]


def llama(path, binary, tokens=32):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 512
    params.n_gpu_layers = 0
    params.warmup = False
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    for prompt in PROMPTS:
        ask = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "top_k": 1, "logprobs": 5}
        there = server.handle_completions(ask)
        there = there if isinstance(there, dict) else json.loads(there)
        theirs = there["choices"][0]["logprobs"]["content"]
        # A file of floats would be packed to 4 bits if nothing else is said.
        bits = "16" if "f16" in Path(path).name else "file"
        here = infer(binary, "-m", path, "-b", bits, "--raw", "--temp", 0, "-n", tokens, "--ctx", 512, prompt)
        pairs = list(zip([token["id"] for token in theirs], here["tokens"]))
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
        print(f"{prompt!r}: the same {same} of {len(pairs)} tokens")
        if same < len(pairs):
            # llama.cpp multiplies in 8 bits; where it is nearly undecided, that decides.
            chances = {other["id"]: other["logprob"] for other in theirs[same]["top_logprobs"]}
            ours = chances.get(here["tokens"][same])
            margin = "not among its first five" if ours is None else f"less likely by {theirs[same]['logprob'] - ours:.3f}"
            print(f"  then infer's token is, to llama.cpp, {margin} (ln p)")


def short(values):
    return [float(f"{v:.8g}") for v in values]


def reference():
    """Logits of a small model that `infer quantize` wrote, as compressed-tensors and transformers read it."""
    import torch

    binary = ROOT / "target" / "release" / "infer"
    content = {}
    for name, model, options in [
        ("symmetric", "llama-linear-bias", ["--symmetric"]),
        ("zeros", "llama-gqa-llama3", []),
        ("eight", "qwen3", ["-b", "8"]),
    ]:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory) / "model"
            shutil.copytree(TINY / model, source)
            for file in ["tokenizer.json", "tokenizer_config.json"]:
                shutil.copy(TINY / "llama" / file, source / file)
            out = Path(directory) / "out"
            infer(binary, "quantize", "-m", source, *options, "-o", out)
            _, whole, numbers = load(out)
            ids = torch.randint(3, 131, (32,), generator=torch.Generator().manual_seed(9)).tolist()
            logits = whole(torch.tensor([ids])).logits[0]
            positions = [0, 7, 31]
            content[name] = {
                "model": model, "options": options, "matrices": len(numbers), "ids": ids, "positions": positions,
                "logits": [short(logits[p].tolist()) for p in positions],
            }
            print(f"{name}: {len(numbers)} matrices, logits' deviation {logits.std():.2f}")
    lines = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in content.items()]
    (ROOT / "tests" / "data" / "quantized.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    commands = {"transformers": transformers, "loaded": loaded, "blocks": blocks, "gptq": gptq, "llama": llama, "reference": reference}
    commands[sys.argv[1]](*sys.argv[2:])
