"""A sealed release or its records changed at random, again and again: `release verify` must find each, without a network.
Bytes: one bit of any byte of any file, half of them drawn by size (each byte as likely), half by file (small ones too); a byte
taken out, put in, or the end cut off. Records: one of them changed, taken out, said twice, moved. Files: one taken out, one more,
two swapped. The signature and the list are files like others.
    tamper.py RETORT BUNDLE KEY.pub RECORDS.jsonl [--tries N] [--seed N]"""

import argparse
import collections
import pathlib
import random
import shutil
import subprocess
import tempfile


def change_bytes(rng, files):
    path = rng.choices(files, [p.stat().st_size for p in files])[0] if rng.random() < 0.5 else rng.choice(files)
    whole = bytearray(path.read_bytes())
    at = rng.randrange(len(whole))
    kind = rng.choices(("bit", "byte out", "byte in", "end cut"), (7, 1, 1, 1))[0]
    if kind == "bit":
        whole[at] ^= 1 << rng.randrange(8)
    elif kind == "byte out":
        del whole[at]
    elif kind == "byte in":
        whole.insert(at, rng.randrange(256))
    else:
        del whole[at:]
    path.write_bytes(whole)
    return kind, path.name


def change_records(rng, records):
    lines = records.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.choice(("record changed", "record out", "record twice", "record moved"))
    if kind == "record changed":  # a letter of its answer for another
        line = bytearray(lines[at])
        begin = line.index(b'"content":') + 11
        place = rng.choice([i for i in range(begin, line.index(b'"', begin + 1)) if chr(line[i]).isalpha()] or [begin])
        line[place] = rng.choice([c for c in b"abcdefghijklmnopqrstuvwxyz" if c != line[place]])
        lines[at] = bytes(line)
    elif kind == "record out":
        del lines[at]
    elif kind == "record twice":
        lines.insert(rng.randrange(len(lines)), lines[at])
    else:
        line = lines.pop(at)
        lines.insert((at + rng.randrange(1, len(lines))) % (len(lines) + 1) if lines else 0, line)
    new = b"".join(lines)
    if new == records.read_bytes():  # moved to where it was: nothing has changed, so another
        return change_records(rng, records)
    records.write_bytes(new)
    return kind, records.name


def change_files(rng, bundle, files):
    kind = rng.choice(("file out", "file more", "files swapped"))
    one, other = rng.sample([p for p in files if bundle in p.parents], 2)
    if kind == "file out":
        one.unlink()
    elif kind == "file more":
        (one.parent / f"more{rng.randrange(1000)}").write_bytes(b"x")
    else:
        a, b = one.read_bytes(), other.read_bytes()
        if a == b:
            return change_files(rng, bundle, files)
        one.write_bytes(b)
        other.write_bytes(a)
    return kind, one.name


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
    offline = ["unshare", "-rn"] if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0 else []
    with tempfile.TemporaryDirectory() as scratch:
        good = pathlib.Path(scratch) / "good"
        good.mkdir()
        shutil.copytree(options.bundle, good / "bundle")
        manifest = options.records.replace(".jsonl", ".manifest.json")
        shutil.copy(options.records, good / "records.jsonl")
        if pathlib.Path(manifest).exists():
            shutil.copy(manifest, good / "records.manifest.json")
        tried = pathlib.Path(scratch) / "tried"
        command = [*offline, options.retort, "release", "verify", str(tried / "bundle"), "--key", options.key,
                   "--records", str(tried / "records.jsonl")]

        def verify():
            return subprocess.run(command, capture_output=True, text=True).returncode

        def reset():
            shutil.rmtree(tried, ignore_errors=True)
            shutil.copytree(good, tried)

        reset()
        if verify() != 0:
            raise SystemExit("the untouched bundle does not verify")
        kinds, files_hit, missed = collections.Counter(), collections.Counter(), []
        for number in range(options.tries):
            bundle, records = tried / "bundle", tried / "records.jsonl"
            files = sorted(p for p in bundle.rglob("*") if p.is_file())
            turn = rng.random()
            if turn < 0.6:
                what = change_bytes(rng, [*files, records])
            elif turn < 0.85:
                what = change_records(rng, records)
            else:
                what = change_files(rng, bundle, files)
            code = verify()
            kinds[what[0]] += 1
            files_hit[what[1]] += 1
            if code != 1:
                missed.append((number, *what, code))
            reset()
        if verify() != 0:
            raise SystemExit("the bundle was not put back as it was")
        print(f"{options.tries} changes, seed {options.seed}, {'in a network namespace without any network' if offline else 'online'}: "
              f"{options.tries - len(missed)} found, {len(missed)} missed; the untouched bundle verifies before and after")
        print("  " + ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())))
        print("  " + ", ".join(f"{name}: {count}" for name, count in sorted(files_hit.items())))
        for each in missed:
            print("  missed:", each)


main()
