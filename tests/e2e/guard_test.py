"""The guard from outside: the projection-layer attack, which succeeds against a server without accounts and is refused
by one with them; and a server's own event log replayed."""

import http.client
import json
import math
import struct
import time

from harness import E2eTest, main, make_tiny_model

HIDDEN = 32  # of make_tiny_model
PROMPTS = 44
TOKENS = list(range(36, 108))  # printable bytes; a byte's token is itself in the order of byte_symbols()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def orthonormal(rows, limit):
    """Gram-Schmidt with pivoting: at most `limit` directions, and the length left over in each step."""
    rows, basis, lengths = [list(row) for row in rows], [], []
    for _ in range(min(limit, len(rows))):
        pivot = max(rows, key=lambda row: dot(row, row))
        length = math.sqrt(dot(pivot, pivot))
        lengths.append(length)
        if length < 1e-12:
            break
        direction = [x / length for x in pivot]
        basis.append(direction)
        for row in rows:
            share = dot(row, direction)
            row[:] = [x - share * y for x, y in zip(row, direction)]
    return basis, lengths


class Guard(E2eTest):
    def serve(self, *arguments):
        process = self.start("serve", "--model", "tiny", "--port", "0", "--json", *arguments)
        return process, int(json.loads(process.stdout.readline())["base_url"].split(":")[2].split("/")[0])

    def ask(self, connection, body, key=""):
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def account(self):
        (self.folder / "plan.json").write_text('{"logprobs": true}')
        self.retort("keys", "plan-set", "plan.json", "--name", "basic", "--store", "retort.db")
        account = self.retort("keys", "account-create", "Example", "--plan", "basic", "--store", "retort.db").stdout.strip()
        made = self.retort("keys", "create", account, "--name", "laptop", "--store", "retort.db", "--json").stdout
        return json.loads(made)["key"]

    def logprob(self, connection, prompt, token):
        """What the model thought of a token that only the bias makes it say."""
        status, answer = self.ask(connection, {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0,
                                               "logprobs": 0, "logit_bias": {str(token): 100}})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["logprobs"]["token_logprobs"][0]

    def true_directions(self):
        data = (self.folder / "tiny/model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        entry = json.loads(data[8:8 + size])["model.embed_tokens.weight"]
        self.assertEqual(entry["dtype"], "F32")
        begin = 8 + size + entry["data_offsets"][0]
        rows = [struct.unpack_from(f"<{HIDDEN}f", data, begin + token * HIDDEN * 4) for token in TOKENS]
        return [[row[k] - rows[0][k] for row in rows[1:]] for k in range(HIDDEN)]

    def test_the_projection_layer_is_recovered_without_accounts(self):
        make_tiny_model(self.folder / "tiny")
        _, port = self.serve()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.addCleanup(connection.close)
        rows = []
        for i in range(PROMPTS):
            seen = [self.logprob(connection, f"{chr(97 + i % 26)}{i} {chr(65 + i % 23)}!", token) for token in TOKENS]
            rows.append([value - seen[0] for value in seen[1:]])
        _, lengths = orthonormal(rows, PROMPTS)
        drops = [a / max(b, 1e-12) for a, b in zip(lengths, lengths[1:])]
        rank = 1 + drops.index(max(drops))
        basis, _ = orthonormal(rows, HIDDEN)
        truth, _ = orthonormal(self.true_directions(), HIDDEN)
        cosine = min(math.sqrt(sum(dot(direction, b) ** 2 for b in basis)) for direction in truth)
        print(f"{PROMPTS * len(TOKENS)} requests: rank {rank} of {HIDDEN}, drop {max(drops):.0f}, smallest cosine {cosine:.6f}")
        self.assertEqual(rank, HIDDEN)
        self.assertGreater(cosine, 0.999)

    def test_an_echoed_prompts_logprobs_need_a_plan_of_their_own(self):
        make_tiny_model(self.folder / "tiny")
        key = self.account()
        _, port = self.serve("--store", "retort.db")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.addCleanup(connection.close)
        body = {"model": "tiny", "prompt": "one two Z", "max_tokens": 0, "echo": True, "logprobs": 0}
        status, answer = self.ask(connection, body, key)
        self.assertEqual((status, answer["error"]["param"]), (403, "echo"))
        self.assertEqual(self.ask(connection, body | {"max_tokens": 1, "logprobs": None}, key)[0], 200)
        # With it, the logprob of any token is told: the same as a bias would have forced out of a server without accounts.
        (self.folder / "plan.json").write_text('{"logprobs": true, "prompt_logprobs": true}')
        self.retort("keys", "plan-set", "plan.json", "--name", "basic", "--store", "retort.db")
        deadline = time.time() + 10
        while self.ask(connection, body, key)[0] != 200 and time.time() < deadline:
            time.sleep(0.05)
        status, answer = self.ask(connection, body, key)
        self.assertEqual(status, 200, answer)
        echoed = answer["choices"][0]["logprobs"]["token_logprobs"][-1]
        _, open_port = self.serve()
        other = http.client.HTTPConnection("127.0.0.1", open_port, timeout=60)
        self.addCleanup(other.close)
        token = ord("Z")  # a byte is its own token
        self.assertAlmostEqual(echoed, self.logprob(other, "one two ", token), delta=1e-3)

    def test_accounts_refuse_bias_with_logprobs(self):
        make_tiny_model(self.folder / "tiny")
        key = self.account()
        server, port = self.serve("--store", "retort.db")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.addCleanup(connection.close)
        body = {"model": "tiny", "prompt": "Write the number 7 in words for me", "max_tokens": 1}
        for given in ({"logprobs": 0}, {"logit_bias": {"70": 100}}):
            self.assertEqual(self.ask(connection, body | given, key)[0], 200)
        for logprobs in (0, 1, True):
            status, answer = self.ask(connection, body | {"logprobs": logprobs, "logit_bias": {"70": 100}}, key)
            self.assertEqual((status, answer["error"]["param"]), (400, "logit_bias"))
        server.terminate()
        server.wait(timeout=30)
        events = [json.loads(line) for line in self.retort("keys", "events", "retort.db.events").stdout.splitlines()]
        self.assertEqual([event["status"] for event in events], [200, 200, 400, 400, 400])
        self.assertTrue(all(len(event["sketch"]) == 212 and event["plan"] == "basic" for event in events))
        # One prompt, whatever its parameters; the bias is told apart.
        self.assertEqual(len({event["sketch"][4:-16] for event in events}), 1)
        self.assertEqual(len({event["sketch"][-16:] for event in events}), 2)
        replayed = self.retort("guard", "replay", "retort.db.events").stdout
        self.assertIn("5 events of 1 accounts, 0 verdicts", replayed)
        self.assertIn("not calibrated for review, throttle, suspend", replayed)
        self.assertEqual(self.retort("guard", "clusters", "retort.db.events", "--json").stdout, "")


if __name__ == "__main__":
    main()
