"""A forbidden include does not compile. For every part: the compiler, with that part's own flags, accepts a header
of each part that cmake/parts.cmake lets it use, and finds none of any other; and no source climbs out with "../"."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("RETORT_BUILD", ""))


def allowed_parts():
    """part → every part that it may include, from the one table that says so."""
    allowed = {}
    for name, rest in re.findall(r"^retort_part\((\w+)([^)]*)\)", (SOURCE / "cmake/parts.cmake").read_text(), re.M):
        uses = re.search(r"USES ([a-z ]+)", rest)
        direct = uses.group(1).split() if uses else []
        unknown = [part for part in direct if part not in allowed]
        if unknown:
            sys.exit(f"cmake/parts.cmake: {name} uses {unknown}, which no line above it declares")
        allowed[name] = {name} | set(direct).union(*(allowed[part] for part in direct))
    return allowed


def headers():
    """part → one header of it; a folder of headers alone is not a target yet."""
    found = {}
    for header in sorted(SOURCE.glob("src/*/*.h")):
        if any(header.parent.glob("*.cpp")):
            found.setdefault(header.parent.name, header.relative_to(SOURCE / "src"))
    return found


def compile_commands():
    """part → the command line of one of its sources, without -c, -o and the source."""
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        match = re.search(r"/src/(\w+)/[^/]+\.cpp$", entry["file"])
        if not match:
            continue
        words = shlex.split(entry["command"])
        if any(word.endswith("ccache") for word in words[:3]):
            words = words[next(at for at, word in enumerate(words) if word.endswith("ccache")) + 1:]
        for flag, count in (("-c", 2), ("-o", 2)):
            if flag in words:
                at = words.index(flag)
                del words[at:at + count]
        commands.setdefault(match.group(1), words)
    return commands


class Includes(unittest.TestCase):
    def compiles(self, command, text):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "probe.cpp"
            source.write_text(text)
            done = subprocess.run([*command, "-fsyntax-only", "-x", "c++", str(source)], capture_output=True,
                                  text=True)
            return done.returncode == 0, done.stderr

    def test_forbidden_includes_do_not_compile(self):
        allowed, commands, known = allowed_parts(), compile_commands(), headers()
        checked = 0
        for part, command in commands.items():
            if part not in allowed:
                continue  # cli may use everything
            seen = sorted(known[other] for other in allowed[part] if other in known)
            reachable = {other for other in known
                         if any((pathlib.Path(word[2:]) / known[other]).exists()
                                for word in command if word.startswith("-I"))}
            self.assertEqual(reachable, allowed[part] & set(known), f"include roots of {part}")
            # The positive control: without it, a broken command line would pass for a refusal.
            good, errors = self.compiles(command, "#include \"base/clock.h\"\n")
            self.assertTrue(good, f"{part}: {seen[0]}\n{errors}")
            forbidden = sorted(set(known) - allowed[part])
            if not forbidden:
                continue
            header = known[forbidden[0]]
            good, errors = self.compiles(command, f'#include "{header}"\n')
            self.assertFalse(good, f"{part} may not include {header}, but it compiles")
            self.assertIn("No such file", errors)
            checked += 1
        self.assertGreater(checked, 5)

    def test_no_source_climbs_out(self):
        for source in [*SOURCE.glob("src/*/*.cpp"), *SOURCE.glob("src/*/*.h"), *SOURCE.glob("src/*/*.inc")]:
            for number, line in enumerate(source.read_text().splitlines(), 1):
                self.assertNotRegex(line, r'#\s*include\s*["<]([./]|[^">]*\.\./)', f"{source}:{number}")

    def test_every_public_header_says_what_it_is_for(self):
        for header in SOURCE.glob("src/*/*.h"):
            self.assertTrue(header.read_text().startswith("// "), f"{header}: open with what it is for")


if __name__ == "__main__":
    if not os.environ.get("RETORT_BUILD"):
        sys.exit("RETORT_BUILD must name the build folder")
    unittest.main(verbosity=2)
