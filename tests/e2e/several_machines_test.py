"""`mpirun -n 2 retort distill`: as one process within rounding, the same bits each time, going on from a checkpoint of
another number of processes, one set of files. Skipped where there is no mpirun; a build without MPI must refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

from harness import RETORT, E2eTest, clean_environment, main, make_tiny_model

MPIRUN = shutil.which("mpirun")
TWO = [MPIRUN, "-n", "2", "--oversubscribe", "--bind-to", "none"]


class SeveralMachines(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "tiny")
        records = [{"id": f"r{i}", "prompt": [{"role": "user", "content": f"Count to {i}"}],
                    "answer": {"content": " ".join(str(n) for n in range(i + 4)), "finish_reason": "stop"}}
                   for i in range(24)]
        (self.folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

    def command(self, output, *more):
        return [RETORT, "distill", "--student", "tiny", "--objective", "ce", "--records", "records.jsonl", "--row-length",
                "128", "--rows-per-step", "4", "--rows-per-micro-batch", "1", "--learning-rate", "1e-3", "--dtype", "f32",
                "--epochs", "4", "--threads", "1", "--output", output, *more]

    def environment(self):
        return clean_environment(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

    def under_mpirun(self, *command):
        return subprocess.run([*TWO, *command], cwd=self.folder, env=self.environment(), capture_output=True, text=True,
                              timeout=120)

    def distill(self, ranks, output, *more):
        start = TWO if ranks == 2 else []
        done = subprocess.run([*start, *self.command(output, *more)], cwd=self.folder, env=self.environment(),
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        return done

    def losses(self, output):
        return [json.loads(line)["loss"] for line in (self.folder / output / "metrics.jsonl").read_text().splitlines()]

    def weights(self, output):
        return (self.folder / output / "model/model.safetensors").read_bytes()

    def test_two_processes_are_as_one(self):
        done = self.under_mpirun(*self.command("two"))
        if "has no MPI" in done.stderr:
            self.assertNotEqual(done.returncode, 0)
            print("this build has no MPI, and said so")
            return
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        self.assertEqual(done.stdout.count("student: "), 1)
        self.distill(1, "one")
        one, two = self.losses("one"), self.losses("two")
        self.assertGreater(len(one), 4)
        self.assertEqual(len(one), len(two))
        for a, b in zip(one, two):  # f32 sums in another order; see tests/train/communicator_test.cpp
            self.assertLess(abs(a / b - 1), 1e-4)
        self.distill(2, "again")
        self.assertEqual(self.weights("again"), self.weights("two"))

        # Killed as two, gone on with as one: the curve is the whole one's.
        process = subprocess.Popen([*TWO, *self.command("moved", "--checkpoint-steps", "1")], cwd=self.folder,
                                   env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        checkpoint = self.folder / "moved/checkpoint.bin"
        while process.poll() is None and not checkpoint.exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertTrue(checkpoint.exists())
        self.distill(1, "moved", "--checkpoint-steps", "1")
        for a, b in zip(one, self.losses("moved")):
            self.assertLess(abs(a / b - 1), 1e-4)
        self.assertEqual(len(self.losses("moved")), len(one))

    def test_own_answers_of_two_are_those_of_one(self):
        make_tiny_model(self.folder / "student", end_scale=3.0)  # that ends now and then: there is something to reward
        make_tiny_model(self.folder / "teacher", seed=1)
        (self.folder / "prompts.jsonl").write_text("".join(
            json.dumps({"id": f"p{i}", "messages": [{"role": "user", "content": f"Count to {i}"}]}) + "\n" for i in range(12)))
        (self.folder / "letters.toml").write_text('type = "regex"\npattern = "[a-m]"\n')
        for objective, more in (("gkd", ["--teacher", "teacher"]), ("opd", ["--teacher", "teacher"]),
                                ("grpo", ["--verifier", "letters.toml", "--kl", "0.05"])):
            curves = []
            for start, output in (([], f"{objective}-one"), (TWO, f"{objective}-two")):
                done = subprocess.run(
                    [*start, RETORT, "distill", "--student", "student", "--objective", objective, *more, "--prompts",
                     "prompts.jsonl", "--steps", "3", "--prompts-per-step", "4", "--samples", "4", "--max-answer-tokens", "16",
                     "--row-length", "128", "--learning-rate", "1e-3", "--dtype", "f32", "--threads", "1", "--output", output],
                    cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120)
                if "has no MPI" in done.stderr:
                    return
                self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
                curves.append([json.loads(line) for line in (self.folder / output / "metrics.jsonl").read_text().splitlines()])
            one, two = curves
            self.assertEqual([len(one), len(two)], [3, 3])
            self.assertGreater(one[0]["gradient_norm"], 1e-3, objective)  # nothing to compare otherwise
            for key in ("sampled_tokens", "trained_tokens"):
                self.assertEqual(one[0][key], two[0][key], f"{objective} {key}")
            for key in ("loss", "gradient_norm"):  # the first step: later ones sample from weights that differ by rounding
                print(f"{objective} {key}: {one[0][key]:.9g}, by two {two[0][key]:.9g}")
                self.assertLess(abs(one[0][key] - two[0][key]), 1e-5 * max(1, abs(one[0][key])), f"{objective} {key}")

    def test_an_error_of_one_ends_all(self):
        done = self.under_mpirun(*self.command("bad", "--learning-rate", "-1"))
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    if MPIRUN is None:
        print("no mpirun: apt-get install openmpi-bin")
        sys.exit(77)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
