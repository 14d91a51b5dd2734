# SPDX-License-Identifier: Apache-2.0
"""Tests the script `mutate` and its mutants, as far as possible without running a mutant."""
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
SCRIPT = os.path.join(HERE, "mutate")


def load():
    loader = importlib.machinery.SourceFileLoader("mutate", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutate", loader))
    loader.exec_module(module)
    return module


mutate = load()
MUTANTS = mutate.all_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_mutant_fits_the_tree(mutant, tmp):
    for file, _, _ in mutant.edits:
        path = os.path.join(tmp, file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.path.join(TOP, file)) as f, open(path, "w") as g:
            g.write(f.read())
    before = mutant.apply(tmp)
    for path, text in before.items():
        with open(path) as f:
            assert f.read() != text, "the mutant changes nothing"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_the_tests_of_the_mutant_exist(mutant):
    for test in mutant.tests:
        if test.startswith("unit/"):
            unit, _, case = test[5:].partition(": ")
            paths = [os.path.join(TOP, "tests", d, f"test_{unit}.c") for d in ("unit", "security")]
            text = "".join(open(p).read() for p in paths if os.path.exists(p))
            assert re.search(rf"\b(cmocka_unit_test|TEST|T)\((test_)?{case}\)", text), test
        else:
            file, _, name = test.partition("::")
            assert f"def {name}(" in open(os.path.join(TOP, file)).read(), test


def test_each_mutant_is_in_the_readme():
    text = open(os.path.join(HERE, "README.md")).read()
    missing = [m.name for m in MUTANTS if not re.search(r"(?<![\w-])" + m.name + r"(?![\w-])", text.replace("`", ""))]
    assert not missing, f"README.md does not name {missing}"


def test_mutants_run_in_the_test_host_only():
    env = {k: v for k, v in os.environ.items() if k != "CAISSON_TEST_HOST"}
    r = subprocess.run([sys.executable, SCRIPT, "--inside", "/nonexistent", "path-in-root"], env=env, stderr=subprocess.PIPE, text=True)
    assert r.returncode != 0 and "test host only" in r.stderr, r


@pytest.mark.parametrize("tests,want", [
    ({"a": "failed", "b": "failed"}, "killed"), ({"a": "failed", "b": "passed"}, "survived"), ({"a": "passed"}, "survived"),
    ({"a": "failed", "b": "not run"}, "not tested")])
def test_verdict(tests, want):
    assert mutate.verdict({"tests": tests}) == want


@pytest.mark.parametrize("cases,want", [
    ({"test_a": True, "test_b": False}, (True, False)), ({"a": False}, (True, True)), ({"a": True}, (True, False)),
    ({"test_b": False}, (False, False)), ({}, (False, False)), ({mutate.ENDED: False}, (True, True))])
def test_cases_of_a_unit_test(cases, want):
    results = {"unit": {"u": cases}, "pytest": {}}
    assert (mutate.ran("unit/u: a", results), mutate.killed("unit/u: a", results)) == want


def test_an_error_is_no_kill():
    assert mutate.verdict({"tests": {"a": "failed"}, "error": "pytest ended with 3"}) == "not tested"


def found(mutants, **outcomes):
    """Returns what the test host would report: all tests pass without a mutant, and with each mutant they have the
    result that `outcomes` says."""
    tests = {t for m in mutants for t in m.tests}
    out = {"none": {"name": "none", "tests": {t: outcomes.get("control", "passed") for t in tests}}}
    for m in mutants:
        out[m.name] = {"name": m.name, "tests": {t: outcomes.get("mutant", "failed") for t in m.tests}}
    return out


def test_exit_code_is_zero_if_all_are_killed(capsys):
    some = MUTANTS[:3]
    assert mutate.report(some, {}, found(some), None) == 0
    assert "3 killed, 0 not" in capsys.readouterr().out


@pytest.mark.parametrize("outcomes", [{"mutant": "passed"}, {"mutant": "not run"}, {"control": "failed"}, {"control": "not run"}])
def test_exit_code_tells_survivors(capsys, outcomes):
    some = MUTANTS[:3]
    assert mutate.report(some, {}, found(some, **outcomes), None) == 1
    assert "0 killed, 3 not" in capsys.readouterr().out


def test_exit_code_tells_what_could_not_be_made(capsys):
    some = MUTANTS[:3]
    assert mutate.report(some, {some[0].name: "it does not build"}, found(some), None) == 1
    assert "2 killed, 1 not" in capsys.readouterr().out


def test_a_mutant_without_its_text_is_an_error(tmp):
    m = MUTANTS[0]
    for file, _, _ in m.edits:
        path = os.path.join(tmp, file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write("int other;\n")
    with pytest.raises(mutate.Broken):
        m.apply(tmp)
