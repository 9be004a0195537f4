"""A CycloneDX ML-BOM against the official JSON schema of its version (which cyclonedx-python-lib brings, strict: no unknown
member), and each licence expression in it by `license-expression`, which has SPDX's list. Also says what of SPDX's list a
program's table of licences names.
    pip install 'cyclonedx-python-lib[json-validation]' license-expression
    validate_bom.py BOM.json... [--table src/data/spdx.cpp]"""

import argparse
import importlib.metadata
import json
import pathlib
import re

from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from license_expression import get_spdx_licensing


def expressions(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "licenses":
                for each in value:
                    if "expression" in each:
                        yield each["expression"]
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def unknown_of(licensing, text):
    """Symbols that SPDX's list has not; LicenseRef-… are for whoever writes them to define."""
    return [key for key in licensing.unknown_license_keys(text) if not key.startswith(("LicenseRef-", "DocumentRef-"))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("boms", nargs="*")
    parser.add_argument("--table")
    options = parser.parse_args()
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("cyclonedx-python-lib", "license-expression")))
    licensing, bad = get_spdx_licensing(), 0
    for name in options.boms:
        text = pathlib.Path(name).read_text()
        bom = json.loads(text)
        version = SchemaVersion.from_version(bom["specVersion"])
        error = make_schemabased_validator(OutputFormat.JSON, version).validate_str(text)
        found = sorted(set(expressions(bom)))
        wrong = [f"{each}: {unknown_of(licensing, each)}" for each in found if unknown_of(licensing, each)]
        for each in found:
            licensing.parse(each, strict=False)  # raises where it is no expression
        bad += (error is not None) + bool(wrong)
        print(f"{name}: CycloneDX {bom['specVersion']}, {len(bom['components'])} components: "
              f"{'valid' if error is None else f'NOT VALID: {error}'}; {len(found)} licence expressions "
              f"{found}{', unknown to SPDX: ' + '; '.join(wrong) if wrong else ', all of SPDX'}")
    if options.table:
        ids = re.findall(r'^    \{"([^"]+)", "[^"]*",', pathlib.Path(options.table).read_text(), re.M)
        # GNU licences stand there without -only and -or-later.
        unknown = [i for i in ids if unknown_of(licensing, i) and unknown_of(licensing, i + "-only")]
        bad += bool(unknown)
        print(f"{options.table}: {len(ids)} licences; not in SPDX's list: {unknown or 'none'}")
    raise SystemExit(1 if bad else 0)


main()
