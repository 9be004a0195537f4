"""report.html while a training or a run goes on: it is a whole page at any instant, loads itself again, draws what there is, and
stops doing so when the work ends, is interrupted or fails."""

import json
import re
import signal
import time

from collect_test import TERMS
from harness import E2eTest, main, make_tiny_model, wait_until

RELOADS = '<meta http-equiv="refresh" content="5">'


class LiveReport(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "tiny", layers=2, context=512, end_scale=3.0)
        for name, count in (("records.jsonl", 40), ("held.jsonl", 6)):
            records = [{"id": f"{name}{i}", "prompt": [{"role": "user", "content": f"Count to {i}"}],
                        "answer": {"content": " ".join(str(n) for n in range(i + 4)), "finish_reason": "stop"}}
                       for i in range(count)]
            (self.folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    def distill(self, output, *more):
        return self.start("distill", "--student", "tiny", "--objective", "ce", "--records", "records.jsonl", "--held-out",
                          "held.jsonl", "--eval-every", "20", "--row-length", "256", "--rows-per-step", "4", "--threads", "1",
                          "-q", "--output", output, *more)

    def page(self, name):
        """Read as a browser might, at any instant; whole, or not there yet."""
        try:
            html = (self.folder / name).read_text()
        except FileNotFoundError:
            return ""
        self.assertTrue(html.startswith("<!doctype html>") and html.endswith("</html>\n"), html[-200:])
        return html

    def test_a_training(self):
        process = self.distill("out", "--max-steps", "400", "--epochs", "100")
        steps = set()
        while process.poll() is None:
            html = self.page("out/report.html")
            if html and process.poll() is None:
                step = re.search(r"The student trains: step (\d+) of 400", html)
                if step:
                    self.assertIn(RELOADS, html)
                    steps.add(int(step[1]))
            time.sleep(0.005)
        self.assertEqual(process.returncode, 0, process.communicate()[1])
        self.assertGreater(len(steps), 3, steps)  # each measurement of held-out loss writes one
        html = self.page("out/report.html")
        self.assertNotIn("http-equiv=\"refresh\"", html)
        for what in ("Trained: 400 steps", "Loss, ce", "Held-out loss", "Learning rate", "<svg"):
            self.assertIn(what, html)
        self.assertNotIn("<script", html)

    def test_interrupted_and_gone_on_with(self):
        more = ("--max-steps", "4000", "--epochs", "1000")
        process = self.distill("out", *more)
        self.assertTrue(wait_until(lambda: "step 20 of 4000" in self.page("out/report.html") or
                                   re.search(r"step \d{2,} of 4000", self.page("out/report.html"))))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        html = self.page("out/report.html")
        self.assertNotIn(RELOADS, html)
        self.assertIn("Interrupted. The same command goes on.", html)
        taken = int(re.search(r"stopped at step (\d+) of 4000", html)[1])
        process = self.distill("out", *more)
        self.assertTrue(wait_until(lambda: RELOADS in self.page("out/report.html")))
        step = re.search(r"trains: step (\d+) of 4000", self.page("out/report.html"))
        self.assertGreaterEqual(int(step[1]), taken)  # the earlier part of the curve is there as well
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    def test_what_cannot_begin_leaves_no_page(self):
        process = self.distill("out", "--learning-rate", "-1")
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse((self.folder / "out/report.html").exists())

    def test_a_run(self):
        (self.folder / "terms.toml").write_text(TERMS)
        (self.folder / "prompts.txt").write_text("".join(f"Tell me about thing {i}.\n" for i in range(30)))
        (self.folder / "r.toml").write_text("""name = "watched"
[teacher]
source = "tiny"
[collect]
prompts = ["prompts.txt"]
terms = "terms.toml"
max_tokens = 40
[curate]
near_duplicate_similarity = 2
test_share = 0.3
[student]
keep_layers = 1
layer_choice = "even"
[distill]
epochs = 40
row_length = 256
rows_per_step = 1
[[distill.variant]]
name = "text"
objective = "ce"
[[distill.variant]]
name = "distilled"
objective = "fkl"
[evaluate]
task_prompts = 2
max_tokens = 8
""")
        process = self.start("run", "r.toml", "--folder", "run", "--threads", "1", "-q")
        seen = set()
        while process.poll() is None:
            html = self.page("run/report.html")
            summary = re.search(r'class="summary">([^<]*)<', html)
            if summary and RELOADS in html:
                seen.add(re.sub(r"step.*", "", summary[1]))
            time.sleep(0.003)
        self.assertEqual(process.returncode, 0, process.communicate()[1])
        self.assertIn("Student on text alone trains: ", seen)
        self.assertIn("Student distilled trains: ", seen)
        self.assertEqual(self.page("run/report.html"), self.page("run/evaluate/report.html"))
        self.assertNotIn("http-equiv=\"refresh\"", self.page("run/report.html"))


if __name__ == "__main__":
    main()
