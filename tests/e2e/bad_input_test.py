"""Bad input and bad luck, a case each: the program ends with exit status 1 or 2 and an error that names what is wrong,
and the same command, once the cause is gone, ends where it would have ended. A dead teacher and a storm of 429 are in
collect_test.py; kill -9 in kill_test.py."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile

from collect_test import Teacher
from harness import RETORT, E2eTest, clean_environment, main, make_tiny_model, wait_until
from kill_test import TERMS, make_recipe, weights_of

STAGES = ("collect", "curate", "start", "distill-text", "distill-distilled", "export", "evaluate")


class BadModels(E2eTest):
    """What every command that reads a model says of one that is none."""

    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "tiny")
        self.collect([f"Say hello {i} times" for i in range(4)])

    def collect(self, prompts):
        teacher = Teacher()
        self.addCleanup(teacher.close)
        shutil.rmtree(self.folder / "answers", ignore_errors=True)
        (self.folder / "terms.toml").write_text(TERMS)
        lines = [json.dumps({"id": f"p{i}", "prompt": prompt}) + "\n" for i, prompt in enumerate(prompts)]
        (self.folder / "prompts.jsonl").write_text("".join(lines))
        self.retort("collect", "--endpoint", teacher.url, "--model", "teacher", "--prompts", "prompts.jsonl", "--terms",
                    "terms.toml", "-o", "answers", "-q")
        shutil.copy(self.folder / "answers/records.jsonl", self.folder / "records.jsonl")

    def uses(self, model):
        """A command line for each way in which a model is read."""
        return (("chat", model, "--prompt", "Hi"),
                ("serve", "--model", model, "--port", 0),
                ("export", model, "--format", "gguf", "--type", "q8_0", "--output", "out.gguf"),
                ("distill", "--teacher", model, "--records", "records.jsonl", "--output", "student"),
                ("distill", "--student", model, "--objective", "ce", "--records", "records.jsonl", "--output", "other"),
                ("eval", "--teacher", "tiny", "--records", "records.jsonl", f"distilled={model}"),
                ("pull", model, "--to", "pulled"))

    def refused(self, model, *expected, commands=None):
        for command in commands or self.uses(model):
            with self.subTest(command=" ".join(map(str, command))):
                done = self.retort(*command, status=1)
                self.assertIn(str(model), done.stderr)
                for text in expected:
                    self.assertRegex(done.stderr, text)
                self.assertNotIn("terminate", done.stderr)
        for made in ("out.gguf", "student/model", "other/model", "pulled/pull.json"):
            self.assertFalse((self.folder / made).exists(), made)

    def test_truncated_gguf(self):
        self.retort("export", "tiny", "--format", "gguf", "--type", "f16", "--output", "whole.gguf")
        whole = (self.folder / "whole.gguf").read_bytes()
        for keep in (0, 3, 20, 700, len(whole) // 2, len(whole) - 1):
            (self.folder / "cut.gguf").write_bytes(whole[:keep])
            commands = self.uses("cut.gguf")
            self.refused("cut.gguf", commands=commands if keep == len(whole) // 2 else commands[:1])

    def test_truncated_safetensors(self):
        weights = self.folder / "tiny/model.safetensors"
        shutil.copytree(self.folder / "tiny", self.folder / "cut")
        (self.folder / "cut/model.safetensors").write_bytes(weights.read_bytes()[:-100])
        self.refused("cut", commands=self.uses("cut")[:4])

    def config(self, name, **changes):
        shutil.copytree(self.folder / "tiny", self.folder / name)
        path = self.folder / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_wrong_vocabulary_size(self):
        self.config("wide", vocab_size=400)
        self.refused("wide", "400", "259", commands=self.uses("wide")[:6])

    def test_unknown_architecture(self):
        self.config("strange", architectures=["MambaForCausalLM"], model_type="mamba")
        self.refused("strange", "(?i)mamba", commands=self.uses("strange")[:6])
        self.retort("export", "tiny", "--format", "gguf", "--type", "f16", "--output", "whole.gguf")
        whole = (self.folder / "whole.gguf").read_bytes()
        self.assertIn(b"llama", whole)
        (self.folder / "strange.gguf").write_bytes(whole.replace(b"llama", b"mamba"))
        self.refused("strange.gguf", "mamba", commands=self.uses("strange.gguf")[:6])

    def test_prompt_that_is_too_long(self):
        done = self.retort("chat", "tiny", "--prompt", "why " * 500, status=1)
        self.assertRegex(done.stderr, "256")  # the context, and so the mend

    def test_a_student_whose_template_refuses_a_conversation(self):
        shutil.copytree(self.folder / "tiny", self.folder / "picky")
        path = self.folder / "picky/tokenizer_config.json"
        config = json.loads(path.read_text())
        config["chat_template"] = ("{% for m in messages %}{% if 'r' in m['content'] %}{{ raise_exception('no r') }}"
                                   "{% endif %}{{ m['content'] }}{% endfor %}")
        path.write_text(json.dumps(config))
        self.collect(["Say 1", "Say 2", "Say 3", "a word with r"])  # the last, after others that can be asked
        done = self.retort("eval", "--teacher", "tiny", "--records", "records.jsonl", "distilled=picky", status=2)
        self.assertIn("no r", done.stderr)
        self.assertIn("p3", done.stderr)


class BadLuck(E2eTest):
    """A whole run of a recipe, and something goes wrong in each stage."""

    @classmethod
    def setUpClass(cls):
        """One run that nothing disturbs; each test goes on from a copy of it."""
        cls.model = pathlib.Path(tempfile.mkdtemp(prefix="retort-e2e-"))
        cls.addClassCleanup(shutil.rmtree, cls.model, ignore_errors=True)
        recipe = make_recipe(cls.model)
        # By its whole path: models/ remembers where the teacher was brought from, in the copies too.
        recipe.write_text(recipe.read_text().replace('"teacher"', f'"{cls.model / "teacher"}"', 1))
        subprocess.run([RETORT, "run", recipe, "--folder", "whole", "--quiet", "--threads", "1"], cwd=cls.model,
                       env=clean_environment(), check=True, capture_output=True, timeout=300)
        cls.expected = weights_of(cls.model / "whole")

    def setUp(self):
        super().setUp()
        shutil.copytree(self.model, self.folder, dirs_exist_ok=True)
        self.recipe = self.folder / "tiny.toml"
        self.assertTrue(self.expected)

    def command(self, output):
        return [RETORT, "run", str(self.recipe), "--folder", str(output), "--threads", "1"]

    def attempt(self, output, **options):
        return subprocess.run(self.command(output), cwd=self.folder, env=clean_environment(), capture_output=True,
                              text=True, timeout=300, **options)

    def run_to_end(self, output):
        done = self.attempt(output)
        self.assertEqual(done.returncode, 0, done.stderr)

    def forget(self, output, stage):
        """As if the run had ended before that stage."""
        for later in STAGES[STAGES.index(stage):]:
            shutil.rmtree(pathlib.Path(output) / later, ignore_errors=True)

    def check_full(self, done, stage, reason):
        self.assertEqual(done.returncode, 1, f"{stage}: {done.stdout}\n{done.stderr}")
        error = done.stderr.strip().splitlines()[-1]
        self.assertRegex(error, reason)
        self.assertIn(f"/{stage}", error)

    def test_full_disk_by_a_limit_on_file_sizes(self):
        for stage in reversed(STAGES):  # so that those before it stay done
            with self.subTest(stage=stage):
                self.forget(self.folder / "whole", stage)
                limit = 3000  # larger than any mark or manifest, smaller than what each stage makes

                def small_files():
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

                self.check_full(self.attempt("whole", preexec_fn=small_files), stage, "File too large")
        self.run_to_end("whole")
        self.assertEqual(weights_of(self.folder / "whole"), self.expected)

    def test_full_disk_on_a_small_file_system(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk],
                                                       capture_output=True).returncode == 0
        if not mounted:
            self.skipTest("cannot mount a file system here; the limit on file sizes stands for it")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=True)
        run = disk / "run"
        shutil.copytree(self.folder / "whole", run)
        for stage in reversed(STAGES):  # so that those before it stay done
            with self.subTest(stage=stage):
                self.forget(run, stage)
                room = 12 * 1024  # enough to begin, not to end
                with open(disk / "filler", "wb") as filler:
                    space = os.statvfs(disk)
                    os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize - room)
                done = self.attempt(run)
                (disk / "filler").unlink()
                self.check_full(done, stage, "the disk is full|No space left on device")
        self.run_to_end(run)
        self.assertEqual(weights_of(run), self.expected)

    def test_ctrl_c_in_each_stage(self):
        for stage in STAGES:
            with self.subTest(stage=stage):
                self.forget(self.folder / "whole", stage)
                log = self.folder / "log"
                with open(log, "w") as errors:
                    process = subprocess.Popen(self.command("whole"), cwd=self.folder, env=clean_environment(),
                                               stdout=errors, stderr=errors)
                try:
                    self.assertTrue(wait_until(lambda: f"{stage}: begins" in log.read_text(), 120), log.read_text())
                    process.send_signal(signal.SIGINT)
                    status = process.wait(timeout=120)
                finally:
                    process.kill()
                # A stage without a place to stop ends first; the next one then stops, unless there is none.
                if status != 0 or stage != STAGES[-1]:
                    self.assertEqual(status, 1, log.read_text())
                    self.assertRegex(log.read_text(), "interrupted|stopped at step")
        self.run_to_end("whole")
        self.assertEqual(weights_of(self.folder / "whole"), self.expected)

    def test_a_prompt_too_long_for_the_teacher_is_told_and_the_rest_goes_on(self):
        with open(self.folder / "prompts.txt", "a") as prompts:
            prompts.write("Tell me a very long story. " * 200 + "\n")
        done = self.attempt("long")
        self.assertEqual(done.returncode, 0, done.stderr)
        failed = (self.folder / "long/collect/failed.jsonl").read_text().splitlines()
        self.assertEqual(len(failed), 1)
        self.assertRegex(failed[0], "(?i)context")


if __name__ == "__main__":
    main()
