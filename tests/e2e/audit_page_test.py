"""docs/audit.md, read to its end as a newcomer would: every command of it, in its order, in a folder that holds the
recipes; it ends with a report that says what the page says it will, and takes the time that the page names. RETORT_KEEP_REPORT=FOLDER keeps the bundle, to look at the report."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from docs_test import examples, words_of
from harness import RETORT, SOURCE, E2eTest, clean_environment, main, wait_until

PAGE = SOURCE / "docs/audit.md"
BAR_SECONDS = 600


class Newcomer(E2eTest):
    def test_the_page_ends_with_a_report(self):
        shutil.copytree(SOURCE / "recipes/reasoning", self.folder / "recipes/reasoning")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        path = f"{pathlib.Path(RETORT).parent}:{os.environ['PATH']}"
        servers, said, began = [], {}, time.time()
        lines = examples(PAGE)
        self.assertGreater(len(lines), 9)
        for line in lines:
            line = line.replace(":8085", f":{port}").replace("--port 8085", f"--port {port}")
            words = words_of(line)
            start = time.time()
            if line.endswith("&"):
                servers.append(self.start(*words[1:]))
                self.assertTrue(wait_until(lambda: self.healthy(port), 60), line)
                continue
            if words[1:3] == ["audit", "plan"] and servers:
                # "Stop the server first."
                servers[-1].send_signal(signal.SIGTERM)
                servers.pop().wait(timeout=30)
            done = subprocess.run(["bash", "-c", line], cwd=self.folder, capture_output=True, text=True, timeout=BAR_SECONDS,
                                  env=clean_environment(PATH=path))
            self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}\n{done.stderr}")
            said[" ".join(words[1:3])] = done.stdout
            print(f"{time.time() - start:6.1f} s  {line[:100]}")
        spent = time.time() - began
        print(f"{spent:.1f} s in all")
        self.assertLess(spent, BAR_SECONDS)
        self.assertIn("positive", said["audit verify"])
        report = json.loads((self.folder / "case/report.json").read_text())
        self.assertEqual(report["decision"], "positive")
        page = (self.folder / "case/report.html").read_text()
        if kept := os.environ.get("RETORT_KEEP_REPORT"):
            shutil.copytree(self.folder / "case", kept, dirs_exist_ok=True)
        # One file: a reader opens it anywhere.
        self.assertIsNone(re.search(r"(src|href)\s*=\s*['\"]?(https?:|//|file:)", page))
        self.assertIn("What this does not say", page)

    @staticmethod
    def healthy(port):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200
        except OSError:
            return False


if __name__ == "__main__":
    main()
