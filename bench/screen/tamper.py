"""One byte, somewhere, of a sealed release or of its records, changed at random, again and again: `release verify` must find each.
    tamper.py RETORT BUNDLE KEY.pub RECORDS.jsonl [--tries N] [--seed N]"""

import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort")
    parser.add_argument("bundle")
    parser.add_argument("key")
    parser.add_argument("records")
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = pathlib.Path(scratch) / "bundle"
        shutil.copytree(options.bundle, bundle)
        records = pathlib.Path(scratch) / "records.jsonl"
        shutil.copy(options.records, records)
        files = sorted(p for p in bundle.rglob("*") if p.is_file()) + [records]
        command = [options.retort, "release", "verify", str(bundle), "--key", options.key, "--records", str(records)]

        def verify():
            return subprocess.run(command, capture_output=True, text=True).returncode

        if verify() != 0:
            raise SystemExit("the untouched bundle does not verify")
        tried, missed = collections.Counter(), []
        for number in range(options.tries):
            # Half by size, so that every byte is as likely; half by file, so that small ones are tried too.
            path = rng.choices(files, [p.stat().st_size for p in files])[0] if number % 2 else rng.choice(files)
            at, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
            with path.open("r+b") as file:
                file.seek(at)
                was = file.read(1)[0]
                file.seek(at)
                file.write(bytes([was ^ bit]))
            code = verify()
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([was]))
            tried[path.name] += 1
            if code != 1:
                missed.append((path.name, at, bit, code))
        if verify() != 0:
            raise SystemExit("the bundle was not put back as it was")
        print(f"{options.tries} changes of one bit, seed {options.seed}: {options.tries - len(missed)} found, {len(missed)} missed")
        for name, count in sorted(tried.items()):
            print(f"  {name}: {count}")
        for each in missed:
            print("  missed:", each)


main()
