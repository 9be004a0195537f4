"""The text of HTML files, tags taken out by a pattern: clean text to plant in, and to measure speed on.
    clean_text.py OUT.txt MEGABYTES FOLDER..."""

import html
import pathlib
import re
import sys


def main():
    most = int(float(sys.argv[2]) * 1e6)
    written = 0
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for folder in sys.argv[3:]:
            for path in sorted(pathlib.Path(folder).rglob("*.html")):
                text = path.read_text(encoding="utf-8", errors="replace")
                text = re.sub(r"(?s)<(script|style|head).*?</\1>", " ", text)
                text = re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"<[^>]*>", " ", text)))
                out.write(text + "\n")
                written += len(text)
                if written >= most:
                    return


main()
