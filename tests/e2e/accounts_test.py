"""Accounts from the command line, and servers that share their limits: keys, a proxy, 64 clients on one budget, and
servers that are killed. PostgreSQL where Debian's package is installed, SQLite always."""

import http.client
import http.server
import json
import os
import socket
import sys
import threading
import time
import unittest
import urllib.request

from harness import E2eTest, main, wait_until
from postgres import Postgres, find_bin

TOKENS = 7


class Upstream:
    """An OpenAI-compatible server that answers at once and counts what it gave."""

    def __init__(self):
        self.answered = 0
        self.lock = threading.Lock()
        self.bodies = []
        self.fail = False
        self.frame_delay = 0
        self.cut = False
        self.think = False
        self.sent = 0           # frames
        self.connections = 0
        self.per_frame = 1      # tokens
        self.running = "reads over"  # use so far with each chunk: "tells", or "refuses" the asking
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def setup(self):
                with outer.lock:
                    outer.connections += 1
                super().setup()

            def do_GET(self):
                self.reply(200, b'{"object":"list","data":[]}')

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.answered += not outer.fail
                    outer.bodies.append((body, dict(self.headers.items())))
                if outer.fail:
                    return self.reply(503, b"{}")
                options = body.get("stream_options") or {}
                if outer.running == "refuses" and ("continuous_usage_stats" in options or "timings_per_token" in body):
                    return self.reply(400, b'{"error":{"message":"Unknown parameter","code":"unknown_parameter"}}')
                usage = {"prompt_tokens": 3, "completion_tokens": TOKENS - 3, "total_tokens": TOKENS}
                if not body.get("stream"):
                    message = {"role": "assistant", "content": "hi", "reasoning_content": "It is easy. Very. So hi."}
                    return self.reply(200, json.dumps({"choices": [{"index": 0, "message": message}],
                                                       "usage": usage}).encode())
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                frames = [{"choices": [{"index": 0, "delta": {"content": f"w{i}"}}]} for i in range(TOKENS - 3)]
                if outer.frame_delay:
                    frames = [dict(frame) for _ in range(100) for frame in frames]
                if outer.think:
                    frames = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("<thi", "nk>It is ea", "sy.</th", "ink>\n\nhi")]
                if outer.running == "tells" and options.get("continuous_usage_stats"):
                    for i, frame in enumerate(frames):
                        frame["usage"] = {"prompt_tokens": 3, "completion_tokens": (i + 1) * outer.per_frame}
                        frames[i] = dict(frame)
                if body.get("stream_options", {}).get("include_usage"):
                    frames.append({"choices": [], "usage": usage})
                for frame in [*map(json.dumps, frames), "[DONE]"]:
                    data = f"data: {frame}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
                    outer.sent += 1
                    time.sleep(outer.frame_delay)
                    if outer.cut:
                        # close() would wait for the two files over this socket.
                        self.close_connection = True
                        return self.connection.shutdown(socket.SHUT_RDWR)
                self.wfile.write(b"0\r\n\r\n")
                return None

            def reply(self, status, data):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


