"""The audit of dependencies: licences are read as the metadata says them, and nothing unknown passes."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import audit
from audit import NAMED, PERMISSIVE, Package, is_permissive, licence_of, licences, needed, read_report, reason

ROOT = Path(__file__).parents[1]


def install(folder, name, *, requires=(), version="1.0", **fields):
    """A package's metadata, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in fields.items()]
    (info / "METADATA").write_text("Metadata-Version: 2.4\n" + "\n".join(lines) + "\n")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def test_a_package_that_needs_nothing(place):
    install(place, "root")
    assert needed("root") == []
    assert licences([]) == []


def test_all_that_is_needed_is_found_once(place):
    install(place, "root", requires=["A-b", "never; python_version < '3'", "c; extra == 'more'", "not-installed"])
    install(place, "a_b", requires=["root", "d[e]"])
    install(place, "c")
    install(place, "d", requires=["f; extra == 'e'", "g; extra == 'other'"])
    for name in ("f", "g", "never", "unrelated"):
        install(place, name)
    assert needed("root") == ["a-b", "d", "f"]
    assert needed("root", ["more"]) == ["a-b", "c", "d", "f"]


@pytest.mark.parametrize(
    ("expression", "classifiers", "field", "files", "expected"),
    [
        ("MIT AND Zlib", ["License :: OSI Approved :: BSD License"], "GPL", [], "MIT AND Zlib"),
        (None, ["Topic :: X", "License :: OSI Approved :: BSD License"], "whatever", [], "BSD"),
        (None, ["License :: OSI Approved", "License :: OSI Approved :: MIT License"], None, [], "MIT"),
        (None, ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], "MIT", [], "unknown"),
        (None, ["License :: OSI Approved :: MIT License", "License :: Other/Proprietary License"], "MIT", [],
         "LicenseRef-Proprietary AND MIT"),
        (None, [], "Apache 2.0 License", [], "Apache-2.0"),
        (None, [], "Apache", [], "Apache-2.0"),
        (None, [], "3-Clause BSD License", [], "BSD-3-Clause"),
        (None, [], "MPL-2.0 AND MIT", [], "MPL-2.0 AND MIT"),
        (None, [], "MIT AND GPL-3.0", [], "MIT AND GPL-3.0"),
        (None, [], "GPL", ["MIT License\n\nCopyright"], "GPL"),
        (None, [], "UNKNOWN", ["\n   Apache License\n   Version 2.0, January 2004"], "Apache-2.0"),
        (None, [], None, ["The MIT License (MIT)\n"], "MIT"),
        (None, [], "", ["All rights reserved by somebody who writes a long text of their own here."], "unknown"),
        (None, [], None, [], "unknown"),
    ],
)  # fmt: skip
def test_where_a_licence_is_read(expression, classifiers, field, files, expected):
    assert licence_of(expression, classifiers, field, files) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("MIT AND BSD-3-Clause", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR MIT AND AGPL-3.0-only", False),
        ("(GPL-3.0-only OR MIT) AND Zlib", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("unknown", False),
        ("", None),
        ("(MIT", None),
        ("MIT AND", None),
        ("MIT MIT", None),
    ],
)
def test_what_an_expression_lets_one_do(expression, expected):
    assert is_permissive(expression) is expected


def test_permissive_names_are_those_of_spdx():
    for name in PERMISSIVE - {"BSD"}:
        assert canonicalize_license_expression(name) == name
    with pytest.raises(InvalidLicenseExpression):
        canonicalize_license_expression("BSD")


def test_what_is_named_may_have_that_licence_alone():
    assert reason(Package("ultralytics", "8", "AGPL-3.0-or-later")) == NAMED["ultralytics*"][1]
    assert reason(Package("ultralytics-thop", "2", "unknown")) is None
    assert reason(Package("tqdm", "4", "GPL-3.0-only")) is None
    assert reason(Package("other", "1", "AGPL-3.0-only")) is None


def test_licences_are_printed_and_what_is_neither_permissive_nor_named_is_told(capsys):
    good, named, bad = Package("a", "1", "MIT"), Package("tqdm", "4", "MPL-2.0 AND MIT"), Package("b", "2", "unknown")
    assert licences([good, named, bad]) == [bad]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "tqdm", "b"]
    assert lines[1].endswith("own files alone]")
    assert lines[2].endswith("unknown   [NOT ALLOWED]")


def test_the_report_of_pip_audit():
    assert read_report({"dependencies": []}) == ([], [])
    fault = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.2"], "description": "long"}
    report = [{"name": "a", "version": "1.1", "vulns": [fault, fault | {"fix_versions": [], "aliases": []}]},
              {"name": "b", "version": "2", "vulns": []}, {"name": "c", "skip_reason": "not found"},
              {"name": "agssp", "skip_reason": "editable"}]  # fmt: skip
    assert read_report({"dependencies": report}) == (
        ["a 1.1: PYSEC-1, CVE-1; mended in 1.2", "a 1.1: PYSEC-1; mended in no version yet"], ["c"])  # fmt: skip


def test_without_pip_audit_the_list_is_the_result(capsys, tmp_path):
    assert audit.main(["faults", "--pip-audit", str(tmp_path / "none")]) == 0
    said = capsys.readouterr().out
    assert f"  torch=={importlib.metadata.version('torch')}\n" in said
    assert "0 asked about, 0 known faults" in said
    assert audit.main(["faults", "--strict", "--pip-audit", str(tmp_path / "none")]) == 1
    # A program that says nothing of use is as good as none.
    assert audit.main(["faults", "--strict", "--pip-audit", sys.executable]) == 1


@pytest.mark.slow
def test_all_that_is_installed_here_may_be_needed():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "audit.py", "licences"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines()[:-1]}
    declared = importlib.metadata.requires("agssp")
    plain = {audit.canonicalize_name(audit.Requirement(line).name) for line in declared if "extra ==" not in line}
    assert plain <= listed
