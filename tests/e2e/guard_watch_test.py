"""The guard behind a growing log, killed again and again: no event lost, no verdict repeated; and its trail."""

import json
import os
import random
import signal
import sqlite3
import time

from harness import SOURCE, E2eTest, main


class GuardWatch(E2eTest):
    def traffic(self):
        self.retort("guard", "lab", "--prompts", SOURCE / "tests/data/guard_prompts", "--out", "traffic", "--people", 500,
                    "--weeks", 6, "--seed", 3, "--campaign", "persona:60", "--campaign", "evolved:30", "--campaign", "logits:5", "--quiet")
        return sorted((self.folder / "traffic/events").iterdir())

    def trail(self, store):
        lines = self.retort("guard", "trail", "--store", store, "--json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def test_killed_again_and_again_it_comes_to_the_same_verdicts(self):
        files = self.traffic()
        labels = [json.loads(line) for line in (self.folder / "traffic/labels.jsonl").read_text().splitlines()]
        attackers = {each["account"] for each in labels if each["attacker"]}
        self.assertEqual(len(attackers), 95)
        whole = json.loads(self.retort("guard", "watch", "--store", "one.db", "--events", "traffic/events", "--state", "one",
                                       "--once", "--json").stdout.splitlines()[-1])
        wanted = [each["entry"] for each in self.trail("one.db")]
        self.assertGreater(len(wanted), 3)
        raised = {account for entry in wanted for account in entry["accounts"]}
        self.assertGreater(len(raised & attackers), 30)

        grown = self.folder / "grown"
        grown.mkdir()
        rng = random.Random(7)
        arguments = ("guard", "watch", "--store", "two.db", "--events", "grown", "--state", "two", "--poll", "0.01",
                     "--checkpoint", "0.3", "--quiet")
        kills = 0
        process = self.start(*arguments)
        for file in files:
            data, at = file.read_bytes(), 0
            with open(grown / file.name, "ab", buffering=0) as out:
                while at < len(data):  # pieces end anywhere in a frame
                    size = rng.randrange(1, 1 + len(data) // 20)
                    out.write(data[at:at + size])
                    at += size
                    time.sleep(rng.uniform(0.05, 0.5))
                    if rng.random() < 0.7:
                        os.kill(process.pid, signal.SIGKILL)
                        process.wait()
                        kills += 1
                        process = self.start(*arguments)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        last = json.loads(self.retort("guard", "watch", "--store", "two.db", "--events", "grown", "--state", "two", "--once",
                                      "--json").stdout.splitlines()[-1])
        print(f"{kills + 1} kills, {whole['events']} events, {len(wanted)} verdicts")
        self.assertGreaterEqual(kills + 1, 20)
        self.assertEqual(last, whole)
        self.assertEqual([each["entry"] for each in self.trail("two.db")], wanted)

        # The trail: verified, then touched.
        head = json.loads(self.retort("guard", "verify", "--store", "two.db", "--json").stdout)
        self.assertEqual(head["entries"], len(wanted))
        noted = f"{head['entries']}:{head['head']}"
        self.retort("guard", "verify", "--store", "two.db", "--head", noted)
        with sqlite3.connect(self.folder / "two.db") as database:
            database.execute("UPDATE guard_trail SET body = replace(body, 'review', 'none') WHERE number = 0")
        self.assertIn("entry 0", self.retort("guard", "verify", "--store", "two.db", status=1).stderr)
        with sqlite3.connect(self.folder / "one.db") as database:
            database.execute("DELETE FROM guard_trail WHERE number = (SELECT MAX(number) FROM guard_trail)")
        self.retort("guard", "verify", "--store", "one.db")
        self.assertIn("cut off", self.retort("guard", "verify", "--store", "one.db", "--head",
                                             f"{len(wanted)}:{'0' * 64}", status=1).stderr)

    def test_a_scaffold_is_explained_with_its_slots(self):
        self.retort("guard", "lab", "--prompts", SOURCE / "tests/data/guard_prompts", "--out", "traffic", "--people", 100,
                    "--weeks", 3, "--campaign", "scaffold:30", "--store", "s.db", "--bodies", "--quiet")
        labels = [json.loads(line) for line in (self.folder / "traffic/labels.jsonl").read_text().splitlines()]
        attackers = {each["account"] for each in labels if each["attacker"]}
        # A class of students may stand above it.
        clusters = [json.loads(line)["accounts"] for line in self.retort("guard", "clusters", "traffic/events", "--json").stdout.splitlines()]
        place = 1 + max(range(len(clusters)), key=lambda i: len(attackers & set(clusters[i])))
        self.assertGreaterEqual(len(attackers & set(clusters[place - 1])), 25)
        told = json.loads(self.retort("guard", "explain", "traffic/events", "--store", "s.db", "--cluster", place, "--json").stdout)
        self.assertGreater(told["sharing"], 0.5 * told["with_body"])
        self.assertTrue(all("‹" in each["prompt"] for each in told["examples"]), told["examples"])
        # Another secret reads nothing into it.
        told = json.loads(self.retort("guard", "explain", "traffic/events", "--store", "other.db", "--cluster", place, "--json").stdout)
        self.assertEqual(told["sharing"], 0)

    def test_an_unreadable_entry_is_named(self):
        self.retort("keys", "accounts", "--store", "s.db")
        with sqlite3.connect(self.folder / "s.db") as database:
            for number, body in enumerate(('{"level": "review", "accounts": []}', '{"level": "review", "accounts": [3]}', "[\x1b[2J")):
                database.execute("INSERT INTO guard_trail (number, time, kind, verdict, body, hash) VALUES (?, 1, 'verdict', ?, ?, '')",
                                 (number, number, body))
        lines = self.trail("s.db")
        self.assertEqual([each["entry"] is None for each in lines], [False, True, True])
        self.assertIn("accounts[0] is a number", lines[1]["unreadable"])
        told = self.retort("guard", "trail", "--store", "s.db").stdout
        self.assertIn("unreadable: entry 1", told)
        self.assertNotIn("\x1b", told)
        (self.folder / "live.toml").write_text("dry_run = false\n")
        told = self.retort("guard", "apply", "--store", "s.db", "--policy", "live.toml", status=1).stderr
        self.assertIn("entry 1 of the guard's trail (verdict): accounts[0] is a number, not a string", told)

    def test_bad_input_is_told(self):
        (self.folder / "policy.toml").write_text("[throttle]\nsuspend = true\n")
        self.retort("keys", "accounts", "--store", "s.db")
        told = self.retort("guard", "apply", "--store", "s.db", "--policy", "policy.toml", status=2).stderr
        self.assertIn("policy.toml:2: suspend", told.replace("throttle.", ""))
        self.assertIn("no account", self.retort("guard", "allow", "acct_1", "--reason", "r", "--by", "b", "--store", "s.db",
                                                status=2).stderr)
        self.assertIn("no family", self.retort("guard", "lab", "--prompts", SOURCE / "tests/data/guard_prompts", "--out", "t",
                                               "--campaign", "nothing:5", status=2).stderr)
        self.assertIn("manifest.json", self.retort("guard", "lab", "--prompts", ".", "--out", "t", status=1).stderr)


if __name__ == "__main__":
    main()
