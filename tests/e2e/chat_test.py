"""`retort chat` with a tiny model: one answer, a pipe, and a conversation in a real terminal (a pty)."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from harness import RETORT, E2eTest, clean_environment, main, make_tiny_model


class Terminal:
    """The program with a terminal of its own, and all that it has shown."""

    def __init__(self, folder, *arguments):
        self.main, side = pty.openpty()
        self.process = subprocess.Popen([RETORT, *map(str, arguments)], cwd=folder, env=clean_environment(),
                                        stdin=side, stdout=side, stderr=side, start_new_session=True)
        os.close(side)
        self.shown = ""

    def read_until(self, pattern, seconds=30):
        """Waits for the pattern in what is new, and gives that."""
        end = time.monotonic() + seconds
        fresh = ""
        while time.monotonic() < end:
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    fresh += os.read(self.main, 65536).decode(errors="replace")
                except OSError:
                    break
            plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", fresh).replace("\r\n", "\n")
            if re.search(pattern, plain):
                self.shown += plain
                return plain
        raise AssertionError(f"no {pattern!r} in {fresh!r} after {self.shown!r}")

    def type(self, text):
        os.write(self.main, text.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.main)


class OneAnswer(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "models/tiny")

    def ask(self, *more, **options):
        return self.retort("chat", "tiny", "--max-tokens", 20, "-t", 0, *more, **options)

    def test_prompt_pipe_and_json_agree(self):
        answer = self.ask("--prompt", "Hello", "-q").stdout
        self.assertEqual(answer, self.ask("-q", stdin="Hello\n").stdout)
        result = json.loads(self.ask("--prompt", "Hello", "--json", "-q").stdout)
        self.assertEqual(result["content"].rstrip("\n"), answer.rstrip("\n"))
        self.assertIn(result["finish_reason"], ("stop", "length"))
        self.assertLessEqual(result["completion_tokens"], 20)
        # <|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n, a token a byte
        self.assertEqual(result["prompt_tokens"], 3 + len("user\nHello\nassistant\n"))

    def test_seed(self):
        sampled = [self.retort("chat", "tiny", "-n", 20, "--seed", seed, "-p", "x", "-q").stdout for seed in (1, 1, 2)]
        self.assertEqual(sampled[0], sampled[1])
        self.assertNotEqual(sampled[0], sampled[2])

    def test_system_message_counts(self):
        plain = json.loads(self.ask("-p", "x", "--json", "-q").stdout)["prompt_tokens"]
        with_system = json.loads(self.ask("-p", "x", "--json", "-q", "--system", "abc").stdout)["prompt_tokens"]
        self.assertEqual(with_system, plain + 2 + len("system\nabc\n"))

    def test_errors(self):
        done = self.ask("-p", "x" * 400, status=1)
        self.assertIn("the context holds 256", done.stderr)
        self.assertIn("standard input is empty", self.ask(status=2).stderr)
        self.assertIn("no-such-model", self.retort("chat", "no-such-model", "-p", "x", status=1).stderr)
        self.retort("chat", "tiny", "-p", "x", "--temperature", "9", status=2)
        (self.folder / "models/tiny/config.json").write_text('{"architectures": ["MambaForCausalLM"]}')
        self.assertIn("Mamba", self.ask("-p", "x", status=1).stderr)

    def test_a_draft_changes_no_answer(self):
        make_tiny_model(self.folder / "models/other", seed=1, layers=1)
        alone = json.loads(self.ask("-p", "Hello", "--json", "-q").stdout)
        for draft in ("tiny", "other"):
            drafted = json.loads(self.ask("-p", "Hello", "--json", "-q", "--draft", draft, "--draft-tokens", 3).stdout)
            self.assertEqual(drafted["content"], alone["content"])
            self.assertEqual(drafted["completion_tokens"], alone["completion_tokens"])
            self.assertGreater(drafted["drafted_tokens"], 0)
            self.assertLessEqual(drafted["draft_hits"], drafted["drafted_tokens"])
        self.assertEqual(alone["drafted_tokens"], 0)

    def test_a_draft_of_another_tokenizer_is_refused(self):
        make_tiny_model(self.folder / "models/other")
        path = self.folder / "models/other/tokenizer.json"
        tokenizer = json.loads(path.read_text())
        vocab = tokenizer["model"]["vocab"]
        first, second = list(vocab)[:2]
        vocab[first], vocab[second] = vocab[second], vocab[first]
        path.write_text(json.dumps(tokenizer))
        refused = self.ask("-p", "x", "--draft", "other", status=2).stderr
        self.assertIn("models/other", refused)
        self.assertIn("tokenizer", refused)
        self.assertIn("no-such-model", self.ask("-p", "x", "--draft", "no-such-model", status=1).stderr)

    def test_truncated_weights(self):
        path = self.folder / "models/tiny/model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.assertIn("model.safetensors", self.ask("-p", "x", status=1).stderr)


class Conversation(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "models/tiny")

    def terminal(self, *more):
        terminal = Terminal(self.folder, "chat", "tiny", "-t", 0, "-n", 10, *more)
        self.addCleanup(terminal.close)
        terminal.read_until(r"context of 256 tokens.*\n> $")
        return terminal

    def test_a_conversation(self):
        terminal = self.terminal()
        terminal.type("Hi\n")
        first = terminal.read_until(r"\[\d+ tokens, .* context (\d+)/256.*\]\n> $")
        terminal.type("And?\n")
        second = terminal.read_until(r"context (\d+)/256.*\]\n> $")
        used = [int(re.search(r"context (\d+)/256", text).group(1)) for text in (first, second)]
        self.assertGreater(used[1], used[0] + 10)  # the first turn is in the second's prompt
        terminal.type("/reset\n")
        terminal.read_until(r"forgotten.\n> $")
        terminal.type("Hi\n")
        again = terminal.read_until(r"context (\d+)/256.*\]\n> $")
        self.assertEqual(int(re.search(r"context (\d+)/256", again).group(1)), used[0])
        terminal.type("/quit\n")
        self.assertEqual(terminal.process.wait(10), 0)

    def test_commands(self):
        terminal = self.terminal()
        terminal.type("/help\n")
        terminal.read_until(r"/quit(.|\n)*\n> $")
        terminal.type("/set top_k 5\n")
        terminal.read_until(r"> $")
        terminal.type("/set temperature 7\n")
        terminal.read_until(r"a number from 0 to 2(.|\n)*> $")
        terminal.type("/set frobs 7\n")
        terminal.read_until(r"no setting 'frobs'(.|\n)*> $")
        terminal.type("/settings\n")
        terminal.read_until(r"top_k 5\n(.|\n)*> $")
        terminal.type("/frob\n")
        terminal.read_until(r"There is no /frob(.|\n)*> $")
        terminal.type("\x04")
        self.assertEqual(terminal.process.wait(10), 0)

    def test_a_paste_is_one_message(self):
        terminal = self.terminal()
        terminal.type("one\ntwo\nthree\n")
        shown = terminal.read_until(r"tokens/s.*\]\n> $")
        self.assertEqual(shown.count("tokens/s"), 1)
        terminal.type('"""\na\n\nb\n"""\n')
        shown = terminal.read_until(r"tokens/s.*\]\n> $")
        self.assertEqual(shown.count("tokens/s"), 1)

    def test_overflow_and_going_on(self):
        terminal = self.terminal()
        terminal.type("x" * 200 + "\n")
        terminal.read_until(r"\]\n> $")
        terminal.type("y" * 60 + "\n")
        terminal.read_until(r"the context holds 256: start anew \(/reset\)(.|\n)*> $")
        terminal.type("/reset\n")
        terminal.read_until(r"> $")
        terminal.type("y\n")
        terminal.read_until(r"tokens/s.*\]\n> $")

    def test_ctrl_c_stops_the_answer_not_the_program(self):
        # An answer is caught at its first words, not after a set time: how long one takes is the machine's to say. It
        # may still end by itself before the signal is seen, so there are several tries.
        make_tiny_model(self.folder / "models/tiny", layers=8, context=8192)
        terminal = Terminal(self.folder, "chat", "tiny", "-t", 2, "-n", 8000, "--seed", 3)
        self.addCleanup(terminal.close)
        terminal.read_until(r"\n> $")
        for _ in range(20):
            terminal.type("Hi\n")
            terminal.read_until(r"Hi\n(.|\n)")
            terminal.process.send_signal(signal.SIGINT)
            if ", stopped" in terminal.read_until(r"(tokens/s.*\]|leaves\))\n> $"):
                break
        else:
            self.fail("no answer was long enough to be stopped")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until(r"\(/quit or Ctrl-D leaves\)\n> $")
        terminal.type("/quit\n")
        self.assertEqual(terminal.process.wait(10), 0)


if __name__ == "__main__":
    main()
