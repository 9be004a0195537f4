"""`retort eval`: what it writes prompt by prompt adds up to what its report says of all prompts together."""

import json

from harness import E2eTest, main, make_tiny_model


class Eval(E2eTest):
    def test_by_prompt_adds_up_to_the_report(self):
        make_tiny_model(self.folder / "teacher")
        make_tiny_model(self.folder / "student", seed=1)
        records = [{"id": f"r{i}", "prompt": [{"role": "user", "content": f"Count to {i % 5}"}],
                    "answer": {"content": " ".join(str(n) for n in range(i + 2)), "finish_reason": "stop"}}
                   for i in range(12)]  # more than one answer a prompt
        (self.folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        done = self.retort("eval", "--teacher", "teacher", "--records", "records.jsonl", "--row-length", "128",
                           "--task-prompts", "1", "--max-tokens", "2", "--speed-tokens", "2", "--threads", "1", "--by-prompt",
                           "prompts.jsonl", "--json", "one=student", "same=teacher")
        models = {model["key"]: model["values"] for model in json.loads(done.stdout)["models"]}
        lines = [json.loads(line) for line in (self.folder / "prompts.jsonl").read_text().splitlines()]
        self.assertEqual(len(lines), 10)
        for model in ("one", "same"):
            own = [line for line in lines if line["model"] == model]
            self.assertEqual(len({line["prompt"] for line in own}), 5)
            tokens = sum(line["tokens"] for line in own)
            self.assertGreater(tokens, 100)
            for key in ("kl", "nll", "agreement"):
                mean = sum(line[key] * line["tokens"] for line in own) / tokens
                self.assertAlmostEqual(mean, models[model][key]["value"], places=9, msg=f"{model} {key}")
        self.assertGreater(models["one"]["kl"]["value"], 0.001)
        self.assertLess(models["same"]["kl"]["value"], 1e-9)


if __name__ == "__main__":
    main()
