"""Logits and greedy continuations of the real teacher, by transformers from its GGUF dequantised to f32.

Run once (tests/golden/README.md): teacher_logits.py TEACHER.gguf. The output is committed as
tests/data/model/smollm2_teacher/golden.safetensors. For prompt I = 0 … 19 (tests/golden/teacher_prompts.py; its tokens
are stored, so tokenizers do not matter here):

  prompt.I (T) int32         positions.I (8) int32: 0, the last, and six spread between (fewer when T < 8)
  fixed_ids (64) int32       fixed_logits.I (positions, 64)
  top_ids.I (positions, 16) int32, top_logits.I (positions, 16): the largest, in falling order
  log_sum_exp.I (positions)  over the whole vocabulary
  continuation.I (64) int32  greedy, past any end-of-text token
  margin.I (64)              largest minus second largest logit at each step: a tie is seen here

Metadata "golden": a JSON object with the GGUF's SHA-256, versions, prompt names, and the largest difference between
transformers' f32 and f64 logits, which is what f32 rounding alone does.
"""

import argparse
import hashlib
import json
import pathlib
import platform

import torch
import transformers
from models import double_precision
from safetensors.torch import save_file
from teacher_prompts import PROMPTS
from transformers import AutoModelForCausalLM, AutoTokenizer

CONTINUATION = 64
TOP = 16


def load(path):
    folder, name = str(path.resolve().parent), path.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    return tokenizer, model


def prompt_tokens(tokenizer):
    for name, text, keep in PROMPTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if keep is not None:
            assert len(ids) >= keep, (name, len(ids))
        yield name, torch.tensor(ids[:keep])


def greedy(model, ids):
    tokens, margins, cache, feed = [], [], None, ids[None]
    for _ in range(CONTINUATION):
        output = model(input_ids=feed, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        values, indices = output.logits[0, -1].topk(2)
        tokens.append(indices[0].item())
        margins.append((values[0] - values[1]).item())
        feed = indices[:1][None]
    return tokens, margins


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path)
    data = pathlib.Path(__file__).parents[1] / "data"
    parser.add_argument("--out", type=pathlib.Path, default=data / "model" / "smollm2_teacher")
    arguments = parser.parse_args()
    tokenizer, model = load(arguments.gguf)
    vocab = model.config.vocab_size

    fixed = (torch.arange(64) * (vocab // 64) + 11 * torch.arange(64) % 97) % vocab
    golden = {"fixed_ids": fixed.int()}
    names, logits = [], []
    for i, (name, ids) in enumerate(prompt_tokens(tokenizer)):
        names.append(name)
        positions = torch.linspace(0, len(ids) - 1, min(8, len(ids))).round().long()
        rows = model(input_ids=ids[None]).logits[0]
        logits.append(rows)
        picked = rows[positions]
        top = picked.topk(TOP)
        tokens, margins = greedy(model, ids)
        golden |= {
            f"prompt.{i}": ids.int(),
            f"positions.{i}": positions.int(),
            f"fixed_logits.{i}": picked[:, fixed].contiguous(),
            f"top_ids.{i}": top.indices.int().contiguous(),
            f"top_logits.{i}": top.values.contiguous(),
            f"log_sum_exp.{i}": picked.double().logsumexp(-1).float(),
            f"continuation.{i}": torch.tensor(tokens).int(),
            f"margin.{i}": torch.tensor(margins),
        }
        print(f"{i:2} {name:16} {len(ids):3} tokens, least margin {min(margins):.4f}: {tokenizer.decode(tokens[:12])!r}")

    model = double_precision(model)
    difference = 0.0
    for i, rows in enumerate(logits):
        exact = model(input_ids=golden[f"prompt.{i}"].long()[None]).logits[0]
        difference = max(difference, (exact - rows).abs().max().item())
    print("largest f32 − f64:", difference)

    metadata = {
        "script": "tests/golden/teacher_logits.py",
        "gguf": arguments.gguf.name,
        "gguf_sha256": hashlib.sha256(arguments.gguf.read_bytes()).hexdigest(),
        "prompts": names,
        "vocab_size": vocab,
        "f32_f64_logit_difference": difference,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "golden.safetensors"
    save_file(golden, path, metadata={"golden": json.dumps(metadata)})
    path.chmod(0o644)
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
