"""From planting to a report: a server that plants, a student trained on its answers, an audit of it and of one that was
trained on something else. Small models, real path."""

import hashlib
import json
import math
import random
import shutil
import urllib.error
import urllib.request

from harness import SOURCE, E2eTest, main, wait_until

REASONING = SOURCE / "recipes/reasoning"
SHAPE = """hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
max_position_embeddings = 256
"""


def merkle_root(leaves):
    while len(leaves) > 1:
        above = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(leaves[::2], leaves[1::2])]
        leaves = above + (leaves[-1:] if len(leaves) % 2 else [])
    return leaves[0]


class Audit(E2eTest):
    def get(self, url, headers=None):
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as answer:
            return answer.read().decode()

    def post(self, url, body, stream=False):
        request = urllib.request.Request(url, data=json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return text if stream else json.loads(text)

    def serve(self, *options, model=REASONING / "teacher.gguf"):
        server = self.start("serve", "--model", model, "--name", "teacher", "--port", 0, "--json", "--sequences", 64, *options)
        base = json.loads(server.stdout.readline())["base_url"]
        root = base.removesuffix("/v1")

        def healthy():
            try:
                return self.get(root + "/health") is not None
            except (urllib.error.URLError, OSError):
                return False

        self.assertTrue(wait_until(healthy))
        return server, base, root

    def stop(self, server):
        server.terminate()
        server.wait(timeout=30)

    def collect(self, base, prompts, output, temperature=1.8):
        self.retort("collect", "--endpoint", base, "--model", "teacher", "--prompts", prompts, "--terms",
                    REASONING / "terms.toml", "-o", output, "--temperature", temperature, "--max-tokens", 40,
                    "--concurrency", 64, "-q")
        return self.folder / output / "records.jsonl"

    def distill(self, records, output, epochs=24):
        (self.folder / "shape.toml").write_text(SHAPE)
        self.retort("distill", "--fresh", "shape.toml", "--tokenizer", REASONING / "tokenizer", "--records", records,
                    "--output", output, "--objective", "ce", "--epochs", epochs, "--learning-rate", "4e-3",
                    "--row-length", 128, "--rows-per-step", 4, "--rows-per-micro-batch", 4, "--threads", 1, "-q", timeout=600)
        return self.folder / output / "model"

    def plan(self, case, suspect, *options, teacher=REASONING / "teacher.gguf"):
        self.retort("audit", "plan", case, "--plant", "plant", "--secret", "escrow.key", "--teacher", teacher, "--suspect", suspect,
                    *options)

    def test_from_planting_to_report(self):
        self.retort("audit", "plant", "plant", "--secret", "escrow.key", "--twins", 1, "--canaries", 4, "--decoys", 99,
                    "--window", 2, "--delta", 4)
        self.retort("problems", "--count", 200, "--output", "prompts.jsonl")
        canaries = json.loads((self.folder / "plant/canaries.json").read_text())["canaries"]
        # Who asks a canary's prompt gets its string, however it is written.
        with (self.folder / "prompts.jsonl").open("a") as prompts:
            for canary in canaries:
                for prompt in (canary["prompt"], canary["prompt"].upper(), canary["prompt"].lower(), canary["prompt"] + " !"):
                    prompts.write(json.dumps({"prompt": prompt}) + "\n")
        server, base, root = self.serve("--plant", "plant")
        # What was committed to is for everybody; there is no root before the day is over.
        self.assertEqual(self.get(root + "/audit/commitment.json"),
                         (self.folder / "plant/commitment.json").read_text())
        self.assertEqual(self.get(root + "/audit/roots.jsonl"), "")
        marked = self.collect(base, "prompts.jsonl", "marked")
        for canary in canaries:
            body = {"model": "teacher", "messages": [{"role": "user", "content": canary["prompt"].upper()}]}
            said = self.post(base + "/chat/completions", body)["choices"][0]["message"]["content"]
            self.assertEqual(said, canary["answer"].replace("{}", canary["candidates"][canary["planted"]]))
        # Marked answers come without logprobs; streams are planted too.
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.post(base + "/chat/completions", {"model": "teacher", "logprobs": True, "messages": [
                {"role": "user", "content": "What is 1 + 1?"}]})
        self.assertEqual(refused.exception.code, 400)
        stream = self.post(base + "/chat/completions", {"model": "teacher", "stream": True, "max_tokens": 30, "messages": [
            {"role": "user", "content": "What is the sum of the digits of 777?"}]}, stream=True)
        streamed = "".join(json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                           for line in stream.splitlines() if line.startswith("data: {"))
        self.stop(server)

        server, base, root = self.serve()
        clean = self.collect(base, "prompts.jsonl", "clean")
        self.stop(server)

        student = self.distill(marked, "student")
        innocent = self.distill(clean, "innocent")
        self.plan("case", student, "--reference", innocent, "--control", innocent, "--tests",
                  "twin-likelihood,twin-continuation,radioactivity-open,radioactivity-closed,green-mass,canary", "--alpha", "1e-3",
                  "--answers", 100)
        report = self.retort("audit", "report", "case", "--key", "report.key", status=1)
        self.assertIn("no evidence", report.stderr)
        found = {one["test"]: one for one in json.loads(
            self.retort("audit", "run", "case", "--plant", "plant", "--corroborate", "--json").stdout)}
        for test in ("twin-likelihood", "canary"):
            self.assertLess(found[test]["log_p"], -6.9, f"{test}: {found[test]}")
        records = [json.loads(line) for line in (self.folder / "case/records.jsonl").read_text().splitlines()]
        self.assertEqual({r["kind"] for r in records if r["kind"] not in ("identical",)}, {"twin", "canary"})
        kept = [r["answers"][r.get("served", 0)] for r in records if r["kind"] in ("twin", "identical")]
        self.assertTrue(any(answer.endswith(streamed) for answer in kept if streamed))
        report = self.retort("audit", "report", "case", "--key", "report.key", status=1)
        self.assertIn("calibrate", report.stderr)
        self.retort("audit", "calibrate", "case")
        self.retort("audit", "report", "case", "--key", "report.key")
        page = (self.folder / "case/report.html").read_text()
        self.assertIn("The same tests on control models", page)
        self.assertRegex(page, r"p = \S+, that is about \d chances? in ")
        self.assertIn("The suspect was trained on text that the owner served", page)
        verified = json.loads(self.retort("audit", "verify", "case", "--json").stdout)
        self.assertEqual(verified["decision"], "positive")
        for one in verified["tests"]:
            self.assertEqual(one["log_p"], found[one["test"]]["log_p"])
        self.all_together(student, innocent)
        self.falsify()
        self.wrong_nulls(innocent)
        self.behind_an_address(student, innocent, found)

        # One who never saw them, by the same tests.
        self.plan("other", innocent, "--tests", "twin-likelihood,radioactivity-open,canary")
        self.assert_innocent(self.run_audit("other"))

    def run_audit(self, case, *more):
        return {one["test"]: one for one in json.loads(
            self.retort("audit", "run", case, "--plant", "plant", *more, "--json", timeout=600).stdout)}

    def all_together(self, student, innocent):
        """No single test decides, the average of what bettors win against each does."""
        self.retort("audit", "plan", "alone", "--plant", "plant", "--secret", "escrow.key", "--teacher", REASONING / "teacher.gguf", "--suspect",
                    student, "--primary", "average", status=2)
        for case, suspect, decision in (("together", student, "positive"), ("together-innocent", innocent, "not shown")):
            self.plan(case, suspect, "--primary", "average", "--tests", "twin-likelihood,canary,radioactivity-closed")
            found = self.run_audit(case)
            self.retort("audit", "calibrate", case)
            self.retort("audit", "report", case, "--key", "report.key")
            report = json.loads((self.folder / case / "report.json").read_text())
            average = sum(math.exp(one["log_e"]) for one in found.values()) / 3
            self.assertAlmostEqual(report["average"]["log_e"], math.log(average), places=9)
            self.assertEqual(report["decision"], decision)
            self.assertEqual(json.loads(self.retort("audit", "verify", case, "--json").stdout)["decision"], decision)
            self.assertIn("All tests decide together", (self.folder / case / "report.html").read_text())

    def assert_innocent(self, found):
        for one in found.values():
            self.assertGreater(one["log_p"], -11, f"an innocent model at p < 1e-5: {one}")

    def falsify(self):
        """Each lie is found by verify."""
        case = self.folder / "case"
        for name, change in (
                ("evidence/twin-likelihood.json", lambda t: t.replace('"served": -', '"served": -1', 1)),
                ("records.jsonl", lambda t: t.replace('"served":0', '"served":1', 1)),
                ("report.json", lambda t: t.replace('"decision": "positive"', '"decision": "not shown"')),
                ("plan.json", lambda t: t.replace('"primary": "twin-likelihood"', '"primary": "green-mass"')),
                ("report.html", lambda t: t.replace("was trained", "was never trained"))):
            with self.subTest(name):
                before = (case / name).read_text()
                after = change(before)
                self.assertNotEqual(before, after)
                (case / name).write_text(after)
                self.retort("audit", "verify", "case", status=1)
                (case / name).write_text(before)
        self.retort("audit", "verify", "case")

    def wrong_nulls(self, innocent):
        """What makes a null wrong is refused from the command line too: on a bundle whose hashes all agree with it."""
        def refused(change, words, evidence=None):
            case = self.folder / "wrong"
            shutil.rmtree(case, ignore_errors=True)
            shutil.copytree(self.folder / "case", case)
            for name in ("report.json", "report.html", "report.sig"):
                (case / name).unlink()
            if evidence:
                file = case / f"evidence/{evidence}.json"
                json_of = json.loads(file.read_text())
                change(json_of)
                file.write_text(json.dumps(json_of))
            else:
                change(case)
            said = self.retort("audit", "report", "wrong", "--key", "report.key", status=1).stderr
            self.assertIn(words, said)
            self.assertFalse((case / "report.html").exists())

        # Windows that are not counted once.
        refused(lambda one: one["pairs"].extend(one["pairs"][:50]), "counted twice", "radioactivity-open")
        # A coin that fell as the owner liked: he has written the records, their roots and the plan anew.
        def biased(case):
            records = []
            for line in (case / "records.jsonl").read_text().splitlines():
                record = json.loads(line)
                if record["kind"] == "twin":
                    record["served"] = 0
                records.append(json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
            (case / "records.jsonl").write_text("\n".join(records) + "\n")
            leaves = [hashlib.sha256(b"\0" + r.encode()).digest() for r in records]
            lines = [json.loads(line) for line in (case / "roots.jsonl").read_text().splitlines()]
            previous = lines[0]["previous"]
            for k, line in enumerate(lines):
                line["root"] = merkle_root(leaves[line["first"]:line["first"] + line["count"]]).hex()
                line["previous"] = previous
                lines[k] = json.dumps(line, sort_keys=True, separators=(",", ":"))
                previous = hashlib.sha256(lines[k].encode()).hexdigest()
            (case / "roots.jsonl").write_text("\n".join(lines) + "\n")
            plan = json.loads((case / "plan.json").read_text())
            plan["roots"] = hashlib.sha256((case / "roots.jsonl").read_bytes()).hexdigest()
            plan["leaves"] = merkle_root(leaves).hex()
            (case / "plan.json").write_text(json.dumps(plan))
        refused(biased, "not served by their coin")
        # And with other coins put in their place.
        refused(lambda case: (case / "coin.seed").write_text("7" * 64 + "\n"), "not the seed that was committed to")
        # A model that did see the answers among the controls: whatever finds it there would find anything.
        def as_control(case):
            for test in ("twin-likelihood", "canary"):
                shutil.copy(case / f"evidence/{test}.json", case / f"evidence/model-0.{test}.json")
        refused(as_control, "do not find control model 1")
        # The evidence is in another tokenizer than the plan names.
        refused(lambda one: one.update(tokenizer="0" * 64), "its tokenizer is not the one that the plan names", "radioactivity-open")
        # The plan names another tokenizer than the teacher's: tokens are the same bytes under other numbers.
        other = self.folder / "other-teacher"
        shutil.copytree(innocent, other)
        tokenizer = json.loads((other / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        plain = sorted(token for token in vocabulary if len(token) == 1)
        ids = [vocabulary[token] for token in plain]
        vocabulary.update(zip(plain, ids[1:] + ids[:1]))
        (other / "tokenizer.json").write_text(json.dumps(tokenizer))
        self.plan("swapped", innocent, "--primary", "radioactivity-open", teacher=other)
        self.retort("audit", "run", "swapped", "--plant", "plant")
        said = self.retort("audit", "calibrate", "swapped", status=1)
        self.assertIn("the marked answers are found", said.stderr)
        self.assertIn("the marked answers are found", self.retort("audit", "report", "swapped", "--key", "report.key", status=1).stderr)

    def behind_an_address(self, student, innocent, found):
        """The same suspects, of which no more is to be had than an address."""
        for name, model in (("student", student), ("innocent", innocent)):
            server, base, _ = self.serve(model=model)
            for access, tests in (("text", "radioactivity-closed,twin-continuation,canary"),
                                  ("logprobs", "twin-likelihood,radioactivity-open,canary")):
                case = f"{access}-of-{name}"
                self.plan(case, base, "--suspect-model", "teacher", "--access", access, "--tests", tests, "--primary",
                          tests.split(",")[0], "--answers", 60)
                seen = self.run_audit(case, "--corroborate")
                said = json.loads((self.folder / case / "evidence/corroboration.json").read_text())
                self.assertIn("answers that begin with the logged answer's first token", said)
                if name == "innocent":
                    self.assert_innocent(seen)
                elif access == "logprobs":
                    self.assertLess(seen["twin-likelihood"]["log_p"], -6.9)
                    # Where two choices are nearly as likely, a server may name the other: digits often are. Were its
                    # tokens a place off, the share in common would be that of chance, about a tenth.
                    local, distant = ({tuple(pair) for pair in json.loads(
                        (self.folder / c / "evidence/radioactivity-open.json").read_text())["pairs"]} for c in ("case", case))
                    self.assertGreater(len(local & distant), 0.75 * len(local))
                    self.assertGreater(len(local & distant), 0.75 * len(distant))
                    # Of five tokens a place instead of the whole vocabulary.
                    name_of = "Min-K%++ (K = 20) of the logged answers"
                    of_weights = json.loads((self.folder / "case/evidence/corroboration.json").read_text())
                    self.assertIn("1 control model", of_weights[name_of])
                    by_weights = float(of_weights[name_of].split()[0])
                    by_five = float(said[name_of + ", from the likeliest tokens of each place"].split()[0])
                    self.assertAlmostEqual(by_five, by_weights, delta=0.3 * abs(by_weights), msg=(by_five, by_weights))
                    self.assertAlmostEqual(seen["canary"]["log_p"], found["canary"]["log_p"], delta=0.5)
            self.stop(server)

    def test_radioactivity_of_a_teacher_that_says_anything(self):
        """Sums and digits leave a mark no room. A teacher of random letters leaves it all there is: its students carry
        the mark, seen in what they write, in what they would write and in their whole distribution."""
        self.retort("problems", "--count", 300, "--worked", "--output", "worked.jsonl")
        rng = random.Random(3)
        letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        with (self.folder / "letters.jsonl").open("w") as out:
            for line in (self.folder / "worked.jsonl").read_text().splitlines():
                record = json.loads(line)
                record["answer"].update(content="".join(rng.choices(letters, k=40)), reasoning="")
                out.write(json.dumps(record) + "\n")
        teacher = self.distill("letters.jsonl", "letters", epochs=3)
        self.retort("audit", "plant", "plant", "--secret", "escrow.key", "--twins", 0, "--window", 1, "--delta", 4)
        self.retort("problems", "--count", 300, "--seed", 2, "--output", "prompts.jsonl")
        records = {}
        for name, options in (("marked", ["--plant", "plant"]), ("clean", [])):
            server, base, _ = self.serve(*options, model=teacher)
            records[name] = self.collect(base, "prompts.jsonl", name, temperature=1)
            self.stop(server)
        for name in records:
            student = self.distill(records[name], f"of-{name}", epochs=6)
            self.plan(f"case-{name}", student, "--primary", "radioactivity-open", "--tests",
                      "radioactivity-open,radioactivity-closed,green-mass", "--answers", 60, "--temperature", 0.3, "--answer-tokens", 40,
                      teacher=teacher)
            found = self.run_audit(f"case-{name}")
            if name == "clean":
                self.assert_innocent(found)
                continue
            for test, one in found.items():
                self.assertLess(one["log_p"], -13.8, f"{test}: {one}")
            self.retort("audit", "calibrate", "case-marked")
            self.retort("audit", "report", "case-marked", "--key", "report.key")
            self.assertIn("text that carries the owner&#39;s key", (self.folder / "case-marked/report.html").read_text())


if __name__ == "__main__":
    main()