class AccountsTest(E2eTest):
    def setUp(self):
        super().setUp()
        self.store = str(self.folder / "store.db")
        self.upstream = Upstream()
        self.addCleanup(self.upstream.server.shutdown)

    def keys(self, *arguments, status=0):
        done = self.retort("keys", *arguments, "--store", self.store, "--store-secret", self.folder / "secret", "--json",
                           status=status)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def make_key(self, **plan):
        (self.folder / "plan.json").write_text(json.dumps({"reasoning": "full", **plan}))
        self.keys("plan-set", "plan.json", "--name", "basic")
        self.account = self.keys("account-create", "Example Ltd", "--plan", "basic")["id"]
        made = self.keys("create", self.account, "--name", "k")
        self.key_id = made["id"]
        return made["key"]

    def proxy(self, *more):
        process = self.start("serve", "--upstream", self.upstream.url, "--store", self.store, "--store-secret",
                             self.folder / "secret", "--port", "0", "--json", *more)
        line = process.stdout.readline()
        self.assertTrue(line, "the server did not start")
        process.port = int(json.loads(line)["base_url"].split(":")[2].split("/")[0])
        return process

    def ask(self, port, key, read=True, **fields):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}], **fields}
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        response = connection.getresponse()
        if not read:
            return connection, response
        data = response.read().decode()
        connection.close()
        return response.status, data, response.headers

    def used(self, unit, per="day"):
        return sum(row["used"] for row in self.keys("usage", "--per", per) if row["unit"] == unit)

    def test_keys_from_the_command_line(self):
        key = self.make_key(limits={"requests_per_minute": 5})
        self.assertRegex(key, r"^rk-[0-9a-f]{16}-[\w-]{43}$")
        self.assertEqual((self.folder / "secret").stat().st_mode & 0o777, 0o600)
        self.assertEqual([row["id"] for row in self.keys("list")], [self.key_id])
        self.assertNotIn(key, json.dumps(self.keys("list")))
        self.assertEqual(self.keys("plans")[0]["limits"], {"requests_per_minute": 5})
        (self.folder / "terms.md").write_text("be good")
        self.keys("publish", "v1", "terms.md")
        self.keys("accept", self.account, "v1", "--by", "A. Person")
        self.assertEqual(self.keys("accounts")[0]["acceptances"][0]["by"], "A. Person")
        self.assertNotEqual(self.keys("rotate", self.key_id, "--grace", "0")["id"], self.key_id)
        self.assertIn("acct_nobody", self.keys("create", "acct_nobody", "--name", "x", status=2))
        (self.folder / "bad.json").write_text('{"limits": {"tokens_per_year": 1}}')
        self.assertIn("tokens_per_year", self.keys("plan-set", "bad.json", "--name", "x", status=2))
        self.keys("backup", self.folder / "copy.db")
        self.assertTrue((self.folder / "copy.db").stat().st_size > 0)

    def test_the_proxy_counts_whole_answers_and_streams(self):
        key = self.make_key(reasoning="summarised")
        server = self.proxy()
        status, body, answered = self.ask(server.port, key)
        self.assertEqual(status, 200, body)
        message = json.loads(body)["choices"][0]["message"]
        self.assertEqual(message["reasoning_content"], "It is easy. … So hi.")
        self.assertRegex(answered["openai-processing-ms"], r"^\d+$")
        sent, headers = self.upstream.bodies[0]
        self.assertNotIn(key, json.dumps(headers))
        self.assertNotIn("stream_options", sent)
        # The usage event is asked for by the proxy, and kept from a client that has not asked.
        status, body, answered = self.ask(server.port, key, stream=True)
        self.assertEqual((status, body.count("data: ")), (200, TOKENS - 3 + 1), body)
        self.assertRegex(answered["openai-processing-ms"], r"^\d+$")
        self.assertTrue(self.upstream.bodies[1][0]["stream_options"]["include_usage"])
        status, body, _ = self.ask(server.port, key, stream=True, stream_options={"include_usage": True})
        self.assertEqual(body.count("data: "), TOKENS - 3 + 2, body)
        self.assertTrue(wait_until(lambda: self.used("tokens") == 3 * TOKENS), self.used("tokens"))
        # An aborted stream counts by its frames, and closes the upstream's.
        self.upstream.frame_delay = 0.02
        connection, response = self.ask(server.port, key, read=False, stream=True)
        response.read(60)
        response.close()
        connection.close()
        self.assertTrue(wait_until(lambda: self.used("tokens") > 3 * TOKENS))
        self.assertLess(self.used("tokens"), 3 * TOKENS + 150)
        self.assertEqual(self.ask(server.port, "wrong")[0], 401)
        # Prometheus takes each family once.
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers={"Authorization": f"Bearer {key}"})
        families = [line.split()[2] for line in urllib.request.urlopen(request, timeout=30).read().decode().splitlines() if line.startswith("# TYPE")]
        self.assertEqual(len(families), len(set(families)), families)
        self.assertIn("retort:guard_verdicts_total", families)
        self.keys("revoke", self.key_id)
        self.assertTrue(wait_until(lambda: self.ask(server.port, key)[0] == 401))
        server.terminate()
        server.wait(timeout=40)
        events = [json.loads(line) for line in
                  self.retort("keys", "events", self.store + ".events").stdout.splitlines()]
        self.assertEqual([event["end"] for event in events][:4], ["finished", "finished", "finished", "aborted"])
        self.assertEqual(sum(event["status"] == 401 for event in events) > 0, True)

    def test_every_route_is_counted_over_connections_that_are_kept(self):
        key = self.make_key(limits={"requests_per_day": 1000})
        server = self.proxy()
        for n in range(10):
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"):
                request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", b'{"model": "m"}', {"Authorization": f"Bearer {key}"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    self.assertEqual(answer.headers["x-ratelimit-limit-requests"], "1000", path)
        self.assertTrue(wait_until(lambda: self.used("requests") == 50), self.used("requests"))
        self.assertEqual(len(self.upstream.bodies), 50)
        self.assertLessEqual(self.upstream.connections, 2)  # one a thread of the proxy
        # A frame leaves as it comes.
        self.upstream.frame_delay, self.upstream.sent = 0.2, 0
        connection, response = self.ask(server.port, key, read=False, stream=True)
        self.assertEqual([response.headers[name] for name in ("content-type", "cache-control", "x-accel-buffering")],
                         ["text/event-stream", "no-cache", "no"])
        for frame in range(1, 6):
            self.assertTrue(response.readline().startswith(b"data: {"))
            response.readline()
            self.assertLessEqual(self.upstream.sent, frame + 1)
        response.close()
        connection.close()

    def abort_a_stream(self, server, key, frames):
        """What an account is charged for a stream of which so many frames were read, and what the upstream had sent by then."""
        before, self.upstream.sent = self.used("tokens"), 0
        connection, response = self.ask(server.port, key, read=False, stream=True)
        for _ in range(2 * frames):
            response.readline()
        seen = self.upstream.sent
        response.close()
        connection.close()
        self.assertTrue(wait_until(lambda: self.used("tokens") > before))
        return self.used("tokens") - before, seen

    def test_an_aborted_stream_is_counted_exactly_where_the_upstream_tells(self):
        """Nine tokens a frame: frames alone would count a ninth."""
        key = self.make_key(limits={"tokens_per_day": 10**9})
        server = self.proxy()
        self.upstream.per_frame, self.upstream.running, self.upstream.frame_delay = 9, "tells", 0.05
        for frames in (1, 4, 11):
            charged, seen = self.abort_a_stream(server, key, frames)
            # Between the last frame read here and the closing the upstream may send another.
            self.assertIn(charged, [3 + 9 * n for n in range(seen, seen + 3)], (frames, seen))
        # Clients see none of it.
        self.upstream.frame_delay = 0
        status, body, _ = self.ask(server.port, key, stream=True)
        self.assertNotIn("usage", body)
        status, body, _ = self.ask(server.port, key, stream=True, stream_options={"include_usage": True})
        self.assertEqual(body.count('"usage":null'), TOKENS - 3, body)
        self.assertEqual(body.count("prompt_tokens"), 1, body)

    def test_an_upstream_that_refuses_to_tell_is_asked_no_more(self):
        key = self.make_key()
        server = self.proxy()
        self.upstream.running = "refuses"
        for _ in range(3):
            status, body, _ = self.ask(server.port, key, stream=True)
            self.assertEqual(status, 200, body)
        asked = ["continuous_usage_stats" in (body.get("stream_options") or {}) for body, _ in self.upstream.bodies]
        self.assertEqual(asked, [True, False, False, False])
        self.assertTrue(wait_until(lambda: self.used("tokens") == 3 * TOKENS), self.used("tokens"))
        # Then a frame is a token.
        self.upstream.frame_delay = 0.05
        charged, seen = self.abort_a_stream(server, key, 4)
        guess = len(json.dumps({"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}], "stream": True})) // 3 + 1
        self.assertIn(charged - guess, range(seen, seen + 3))

    def test_think_tags_of_an_upstream(self):
        key = self.make_key()
        self.upstream.think = True
        for option, expected in (("split", ("It is easy.", "hi")), ("as-is", ("", "<think>It is easy.</think>\n\nhi"))):
            server = self.proxy("--upstream-think", option)
            status, body, _ = self.ask(server.port, key, stream=True)
            deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in body.splitlines() if line.startswith("data: {")]
            self.assertEqual(tuple("".join(delta.get(name, "") for delta in deltas) for name in ("reasoning_content", "content")), expected, body)

    def test_a_failing_upstream_is_left_for_another(self):
        key = self.make_key()
        other = Upstream()
        self.addCleanup(other.server.shutdown)
        server = self.proxy("--upstream", other.url + ",weight=2")
        self.upstream.fail = True
        for _ in range(90):
            self.assertEqual(self.ask(server.port, key)[0], 200)
        self.assertEqual(other.answered, 90)
        # A third would be its share; after five failures in a row it is left alone until a probe.
        self.assertLessEqual(len(self.upstream.bodies), 15)
        other.fail = True  # connections that are open outlive the server's end
        other.server.shutdown()
        other.server.server_close()
        status, body, headers = self.ask(server.port, key)
        self.assertEqual((status, json.loads(body)["error"]["code"]), (503, "unavailable"))
        self.upstream.fail = False
        self.assertTrue(wait_until(lambda: self.ask(server.port, key)[0] == 200, 20))

    def test_an_upstream_that_breaks_off(self):
        key = self.make_key()
        server = self.proxy()
        self.upstream.cut = True
        status, body, _ = self.ask(server.port, key, stream=True)
        self.assertEqual(status, 200)
        self.assertIn('"error"', body)
        self.assertNotIn("[DONE]", body)

    def race(self):
        """64 clients on two servers, one budget; one server is killed in the middle."""
        budget = 20000
        key = self.make_key(limits={"tokens_per_day": budget})
        servers = [self.proxy(), self.proxy()]
        killed = threading.Event()
        refusals = []

        def client(i):
            refused = 0
            for n in range(150):
                port = servers[(i + n) % 2].port
                try:
                    status, body, headers = self.ask(port, key)
                except (OSError, http.client.HTTPException):
                    continue
                if status == 429:
                    refusals.append((json.loads(body)["error"]["code"], headers["x-should-retry"]))
                    refused += 1
                    if refused == 15:
                        return
                    time.sleep(0.02)
                elif status != 200:
                    refusals.append((status, body))
                if self.upstream.answered > budget // TOKENS // 2 and not killed.is_set():
                    killed.set()
                    servers[1].kill()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(killed.is_set())
        served = self.upstream.answered * TOKENS
        # The estimate is above what is used, so that the budget itself is never passed.
        self.assertLessEqual(served, budget)
        self.assertGreater(len(refusals), 0)
        self.assertEqual(set(refusals), {("insufficient_quota", "false")})
        # What the dead server held counts as used when its time is over: nothing that was served is forgotten.
        self.assertTrue(wait_until(lambda: self.used("tokens") >= served, 30), (self.used("tokens"), served))
        self.assertTrue(wait_until(lambda: sum(row["reserved"] for row in self.keys("usage")) == 0, 30))
        counted = self.used("tokens")
        self.assertLessEqual(counted, budget)
        print(f"budget {budget}, served {served}, counted {counted}, refused {len(refusals)}", file=sys.stderr)
        # The other goes too; what it had told and what it held is there for the next.
        servers[0].kill()
        third = self.proxy()
        self.assertEqual(self.ask(third.port, key, max_tokens=budget - served + 1)[0], 429)
        self.assertGreaterEqual(self.used("tokens"), served)

    def test_sixty_four_clients_on_one_budget_sqlite(self):
        self.race()

    @unittest.skipUnless(find_bin(), "Debian's postgresql is not installed")
    def test_sixty_four_clients_on_one_budget_postgres(self):
        database = Postgres()
        self.addCleanup(database.stop)
        self.store = database.url
        self.race()


if __name__ == "__main__":
    main()
