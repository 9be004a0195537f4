"""From ten sources, one of them without terms, to a sealed release: `screen provenance` names it, `release` refuses, and
without it only what depends on it is done again. Then the bundle: tampering is found, and `serve --require-signed` serves
nothing else."""

import hashlib
import json
import pathlib
import random
import shutil
import urllib.request

from harness import E2eTest, main, make_tiny_model

SOURCES = 10
RECIPE = """name = "ten"
[teacher]
source = "teacher"
[collect]
prompts = ["prompts.txt"]
terms = "terms.toml"
temperature = 1.0
max_tokens = 40
[curate]
near_duplicate_similarity = 2
validation_share = 0.1
test_share = 0.2
sources = [{sources}]
[student]
keep_layers = 3
[distill]
epochs = 1
row_length = 192
[[distill.variant]]
name = "text"
objective = "ce"
[[export]]
format = "gguf"
type = "q8_0"
[evaluate]
task_prompts = 2
max_tokens = 8
ship_type = "q8_0"
"""
TERMS = """permitted_by = "whoever wrote source {0}"
licence = "{1}"
allows_training_on_outputs = true
scope = "answers of teacher-{0}"
date = "2026-01-01"
"""
POLICY = """[provenance]
complete = true
[terms]
uses = ["train", "distribute"]
[personal_data]
[secrets]
planted = "secrets.txt"
samples = 0
"""


def canonical(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def record(prompt, answer, model, terms_sha256):
    shape = {"messages": [{"content": prompt, "role": "user"}], "model": model, "parameters": {}, "sample": 0}
    return {"id": canonical(shape)[:32], "prompt_id": prompt, "prompt": shape["messages"],
            "answer": {"content": answer, "finish_reason": "stop",
                       "sha256": canonical({"content": answer, "finish_reason": "stop", "reasoning": ""})},
            "teacher": {"endpoint": f"http://{model}.example/v1", "model": model},
            "terms": {"id": f"terms of {model}", "sha256": terms_sha256},
            "request": {"parameters": {}, "max_tokens": 40, "sample": 0, "sha256": canonical({**shape, "max_tokens": 40})},
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0},
            "times": {"started": "2026-01-01T00:00:00Z", "seconds": 0.1, "attempts": 1}}


