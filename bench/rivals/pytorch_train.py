"""PyTorch and transformers training SmolLM2's shape (random weights) with AdamW: tokens/s and peak memory.

Each setting runs in a process of its own, so that its peak memory is its own; --settings all tries those that could be
best on this machine and names the best. One JSON line a setting. Sequences are full length, which favours PyTorch
(no packing); the loss is transformers' own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

SHAPES = {
    # SmolLM2-135M
    "135m": dict(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rms_norm_eps=1e-5, max_position_embeddings=8192,
    ),
    # 24.8M with embeddings
    "25m": dict(
        vocab_size=49152, hidden_size=288, intermediate_size=768, num_hidden_layers=12, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, rms_norm_eps=1e-5, max_position_embeddings=8192,
    ),
    "tiny": dict(  # to try the script itself
        vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-5, max_position_embeddings=2048,
    ),
}  # fmt: skip

# name: attention, compiled, bf16 autocast
SETTINGS = {
    "sdpa": ("sdpa", False, False),
    "eager": ("eager", False, False),
    "sdpa-compile": ("sdpa", True, False),
    "sdpa-bf16": ("sdpa", False, True),
    "sdpa-compile-bf16": ("sdpa", True, True),
}


def bf16_hardware():
    with open("/proc/cpuinfo") as file:
        return "avx512_bf16" in file.read()


def train(a):
    import torch
    import transformers

    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    attention, compiled, bf16 = SETTINGS[a.settings]
    config = transformers.LlamaConfig(**SHAPES[a.shape])
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    model.train()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    forward = torch.compile(model) if compiled else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        ids = torch.randint(0, config.vocab_size, (a.batch, a.length))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.item()

    for _ in range(a.warmup):
        step()
    times, begin = [], time.perf_counter()
    while len(times) < a.steps and (not times or time.perf_counter() - begin < a.seconds):
        start = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - start)
    tokens = a.batch * a.length
    print(
        json.dumps(
            {
                "rival": "pytorch",
                "setting": a.settings,
                "shape": a.shape,
                "parameters": parameters,
                "batch": f"{a.batch}x{a.length}",
                "threads": a.threads,
                "steps": len(times),
                "tok_s": round(tokens * len(times) / sum(times), 1),
                "best_step_tok_s": round(tokens / min(times), 1),
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "loss": round(loss, 4),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        ),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--settings", choices=["all", *SETTINGS], default="all")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=90, help="no further step of a setting starts after this")
    a = parser.parse_args()
    if a.settings != "all":
        train(a)
        return
    results = []
    for setting, (_, _, bf16) in SETTINGS.items():
        if bf16 and not bf16_hardware():
            continue  # emulated: 25 times slower than f32
        command = [sys.executable, __file__, "--settings", setting, "--shape", a.shape]
        for name in ("batch", "length", "threads", "warmup", "steps", "seconds"):
            command += [f"--{name}", str(getattr(a, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            print(done.stdout, end="", flush=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
        else:  # torch.compile without a C++ compiler, for one
            print(json.dumps({"rival": "pytorch", "setting": setting, "failed": done.returncode}), flush=True)
    if not results:
        raise SystemExit("no setting ran")
    best = max(results, key=lambda result: result["tok_s"])
    print(json.dumps(best | {"rival": "pytorch best"}))


if __name__ == "__main__":
    main()
