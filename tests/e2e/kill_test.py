"""kill -9 at random instants during `retort run`, then the same command: the weights are those of a run that
nothing interrupted, bit for bit, and no answer is asked twice but those in flight. The same for `cache make`, for
`distill` from that cache and for `export`, a fifth as often. Usage: kill_test.py [KILLS [SEED [RECIPE]]]; without a
recipe, a small one with a tiny teacher of random weights is made. With one, the number of threads is the machine's,
the time limit an hour. kill_test.py --cache KILLS [SEED] kills only a cache's two commands, each so often."""

import collections
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import RETORT, clean_environment, make_tiny_model

TERMS = """permitted_by = "the tests"
licence = "Apache-2.0"
allows_training_on_outputs = true
scope = "tests"
date = "2026-01-01"
"""

CONCURRENCY = 16  # the most that any recipe here has in flight
RECIPE = """name = "tiny"
[teacher]
source = "teacher"
[collect]
prompts = ["prompts.txt"]
terms = "terms.toml"
temperature = 1.0
max_tokens = 80
concurrency = 16
[curate]
near_duplicate_similarity = 2
validation_share = 0.1
test_share = 0.2
[student]
keep_layers = 3
layer_choice = "influence"
[distill]
epochs = 4
learning_rate = 1e-3
row_length = 192
rows_per_step = 2
rows_per_micro_batch = 1
checkpoint_steps = 3
[[distill.variant]]
name = "text"
objective = "ce"
[[distill.variant]]
name = "cached"
objective = "fkl"
cache = "samples"
[[distill.variant]]
name = "distilled"
objective = "fkl"
moments = "bf16"
gradients = "bf16"
[[export]]
format = "gguf"
type = "q8_0"
[[export]]
format = "folder"
type = "f32"
[evaluate]
task_prompts = 4
max_tokens = 16
ship_type = "q8_0"
"""


def make_recipe(folder):
    make_tiny_model(folder / "teacher", layers=4, context=2048, end_scale=3.0)
    (folder / "prompts.txt").write_text("".join(f"Tell me about thing {i}.\n" for i in range(60)))
    (folder / "terms.toml").write_text(TERMS)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder / "tiny.toml"


