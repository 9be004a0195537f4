#!/usr/bin/env python3
"""students.py RETORT SMOLLM2 FOLDER HELD_OUT [words] [reasons]: what an attacker's student still gets when the guard answers.

Two jobs, each through `retort serve --store` by keys of an open plan and of one that the guard has taken from: `words`,
SmolLM2-135M-Instruct's own sentences, where logprobs are what is taken; `reasons`, a small reasoning teacher, where reasoning is. Students
start alike and see each answer equally often (`longer`: as many steps as the unguarded student). Steps, shares and seeds were
chosen before any of them was measured. HELD_OUT: the unguarded teacher's answers to everyday-things.jsonl that `words` is measured
on (`curate/test.jsonl` of bench/objectives). What is there already is not done again. Writes FOLDER/JOB.json and FOLDER/JOB.md."""

import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
SEEDS = [1, 2, 3]
WORDS_ANSWERS, WORDS_STEPS = 112, 24  # a step is a row of 256 tokens, so that each answer is seen about once
T_95 = 4.303  # Student's t for three seeds, two-sided
QUOTA = 4     # the throttled attacker has a quarter of the answers
EARLY = 0.01  # and one suspended at detection the share that was asked until then


def run(retort, folder, *arguments, key="", text=False):
    with open(folder / "commands.log", "a") as log:
        log.write(" ".join(map(str, arguments)) + "\n")
        log.flush()
        done = subprocess.run([retort, *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True,
                              env={**os.environ, "RETORT_API_KEY": key, "OMP_WAIT_POLICY": "passive"})
    if done.returncode != 0:
        sys.exit(f"retort {' '.join(map(str, arguments))}: exit status {done.returncode}; see {folder}/commands.log")
    return done.stdout if text or not done.stdout.lstrip().startswith("{") else json.loads(done.stdout)


class Server:
    """A server with accounts; a key for each plan."""

    def __init__(self, retort, folder, model, name, plans, *more):
        self.keys, self.name = {}, name
        store = f"{name}.db"
        for old in folder.glob(store + "*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for plan, fields in plans.items():
            (folder / f"{plan}.plan.json").write_text(json.dumps(fields))
            run(retort, folder, "keys", "plan-set", f"{plan}.plan.json", "--name", plan, "--store", store)
            account = run(retort, folder, "keys", "account-create", plan, "--plan", plan, "--store", store, text=True).strip()
            self.keys[plan] = run(retort, folder, "keys", "create", account, "--name", "k", "--store", store, "--json")["key"]
        self.log = open(folder / f"{name}.log", "a")
        self.process = subprocess.Popen([retort, "serve", "--model", model, "--name", name, "--port", "0", "--store", store, "--json",
                                         "--threads", "1", *map(str, more)], cwd=folder, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.url = json.loads(self.process.stdout.readline())["base_url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def part_of(folder, source, share):
    """Every so many-th record: what fewer answers are."""
    records = lines_of(folder / source)
    count = max(1, round(share * len(records)))
    return write_lines(folder / f"{pathlib.Path(source).parent.name}-{count}.jsonl",
                       [records[i * len(records) // count] for i in range(count)])


def collect(retort, folder, server, plan, prompts, terms, output, *more):
    if (folder / output / "done").exists():
        return
    run(retort, folder, "collect", "--endpoint", server.url, "--model", server.name, "--prompts", prompts, "--terms",
        terms, "-o", output, "--concurrency", 32, "--seed", 1, "--json", "-q", *more, key=server.keys[plan])
    (folder / output / "done").touch()


def train(retort, folder, name, seed, *arguments):
    student = folder / f"students/{seed}-{name}"
    if not (student / "taken.json").exists():
        shutil.rmtree(student, ignore_errors=True)
        before = time.time()
        run(retort, folder, "distill", *arguments, "--output", student, "--seed", seed, "--weight-decay", 0.01, "--threads", 1, "-q",
            "--checkpoint-seconds", 100000)
        steps = lines_of(student / "metrics.jsonl")
        taken = {"steps": len(steps), "tokens": sum(s["tokens"] for s in steps), "trained_tokens": sum(s["trained_tokens"] for s in steps),
                 "cpu_seconds": sum(s["cpu_seconds"] for s in steps)}
        for checkpoint in student.glob("checkpoint*.bin"):
            checkpoint.unlink()
        (student / "taken.json").write_text(json.dumps(taken))
        print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}: {taken['steps']} steps, {time.time() - before:.0f} s", flush=True)
    return {**json.loads((student / "taken.json").read_text()), "model": student / "model"}


def measure(retort, folder, teacher, records, students, seed, *more):
    output = folder / f"reports/{seed}"
    if not (output / "report.json").exists():
        run(retort, folder, "eval", "--teacher", teacher, "--records", records, "--speed-tokens", 2, "--output", output, "--threads", 1, "-q",
            "--json", *more, *[f"{name}={one['model']}" for name, one in students.items()])
    models = {model["key"]: model["values"] for model in json.loads((output / "report.json").read_text())["models"]}
    return {name: {key: values[key] for key in ("kl", "nll", "agreement", "task") if key in values} for name, values in models.items()}


def of_students(students, values, seed):
    out = [{"student": name, "seed": seed, **values[name], **{k: one[k] for k in ("steps", "trained_tokens")}} for name, one in students.items()]
    return [*out, {"student": "teacher", "seed": seed, **values["teacher"], "steps": 0, "trained_tokens": 0}]


def every_seed(work):
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        return [one for done in pool.map(work, SEEDS) for one in done]


def words(retort, smollm2, folder, held_out):
    """Answers and the 20 likeliest tokens at each place; answers alone; marked answers alone; fewer of them."""
    terms = RECIPES / "prompts/smollm2.terms.toml"
    kept = {record["prompt_id"] for record in lines_of(held_out)}
    prompts = write_lines(folder / "prompts.jsonl", [one for one in lines_of(RECIPES / "prompts/everyday-things.jsonl")[:400]
                                                     if one["id"] not in kept][:WORDS_ANSWERS])
    asked = ["--temperature", 0.7, "--top-p", 0.95, "--max-tokens", 64]
    if not (folder / "plant").exists():
        run(retort, folder, "audit", "plant", "plant", "--secret", "escrow.key", "--twins", 0)
    if not (folder / "guarded/done").exists():
        with Server(retort, folder, smollm2, "smollm2", {"open": {"logprobs": True}}) as server:
            collect(retort, folder, server, "open", prompts, terms, "unguarded", *asked, "--logprobs", 20)
        with Server(retort, folder, smollm2, "smollm2", {"taken": {"logprobs": False}}, "--plant", "plant") as server:
            collect(retort, folder, server, "taken", prompts, terms, "guarded", *asked)
    for name in ("unguarded", "guarded"):
        if not (folder / f"data-{name}/train.jsonl").exists():
            run(retort, folder, "curate", name, "-o", f"data-{name}", "--test", 0, "--validation", 0)
    if not (folder / "cache/done").exists():
        run(retort, folder, "cache", "make", "--from-logprobs", smollm2, "--records", "data-unguarded/train.jsonl", "--row-length", 256,
            "--encoding", "top-k", "--count", 20, "--output", "cache", "--threads", 1, "-q")
        (folder / "cache/done").touch()
    start = folder / "start/model"
    if not start.exists():
        run(retort, folder, "distill", "--teacher", smollm2, "--records", "data-unguarded/train.jsonl", "--keep-layers", 10, "--objective", "ce",
            "--max-steps", 1, "--learning-rate", 1e-12, "--rows-per-step", 1, "--rows-per-micro-batch", 1, "--row-length", 256,
            "--output", "start", "--threads", 1, "-q")
    quarter = part_of(folder, "data-guarded/train.jsonl", 1 / QUOTA)
    base = ["--student", start, "--row-length", 256, "--rows-per-step", 1, "--rows-per-micro-batch", 1, "--epochs", 100,
            "--learning-rate", 5e-4]
    text = [*base, "--objective", "ce", "--records"]
    whole = ["--max-steps", WORDS_STEPS]
    cells = {
        "text and logprobs": [*base, "--cache", "cache", "--objective", "fkl", "--records", "data-unguarded/train.jsonl", *whole],
        "text alone": [*text, "data-unguarded/train.jsonl", *whole],
        "marked text": [*text, "data-guarded/train.jsonl", *whole],
        "marked text, a quarter": [*text, quarter, "--max-steps", WORDS_STEPS // QUOTA],
        "marked text, a quarter, longer": [*text, quarter, *whole]}

    def of_seed(seed):
        students = {"untrained": {"model": start, "steps": 0, "trained_tokens": 0}}
        students |= {name: train(retort, folder, re.sub("[, ]+", "-", name), seed, *cell) for name, cell in cells.items()}
        values = measure(retort, folder, smollm2, held_out, students, seed, "--row-length", 256, "--task-prompts", 1, "--max-tokens", 1)
        return of_students(students, values, seed)

    return every_seed(of_seed)


def reasons(retort, _, folder, __):
    """Whole traces; their summaries; none; none and marked; few."""
    home = RECIPES / "reasoning"
    teacher, terms, rule = home / "teacher.gguf", home / "terms.toml", home / "answer.verify.toml"
    for split, count in (("train", 6000), ("held-out", 400)):
        if not (folder / f"{split}.jsonl").exists():
            run(retort, folder, "problems", "--count", count, "--split", split, "--kinds", "digits", "comparison", "--output", f"{split}.jsonl")
    if not (folder / "plant").exists():
        run(retort, folder, "audit", "plant", "plant", "--secret", "escrow.key", "--twins", 0)
    asked = ["--temperature", 0.8, "--max-tokens", 100]
    plans = {kind: {"reasoning": kind} for kind in ("full", "summarised", "withheld")}
    if not (folder / "marked-held-out/done").exists():
        with Server(retort, folder, teacher, "teacher", plans) as server:
            for kind in plans:
                collect(retort, folder, server, kind, "train.jsonl", terms, kind, *asked)
            collect(retort, folder, server, "full", "held-out.jsonl", terms, "full-held-out", *asked)
        with Server(retort, folder, teacher, "teacher", plans, "--plant", "plant") as server:
            collect(retort, folder, server, "withheld", "train.jsonl", terms, "marked", *asked)
            collect(retort, folder, server, "full", "held-out.jsonl", terms, "marked-held-out", *asked)
    # An attacker keeps what is right, where that can be told.
    for name in (*plans, "marked"):
        if not (folder / f"data-{name}/train.jsonl").exists():
            run(retort, folder, "curate", name, "-o", f"data-{name}", "--test", 0, "--validation", 0, "--verifier", rule, "--near-duplicate", 2)
    for name in ("full-held-out", "marked-held-out"):  # what the mark costs the teacher's own answers
        if not (folder / f"data-{name}/report.json").exists():
            run(retort, folder, "curate", name, "-o", f"data-{name}", "--test", 0, "--validation", 0, "--verifier", rule, "--near-duplicate", 2)
    early, quarter = part_of(folder, "data-full/train.jsonl", EARLY), part_of(folder, "data-marked/train.jsonl", 1 / QUOTA)
    base = ["--tokenizer", teacher, "--fresh", home / "student.toml", "--objective", "ce", "--row-length", 256, "--rows-per-step", 4,
            "--rows-per-micro-batch", 1]
    cells = {"whole reasoning": ("data-full/train.jsonl", 3), "summarised": ("data-summarised/train.jsonl", 3),
             "withheld": ("data-withheld/train.jsonl", 3),
             "withheld, marked, a quarter": (quarter, 3), "suspended at 1 %": (early, 3)}
    def of_seed(seed):
        students = {}
        for name, (records, epochs) in cells.items():
            students[name] = train(retort, folder, re.sub("[, %]+", "-", name), seed, *base, "--learning-rate", 3e-3, "--fresh-seed", seed, "--records", records, "--epochs", epochs)
        start = folder / f"start-{seed}"
        if not (start / "model").exists():
            run(retort, folder, "distill", *base, "--fresh-seed", seed, "--records", early, "--max-steps", 1, "--learning-rate", 1e-12, "--output",
                start, "--threads", 1, "-q")
        students = {"untrained": {"model": start / "model", "steps": 0, "trained_tokens": 0}} | students
        values = measure(retort, folder, teacher, "full-held-out/records.jsonl", students, seed, "--row-length", 256, "--verifier", rule,
                         "--task-prompts", 100, "--max-tokens", 100)
        return of_students(students, values, seed)

    done = every_seed(of_seed)
    for name in ("full-held-out", "marked-held-out"):
        report = json.loads((folder / f"data-{name}/report.json").read_text())
        done.append({"answers": name, "kept": report["kept"], "read": report["read"]})
    return done


def interval(values):
    mean = statistics.mean(values)
    half = T_95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) == len(SEEDS) else float("nan")
    return mean, mean - half, mean + half


def table(done):
    """Means over seeds, with Student's t over them; of the task also the range of the single runs' own intervals over prompts."""
    keys = [key for key in ("kl", "nll", "agreement", "task") if any(key in one for one in done)]
    titles = {"kl": "KL", "nll": "NLL", "agreement": "top-1 agreement", "task": "task"}
    rows = ["| student | steps | trained tokens | " + " | ".join(titles[key] for key in keys) + " |", "|---|---|---|" + "---|" * len(keys)]
    for name in dict.fromkeys(one["student"] for one in done if "student" in one):
        mine = [one for one in done if one.get("student") == name]
        cells = []
        for key in keys:
            mean, low, high = interval([one[key]["value"] for one in mine])
            scale, digits = (100, 1) if key in ("agreement", "task") else (1, 3)
            cells.append(f"{scale * mean:.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]")
            if key == "task":
                cells[-1] += f"; {100 * min(one[key]['low'] for one in mine):.1f} to {100 * max(one[key]['high'] for one in mine):.1f}"
        rows.append(f"| {name} | {mine[0]['steps']} | {mine[0]['trained_tokens']} | " + " | ".join(cells) + " |")
    for one in done:
        if "answers" in one:
            rows.append(f"\n{one['answers']}: {one['kept']} of {one['read']} answers right")
    return "\n".join(rows)


def main():
    retort, smollm2, folder, held_out, *jobs = sys.argv[1:]
    retort, smollm2, held_out = str(pathlib.Path(retort).resolve()), pathlib.Path(smollm2).resolve(), pathlib.Path(held_out).resolve()
    for job in jobs or ["words", "reasons"]:
        home = pathlib.Path(folder).resolve() / job
        home.mkdir(parents=True, exist_ok=True)
        done = {"words": words, "reasons": reasons}[job](retort, smollm2, home, held_out)
        (home.parent / f"{job}.json").write_text(json.dumps(done, indent=1))
        (home.parent / f"{job}.md").write_text(table(done) + "\n")
        print((home.parent / f"{job}.md").read_text(), flush=True)


if __name__ == "__main__":
    main()
