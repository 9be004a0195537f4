"""kill -9 at random instants during `retort run`, then the same command: the weights are those of a run that
nothing interrupted, bit for bit, and no answer is asked twice but those in flight. The same for a logit cache and for the
file that `export` writes, a fifth as often. Usage: kill_test.py [KILLS [SEED
[RECIPE]]]; without a recipe, a small one with a tiny teacher of random weights is made. With one, the number of
threads is the machine's, the time limit an hour."""

import collections
import hashlib
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
    environment = clean_environment(OMP_WAIT_POLICY="passive")

    def begin():
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
                                start_new_session=True)

    start = time.monotonic()
    process = begin()
    if process.wait(timeout=3600) != 0:
        sys.exit(f"{command[1]}: {process.stderr.read().decode()[-2000:]}")
    length, expected = time.monotonic() - start, seal()
    done = 0
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    while done < kills:
        process = begin()
        try:
            process.wait(timeout=rng.uniform(0.02, length))
            if process.returncode != 0:
                sys.exit(f"{command[1]} after {done} kills: {process.stderr.read().decode()[-2000:]}")
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
    process = begin()
    if process.wait(timeout=3600) != 0:
        sys.exit(f"{command[1]} after its kills: {process.stderr.read().decode()[-2000:]}")
    if seal() != expected:
        sys.exit(f"{command[1]}: what it makes after {kills} kills is not what it makes at once")
    print(f"{' '.join(command[1:3])}: {length:.2f} s; after {kills} kills the same bytes", flush=True)


def kill_cache_and_export(folder, whole, teacher, kills, rng):
    cache, exported = folder / "cache", folder / "export.gguf"

    def cache_seal():
        return subprocess.run([RETORT, "cache", "show", str(cache), "--json"], capture_output=True, check=True).stdout

    kill_one(["cache", "make", "--teacher", teacher, "--records", whole / "curate/train.jsonl", "--row-length", 512,
              "--output", cache], cache, cache_seal, kills, rng, folder)
    kill_one(["export", whole / "distill-distilled/model", "--output", exported], exported,
             lambda: hashlib.sha256(exported.read_bytes()).hexdigest(), kills, rng, folder)


def main():
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
            kill_cache_and_export(folder, folder / "whole", folder / "teacher", max(1, kills // 5), rng)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
