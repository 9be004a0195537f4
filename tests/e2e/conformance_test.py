"""Each field of the contract against the real program: taken, refused by name, or read over, as docs/api.md says; a wrong type
names the field. The table and this list are held to each other, so that neither can drift."""

import http.client
import json
import re

from harness import SOURCE, E2eTest, main, make_tiny_model

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
COMPLETION = {"model": "tiny", "prompt": "hi", "max_tokens": 2}
EMBEDDING = {"model": "tiny", "input": "hi"}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
S, R, I = "supported", "refused", "ignored"
# field: what the table says, a value, a wrong one (none: any value is read over), other fields it needs
CHAT_FIELDS = {
    "model": (S, "tiny", 1), "messages": (S, CHAT["messages"], "hi"), "max_completion_tokens": (S, 3, "x"), "max_tokens": (S, 3, -1),
    "temperature": (S, 1.5, 2.5), "top_p": (S, 0.5, "x"), "frequency_penalty": (S, -2, 3), "presence_penalty": (S, 2, -3),
    "logit_bias": (S, {"5": -100}, {"5": 101}), "seed": (S, 7, "x"), "n": (S, 2, 0), "top_k": (S, 5, "x"), "min_p": (S, 0.1, 2),
    "repetition_penalty": (S, 1.1, "x"), "chat_template_kwargs": (S, {"enable_thinking": False}, {"enable_thinking": 1}),
    "stop": (S, ["a", "b", "c", "d"], ["a", "b", "c", "d", "e"]), "logprobs": (S, True, 1), "top_logprobs": (S, 20, 21, {"logprobs": True}),
    "response_format": (S, {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, {"type": "xml"}),
    "stream": (S, False, "x"), "stream_options": (S, {"include_usage": True, "include_obfuscation": False}, 1, {"stream": True}),
    "tools": (R, [{"type": "function", "function": {"name": "f"}}]),  # this model's template has no place for them
    "reasoning_effort": (S, "low", 1), "tool_choice": (S, "none", "x"), "parallel_tool_calls": (S, False, 1),
    "functions": (R, [{"name": "f"}]), "function_call": (R, "auto"), "audio": (R, {"voice": "a"}), "web_search_options": (R, {"a": 1}),
    "user": (I, "u"), "store": (I, True), "metadata": (I, {"a": "b"}), "service_tier": (I, "auto"), "prediction": (I, {"type": "content"})}
SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "top_k", "min_p", "repetition_penalty", "stop",
            "stream_options")
COMPLETION_FIELDS = {
    "model": (S, "tiny", 1), "user": (I, "u"), "prompt": (S, ["a", "b"], 1), "max_tokens": (S, 0, -1, {"echo": True}), "logprobs": (S, 2, 21), "n": (S, 2, 0), "stream": (S, False, 1),
    "echo": (S, True, 1), "suffix": (R, "x"), "best_of": (R, 2)}
EMBEDDING_FIELDS = {"model": (S, "tiny", 1), "user": (I, "u"), "input": (S, ["a", [1, 2]][:1], 1), "encoding_format": (S, "base64", "x"), "dimensions": (R, 3)}


class Conformance(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "models/tiny", context=512)
        process = self.start("serve", "--model", "tiny", "--port", 0, "--json")
        self.address = json.loads(process.stdout.readline())["base_url"].removesuffix("/v1").removeprefix("http://")

    def ask(self, path, body):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def check(self, path, base, fields):
        for name, (kind, good, *rest) in fields.items():
            needs = rest[1] if len(rest) > 1 else {}
            status, text = self.ask(path, {**base, **needs, name: good})
            if kind == R:
                error = json.loads(text)["error"]
                self.assertEqual((status, error["code"]), (400, "unsupported_parameter"), (path, name, text))
                self.assertIn(name, str(error["param"]) + error["message"])
                continue
            self.assertEqual(status, 200, (path, name, text))
            self.assertEqual(self.ask(path, {**base, **needs, name: None})[0], 400 if name in ("model", "messages", "prompt", "input") else 200, (path, name))
            if kind == S:
                status, text = self.ask(path, {**base, **needs, name: rest[0]})
                self.assertIn(status, (400, 404) if name == "model" else (400,), (path, name, text))
                self.assertIn(name, str(json.loads(text)["error"]["param"]), (path, text))

    def test_chat(self):
        self.check("/v1/chat/completions", CHAT, CHAT_FIELDS)

    def test_completions(self):
        self.check("/v1/completions", COMPLETION, {**{name: CHAT_FIELDS[name] for name in SAMPLING}, **COMPLETION_FIELDS})

    def test_embeddings(self):
        self.check("/v1/embeddings", EMBEDDING, EMBEDDING_FIELDS)

    def test_the_table_names_what_is_tested_and_tests_that_there_are(self):
        text = (SOURCE / "docs/api.md").read_text().split("## Conformance")[1]
        for title, fields in (("chat request", CHAT_FIELDS), ("completion request", COMPLETION_FIELDS), ("embedding request", EMBEDDING_FIELDS)):
            table = text.split(f"| {title} |")[1].split("\n\n")[0]
            words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", "\n".join(row.split("|")[1] for row in table.splitlines() if row.count("|") > 3)))))
            missing = {name for name, (kind, *_) in fields.items() if name not in words and (kind != I or title != "completion request")} - {"n", "logprobs", "stream", "echo"} | {
                name for name in ("n", "logprobs", "stream") if name in fields and name not in table}
            self.assertEqual(missing, set(), title)
        sources = "".join(path.read_text() for path in [*(SOURCE / "tests/serve").glob("*.cpp"), *(SOURCE / "tests/api").glob("*.cpp"),
                                                         SOURCE / "tests/e2e/openai_client.py"])
        rows = [row for row in text.splitlines() if row.startswith("|") and row.count("|") > 3]
        for name in re.findall(r"`(?:openai_client.py: )?([a-z][a-z_]+_[a-z_]+)…?`", "\n".join(row.rsplit("|", 2)[1] for row in rows)):
            self.assertIn(name, sources)


if __name__ == "__main__":
    main()
