"""kill -9 at random instants during `retort run`, then the same command: the weights are those of a run that
nothing interrupted, bit for bit. Usage: kill_test.py [RECIPE [KILLS [SEED]]]"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import RETORT, SOURCE, clean_environment

DEFAULT_RECIPE = SOURCE / "tests/e2e/kill.toml"


def weights_of(folder):
    """path relative to the run → sha256, of every finished weights file outside checkpoints."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix in (".safetensors", ".gguf") and not any("checkpoint" in part for part in inside.parts):
            found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run(recipe, output, folder):
    # Its own process group: what it may have started (a server) must not outlive it either.
    return subprocess.Popen([RETORT, "run", str(recipe), "--output", str(output), "--quiet"], cwd=folder,
                            env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)


def finish(process, what):
    output, _ = process.communicate(timeout=1200)
    if process.returncode != 0:
        sys.exit(f"{what}: exit status {process.returncode}\n{output}")


def main():
    recipe = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else DEFAULT_RECIPE
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(10**9)
    has_run = subprocess.run([RETORT, "run", "--help"], capture_output=True).returncode == 0
    if not has_run or not recipe.exists():
        print(f"skipped: no `retort run`, or no {recipe}")
        sys.exit(77)
    print(f"{recipe.name}, {kills} kills, seed {seed}")
    rng = random.Random(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-kill-"))
    try:
        start = time.monotonic()
        finish(run(recipe, folder / "whole", SOURCE), "the uninterrupted run")
        length = time.monotonic() - start
        expected = weights_of(folder / "whole")
        if not expected:
            sys.exit("the run left no weights")
        print(f"uninterrupted: {length:.1f} s, {len(expected)} weights files")

        killed = 0
        while killed < kills:
            process = run(recipe, folder / "killed", SOURCE)
            try:
                # Half of them early in what is left, the rest anywhere: each stage gets its share.
                process.communicate(timeout=rng.uniform(0.05, length * rng.choice((0.3, 1.0))))
                if process.returncode != 0:
                    sys.exit(f"after {killed} kills it fails: exit status {process.returncode}")
                print(f"finished after {killed} kills; starting anew")
                shutil.rmtree(folder / "killed")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                killed += 1
        finish(run(recipe, folder / "killed", SOURCE), "the run after the kills")
        actual = weights_of(folder / "killed")
        if actual != expected:
            for name in sorted(set(expected) | set(actual)):
                print(f"{name}: {expected.get(name)} uninterrupted, {actual.get(name)} killed")
            sys.exit("the weights differ")
        print(f"after {kills} kills: bit-identical")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
