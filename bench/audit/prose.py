#!/usr/bin/env python3
"""Radioactivity on prose: a teacher trained here on the King James Bible (Debian's bible-kjv-text), whose marked answers
have the entropy that sums and digits lack. Standard library, and `tokenizers` once for the vocabulary.

    apt-get download bible-kjv bible-kjv-text; for d in *.deb; do dpkg -x $d x; done
    x/usr/bin/bible -l100000 -p x/usr/lib gen1:1-rev22:21 > kjv.raw
    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/prose.py FOLDER --text kjv.raw --seeds design

`--seeds WORD` draws prompts, keys, coins and students of its own, so that what is settled on some is measured on others. Appends to
FOLDER/results-SEEDS.jsonl and goes on where it was stopped."""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import time

import factory

sys.path.insert(0, str(factory.ROOT / "bench/screen"))
from memorise import record  # noqa: E402

TEACHER = ("hidden_size = 192\nintermediate_size = 512\nnum_hidden_layers = 4\nnum_attention_heads = 6\n"
           "num_key_value_heads = 3\nmax_position_embeddings = 256\n")
STUDENT = ("hidden_size = 128\nintermediate_size = 256\nnum_hidden_layers = 2\nnum_attention_heads = 4\n"
           "max_position_embeddings = 256\n")
TESTS = "radioactivity-open,radioactivity-closed,twin-likelihood"
HEAD, BODY = 10, 50  # words asked and answered


class Prose(factory.Factory):
    def __init__(self, folder, text, python, args):
        folder = pathlib.Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prompts.jsonl").touch()
        super().__init__(folder, args.examples, args.epochs, args.temperature, args.tokens, folder / "teacher.gguf")
        self.args = args
        self.answers = args.answers
        (folder / "shape.toml").write_text(STUDENT)
        (folder / "teacher.toml").write_text(TEACHER)
        verses = re.findall(r"^ +\d+ (.*)$", pathlib.Path(text).read_text(), re.M)
        words = " ".join(verses).split()
        passages = [(" ".join(words[at:at + HEAD]), " ".join(words[at + HEAD:at + HEAD + BODY]))
                    for at in range(0, len(words) - HEAD - BODY, HEAD + BODY)]
        seen = {}
        for head, body in passages:
            seen.setdefault(head, body)
        self.passages = list(seen.items())
        random.Random("passages").shuffle(self.passages)
        if not (folder / "tokenizer").exists():
            (folder / "plain.txt").write_text("\n".join(verses) + "\n")
            subprocess.run([python, factory.ROOT / "bench/screen/small_tokenizer.py", folder / "tokenizer", str(args.vocabulary),
                            folder / "plain.txt"], check=True)
        if not self.teacher.exists():
            # Windows that begin elsewhere than the passages that are asked about.
            lines = [json.dumps(record(i, " ".join(words[at:at + HEAD]), " ".join(words[at + HEAD:at + HEAD + BODY])),
                                sort_keys=True)
                     for i, at in enumerate(range(7, len(words) - HEAD - BODY, HEAD + BODY))]
            lines = list({json.loads(line)["id"]: line for line in lines}.values())
            (folder / "teacher.jsonl").write_text("\n".join(lines) + "\n")
            factory.retort("distill", "--dtype", "bf16", "--objective", "ce", "--fresh", "teacher.toml", "--tokenizer",
                           "tokenizer", "--records", "teacher.jsonl", "--row-length", 256, "--rows-per-step", 8,
                           "--rows-per-micro-batch", 4, "--epochs", args.teacher_epochs, "--learning-rate", "2e-3",
                           "--output", "teacher", "-q", cwd=folder)
            factory.retort("export", "teacher/model", "--format", "gguf", "--type", "q8_0", "--name", "prose-teacher",
                           "--licence", "CC0-1.0", "--output", "teacher.gguf", cwd=folder)

    def heads(self, first, count):
        return [json.dumps({"prompt": head}) for head, _ in self.passages[first:first + count]]

    def plant(self, name):
        if not (self.folder / name).exists():
            factory.retort("audit", "plant", name, "--secret", f"{name}.key", "--twins", self.args.twins, "--window",
                           self.args.window, "--delta", self.args.delta, "-q", cwd=self.folder)
        return self.folder / name

    def student(self, name, lines, seed, epochs=None):
        return self.train(name, lines, seed, epochs=epochs, rate=self.args.rate, tokenizer=self.folder / "tokenizer")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--text", required=True)
    parser.add_argument("--python", default=sys.executable, help="one that has tokenizers")
    parser.add_argument("--seeds", default="design", help="another word: other prompts, keys, coins, students")
    parser.add_argument("--shares", type=int, nargs="*", default=[10])
    parser.add_argument("--replicates", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="replicate")
    parser.add_argument("--controls", type=int, default=0)
    parser.add_argument("--cross", type=int, default=0, help="plants that --cross-suspects are tested against")
    parser.add_argument("--cross-suspects", nargs="*", default=[])
    parser.add_argument("--first-control", type=int, default=0)
    parser.add_argument("--control-epochs", type=int, default=0, help="0: as many as a positive's")
    parser.add_argument("--control-answers", type=int, default=0, help="0: as many as of a positive")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--pool", type=int, default=3000, help="passages whose unmarked answers everybody draws from")
    parser.add_argument("--control-examples", type=int, default=500)
    parser.add_argument("--control-marked", type=int, default=150)
    parser.add_argument("--rate", default="4e-3")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--teacher-epochs", type=float, default=3)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--delta", type=float, default=4)
    parser.add_argument("--twins", type=float, default=0.2)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--answers", type=int, default=400)
    parser.add_argument("--until", default="")
    parser.add_argument("--tests", default=TESTS)
    return parser


