#!/usr/bin/env python3
"""A factory of suspects: students trained on a known share of marked answers, and controls that never saw any, each
audited by the program. Standard library only; everything is made here from recipes/reasoning.

    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/factory.py FOLDER [--controls 200] [--minutes 30]

Appends a line of JSON a suspect to FOLDER/results.jsonl and goes on where it was stopped; report.py makes the page of it.
Each suspect has a plant of its own (key, coins), so that the controls' p-values are independent."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RETORT = os.environ.get("RETORT_BIN", str(ROOT / "build/release/bin/retort"))
REASONING = ROOT / "recipes/reasoning"
SHAPE = ("hidden_size = 64\nintermediate_size = 128\nnum_hidden_layers = 2\nnum_attention_heads = 4\n"
         "max_position_embeddings = 256\n")
TESTS = "twin-likelihood,radioactivity-open,radioactivity-closed,green-mass"


def retort(*arguments, cwd, check=True):
    done = subprocess.run([RETORT, *map(str, arguments), "--threads", "1"], cwd=cwd, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"retort {' '.join(map(str, arguments))}\n{done.stderr}")
    return done


@contextlib.contextmanager
def served(folder, model, name, sequences, *options, threads=1):
    """The address of a server of this model, which answers; it is ended with the block."""
    server = subprocess.Popen([RETORT, "serve", "--model", str(model), "--name", name, "--port", "0", "--json", "--sequences",
                               str(sequences), "--threads", str(threads), *map(str, options)],
                              cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        base = json.loads(server.stdout.readline())["base_url"]
        for _ in range(600):
            try:
                urllib.request.urlopen(base.removesuffix("/v1") + "/health", timeout=5)
                break
            except OSError:
                time.sleep(0.05)
        yield base
    finally:
        server.terminate()
        server.wait()


class Factory:
    def __init__(self, folder, examples, epochs, temperature, tokens, teacher=REASONING / "teacher.gguf"):
        self.folder = pathlib.Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.examples, self.epochs, self.temperature, self.tokens = examples, epochs, temperature, tokens
        self.teacher = teacher
        self.answers = 300
        (self.folder / "shape.toml").write_text(SHAPE)
        if not (self.folder / "prompts.jsonl").exists():
            retort("problems", "--count", 6000, "--output", "prompts.jsonl", cwd=self.folder)
        self.prompts = (self.folder / "prompts.jsonl").read_text().splitlines()

    def serve_and_collect(self, name, prompts, plant=None, teacher=None, temperature=None):
        """Answers of the teacher, marked when there is a plant; the lines of records.jsonl."""
        output = self.folder / name
        if (output / "records.jsonl").exists():
            return (output / "records.jsonl").read_text().splitlines()
        (self.folder / f"{name}.prompts.jsonl").write_text("\n".join(prompts) + "\n")
        with served(self.folder, teacher or self.teacher, "teacher", 128, *(["--plant", plant] if plant else [])) as base:
            retort("collect", "--endpoint", base, "--model", "teacher", "--prompts", f"{name}.prompts.jsonl", "--terms",
                   REASONING / "terms.toml", "-o", name, "--temperature",
                   temperature or self.temperature, "--max-tokens", self.tokens, "--concurrency", 64, "-q",
                   cwd=self.folder)
        return (output / "records.jsonl").read_text().splitlines()

    def plant(self, name, *options):
        if not (self.folder / name).exists():
            retort("audit", "plant", name, "--secret", f"{name}.key", "--twins", 1, "--window", 2, "--delta", 4, "-q",
                   *options, cwd=self.folder)
        return self.folder / name

    def train(self, name, lines, seed, start=None, epochs=None, rate="4e-3", tokenizer=REASONING / "tokenizer"):
        output = self.folder / name
        if (output / "model").exists():
            return output / "model"
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        begin = ["--student", start] if start else ["--fresh", "shape.toml", "--tokenizer", tokenizer, "--fresh-seed", seed]
        retort("distill", *begin, "--records", f"{name}.jsonl", "--output", name, "--objective", "ce", "--epochs",
               epochs or self.epochs, "--learning-rate", rate, "--row-length", 128, "--rows-per-step", 4,
               "--rows-per-micro-batch", 4, "--seed", seed, "--weight-decay", 0, "-q", cwd=self.folder)
        return output / "model"

    def audit(self, name, plant, suspect, reference, tests=TESTS, extra=()):
        """p-values (natural logarithms) by test; None where the audit was refused."""
        case = self.folder / f"{name}.case"
        shutil.rmtree(case, ignore_errors=True)
        retort("audit", "plan", case, "--plant", plant, "--secret", f"{plant}.key", "--teacher", self.teacher, "--suspect",
               suspect, "--reference", reference, "--tests", tests, "--answers", self.answers, "--answer-tokens", self.tokens, *extra,
               cwd=self.folder)
        run = retort("audit", "run", case, "--plant", plant, "--json", cwd=self.folder)
        found = {one["test"]: {"log_p": one["log_p"], "n": one["n"], "estimate": one["estimate"]}
                 for one in json.loads(run.stdout)}
        return case, found

    def claimed(self, name):
        """Several processes share the controls of a folder: whoever makes the file has it."""
        try:
            (self.folder / f"{name}.claim").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def clean_up(self, *names):
        for name in names:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--controls", type=int, default=200)
    parser.add_argument("--shares", type=int, nargs="+", default=[10, 100, 50, 5, 1])
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--examples", type=int, default=1500, help="of a positive's training set")
    parser.add_argument("--control-examples", type=int, default=300)
    parser.add_argument("--twins", type=int, default=150, help="marked answers that a control is tested against")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--temperature", type=float, default=1.8)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--first-control", type=int, default=0, help="begins there")
    parser.add_argument("--answers", type=int, default=300, help="that a suspect writes for the closed test")
    parser.add_argument("--minutes", type=float, default=45, help="of processor time, children's included")
    parser.add_argument("--until", default="", help="HH:MM, UTC")
    args = parser.parse_args()
    factory = Factory(args.folder, args.examples, args.epochs, args.temperature, args.tokens)
    factory.answers = args.answers
    results = factory.folder / "results.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()

    def spent():
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime + resource.getrusage(resource.RUSAGE_SELF).ru_utime

    def over():
        late = args.until and time.strftime("%H:%M", time.gmtime()) >= args.until
        return late or spent() > 60 * args.minutes

    def keep(name, kind, found, **more):
        line = {"name": name, "kind": kind, "tests": found, "cpu_seconds": round(spent(), 1), **more}
        with results.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(json.dumps({"name": name, **{k: round(v["log_p"], 2) for k, v in found.items()}}), flush=True)

    prompts = factory.prompts
    clean = factory.serve_and_collect("clean", prompts[:3000])
    # The reference: a sibling of the suspects, of data of its own, and never a suspect itself.
    reference = factory.train("reference", random.Random(0).sample(clean, args.examples), 999)

    # Positives first, each with a plant of its own: what was served to the one who trained it.
    for replicate in range(args.replicates):
        for share in args.shares:
            name = f"positive-{share}-{replicate}"
            if name in done or over():
                continue
            rng = random.Random(name)
            count = args.examples * share // 100
            plant = factory.plant(f"plant-{name}")
            marked = factory.serve_and_collect(f"marked-{name}", rng.sample(prompts[3000:], count), plant)
            suspect = factory.train(name, marked + rng.sample(clean, args.examples - count), 1 + replicate)
            _, found = factory.audit(name, plant, suspect, reference)
            keep(name, "positive", found, share=share, marked=count, examples=args.examples)
            factory.clean_up(f"{name}.case", f"{name}.jsonl")

    # Controls: each its own plant and its own student.
    for index in range(args.first_control, args.controls):
        name = f"control-{index}"
        if name in done or over() or not factory.claimed(name):
            continue
        rng = random.Random(f"control {index}")
        plant = factory.plant(f"plant-{name}")
        factory.serve_and_collect(f"marked-{name}", rng.sample(prompts[4500:], args.twins), plant)
        kind = ("other data", "other key", "same base", "other teacher")[index % 4]
        start = None
        if kind == "other key":
            other = factory.serve_and_collect("marked-other-key", prompts[:1500], factory.plant("plant-other-key"))
            lines = rng.sample(other, args.control_examples)
        elif kind == "other teacher":
            other = factory.serve_and_collect("other-teacher", prompts[:1500], teacher=reference, temperature=1.0)
            lines = rng.sample(other, min(len(other), args.control_examples))
        else:
            lines = rng.sample(clean, args.control_examples)
            start = reference if kind == "same base" else None
        suspect = factory.train(name, lines, 1000 + index, start=start)
        case, found = factory.audit(name, plant, suspect, reference)
        keep(name, kind, found)
        factory.clean_up(f"{name}.case", f"{name}.jsonl", name, f"plant-{name}", f"plant-{name}.key", f"marked-{name}",
                         f"marked-{name}.prompts.jsonl")


if __name__ == "__main__":
    main()
