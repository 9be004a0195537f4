"""A disk that is full at stage after stage of `retort run` and of a logit cache: each time an error that names the file and says
that the disk is full, never a crash; when there is more room the same command goes on, and the weights are those of a run
that always had room. The disk is a small tmpfs in a mount namespace of its own; where the machine allows none, the test is
skipped. Usage: full_disk_test.py [STEP_KILOBYTES]."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import kill_test
from harness import RETORT, clean_environment

DISK = 48 << 20
STAGES = ["collect", "curate", "start", "distill-text", "distill-distilled", "export", "evaluate"]


def free_bytes(disk):
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def leave(disk, room):
    """Grows or cuts the ballast so that `room` bytes are left."""
    ballast = disk / "ballast"
    size = ballast.stat().st_size if ballast.exists() else 0
    wanted = max(0, size + free_bytes(disk) - room)
    with open(ballast, "ab") as file:
        if wanted <= size:
            file.truncate(wanted)
        else:
            os.posix_fallocate(file.fileno(), size, wanted - size)


def attempt(folder, *arguments):
    return subprocess.run([RETORT, *map(str, arguments), "--threads", "2"], cwd=folder, capture_output=True, text=True,
                          timeout=600, env=clean_environment(OMP_WAIT_POLICY="passive"))


def until_it_fits(folder, disk, step, what, *arguments):
    """Room is added in steps until the command passes; the stages in which it failed."""
    failed = []
    room = step
    for _ in range(200):
        done = attempt(folder, *arguments)
        if done.returncode == 0:
            return failed
        text = done.stderr + done.stdout
        errors = [line for line in text.splitlines() if "the disk is full" in line or "No space left on device" in line]
        if done.returncode != 1 or not errors:
            sys.exit(f"{what}: exit status {done.returncode}, and not for want of space:\n{text[-3000:]}")
        error = errors[-1]
        if str(disk.name) not in error:
            sys.exit(f"{what}: the error names no file on the full disk: {error}")
        begun = re.findall(r"(\S+): begins", text)
        stage = begun[-1] if begun else what
        # A stage that needs much at once gets twice as much each time; the next one begins with little.
        room = 2 * room if failed and failed[-1][0] == stage else step
        failed.append((stage, error))
        leave(disk, room)
    sys.exit(f"{what}: it never fits; the last error: {failed[-1]}")


def inside(step):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-full-"))
    disk = folder / "small-disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)], check=True)
    try:
        recipe = kill_test.make_recipe(folder)
        done = attempt(folder, "run", recipe, "--folder", folder / "whole")
        if done.returncode != 0:
            sys.exit(f"with room enough it fails:\n{done.stderr[-3000:]}")
        expected = kill_test.weights_of(folder / "whole")
        records = folder / "whole/curate/train.jsonl"
        cache = ["cache", "make", "--teacher", folder / "teacher", "--records", records, "--row-length", 192, "--output"]
        if attempt(folder, *cache, folder / "whole-cache").returncode != 0:
            sys.exit("a cache fails with room enough")

        failed = []
        for at, stage in enumerate(STAGES):
            # A run that is done up to this stage, and then no room.
            (disk / "ballast").unlink(missing_ok=True)
            shutil.rmtree(disk / "run", ignore_errors=True)
            shutil.copytree(folder / "whole", disk / "run", symlinks=True)
            for later in STAGES[at:]:
                shutil.rmtree(disk / "run" / later)
            leave(disk, 2 * step)
            here = until_it_fits(folder, disk, step, stage, "run", recipe, "--folder", disk / "run")
            if stage not in {name for name, _ in here}:
                sys.exit(f"the disk was never full in {stage}")
            failed += here
            if kill_test.weights_of(disk / "run") != expected:
                sys.exit(f"{stage}: the weights differ from those of a run that always had room")
        shutil.rmtree(disk / "run")
        leave(disk, 0)
        failed += until_it_fits(folder, disk, step, "cache", *cache, disk / "cache")
        shown = [json.loads(attempt(folder, "cache", "show", where, "--json").stdout)
                 for where in (folder / "whole-cache", disk / "cache")]
        if shown[0] != shown[1]:
            sys.exit(f"the caches differ:\n{shown[0]}\n{shown[1]}")

        stages = {}
        for stage, error in failed:
            stages.setdefault(stage, []).append(error)
        for stage, errors in stages.items():
            print(f"{stage}: full {len(errors)} times, first: {errors[0].replace(str(folder), '')}")
        print(f"{len(failed)} times full, {len(expected)} weights files bit-identical in the end, the cache too")
    finally:
        subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main():
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    if os.environ.get("RETORT_FULL_DISK_INSIDE") != "1":
        probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False) if shutil.which("unshare") else None
        if probe is None or probe.returncode != 0:
            print("no mount namespace here")
            sys.exit(77)
        sys.exit(subprocess.run(["unshare", "-rm", sys.executable, __file__, str(step)], check=False,
                                env={**os.environ, "RETORT_FULL_DISK_INSIDE": "1"}).returncode)
    inside(step * 1024)


if __name__ == "__main__":
    main()