def weights_of(folder):
    """path relative to the run → sha256, of every finished weights file outside checkpoints."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix in (".safetensors", ".gguf") and not any("checkpoint" in part for part in inside.parts):
            found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run(recipe, output, folder):
    # Two threads: what they share must come out the same each time too. Waiting ones sleep, as other tests run beside.
    # What is asked is logged at once, line by line.
    with open(folder / f"{output.name}.log", "a") as log:
        return subprocess.Popen([RETORT, "run", str(recipe), "--folder", str(output), "--threads", "2"],
                                cwd=folder, stdout=log, stderr=log,
                                env=clean_environment(RETORT_LOG="debug", OMP_WAIT_POLICY="passive"),
                                start_new_session=True)


def asked(folder, output):
    """How often each answer was asked for: id of the answer → times."""
    return collections.Counter(re.findall(r"collect: asks (\S+)", (folder / f"{output}.log").read_text()))


def finish(process, what, log):
    if process.wait(timeout=3600) != 0:
        sys.exit(f"{what}: exit status {process.returncode}\n{log.read_text()[-4000:]}")


def kill_one(command, made, seal, kills, rng, folder):
    """One command killed so often at random instants, then once more: seal() of what it made is what it is otherwise."""
    command = [RETORT, *map(str, command), "--threads", "2"]
    what = " ".join(str(one).replace(f"{folder}/", "") for one in command[1:3])
    environment = clean_environment(OMP_WAIT_POLICY="passive")
    errors = folder / "errors"

    def begin():
        with open(errors, "a") as log:
            return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, env=environment,
                                    start_new_session=True)

    start = time.monotonic()
    finish(begin(), what, errors)
    length, expected = time.monotonic() - start, seal()
    if not expected:
        sys.exit(f"{what}: it left nothing")
    done = finished = 0
    sizes = set()
    errors.unlink()
    remove(made)
    while done < kills:
        process = begin()
        try:
            # A machine that is busy now and was not before is given longer, or nothing but the start is ever killed.
            process.wait(timeout=rng.uniform(0.02, 1.2 * length))
            if process.returncode != 0:
                sys.exit(f"{what} after {done} kills: {errors.read_text()[-2000:]}")
            if seal() != expected:
                sys.exit(f"{what}: what it made after {done} kills is not what it makes at once")
            finished += 1
            remove(made)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            sizes.add(bytes_in(made))
    finish(begin(), f"{what} after its kills", errors)
    if seal() != expected:
        sys.exit(f"{what}: what it makes after {kills} kills is not what it makes at once")
    again = errors.read_text().count("going on from step")
    resumed = f", {again} times it went on from a checkpoint" if again else ""
    print(f"{what}: {length:.2f} s; {kills} kills left {len(sizes)} different sizes on disk{resumed}; "
          f"{finished + 1} times it came to the end, each time with the same bytes", flush=True)


def remove(made):
    if made.is_dir():
        shutil.rmtree(made)
    else:
        made.unlink(missing_ok=True)


def bytes_in(made):
    return sum(path.stat().st_size for path in ([made] if made.is_file() else made.rglob("*")) if path.is_file())


def kill_cache(folder, whole, teacher, kills, rng):
    """`cache make`, and `distill` from what it made. Each record five times, so that most kills are not of a start."""
    cache, student, records = folder / "cache", folder / "student", folder / "many.jsonl"
    lines = [json.loads(line) for line in (whole / "curate/train.jsonl").read_text().splitlines()]
    records.write_text("".join(json.dumps(line | {"id": f"{line['id']}-{copy}"}) + "\n"
                               for copy in range(5) for line in lines))
    kill_one(["cache", "make", "--teacher", teacher, "--records", records, "--row-length", 512, "--output", cache],
             cache, lambda: hashlib.sha256((cache / "logits.journal").read_bytes()).hexdigest(), kills, rng, folder)
    kill_one(["distill", "--cache", cache, "--student", teacher, "--keep-layers", 3, "--layer-choice", "even",
              "--records", records, "--epochs", 1, "--row-length", 192, "--rows-per-step", 2, "--rows-per-micro-batch",
              1, "--moments", "bf16", "--gradients", "bf16", "--checkpoint-steps", 3, "--output", student],
             student, lambda: weights_of(student), kills, rng, folder)


def kill_export(folder, whole, kills, rng):
    exported = folder / "export.gguf"
    kill_one(["export", whole / "distill-distilled/model", "--output", exported], exported,
             lambda: hashlib.sha256(exported.read_bytes()).hexdigest(), kills, rng, folder)


def kill_cache_only(kills, seed):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-kill-"))
    print(f"a logit cache, {kills} kills a command, seed {seed}", flush=True)
    try:
        finish(run(make_recipe(folder), folder / "whole", folder), "the recipe", folder / "whole.log")
        kill_cache(folder, folder / "whole", folder / "teacher", kills, random.Random(seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    if sys.argv[1:2] == ["--cache"]:
        kill_cache_only(int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(10**9))
        return
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    rng = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-kill-"))
    recipe = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else make_recipe(folder)
    print(f"{recipe.name}, {kills} kills, seed {seed}", flush=True)
    try:
        start = time.monotonic()
        finish(run(recipe, folder / "whole", folder), "the uninterrupted run", folder / "whole.log")
        length = time.monotonic() - start
        expected = weights_of(folder / "whole")
        if not expected:
            sys.exit("the run left no weights")
        wanted = asked(folder, "whole")
        if not wanted or max(wanted.values()) > 1:
            sys.exit(f"without a kill, {len(wanted)} answers are asked, some of them twice")
        print(f"uninterrupted: {length:.1f} s, {len(wanted)} answers, {len(expected)} weights files", flush=True)

        killed = kills_of_this_folder = 0
        while killed < kills:
            process = run(recipe, folder / "killed", folder)
            try:
                # Half of them early in what is left, the rest anywhere: each stage gets its share.
                process.wait(timeout=rng.uniform(0.05, length * rng.choice((0.3, 1.0))))
                if process.returncode != 0:
                    sys.exit(f"after {killed} kills it fails: exit status {process.returncode}")
                print(f"finished after {killed} kills; starting anew")
                shutil.rmtree(folder / "killed")
                (folder / "killed.log").unlink()
                kills_of_this_folder = 0
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
                kills_of_this_folder += 1
        finish(run(recipe, folder / "killed", folder), "the run after the kills", folder / "killed.log")
        actual = weights_of(folder / "killed")
        if actual != expected:
            for name in sorted(set(expected) | set(actual)):
                print(f"{name}: {expected.get(name)} uninterrupted, {actual.get(name)} killed")
            sys.exit("the weights differ")
        again = asked(folder, "killed")
        twice = again.total() - len(again)
        in_flight = CONCURRENCY * kills_of_this_folder
        if set(again) != set(wanted) or twice > in_flight:
            sys.exit(f"{len(again)} of {len(wanted)} answers were asked for, {twice} of them again; at most "
                     f"{in_flight} were in flight")
        print(f"after {kills} kills: bit-identical; {twice} answers asked again, of at most {in_flight} in flight")
        if len(sys.argv) <= 3:
            kill_cache(folder, folder / "whole", folder / "teacher", max(1, kills // 5), rng)
            kill_export(folder, folder / "whole", max(1, kills // 5), rng)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
