"""`retort serve --protected`: what a model or an upstream server says is cut before it repeats a work, whole and streamed."""

import http.server
import json
import re
import threading
import urllib.request

from harness import E2eTest, main, make_tiny_model

LIMIT = 12


def words(text):
    return re.findall(r"[^\W_]+", text.casefold())


class Upstream(http.server.BaseHTTPRequestHandler):
    """Recites `text`, in frames of seven characters where a stream is asked for."""
    text = ""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not body.get("stream"):
            out = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": self.text},
                                           "finish_reason": "stop"}], "usage": {"completion_tokens": 9}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        pieces = [self.text[i:i + 7] for i in range(0, len(self.text), 7)]
        for piece in [*pieces, None]:
            choice = {"index": 0, "delta": {"content": piece} if piece else {}, "finish_reason": None if piece else "stop"}
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


class Protected(E2eTest):
    def serve(self, *more):
        process = self.start("serve", "--port", 0, "--json", *more)
        return json.loads(process.stdout.readline())["base_url"]

    def ask(self, url, **body):
        """Text and finish reason; of a stream put together."""
        request = urllib.request.Request(url + "/chat/completions", json.dumps({
            "messages": [{"role": "user", "content": "Hi"}], **body}).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            heard = answer.read().decode()
        if not body.get("stream"):
            choice = json.loads(heard)["choices"][0]
            return choice["message"]["content"], choice["finish_reason"]
        text, reason = "", None
        for line in heard.splitlines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    self.assertIsNone(reason, "something follows the end")
                    text += choice["delta"].get("content") or ""
                    reason = choice.get("finish_reason")
        self.assertTrue(heard.rstrip().endswith("data: [DONE]"))
        return text, reason

    def longest(self, text, work):
        """Words of the longest passage of the work in the text."""
        a, b = words(text), words(work)
        best = 0
        for i in range(len(a)):
            for j in range(len(b)):
                length = 0
                while i + length < len(a) and j + length < len(b) and a[i + length] == b[j + length]:
                    length += 1
                best = max(best, length)
        return best

    def index(self, work):
        (self.folder / "work.jsonl").write_text(json.dumps({"text": work}))
        self.retort("screen", "index", "work.jsonl", "-o", "works.index")
        return ("--protected", "works.index", "--protected-tokens", LIMIT, "--protected-chars", 0)

    def test_a_model_is_cut(self):
        make_tiny_model(self.folder / "models/tiny", context=2048)
        asked = {"model": "tiny", "max_tokens": 700, "temperature": 1.5, "seed": 7,
                 "logit_bias": {"258": -100, "256": -100, "32": 2}}
        free = self.serve("--model", "tiny")
        work, _ = self.ask(free, **asked)
        self.assertGreater(len(words(work)), 3 * LIMIT, work)
        guarded = self.serve("--model", "tiny", *self.index(work))
        for stream in (False, True):
            text, reason = self.ask(guarded, stream=stream, **asked)
            self.assertEqual(reason, "content_filter")
            self.assertEqual(work[:len(text)], text)
            self.assertEqual(self.longest(text, work), LIMIT)
            # What is not of the work comes whole.
            other = {**asked, "seed": 8}
            self.assertEqual(self.ask(guarded, stream=stream, **other), self.ask(free, stream=stream, **other))

    def test_an_upstream_is_cut(self):
        work = " ".join(f"word{i}" for i in range(60))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        url = self.serve("--upstream", f"http://127.0.0.1:{server.server_port}/v1", *self.index(work))
        for stream in (False, True):
            Upstream.text = f"It says: {work}, and so on."
            text, reason = self.ask(url, stream=stream)
            self.assertEqual((reason, text.rstrip()), ("content_filter", "It says: " + " ".join(f"word{i}" for i in range(LIMIT))))
            Upstream.text = "It says word3 word2 word1, in its own order: “café”."
            self.assertEqual(self.ask(url, stream=stream), (Upstream.text, "stop"))

    def test_what_cannot_be_guarded_is_refused(self):
        make_tiny_model(self.folder / "models/tiny")
        done = self.retort("serve", "--model", "tiny", "--protected", "none.index", status=1)
        self.assertIn("none.index", done.stderr)
        self.index("some words that are enough of them to be indexed")
        done = self.retort("serve", "--model", "tiny", "--protected", "works.index", "--protected-tokens", 0,
                           "--protected-chars", 0, status=2)
        self.assertIn("leave one", done.stderr)


if __name__ == "__main__":
    main()
