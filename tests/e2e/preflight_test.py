"""`retort distill --check` before a training on the student's own answers, and before one that follows pruning: what is wrong is
on the page with its mend, what is right is counted, and nothing on disk is changed but preflight.txt."""

import hashlib
import json
import os
import subprocess

from harness import RETORT, E2eTest, clean_environment, main, make_tiny_model


class Preflight(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "student", layers=2, context=512, end_scale=3.0)
        make_tiny_model(self.folder / "teacher", seed=1, layers=2, context=512, end_scale=3.0)
        (self.folder / "prompts.jsonl").write_text("".join(
            json.dumps({"id": f"p{i}", "prompt": f"Count to {i}", "metadata": {"answer": str(i)}}) + "\n" for i in range(24)))
        (self.folder / "records.jsonl").write_text("".join(
            json.dumps({"id": f"r{i}", "prompt": [{"role": "user", "content": f"Count to {i}"}],
                        "answer": {"content": " ".join(str(n) for n in range(i + 4)), "finish_reason": "stop"}}) + "\n"
            for i in range(24)))
        (self.folder / "some.toml").write_text('type = "regex"\npattern = "[a-m]"\n')
        (self.folder / "none.toml").write_text('type = "regex"\npattern = "no such answer"\n')
        (self.folder / "metadata.toml").write_text('type = "equals"\nexpected = "{result}"\n')
        (self.folder / "broken.toml").write_text('type = "regex"\npatern = "x"\n')

    def on_policy(self, objective, *more, student="student", output="out", samples=4, tokens=24):
        return ("distill", "--objective", objective, "--student", student, "--prompts", "prompts.jsonl", "--steps", 3,
                "--prompts-per-step", 4, "--samples", samples, "--max-answer-tokens", tokens, "--row-length", 128, "--dtype",
                "f32", "--threads", 1, "-q", "--output", output, *more)

    def check(self, *command, status=0):
        """The findings: about → [(verdict, text)], and the whole."""
        found = json.loads(self.retort(*command, "--check", "--json", status=status).stdout)
        self.assertEqual(found["passed"], status == 0)
        page = {}
        for one in found["findings"]:
            page.setdefault(one["about"], []).append((one["verdict"], one["text"]))
        return page, found

    def files(self):
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in self.folder.rglob("*") if path.is_file()}

    def test_what_is_right_is_counted_and_nothing_is_changed(self):
        before = self.files()
        page, found = self.check(*self.on_policy("opd", "--teacher", "teacher", "--verifier", "some.toml"))
        after = self.files()
        self.assertEqual(set(after) - set(before), {"out/preflight.txt"})
        self.assertEqual({name: after[name] for name in before}, before)
        self.assertEqual([verdict for verdict, _ in page["vocabulary"]], ["ok", "ok"])
        self.assertIn("the same", page["tokenizer"][0][1])
        self.assertIn("24 prompts come back", page["template"][0][1])
        self.assertIn("24 of at most", page["prompts"][0][1])
        self.assertIn("judge answers to 24 of 24", page["verifier"][0][1])
        self.assertIn("of the first 16 answers", page["reward"][0][1])
        self.assertGreater(found["memory_bytes"], 0)
        self.assertEqual(found["steps"], 3)
        self.assertAlmostEqual(found["seconds"], 3 * found["seconds_per_step"])
        self.assertIn("opd begins at", page["loss"][0][1])

    def test_the_first_answers_are_those_of_the_run_and_so_is_the_memory(self):
        for objective, more in (("grpo", ()), ("gkd", ("--teacher", "teacher")), ("opd", ("--teacher", "teacher"))):
            command = [*map(str, self.on_policy(objective, "--verifier", "some.toml", *more, output=objective))]
            page, found = self.check(*command)
            process = subprocess.Popen([RETORT, *command], cwd=self.folder, env=clean_environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, process.returncode, usage = os.wait4(process.pid, 0)
            self.assertEqual(process.returncode, 0, objective)
            first = json.loads((self.folder / objective / "metrics.jsonl").read_text().splitlines()[0])
            accepted = round(16 * first["correct"])
            self.assertGreater(accepted, 0)
            self.assertIn(f"accepts {accepted} of the first 16", page["reward"][0][1], objective)
            self.assertAlmostEqual(found["first_loss"], first["loss"], places=5)
            self.assertAlmostEqual(found["memory_bytes"] / (1024 * usage.ru_maxrss), 1, delta=0.2, msg=objective)

    def test_equal_rewards_are_noted(self):
        page, _ = self.check(*self.on_policy("grpo", "--verifier", "none.toml", "--format-reward", 0))
        (verdict, text), = page["reward"]
        self.assertEqual(verdict, "note")
        for what in ("accepts 0 of the first 16", "0 of 4 prompts", "learns nothing"):
            self.assertIn(what, text)
        page, _ = self.check(*self.on_policy("grpo", "--verifier", "some.toml", samples=16))
        self.assertEqual(page["reward"][0][0], "ok", page)

    def test_answers_that_never_end_are_noted(self):
        make_tiny_model(self.folder / "endless", layers=2, context=512, end_scale=0.0)
        page, _ = self.check(*self.on_policy("grpo", "--verifier", "some.toml", student="endless", tokens=4))
        self.assertEqual(page["answers"][0][0], "note", page)
        self.assertIn("--max-answer-tokens", page["answers"][0][1])

    def problem(self, about, whats, *command):
        page, _ = self.check(*command, status=1)
        verdict, text = page[about][-1]
        self.assertEqual(verdict, "PROBLEM", page)
        for what in whats:
            self.assertIn(what, text)
        self.assertNotIn("time", page)
        return page

    def test_what_is_wrong_is_named_with_its_mend(self):
        page = self.problem("verifier", ("broken.toml", "patern"), *self.on_policy("grpo", "--verifier", "broken.toml"))
        self.assertIn("template", page)  # the rest is told too
        self.problem("verifier", ("give --verifier",), *self.on_policy("grpo"))
        self.problem("verifier", ("p0", "result"), *self.on_policy("grpo", "--verifier", "metadata.toml"))
        self.problem("prompts", ("24 of 24", "rows have 128", "--row-length"),
                     *self.on_policy("grpo", "--verifier", "some.toml", tokens=120))
        self.problem("prompts", ("context 512", "--max-answer-tokens"),
                     *self.on_policy("grpo", "--verifier", "some.toml", tokens=600))
        self.problem("tokenizer", ("opd", "--teacher"), *self.on_policy("opd"))
        tokenizer = json.loads((self.folder / "teacher/tokenizer.json").read_text())
        tokenizer["model"]["merges"] = ["a b"]
        tokenizer["model"]["vocab"]["ab"] = len(tokenizer["model"]["vocab"])
        (self.folder / "teacher/tokenizer.json").write_text(json.dumps(tokenizer))
        self.problem("start", ("different tokenizers", "ce"), *self.on_policy("opd", "--teacher", "teacher"))
        (self.folder / "prompts.jsonl").write_text('{"id": "x"}\n')
        self.problem("prompts", ("none to answer",), *self.on_policy("grpo", "--verifier", "some.toml"))

    def trained(self, output, *start):
        self.retort("distill", *start, "--records", "records.jsonl", "--row-length", 256, "--max-steps", 1, "--threads", 1,
                    "-q", "--output", output)

    def test_text_alone_after_pruning_is_noted(self):
        cut = ("--teacher", "teacher", "--keep-layers", 1, "--layer-choice", "even")
        options = ("--records", "records.jsonl", "--row-length", 256, "--threads", 1, "-q", "--output", "out")

        def noted(*start):
            page, _ = self.check("distill", *start, *options)
            return page.get("objective", [("", "")])[0]

        verdict, text = noted(*cut, "--objective", "ce")
        self.assertEqual(verdict, "note")
        for what in ("1 of 2 layers", "--objective fkl", "--cache"):
            self.assertIn(what, text)
        self.assertEqual(noted(*cut)[0], "")
        # What pruning left beside the student tells it to the next training; what a teacher's distribution mended is mended.
        self.trained("by-text", *cut, "--objective", "ce")
        self.trained("again", "--student", "by-text/model", "--objective", "ce")
        self.trained("by-teacher", "--teacher", "teacher", "--student", "again/model")
        self.trained("narrow", "--teacher", "teacher", "--keep-channels", 48, "--objective", "ce")
        self.retort("export", "again/model", "--format", "gguf", "--type", "f32", "--output", "again.gguf")
        for student, expected in (("by-text/model", "1 of 2 layers"), ("again/model", "1 of 2 layers"),
                                  ("again.gguf", "1 of 2 layers"), ("narrow/model", "48 of 64 MLP channels"),
                                  ("by-teacher/model", ""), ("student", "")):
            self.assertIn(expected, noted("--student", student, "--objective", "ce")[1], student)
            if not expected:
                self.assertEqual(noted("--student", student, "--objective", "ce")[0], "", student)


if __name__ == "__main__":
    main()
