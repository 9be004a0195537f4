"""Reads a training folder's event file as TensorBoard does and holds it to the metrics.jsonl beside it.
Usage: event_file.py FOLDER…; needs the package tensorboard (seen with what the transcript names)."""

import importlib.metadata
import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def check(folder):
    curve = EventAccumulator(str(folder))
    curve.Reload()
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("train/loss", "loss"), ("train/learning_rate", "learning_rate"),
                     ("train/gradient_norm", "gradient_norm")):
        events = curve.Scalars(tag)
        if [event.step for event in events] != [step["step"] for step in steps]:
            sys.exit(f"{folder}: {tag}: other steps than metrics.jsonl")
        # Event files hold f32: half a unit in its last place, relative.
        for event, step in zip(events, steps):
            if abs(event.value - step[key]) > 2**-24 * abs(step[key]) + 1e-30:
                sys.exit(f"{folder}: {tag}: {event.value} at step {event.step}, {step[key]} in metrics.jsonl")
        times = [event.wall_time for event in events]
        if times != sorted(times):
            sys.exit(f"{folder}: {tag}: times go back")
    print(f"{folder.name}: {len(steps)} steps, {', '.join(curve.Tags()['scalars'])}: as metrics.jsonl")


print("tensorboard", importlib.metadata.version("tensorboard"))
for name in sys.argv[1:]:
    check(pathlib.Path(name))
