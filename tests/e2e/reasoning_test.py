"""The whole loop of reasoning distillation, without any network: problems, traces sampled from the teacher, verified, learnt by
`ce`, then `opd` and `grpo`, beside the same student on answers alone; compared in a report that shows the traces. Two minutes of
two idle cores. Usage: reasoning_test.py [REPORT.json], which judges a report that is there."""

import json
import pathlib
import subprocess
import sys
import tempfile

from harness import RETORT, SOURCE, clean_environment


def need(holds, what):
    if not holds:
        sys.exit(what)


def judge(report, html):
    models = {model["key"]: model for model in report["models"]}
    need({"teacher", "before", "traces", "opd", "answers", "distilled", "shipped"} <= set(models),
         f"the report has {sorted(models)}")
    task = {key: model["values"]["task"] for key, model in models.items()}
    for key, score in task.items():
        print(f"{key}: {100 * score['value']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}]")
    need(task["teacher"]["low"] > 0.85, "the teacher solves too few")
    need(task["before"]["high"] < 0.05, "the untrained student solves something")
    need(task["distilled"]["low"] > task["answers"]["high"],
         "reasons are no better than answers: the intervals overlap")
    need(abs(task["shipped"]["value"] - task["distilled"]["value"]) < 0.05, "the exported file is another model")
    compute = {key: models[key]["values"]["training_gflop"] for key in ("answers", "distilled")}
    compute = {key: one["value"] if isinstance(one, dict) else one for key, one in compute.items()}
    need(compute["answers"] >= 0.95 * compute["distilled"], f"answers alone had less compute: {compute}")
    texts = [answer["text"] for sample in report["samples"] for answer in sample["answers"]
             if answer["model"] == "distilled"]
    need(texts and any("<think>" in text and "</think>" in text for text in texts), "no sample shows a trace")
    need("&lt;think&gt;" in html, "report.html shows no trace")


def main():
    if len(sys.argv) > 1:
        path = pathlib.Path(sys.argv[1])
        judge(json.loads(path.read_text()), path.with_suffix(".html").read_text())
        return
    with tempfile.TemporaryDirectory(prefix="retort-reasoning-") as folder:
        run = pathlib.Path(folder) / "run"
        # One thread: two that sleep between a small model's short parallel regions (OMP_WAIT_POLICY=passive) are slower than
        # one (22,000 tokens a second in training, one 34,000), and two that spin starve what runs beside (53,000 when idle).
        done = subprocess.run([RETORT, "run", str(SOURCE / "recipes/reasoning-short.toml"), "--folder", str(run), "-q",
                               "--threads", "2"], capture_output=True, text=True, env=clean_environment(), timeout=850)
        need(done.returncode == 0, f"exit status {done.returncode}\n{done.stderr[-3000:]}")
        report = run / "curate/report.json"
        curated = json.loads(report.read_text())
        print(f"{curated['kept']} of {curated['read']} traces kept; dropped: {curated['dropped']}")
        need(curated["dropped"].get("verifier", 0) > 0, "the verifier turned nothing down: is it asked?")
        judge(json.loads((run / "evaluate/report.json").read_text()), (run / "evaluate/report.html").read_text())


if __name__ == "__main__":
    main()
