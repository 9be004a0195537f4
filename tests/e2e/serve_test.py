"""`retort serve` with a tiny model: starting, stopping, keys, errors at the start, and the official OpenAI client
against it (from build/e2e-python, which scripts/prepare-e2e-python.sh makes)."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request

from harness import SOURCE, E2eTest, clean_environment, main, make_tiny_model

CLIENT_PYTHON = pathlib.Path(os.environ.get("RETORT_E2E_PYTHON", SOURCE / "build/e2e-python/bin/python"))


class Serve(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "models/tiny", context=2048)

    def serve(self, *more, env=None):
        process = self.start("serve", "--model", "tiny", "--port", 0, "--json", *more, env=env)
        line = process.stdout.readline()
        self.assertTrue(line, process.stderr.read() if process.poll() is not None else "no line")
        return process, json.loads(line)["base_url"]

    def get(self, url, key=None, body=None):
        request = urllib.request.Request(url, data=json.dumps(body).encode() if body is not None else None)
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", "Bearer " + key)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_answers_and_stops(self):
        process, url = self.serve("--name", "babbler")
        self.assertEqual(self.get(url.removesuffix("/v1") + "/health")[0], 200)
        self.assertIn("babbler", self.get(url + "/models")[1])
        status, body = self.get(url + "/chat/completions", body={
            "model": "babbler", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0})
        self.assertEqual(status, 200, body)
        self.assertLessEqual(json.loads(body)["usage"]["completion_tokens"], 5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(20), 0)

    def test_chat_and_serve_say_the_same(self):
        _, url = self.serve()
        _, body = self.get(url + "/chat/completions", body={
            "model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "temperature": 0})
        said = self.retort("chat", "tiny", "-p", "Hi", "-n", 12, "-t", 0, "--json", "-q").stdout
        self.assertEqual(json.loads(body)["choices"][0]["message"]["content"], json.loads(said)["content"])

    def test_keys(self):
        (self.folder / "keys").write_text("# ours\n\nfirst\nsecond\r\n")
        _, url = self.serve("--key-file", "keys", env=clean_environment(RETORT_API_KEY="third"))
        self.assertEqual(self.get(url + "/models")[0], 401)
        self.assertEqual(self.get(url + "/models", "other")[0], 401)
        for key in ("first", "second", "third"):
            self.assertEqual(self.get(url + "/models", key)[0], 200)
        self.assertEqual(self.get(url.removesuffix("/v1") + "/health")[0], 200)

    def test_an_answer_in_progress_may_end(self):
        process, url = self.serve()
        result = []
        asking = threading.Thread(target=lambda: result.append(self.get(url + "/chat/completions", body={
            "model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 300, "temperature": 1.5,
            "logit_bias": {"258": -100, "256": -100}})))
        asking.start()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        self.assertEqual(result[0][0], 200, result)
        self.assertEqual(json.loads(result[0][1])["usage"]["completion_tokens"], 300)
        self.assertEqual(process.wait(30), 0)

    def test_errors_at_the_start(self):
        self.assertIn("no-such", self.retort("serve", "--model", "no-such", status=1).stderr)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.retort("serve", "--model", "tiny", "--port", port, status=1)
            self.assertIn(str(port), done.stderr)
        (self.folder / "empty").write_text("# none\n")
        self.assertIn("no key in it", self.retort("serve", "--model", "tiny", "--key-file", "empty", status=2).stderr)
        self.retort("serve", "--model", "tiny", "--port", 70000, status=2)
        self.retort("serve", "--model", "tiny", "--context", 4096, status=2)

    def test_official_client(self):
        if not CLIENT_PYTHON.exists():
            if os.environ.get("CI"):
                self.fail(f"{CLIENT_PYTHON} is missing: run scripts/prepare-e2e-python.sh")
            self.skipTest(f"no {CLIENT_PYTHON}; scripts/prepare-e2e-python.sh makes it")
        _, url = self.serve(env=clean_environment(RETORT_API_KEY="secret"))
        done = subprocess.run([CLIENT_PYTHON, SOURCE / "tests/e2e/openai_client.py", url, "--api-key", "secret"],
                              env=clean_environment(), capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(" 0 failed", done.stdout)
        print(done.stdout, end="")


if __name__ == "__main__":
    main()