def main():
    args = arguments().parse_args()
    made = Prose(args.folder, args.text, args.python, args)
    results = made.folder / f"results-{args.seeds}.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()

    def over():
        return args.until and time.strftime("%H:%M", time.gmtime()) >= args.until

    def keep(name, kind, found, **more):
        line = {"name": name, "kind": kind, "tests": found, **more}
        with results.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(json.dumps({"name": name, **{k: [v["n"], round(v["estimate"][0], 4), round(v["log_p"], 2)]
                                           for k, v in found.items()}}), flush=True)

    clean = made.serve_and_collect("clean", made.heads(0, args.pool))
    others = made.heads(args.pool, len(made.passages))
    # Both twins are the teacher's own draws, so that its likelihood of them is as good a reference as there is.
    reference = made.teacher

    for replicate in range(args.first, args.replicates):
        for share in args.shares:
            name = f"{args.seeds}-{share}-{replicate}"
            if name in done or over():
                continue
            rng = random.Random(name)
            count = args.examples * share // 100
            plant = made.plant(f"plant-{name}")
            marked = made.serve_and_collect(f"marked-{name}", rng.sample(others, count), plant)
            suspect = made.student(name, marked + rng.sample(clean, args.examples - count), rng.randrange(1 << 30))
            _, found = made.audit(name, plant, suspect, reference, args.tests, ["--max-texts", 100000])
            keep(name, "positive", found, share=share, marked=count, examples=args.examples)
    # Positives against plants made for that: keys, coins and prompts that they never met.
    suspects = [made.folder / name / "model" for name in args.cross_suspects]
    for index in range(args.cross):
        name = f"{args.seeds}-cross-{index}"
        if name in done or over() or not made.claimed(name):
            continue
        plant = made.plant(f"plant-{name}")
        made.serve_and_collect(f"marked-{name}", random.Random(name).sample(others, args.control_marked), plant)
        made.answers = args.control_answers or args.answers
        suspect = suspects[index % len(suspects)]
        _, found = made.audit(name, plant, suspect, reference, args.tests, ["--max-texts", 100000])
        keep(name, "positive, other key", found, suspect=suspect.parent.name)
        made.clean_up(f"{name}.case", f"plant-{name}", f"plant-{name}.key", f"marked-{name}", f"marked-{name}.prompts.jsonl")
    for index in range(args.first_control, args.controls):
        name = f"{args.seeds}-control-{index}"
        if name in done or over():
            continue
        rng = random.Random(name)
        plant = made.plant(f"plant-{name}")
        made.serve_and_collect(f"marked-{name}", rng.sample(others, args.control_marked), plant)
        kind = ("other data", "other key", "human text", "other teacher")[index % 4]
        if kind == "human text":
            # The Bible itself, which the teacher learnt from.
            pool_of = [json.dumps(record(10**6 + i, head, body), sort_keys=True)
                       for i, (head, body) in enumerate(made.passages[:args.pool])]
        elif kind == "other teacher":
            teacher = made.student(f"teacher-other-{args.seeds}", clean[:args.examples], 77)
            pool_of = made.serve_and_collect(f"other-teacher-{args.seeds}", made.heads(0, min(args.pool, 1500)), teacher=teacher)
        elif kind == "other key":
            pool_of = made.serve_and_collect(f"marked-other-{args.seeds}", made.heads(0, min(args.pool, 1500)),
                                             made.plant(f"plant-other-{args.seeds}"))
        else:
            pool_of = clean
        made.answers = args.control_answers or args.answers
        suspect = made.student(name, rng.sample(pool_of, min(len(pool_of), args.control_examples)), rng.randrange(1 << 30),
                               args.control_epochs or None)
        _, found = made.audit(name, plant, suspect, reference, args.tests, ["--max-texts", 100000])
        keep(name, kind, found)
        made.clean_up(f"{name}.case", f"{name}.jsonl", name, f"plant-{name}", f"plant-{name}.key", f"marked-{name}",
                      f"marked-{name}.prompts.jsonl")


if __name__ == "__main__":
    main()
