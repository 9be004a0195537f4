"""A recipe whose students train from a logit cache: it is made once, as a stage of its own, goes on where it was stopped, is what
the students learn from, and the report tells what it is like."""

import json
import subprocess

from collect_test import TERMS
from harness import RETORT, E2eTest, clean_environment, main, make_tiny_model, sha256

RECIPE = """name = "tiny"
[teacher]
source = "teacher"
[collect]
prompts = ["prompts.txt"]
terms = "terms.toml"
max_tokens = 60
[curate]
near_duplicate_similarity = 2
test_share = 0.3
[student]
keep_layers = 1
layer_choice = "even"
[distill]
cache = "samples"
cache_count = 20
row_length = 256
rows_per_step = 2
dtype = "f32"
[[distill.variant]]
name = "text"
objective = "ce"
[[distill.variant]]
name = "quick"
learning_rate = 1e-3
[[distill.variant]]
name = "rkl"
objective = "rkl"
cache = "top-k"
[[distill.variant]]
name = "distilled"
[evaluate]
task_prompts = 2
max_tokens = 8
"""


class RecipeCache(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "teacher", layers=2, context=512, end_scale=3.0)
        (self.folder / "prompts.txt").write_text("".join(f"Tell me about thing {i}.\n" for i in range(40)))
        (self.folder / "terms.toml").write_text(TERMS)
        (self.folder / "r.toml").write_text(RECIPE)

    def run_recipe(self):
        done = subprocess.run([RETORT, "run", "r.toml", "--folder", "run", "--threads", "1"], cwd=self.folder,
                              env=clean_environment(), capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def read(self, name):
        return json.loads((self.folder / "run" / name).read_text())

    def test_students_learn_from_one_cache(self):
        log = self.run_recipe()
        run = self.folder / "run"
        self.assertEqual(sorted(path.name for path in run.glob("cache*")), ["cache-samples-20-f32", "cache-top-k-64-f32"])
        self.assertEqual(log.count("cache-samples-20-f32: begins"), 1)
        shown = json.loads(self.retort("cache", "show", run / "cache-samples-20-f32", "--json").stdout)
        self.assertTrue(shown["complete"])

        # What each student's own report tells.
        for name, count in (("quick", 20), ("distilled", 20), ("rkl", 64)):
            self.assertEqual(self.read(f"distill-{name}/distill.json")["cache"]["count"], count)
            roles = {one["role"] for one in self.read(f"distill-{name}/lineage.json")["inputs"]}
            self.assertLessEqual({"cache", "teacher", "records"}, roles)
        self.assertNotIn("cache", self.read("distill-text/distill.json"))
        self.assertEqual(self.read("distill-quick/distill.json")["cache"], shown)
        self.assertIn("entropy", shown)
        self.assertNotIn("kept_mass", shown)
        top = self.read("distill-rkl/distill.json")["cache"]
        self.assertTrue(0 < top["kept_mass"] <= 1 and top["tail_kl_bound"] >= 0 and "entropy" not in top, top)

        # And the run's: report.json, and the page.
        facts = {one["label"]: one["value"] for one in self.read("evaluate/report.json")["facts"]}
        students = "quick, distilled: "
        self.assertIn("20 draws a token", facts[students + "teacher's distribution from"])
        self.assertIn(f"{shown['bytes_per_token']:.1f} bytes a token", facts[students + "teacher's distribution from"])
        self.assertEqual(facts[students + "teacher's entropy"], f"{shown['entropy']:.3f} nats a token")
        self.assertIn("top 64 with a tail", facts["rkl: teacher's distribution from"])
        self.assertEqual(facts["rkl: top-k mass kept"], f"{top['kept_mass']:.4f}")
        self.assertEqual(facts["rkl: tail KL, at most"], f"{top['tail_kl_bound']:.4f} nats a token")
        self.assertIn(facts["rkl: tail KL, at most"], (run / "report.html").read_text())

        # The same by hand, from the same cache and from the live teacher: the first is what the run made.
        start = ("distill", "--student", run / "start/model", "--records", run / "curate/train.jsonl", "--row-length", 256,
                 "--rows-per-step", 2, "--dtype", "f32", "--threads", 1, "-q")
        self.retort(*start, "--cache", run / "cache-samples-20-f32", "--output", "cached")
        self.retort(*start, "--teacher", "teacher", "--output", "live")
        weights = {name: sha256((self.folder / name / "model/model.safetensors").read_bytes())
                   for name in ("run/distill-distilled", "cached", "live")}
        self.assertEqual(weights["run/distill-distilled"], weights["cached"])
        self.assertNotEqual(weights["run/distill-distilled"], weights["live"])
        page = (self.folder / "cached/report.html").read_text()
        for what in ("20 draws a token", f"{shown['entropy']:.3f} nats a token"):
            self.assertIn(what, page)
        self.assertNotIn("draws a token", (self.folder / "live/report.html").read_text())

        # A cache leads to its teacher, also where nothing else names it.
        told = subprocess.run([RETORT, "screen", "provenance", "cached/model", "--json"], cwd=self.folder,
                              env=clean_environment(), capture_output=True, text=True, timeout=60).stdout
        self.assertIn(str(self.folder / "teacher"), told)
        self.assertNotIn("by hash alone", told)

    def test_the_cache_goes_on_where_it_was_stopped(self):
        self.run_recipe()
        folder = self.folder / "run/cache-samples-20-f32"
        journal = folder / "logits.journal"
        whole = journal.read_bytes()
        stage = json.loads((folder / "stage.json").read_text())
        students = (self.folder / "run/distill-distilled/stage.json").read_bytes()
        # As a kill leaves it, in the middle of a record.
        journal.write_bytes(whole[:len(whole) * 3 // 5])
        (folder / "stage.json").unlink()
        (folder / "stage.pending.json").write_text(stage["key"])
        log = self.run_recipe()
        self.assertRegex(log, r"cache: going on behind [1-9]\d* of")
        self.assertEqual(journal.read_bytes(), whole)
        self.assertEqual((self.folder / "run/distill-distilled/stage.json").read_bytes(), students)
        # Other draws are another cache, and other students.
        (self.folder / "r.toml").write_text(RECIPE.replace("cache_count = 20", "cache_count = 30"))
        log = self.run_recipe()
        for what in ("cache-samples-30-f32: begins", "distill-distilled: begins", "distill-text: there already",
                     "distill-rkl: there already"):
            self.assertIn(what, log)

    def test_wherever_a_cache_was_cut_the_same_bytes_follow(self):
        """Enough records that those that are left would fill other rows than all of them do."""
        self.run_recipe()
        lines = [json.loads(line) for line in (self.folder / "run/curate/train.jsonl").read_text().splitlines()]
        with open(self.folder / "many.jsonl", "w") as out:
            for copy in range(5):
                out.writelines(json.dumps(line | {"id": f"{line['id']}-{copy}"}) + "\n" for line in lines)
        make = ("cache", "make", "--teacher", "teacher", "--records", "many.jsonl", "--row-length", 512, "--output", "cache",
                "--threads", 1, "-q")
        self.retort(*make)
        journal = self.folder / "cache/logits.journal"
        whole = journal.read_bytes()
        for sixth in range(1, 6):
            journal.write_bytes(whole[:len(whole) * sixth // 6])
            self.retort(*make)
            self.assertEqual(sha256(journal.read_bytes()), sha256(whole), f"cut at {sixth} sixths")


if __name__ == "__main__":
    main()
