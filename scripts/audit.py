"""Licences and known faults of all that this package needs, from what is installed: `make audit`.

`licences` follows the requirements from `agssp[dev]` through the metadata of installed packages, prints each with its
licence, and fails on one that is unknown or not permissive unless `NAMED` says why it may be there.

`faults` asks a service for known vulnerabilities by way of pip-audit (a tool of its own environment, see the Makefile).
What could not be asked about is printed as a list to look through by hand.
"""

import argparse
import fnmatch
import importlib.metadata
import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PERMISSIVE = frozenset(
    [
        *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND"),
        *("ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    ]
)
"""SPDX names of licences that ask for no more than to be named; `BSD` where the metadata does not say which."""

NAMED = {
    "ultralytics*": ("AGPL-3.0", "the YOLO detectors alone import it; README says what the AGPL asks for"),
    "nvidia-*": ("Proprietary", "torch's builds for CUDA bring it; not needed on CPUs"),
    "cuda-toolkit": ("unknown", "torch's builds for CUDA bring it; it holds no files, only requirements"),
    "certifi": ("MPL-2.0", "certificates; the MPL covers changes to its own files alone"),
    "tqdm": ("MPL-2.0", "the MPL covers changes to its own files alone"),
    "pathspec": ("MPL-2.0", "for development alone; the MPL covers changes to its own files alone"),
    "elpv-dataset": ("CC-BY-NC-SA-4.0", "images of the quickstart, an extra; README says so"),
}
"""Pattern of names -> (what its licence must contain, why it may be needed all the same)."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Other/Proprietary License": "LicenseRef-Proprietary",
    "Python Software Foundation License": "PSF-2.0",
}
"""Classifiers of PyPI -> SPDX names; others count as unknown."""

# First words of a licence field or file -> its SPDX name; the first that fits counts.
WORDS = (
    (r"(the )?mit( license)?\b", "MIT"),
    (r"apache( software)? license,? (version )?2(\.0)?\b", "Apache-2.0"),
    (r"apache([- ]2(\.0)?)?( license)?$", "Apache-2.0"),
    (r"(bsd[- ]3[- ]clause|3[- ]clause bsd)", "BSD-3-Clause"),
    (r"(bsd[- ]2[- ]clause|freebsd)", "BSD-2-Clause"),
    (r"bsd( license)?$", "BSD"),
)


@dataclass(frozen=True)
class Package:
    """What is installed of a package: its name, version and licence (an SPDX expression, or `unknown`)."""

    name: str
    version: str
    licence: str


def needed(root: str, extras: Iterable[str] = ()) -> list[str]:
    """Names of all installed packages that one needs, itself left out, in alphabetical order."""
    asked: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(root), set(extras))]
    while waiting:
        name, wanted = waiting.pop()
        if name in asked and wanted <= asked[name]:
            continue
        asked.setdefault(name, set()).update(wanted)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            del asked[name]  # for another system, or an extra that is not installed
            continue
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *asked[name]}):
                waiting.append((canonicalize_name(requirement.name), set(requirement.extras)))
    return sorted(asked.keys() - {canonicalize_name(root)})


def package(name: str) -> Package:
    """An installed package."""
    metadata = importlib.metadata.metadata(name)
    files = [
        Path(file.locate()).read_text(encoding="utf-8", errors="replace")
        for file in importlib.metadata.files(name) or ()
        if re.search(r"dist-info/.*(licen[cs]e|copying)", str(file), re.IGNORECASE) and Path(file.locate()).is_file()
    ]
    classifiers = metadata.get_all("Classifier") or []
    licence = licence_of(metadata.get("License-Expression"), classifiers, metadata.get("License"), files)
    return Package(name, metadata["Version"], licence)


def licence_of(expression: str | None, classifiers: list[str], field: str | None, files: list[str]) -> str:
    """The licence of a package as an SPDX expression: the first of these that tells, else `unknown`.

    Args:
        expression: metadata's License-Expression.
        classifiers: all classifiers.
        field: metadata's License, free text.
        files: texts of the licence files in its metadata.
    """
    if expression:
        return expression
    last = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    found = [CLASSIFIERS.get(name, "unknown") for name in last if name != "OSI Approved"]
    if found:
        return " AND ".join(sorted(set(found)))
    field = " ".join((field or "").split())
    if re.fullmatch(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)+", field):
        return field
    for text in (field, *files):
        start = " ".join(text.split())[:200].lower().lstrip("#= ")
        for pattern, name in WORDS:
            if re.match(pattern, start):
                return name
        if 0 < len(start) <= 40 and start != "unknown":
            return " ".join(text.split())
    return "unknown"


def is_permissive(expression: str) -> bool | None:
    """Whether an SPDX expression lets everything be used on permissive terms; None if it is none.

    `A AND B` needs both, `A OR B` one of them; an exception (`WITH`) only ever allows more.
    """
    words = re.findall(r"\(|\)|[^\s()]+", expression)
    try:
        value, rest = _either(words)
    except IndexError:
        return None
    return None if rest else value


def _either(words: list[str]) -> tuple[bool, list[str]]:
    value, words = _all(words)
    while words and words[0].upper() == "OR":
        other, words = _all(words[1:])
        value = value or other
    return value, words


def _all(words: list[str]) -> tuple[bool, list[str]]:
    value, words = _one(words)
    while words and words[0].upper() == "AND":
        other, words = _one(words[1:])
        value = value and other
    return value, words


def _one(words: list[str]) -> tuple[bool, list[str]]:
    if words[0] == "(":
        value, words = _either(words[1:])
        return value, words[1:] if words[0] == ")" else words
    value, words = words[0] in PERMISSIVE, words[1:]
    return value, words[2:] if words and words[0].upper() == "WITH" else words


def reason(found: Package) -> str | None:
    """Why a package without a permissive licence may be needed; None where nobody has said so of this licence."""
    for pattern, (licence, why) in NAMED.items():
        if fnmatch.fnmatchcase(found.name, pattern) and licence in found.licence:
            return why
    return None


def licences(packages: list[Package]) -> list[Package]:
    """Print all packages with their licences.

    Returns:
        Those that are neither permissive nor named.
    """
    refused = []
    widths = [max([len(getattr(each, field)) for each in packages] or [0]) for field in ("name", "version")]
    for each in packages:
        note = ""
        if not is_permissive(each.licence):
            why = reason(each)
            note = f"   [{why}]" if why else "   [NOT ALLOWED]"
            if why is None:
                refused.append(each)
        print(f"{each.name:{widths[0]}}  {each.version:{widths[1]}}  {each.licence}{note}")
    return refused


def read_report(report: dict[str, Any], own: str = "agssp") -> tuple[list[str], list[str]]:
    """What pip-audit found.

    Args:
        report: its JSON.
        own: the package that is on no index itself.

    Returns:
        A line for each known fault; names of the packages that it could not ask about.
    """
    faults, unasked = [], []
    for found in report["dependencies"]:
        if canonicalize_name(found["name"]) == own:
            continue
        if "skip_reason" in found:
            unasked.append(found["name"])
        for fault in found.get("vulns", []):
            mended = ", ".join(fault["fix_versions"]) or "no version yet"
            names = ", ".join([fault["id"], *fault.get("aliases", [])])
            faults.append(f"{found['name']} {found['version']}: {names}; mended in {mended}")
    return faults, unasked


def ask(tool: str) -> dict[str, Any] | None:
    """pip-audit's report of this environment; None where it cannot run."""
    place = sysconfig.get_path("purelib")
    words = [tool, "--path", place, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=900)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def faults(packages: list[Package], tool: str) -> tuple[list[str], list[Package]]:
    """Known faults, and the packages that nobody could be asked about."""
    report = ask(tool)
    if report is None:
        return [], packages
    found, names = read_report(report)
    unasked = set(map(canonicalize_name, names))
    return found, [each for each in packages if each.name in unasked]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["licences", "faults"])
    parser.add_argument("--pip-audit", default="pip-audit", help="the program")
    parser.add_argument("--strict", action="store_true", help="faults: fail if not all could be asked about")
    arguments = parser.parse_args(words)
    packages = [package(name) for name in needed("agssp", ["dev"])]
    if arguments.what == "licences":
        refused = licences(packages)
        print(f"{len(packages)} packages, {len(refused)} not allowed" + "".join(f"\n  {each.name}" for each in refused))
        return 1 if refused else 0
    found, unasked = faults(packages, arguments.pip_audit)
    if unasked:
        print("could not be asked about; look for these at https://osv.dev:")
        print("\n".join(f"  {each.name}=={each.version}" for each in unasked))
    print("\n".join(found) or "no known fault in the others" * (len(unasked) < len(packages)))
    print(f"{len(packages)} packages, {len(packages) - len(unasked)} asked about, {len(found)} known faults")
    return 1 if found or (arguments.strict and unasked) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