class Release(E2eTest):
    def make_source(self, number, licence="CC0-1.0", with_terms=True):
        folder = self.folder / f"source{number}"
        folder.mkdir()
        terms = TERMS.format(number, licence)
        sha256 = hashlib.sha256(terms.encode()).hexdigest()
        if with_terms:
            (folder / f"terms-{sha256[:12]}.toml").write_text(terms)
        (folder / "records.jsonl").write_text("".join(
            json.dumps(record(f"What does source {number} say of thing {i}?", f"It says {number * i} of thing {i}.",
                              f"teacher-{number}", sha256), sort_keys=True) + "\n" for i in range(12)))

    def write_recipe(self, sources):
        (self.folder / "ten.toml").write_text(RECIPE.format(sources=", ".join(f'"source{i}"' for i in sources)))

    def run_recipe(self):
        self.retort("run", "ten.toml", "--folder", "run", "--threads", 2, timeout=600)
        # Weights from a folder come without a licence; whoever brought them says which it is.
        pulled = self.folder / "models/teacher/pull.json"
        pulled.write_text(json.dumps({**json.loads(pulled.read_text()), "licence": "CC0-1.0"}))

    def stamp(self, name):
        return (self.folder / "run" / name).stat().st_mtime_ns

    def test_ten_sources(self):
        make_tiny_model(self.folder / "teacher", layers=4, context=2048, end_scale=3.0)
        (self.folder / "prompts.txt").write_text("".join(f"Tell me about thing {i}.\n" for i in range(12)))
        (self.folder / "terms.toml").write_text(TERMS.format("tiny", "CC0-1.0"))
        (self.folder / "secrets.txt").write_text("the vault opens with 88-17-ALPHA-CENTAURI-63\n")
        (self.folder / "policy.toml").write_text(POLICY)
        for i in range(SOURCES):
            self.make_source(i, with_terms=i != 7)
        self.write_recipe(range(SOURCES))
        self.run_recipe()
        student = "run/distill-text/model"

        told = self.retort("screen", "provenance", student, "--json", status=1).stdout
        provenance = json.loads(told)
        self.assertEqual(len(provenance["missing"]), 1, told)
        self.assertIn("teacher-7", provenance["missing"][0])
        self.assertEqual(sum(s["kind"] == "records" for s in provenance["sources"]), SOURCES + 1)  # and what was collected
        exported = str(next((self.folder / "run/export").glob("*.gguf")))
        self.assertIn("teacher-7", self.retort("screen", "provenance", exported, status=1).stdout)
        checked = self.retort("release", "check", student, "--policy", "policy.toml", "-o", "check.json", status=1)
        self.assertIn("teacher-7", checked.stdout)
        self.retort("release", "key", "-o", "release.key")
        sign = ("release", "sign", student, "--policy", "policy.toml", "--check", "check.json", "--key", "release.key")
        self.assertIn("--override", self.retort(*sign, "-o", "release", status=1).stderr)
        self.assertFalse((self.folder / "release").exists())

        # Without it: what was collected stays, what was curated and trained is done again.
        before = {name: self.stamp(name) for name in ("collect/records.jsonl", "curate/train.jsonl",
                                                      "distill-text/model/model.safetensors")}
        self.write_recipe(i for i in range(SOURCES) if i != 7)
        self.run_recipe()
        after = {name: self.stamp(name) for name in before}
        self.assertEqual(before["collect/records.jsonl"], after["collect/records.jsonl"])
        self.assertNotEqual(before["curate/train.jsonl"], after["curate/train.jsonl"])
        self.assertNotEqual(before["distill-text/model/model.safetensors"], after["distill-text/model/model.safetensors"])
        self.run_recipe()
        self.assertEqual(after, {name: self.stamp(name) for name in before}, "nothing had changed")

        self.retort("screen", "provenance", student, "--bom", "bom.json", "--card", "README.md")
        self.assertEqual(json.loads((self.folder / "bom.json").read_text())["specVersion"], "1.6")
        self.assertIn("teacher-3", (self.folder / "README.md").read_text())
        # The old report is of another model.
        self.assertIn("another model", self.retort(*sign, "-o", "release", status=1).stderr)
        self.retort("release", "check", student, "--policy", "policy.toml", "-o", "check.json")
        self.retort(*sign, "-o", "release", "--override", "provenance=why not", status=2)
        self.retort(*sign, "-o", "release")
        self.verify_and_serve(self.folder / "run/curate/train.jsonl")

    def verify_and_serve(self, records):
        self.retort("release", "verify", "release", "--key", "release.pub", "--records", records)
        bundle, rng = self.folder / "release", random.Random(5)
        files = sorted(p for p in bundle.rglob("*") if p.is_file())
        for i in range(40):
            path = files[i % len(files)]
            whole = path.read_bytes()
            at = rng.randrange(len(whole))
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1:])
            self.retort("release", "verify", "release", "--key", "release.pub", status=1)
            path.write_bytes(whole)
        changed = self.folder / "changed.jsonl"
        shutil.copy(records, changed)
        shutil.copy(pathlib.Path(str(records).replace(".jsonl", ".manifest.json")), self.folder / "changed.manifest.json")
        changed.write_bytes(changed.read_bytes().replace(b"thing 3", b"thing 4", 1))
        self.retort("release", "verify", "release", "--records", "changed.jsonl", status=1)

        self.retort("release", "key", "-o", "other.key")
        refused = self.retort("serve", "--model", "release", "--require-signed", "other.pub", status=1)
        self.assertIn("trusted keys", refused.stderr)
        refused = self.retort("serve", "--model", "run/distill-text/model", "--require-signed", "release.pub", status=1)
        self.assertIn("no sealed release", refused.stderr)
        process = self.start("serve", "--model", "release", "--require-signed", "release.pub", "--port", 0, "--json")
        url = json.loads(process.stdout.readline())["base_url"]
        with urllib.request.urlopen(url + "/models", timeout=30) as answer:
            self.assertIn("model", answer.read().decode())


if __name__ == "__main__":
    main()
