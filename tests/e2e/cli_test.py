"""The command line itself: help, versions, and errors that name the value and give the promised exit status."""

import hashlib
import json
import re
import unittest

from harness import SOURCE, E2eTest, clean_environment, main


class CommandLine(E2eTest):
    def commands(self):
        return re.findall(r"^  ([a-z]+)  ", self.retort("--help").stdout, re.M)

    def test_version(self):
        self.assertRegex(self.retort("--version").stdout, r"^retort \d+\.\d+\.\d+\n$")

    def test_help_lists_commands_and_each_has_help_with_examples(self):
        commands = self.commands()
        self.assertIn("pull", commands)
        for command in commands:
            text = self.retort(command, "--help").stdout
            self.assertIn("Examples:", text, command)
            self.assertIn("--threads", text, command)
            self.assertEqual(text, self.retort("help", command).stdout)

    def test_help_fits_100_columns(self):
        for command in [[]] + [[c] for c in self.commands()]:
            options = self.retort(*command, "--help").stdout.split("Examples:")[0]
            for line in options.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_no_command_is_usage(self):
        done = self.retort(status=2)
        self.assertEqual(done.stdout, "")
        self.assertIn("Usage:", done.stderr)

    def test_unknown_command_suggests(self):
        self.assertIn("did you mean 'pull'", self.retort("pul", status=2).stderr)
        self.assertIn("no command 'frobnicate'", self.retort("frobnicate", status=2).stderr)

    def test_bad_options(self):
        for command in self.commands():
            done = self.retort(command, "--no-such-option", status=2)
            self.assertIn(f"retort {command}", done.stderr)
        self.assertIn("--threads", self.retort("pull", "x", "--threads", "many", status=2).stderr)
        self.assertIn("--threads", self.retort("pull", "x", "--threads", "-1", status=2).stderr)
        self.assertIn("source", self.retort("pull", status=2).stderr)

    def test_bad_isa(self):
        done = self.retort("pull", "x", status=2, env=clean_environment(RETORT_ISA="mmx"))
        self.assertIn("RETORT_ISA=mmx", done.stderr)

    def test_bench_tokenize(self):
        model = SOURCE / "fuzz" / "corpus" / "tokenizer_gguf" / "smollm.gguf"
        text, ids = self.folder / "a.txt", self.folder / "a.ids"
        text.write_bytes("One line.\nAnother, 42: naïve\n".encode() + b"broken \xe4\xbd")
        done = self.retort("bench", "tokenize", model, "--text", text, "--repeats", 2, "--json", "--ids", ids)
        whole, lines = map(json.loads, done.stdout.splitlines())
        self.assertEqual((whole["texts"], lines["texts"]), (1, 3))
        self.assertEqual(whole["ids_sha256"], hashlib.sha256(ids.read_bytes()).hexdigest())
        self.assertEqual(whole["tokens"] * 4, ids.stat().st_size)
        self.assertGreater(whole["mb_s"], 0)
        text.write_bytes(b"")
        self.assertIn("the file is empty", self.retort("bench", "tokenize", model, "--text", text, status=2).stderr)
        self.retort("bench", "tokenize", model, "--text", self.folder / "none", status=1)


if __name__ == "__main__":
    main()
