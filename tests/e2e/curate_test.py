"""`retort curate`: the mix of answers with reasoning and of plain ones, from two teachers' answers; what evaluation sets hold; and what
a training is to be checked for beforehand."""

import json

from collect_test import TERMS, Teacher
from harness import E2eTest, main


class Mix(E2eTest):
    def setUp(self):
        super().setUp()
        (self.folder / "terms.toml").write_text(TERMS)

    def collect(self, folder, count, answer):
        teacher = Teacher(answer=answer)
        self.addCleanup(teacher.close)
        (self.folder / f"{folder}.txt").write_text("".join(f"{folder} question {i}\n" for i in range(count)))
        self.retort("collect", "--endpoint", teacher.url, "--model", "teacher", "--prompts", f"{folder}.txt", "--terms",
                    "terms.toml", "-o", folder, "-q")

    def curate(self, *inputs, output="data", mix=3, status=0):
        return self.retort("curate", *inputs, "-o", output, "--near-duplicate", 2, "--reasoning-mix", mix, "--json", "-q",
                           status=status)

    def train(self, output="data"):
        return [json.loads(line) for line in (self.folder / output / "train.jsonl").read_text().splitlines()]

    def test_three_with_reasoning_to_a_plain_one(self):
        self.collect("reasoned", 60, lambda prompt: f"<think>I read {prompt}.</think>It is {prompt.split()[-1]}.")
        self.collect("plain", 60, lambda prompt: f"It is {prompt.split()[-1]}, plainly.")
        report = json.loads(self.curate("reasoned", "plain").stdout)
        train = self.train()
        reasoned = sum("<think>" in record["answer"]["content"] for record in train)
        self.assertEqual(report["splits"]["train"]["reasoning"], reasoned)
        self.assertEqual(len(train) - reasoned, round(reasoned / 3))
        self.assertEqual(report["dropped"], {"mix": 120 - report["kept"]})
        dropped = [json.loads(line) for line in (self.folder / "data/dropped.jsonl").read_text().splitlines()]
        self.assertTrue(all(record["verdicts"]["dropped"]["reason"] == "mix" for record in dropped))
        self.assertFalse(any("<think>" in record["answer"]["content"] for record in dropped))
        # Whichever folder comes first, the same are drawn; and a person is told how many of each.
        self.curate("plain", "reasoned", output="other")
        self.assertEqual({record["id"] for record in self.train("other")}, {record["id"] for record in train})
        text = self.retort("curate", "reasoned", "plain", "-o", "third", "--reasoning-mix", 1, "-q").stdout
        self.assertRegex(text, r"train: \d+ with reasoning, \d+ plain")

    def test_a_kind_that_is_missing(self):
        self.collect("plain", 5, "plain {}".format)
        errors = self.curate("plain", status=1).stderr
        for what in ("data/train.jsonl", "mix of 3", "none of the", "name records that have it"):
            self.assertIn(what, errors)
        self.assertFalse((self.folder / "data/train.jsonl").exists())
        self.assertIn("--reasoning-mix", self.curate("plain", mix=-1, status=2).stderr)

    def test_what_evaluation_sets_hold_goes(self):
        self.collect("plain", 20, "They ask: {}, so I answer it.".format)
        (self.folder / "eval.jsonl").write_text('{"prompt": "They ask: plain question 7, so I answer it"}\n')
        report = json.loads(self.retort("curate", "plain", "-o", "data", "--near-duplicate", 2, "--decontaminate",
                                        "eval.jsonl", "--json", "-q").stdout)
        self.assertEqual((report["kept"], report["dropped"]), (19, {"contaminated": 1}))
        dropped = json.loads((self.folder / "data/dropped.jsonl").read_text())
        self.assertEqual(dropped["prompt"][-1]["content"], "plain question 7")

    def test_a_recipe_names_the_fault(self):
        (self.folder / "r.toml").write_text('[teacher]\nsource = "x"\n[collect]\nprompts = ["p.txt"]\n'
                                            "[curate]\nreasoning_mix = -3\n")
        errors = self.retort("run", "r.toml", status=2).stderr
        for what in ("r.toml", "reasoning_mix", "-3"):
            self.assertIn(what, errors)


if __name__ == "__main__":
    main()
