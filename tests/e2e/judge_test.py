"""`retort curate --judge` against a judge that is slow, refuses, talks nonsense or sees the asker killed: verdicts are read
strictly, counted by reason, kept, and nothing is asked twice. And the same from a recipe, with a served model as the judge."""

import json
import re
import time

from collect_test import TERMS, Teacher
from harness import E2eTest, main, make_tiny_model, wait_until

ANSWER = re.compile(r"answer =====\n(.*?)\n===== ([0-9a-f]{16}) end =====", re.S)


def verdict_of(prompt):
    """By the number at the end of the answer: 0 and 1 of 4 are good, 2 is bad, 3 gets no verdict that can be read."""
    answer, mark = ANSWER.search(prompt).groups()
    assert prompt.count(f"===== {mark}") == 3, prompt
    kind = int(answer.split()[-1]) % 4
    return ("nine out of ten" if kind == 3 else json.dumps({"reason": f"it is {answer}", "score": 3 if kind == 2 else 9}))


class Judge(E2eTest):
    def setUp(self):
        super().setUp()
        (self.folder / "terms.toml").write_text(TERMS)
        self.judge = Teacher(answer=verdict_of)
        self.addCleanup(self.judge.close)

    def collect(self, count):
        teacher = Teacher(answer=lambda prompt: f"the thing is {prompt.split()[-1]}")
        self.addCleanup(teacher.close)
        (self.folder / "prompts.txt").write_text("".join(f"question {i}\n" for i in range(count)))
        self.retort("collect", "--endpoint", teacher.url, "--model", "teacher", "--prompts", "prompts.txt", "--terms",
                    "terms.toml", "-o", "answers", "-q")

    def arguments(self, *more):
        return ("curate", "answers", "-o", "data", "--near-duplicate", "2", "--judge", self.judge.url, "--judge-model",
                "judge", "--judge-terms", "terms.toml", *more)

    def test_scores_decide_and_are_kept(self):
        self.collect(40)
        report = json.loads(self.retort(*self.arguments("--json", "-q")).stdout)
        self.assertEqual((report["read"], report["kept"], report["judged"]), (40, 20, 40))
        self.assertEqual(report["dropped"], {"judge": 10, "unjudged": 10})
        self.assertEqual(report["judge_scores"], {"3": 10, "9": 20})
        dropped = [json.loads(line)["verdicts"] for line in (self.folder / "data/dropped.jsonl").read_text().splitlines()]
        self.assertTrue(all(d["dropped"]["reason"] in ("judge", "unjudged") and d["judge"]["model"] == "judge"
                            for d in dropped))
        kept = "".join((self.folder / f"data/{split}.jsonl").read_text() for split in ("train", "validation", "test"))
        self.assertEqual(kept.count('"score":9'), 20)
        # Again, with another bar: the verdicts are there.
        text = self.retort(*self.arguments("-q", "--judge-score", "3")).stdout
        self.assertRegex(text, r"judged +40 +by score +3: 10 +9: 20")
        self.assertEqual(len(self.judge.asked), 40)

    def test_kill_9_asks_again_only_what_was_in_flight(self):
        self.collect(120)
        self.judge.delay = 0.05
        concurrency, kills = 4, 4
        for _ in range(kills):
            before = len(self.judge.asked)
            process = self.start(*self.arguments("-q", "--judge-concurrency", concurrency))
            self.assertTrue(wait_until(lambda: len(self.judge.asked) >= before + 15))
            process.kill()
            process.wait()
            self.assertFalse((self.folder / "data/train.jsonl").exists())
        time.sleep(0.2)
        self.judge.delay = 0
        report = json.loads(self.retort(*self.arguments("-q", "--json")).stdout)
        self.assertEqual((report["judged"], report["kept"]), (120, 60))
        self.assertEqual(len(set(self.judge.asked)), 120)
        self.assertLessEqual(len(self.judge.asked) - 120, kills * concurrency)

    def test_a_budget_leaves_what_there_is(self):
        self.collect(12)
        done = self.retort(*self.arguments("-q", "--judge-max-requests", "5"), status=1)
        self.assertIn("7 of 12 answers have no verdict yet", done.stderr)
        self.assertFalse((self.folder / "data/train.jsonl").exists())
        self.retort(*self.arguments("-q"))
        self.assertEqual(len(self.judge.asked), 12)

    def test_bad_input(self):
        self.collect(3)
        without = [a for a in self.arguments() if a not in ("--judge-terms", "terms.toml")]
        self.assertIn("--judge-terms", self.retort(*without, status=1).stderr)
        self.assertEqual(self.judge.asked, [])
        (self.folder / "no.toml").write_text(TERMS.replace("true", "false"))
        self.assertIn("allows_training_on_outputs", self.retort(*self.arguments()[:-1], "no.toml", status=1).stderr)
        self.assertEqual(self.judge.asked, [])
        self.assertIn("--judge", self.retort("curate", "answers", "-o", "data", "--judge-model", "x", status=2).stderr)
        self.retort(*self.arguments("--judge-score", "11"), status=2)
        (self.folder / "prompt.txt").write_text("Is {{question}} good?")
        self.assertIn("{{answer}}", self.retort(*self.arguments("--judge-prompt", "prompt.txt"), status=2).stderr)
        self.judge.reply = lambda prompt: "Nine."
        self.assertIn("scored none of 3 answers: the judge did not answer with one JSON object: Nine.".replace(": the", "; the first: the"),
                      self.retort(*self.arguments("-q"), status=1).stderr)

    def test_a_recipe_with_a_judge(self):
        make_tiny_model(self.folder / "teacher", layers=2, context=1024, end_scale=3.0)
        (self.folder / "prompts.txt").write_text("".join(f"Tell me about thing {i}.\n" for i in range(12)))
        self.judge.reply = lambda prompt: json.dumps({"reason": "so", "score": 1 + int(prompt.split("thing ")[1].split(".")[0])
                                                      % 10})
        (self.folder / "r.toml").write_text(f"""name = "judged"
[teacher]
source = "teacher"
[collect]
prompts = ["prompts.txt"]
terms = "terms.toml"
max_tokens = 40
[curate]
near_duplicate_similarity = 2
test_share = 0.3
[curate.judge]
endpoint = "{self.judge.url}"
model = "judge"
terms = "terms.toml"
score = 3
[student]
keep_layers = 1
layer_choice = "even"
[distill]
max_steps = 1
row_length = 128
[evaluate]
task_prompts = 1
max_tokens = 4
""")
        self.retort("run", "r.toml", "--folder", "run", "-q")
        report = json.loads((self.folder / "run/curate/report.json").read_text())
        self.assertGreater(report["judged"], 4)
        self.assertGreater(report["dropped"].get("judge", 0), 0)
        asked = len(self.judge.asked)
        self.assertEqual(asked, report["judged"])
        # Another bar does the stage again, and asks nothing.
        recipe = (self.folder / "r.toml").read_text()
        (self.folder / "r.toml").write_text(recipe.replace("score = 3", "score = 2"))
        self.retort("run", "r.toml", "--folder", "run", "-q")
        self.assertEqual(len(self.judge.asked), asked)


if __name__ == "__main__":
    main()
