"""`retort collect` against a teacher that is slow, overloaded, dead or killed under it: each answer is kept once."""

import http.server
import json
import signal
import threading
import time

from harness import E2eTest, clean_environment, main, wait_until

TERMS = """permitted_by = "the tests"
licence = "Apache-2.0"
allows_training_on_outputs = true
scope = "tests"
date = "2026-01-01"
"""


class Teacher:
    """Answers "re: PROMPT", or what `answer` makes of it; `delay` seconds each, for the first request with a prompt in
    `hangs` what that says; gives `statuses` first, one a request."""

    def __init__(self, delay=0.0, statuses=(), answer="re: {}".format):
        self.hangs = {}  # prompt → seconds
        self.asked = []  # the prompt of each request that came
        self.keys = set()
        self.reply = answer
        self.delay = delay
        self.statuses = list(statuses)
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][-1]["content"]
                with outer.lock:
                    outer.asked.append(prompt)
                    outer.keys.add(self.headers.get("Authorization"))
                    status = outer.statuses.pop(0) if outer.statuses else 200
                    delay = outer.hangs.pop(prompt, outer.delay)
                time.sleep(delay)
                if status == 200:
                    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"],
                              "choices": [{"index": 0, "finish_reason": "stop",
                                           "message": {"role": "assistant", "content": outer.reply(prompt)}}],
                              "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}}
                else:
                    answer = {"error": {"message": "not now", "type": "x", "param": None, "code": None}}
                data = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    if status == 429:
                        self.send_header("retry-after-ms", "20")
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the asker was killed: the point of some tests

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a killed asker resets its connections
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Collect(E2eTest):
    def setUp(self):
        super().setUp()
        (self.folder / "terms.toml").write_text(TERMS)
        self.teacher = Teacher()
        self.addCleanup(self.teacher.close)

    def prompts(self, count):
        names = [f"question {i}" for i in range(count)]
        (self.folder / "prompts.txt").write_text("".join(name + "\n" for name in names))
        return names

    def arguments(self, *more, url=None):
        return ("collect", "--endpoint", url or self.teacher.url, "--model", "teacher", "--prompts", "prompts.txt",
                "--terms", "terms.toml", "-o", "answers", *more)

    def answers(self):
        lines = (self.folder / "answers/records.jsonl").read_text().splitlines()
        return sorted(json.loads(line)["prompt_id"] for line in lines)

    def frames(self):
        """The first byte of each frame of the journal: docs/formats/journal.md."""
        data = (self.folder / "answers/answers.journal").read_bytes()
        kinds, at = [], 8
        while at < len(data):
            kinds.append(chr(data[at + 12]))
            at += 12 + int.from_bytes(data[at:at + 4], "little")
        return kinds

    def test_each_prompt_once(self):
        names = self.prompts(40)
        env = clean_environment(RETORT_API_KEY="secret")
        report = json.loads(self.retort(*self.arguments("--json", "-q"), env=env).stdout)
        self.assertEqual((report["asked"], report["missing"]), (40, 0))
        self.assertEqual(sorted(self.teacher.asked), sorted(names))
        self.assertEqual(self.teacher.keys, {"Bearer secret"})
        self.assertEqual(len(set(self.answers())), 40)
        again = json.loads(self.retort(*self.arguments("--json", "-q"), env=env).stdout)
        self.assertEqual((again["asked"], again["there_before"]), (0, 40))
        self.assertEqual(len(self.teacher.asked), 40)

    def test_kill_9_asks_again_only_what_was_in_flight(self):
        names = self.prompts(120)
        self.teacher.delay = 0.05
        concurrency, kills = 8, 4
        for kill in range(1, kills + 1):
            before = len(self.teacher.asked)
            process = self.start(*self.arguments("-q", "--concurrency", concurrency))
            self.assertTrue(wait_until(lambda: len(self.teacher.asked) >= before + 20))
            process.kill()
            process.wait()
        time.sleep(0.2)
        self.teacher.delay = 0
        self.retort(*self.arguments("-q"))
        self.assertEqual(len(set(self.answers())), len(names))
        self.assertEqual(set(self.teacher.asked), set(names))
        twice = len(self.teacher.asked) - len(names)
        self.assertLessEqual(twice, kills * concurrency)

    def test_429_storm_and_errors_pass(self):
        self.prompts(30)
        self.teacher.statuses = [429] * 25 + [500, 503, 429, 502]
        report = json.loads(self.retort(*self.arguments("-q", "--json")).stdout)
        self.assertEqual((report["asked"], report["gave_up"], report["rejected"]), (30, 0, 0), report)
        self.assertEqual(len(self.answers()), 30)

    def test_given_up_is_an_error_that_resumes(self):
        self.prompts(3)
        self.teacher.statuses = [500] * 6
        done = self.retort(*self.arguments("-q", "--max-attempts", 2), status=1)
        for what in ("none of 3 requests", "3 given up after 2 tries", "500", "failed.jsonl"):
            self.assertIn(what, done.stderr)
        self.assertEqual(len((self.folder / "answers/failed.jsonl").read_text().splitlines()), 3)
        report = json.loads(self.retort(*self.arguments("-q", "--json")).stdout)
        self.assertEqual((report["asked"], report["gave_up"]), (3, 0))
        self.assertEqual(len(self.answers()), 3)

    def test_ctrl_c_keeps_answers(self):
        self.prompts(200)
        self.teacher.delay = 0.05
        process = self.start(*self.arguments())
        self.assertTrue(wait_until(lambda: len(self.teacher.asked) >= 30))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1, errors)
        asked = len(self.teacher.asked)
        self.teacher.delay = 0
        report = json.loads(self.retort(*self.arguments("--json", "-q")).stdout)
        self.assertGreater(report["there_before"], 10)
        self.assertEqual(report["there_before"] + report["asked"], 200)
        self.assertLessEqual(report["asked"], 200 - asked + 32)

    def test_slow_answers_are_hedged(self):
        names = self.prompts(100)
        self.teacher.hangs = {"question 60": 6, "question 80": 6}
        begin = time.monotonic()
        done = self.retort(*self.arguments("-q", "--json", "--hedge", 0.05))
        report = json.loads(done.stdout)
        self.assertLess(time.monotonic() - begin, 5, "it waited for what it had an answer to")
        self.assertEqual((report["asked"], report["missing"]), (100, 0))
        self.assertGreaterEqual(report["hedges_first"], 2, report)
        self.assertLessEqual(report["hedges"], 5)
        came = len(self.teacher.asked)  # one that was cut off may not have come so far, and is counted all the same
        self.assertIn(came, range(102, 101 + report["hedges"]))
        self.assertEqual(report["requests"], 100 + report["hedges"])  # both were paid
        self.assertGreaterEqual(report["completion_tokens"], 100 * 3 + 2 * 512)  # for what was cut off, the most
        self.assertEqual((self.frames().count("A"), self.frames().count("P")), (100, report["hedges"]))
        self.assertEqual(len(set(self.answers())), 100)
        again = json.loads(self.retort(*self.arguments("-q", "--json", "--hedge", 0.05)).stdout)
        self.assertEqual((again["asked"], again["requests"]), (0, report["requests"]))
        self.assertEqual(again["completion_tokens"], report["completion_tokens"])
        self.assertEqual(len(self.teacher.asked), came)
        self.assertEqual(set(self.teacher.asked), set(names))

    def test_kill_9_between_two_requests_for_an_answer(self):
        self.prompts(100)
        self.teacher.hangs = {"question 60": 60}
        answer = self.teacher.reply
        second = threading.Event()

        def reply(prompt):
            if prompt == "question 60":
                second.set()
                time.sleep(60)
            return answer(prompt)

        self.teacher.reply = reply
        process = self.start(*self.arguments("-q", "--hedge", 0.05))
        self.assertTrue(second.wait(20), "no second request came")
        self.assertTrue(wait_until(lambda: len(set(self.teacher.asked)) == 100))
        time.sleep(0.5)
        process.kill()
        process.wait()
        before = len(self.teacher.asked)
        self.teacher.reply = answer
        report = json.loads(self.retort(*self.arguments("-q", "--json", "--hedge", 0.05)).stdout)
        self.assertEqual((report["there_before"], report["asked"]), (99, 1))
        self.assertEqual(self.teacher.asked[before:], ["question 60"])
        self.assertEqual(self.frames().count("A"), 100)
        self.assertEqual(len(set(self.answers())), 100)

    def test_dead_teacher(self):
        self.prompts(3)
        gone = Teacher()
        gone.close()
        done = self.retort(*self.arguments("-q", "--max-attempts", 50, "--stall-timeout", 3, url=gone.url), status=1)
        self.assertIn("127.0.0.1", done.stderr)

    def test_terms_are_required(self):
        self.prompts(3)
        arguments = [a for a in self.arguments() if a not in ("--terms", "terms.toml")]
        done = self.retort(*arguments, status=1)
        self.assertIn("--terms", done.stderr)
        (self.folder / "terms.toml").write_text(TERMS.replace("true", "false"))
        self.retort(*self.arguments(), status=1)
        self.assertEqual(self.teacher.asked, [])

    def test_budget_stops_cleanly(self):
        self.prompts(30)
        report = json.loads(self.retort(*self.arguments("--json", "-q", "--max-requests", 10)).stdout)
        self.assertEqual((report["asked"], report["missing"]), (10, 20))
        self.assertTrue(report["stopped"])
        self.retort(*self.arguments("-q"))
        self.assertEqual(len(self.teacher.asked), 30)

    def test_bad_input(self):
        self.assertIn("prompts.txt", self.retort(*self.arguments(), status=1).stderr)
        self.prompts(1)
        self.retort(*self.arguments("--temperature", "3"), status=2)
        self.assertIn("--hedge 0.001", self.retort(*self.arguments("--hedge", "0.001"), status=2).stderr)
        self.assertIn("--parameter x", self.retort(*self.arguments("--parameter", "x"), status=2).stderr)
        self.teacher.statuses = [401] * 20
        self.assertIn("401", self.retort(*self.arguments("-q"), status=1).stderr)


if __name__ == "__main__":
    main()
