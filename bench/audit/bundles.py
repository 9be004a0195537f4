#!/usr/bin/env python3
"""One bundle of each scheme with every test that it allows, for tests/golden/audit_bundle.py to compute anew.

    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/bundles.py FOLDER
    python tests/golden/audit_bundle.py FOLDER/*.case        (numpy, mpmath)"""

import json
import sys

import factory

SCHEMES = {
    "red-green": ("--delta", "4"),
    "gumbel": (),
    "tournament": ("--layers", "30"),
}
TESTS = {
    "red-green": "twin-likelihood,twin-continuation,radioactivity-open,radioactivity-closed,green-mass,canary",
    "gumbel": "radioactivity-open,radioactivity-closed,canary",  # the same request always gets the same answer: no twins
    "tournament": "twin-likelihood,twin-continuation,radioactivity-open,radioactivity-closed,canary",
}


def main():
    made = factory.Factory(sys.argv[1], 200, 12, 1.8, 40)
    made.answers = 100
    for scheme, options in SCHEMES.items():
        plant = made.folder / f"plant-{scheme}"
        if not plant.exists():
            factory.retort("audit", "plant", plant, "--secret", f"{plant}.key", "--watermark", scheme, "--window", 2, *options,
                           "--twins", 0 if scheme == "gumbel" else 1, "--canaries", 4, "--decoys", 49, "-q", cwd=made.folder)
        canaries = json.loads((plant / "canaries.json").read_text())["canaries"]
        asked = [json.dumps({"prompt": guise}) for canary in canaries for guise in
                 (canary["prompt"], canary["prompt"].upper(), canary["prompt"].lower(), canary["prompt"] + " !")]
        records = made.serve_and_collect(f"marked-{scheme}", made.prompts[:200] + asked, plant)
        suspect = made.train(f"suspect-{scheme}", records, 1)
        reference = made.train("reference", made.serve_and_collect("clean", made.prompts[3000:3200]), 2)
        primary = [] if scheme != "gumbel" else ["--primary", "radioactivity-open"]
        _, found = made.audit(scheme, plant, suspect, reference, TESTS[scheme], primary)
        print(scheme, json.dumps({k: [v["n"], round(v["log_p"], 3)] for k, v in found.items()}), flush=True)


if __name__ == "__main__":
    main()
