# SPDX-License-Identifier: MIT
"""The tools that check the tree, given small trees with known faults."""
import json
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(tool, *args):
    return subprocess.run([str(ROOT / "tools" / tool), *map(str, args)], capture_output=True,
                          text=True, timeout=240, check=False)


def make_tree(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


GOOD = {
    "base/str.h": "#include <stddef.h>\n",
    "loop/loop.c": '#include "base/str.h"\n#include <urcu-qsbr.h>\n',
    "http/stream.h": "",
    "http/x_int.h": "",
    "http/h1/h1.h": '#include "http/stream.h"\n#include "http/x_int.h"\n',
    "model/route.h": "#include <jansson.h>\n#include <yaml.h>\n",
    "route/route.h": "", "upstream/pool.h": "", "cache/cache.h": "",
    "proxy/steps.c": '#include "http/stream.h"\n#include "route/route.h"\n',
    "store/store.h": "#include <sqlite3.h>\n", "admin/api.c": '#include "store/store.h"\n',
    "main.c": '#include "admin/api.h"\n', "admin/api.h": "",
}


def test_layers_accepts_a_good_tree(tmp_path):
    done = run("layers", make_tree(tmp_path, GOOD))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name, text, message", [
    ("base/a.c", '#include "loop/loop.h"', "is above loop/"),
    ("loop/loop.c", '  #  include "http/stream.h"', "is above http/"),
    ("upstream/a.c", '#include "route/route.h"', "is above route/"),
    ("route/a.c", '#include "cache/cache.h"', "neighbours"),
    ("proxy/a.c", '#include "http/h1/h1.h"', "sees streams"),
    ("filter/a.c", '#include "http/h1/h1.h"', "sees streams"),
    ("proxy/a.c", '#include "store/store.h"', "is above store/"),
    ("route/a.c", '#include "http/x_int.h"', "is for http/ alone"),
    ("route/a.c", '#include "route.h"', 'as "folder/file.h"'),
    ("route/a.c", '#include "../base/str.h"', 'as "folder/file.h"'),
    ("route/a.c", '#include "base/nothing.h"', "does not exist"),
    ("proxy/a.c", "#include <sqlite3.h>", "belongs to collect, store"),
    ("route/a.c", "#include <jansson.h>", "belongs to"),
    ("store/a.c", "#include <yaml.h>", "belongs to model"),
    ("admin/a.c", "#include <urcu/rculfhash.h>", "belongs to loop"),
    ("base/a.c", "#include <openssl/sha.h>", "belongs to"),
    ("other/a.c", "", "has no layer"),
])
def test_layers_finds(tmp_path, name, text, message):
    files = dict(GOOD, **{"loop/loop.h": "", name: "// first\n" + text + "\n"})
    done = run("layers", make_tree(tmp_path, files))
    line = 1 if name.startswith("other/") else 2
    assert done.returncode == 1
    assert done.stdout.startswith(f"{tmp_path / name}:{line}: ") and message in done.stdout
    assert done.stdout.count("\n") == 1


ROWS = """\
# Conformance

| point | RFC section | test |
| --- | --- | --- |
| keep-alive | 9112 9.3 | `test/unit/test_x.c:test_one` |
| a `|` in code | 9110 5 | `test/integration/test_y.py::test_two`, `test/unit/test_x.c:test_one` |
"""
TESTS = {
    "test/unit/test_x.c": "static void test_one(void **s)\n{\n}\n"
                          "static void test_unlisted(void **s)\n{\n}\n"
                          "cmocka_unit_test(test_one),\n",
    "test/integration/test_y.py": "def test_two(a):\n    pass\n",
}


def test_conformance_accepts(tmp_path):
    done = run("conformance", make_tree(tmp_path, {**TESTS, "docs/conformance.md": ROWS}))
    assert (done.returncode, done.stdout) == (0, "2 rows, 0 faults\n")


@pytest.mark.parametrize("row, message", [
    ("| a | 9112 1 | |", "no test is named"),
    ("| a | 9112 1 | later |", "no test is named"),
    ("| a | 9112 1 | test/unit/test_x.c |", "no test is named"),
    ("| a | 9112 1 | test/unit/test_z.c:test_one |", "no such file"),
    ("| a | 9112 1 | test/unit/test_x.c:test_on |", "no test test_on"),
    ("| a | 9112 1 | test/unit/test_x.c:test_unlisted |", "no test test_unlisted"),
    ("| a | 9112 1 | test/integration/test_y.py::test_three |", "no test test_three"),
    ("| a | 9112 1 | test/unit/test_x.c:test_one test/unit/test_q.c |", "name the test as"),
    ("| a | test/unit/test_x.c:test_one |", "want |"),
])
def test_conformance_finds(tmp_path, row, message):
    document = ROWS + row + "\n"
    done = run("conformance", make_tree(tmp_path, {**TESTS, "docs/conformance.md": document}))
    assert done.returncode == 1
    assert f"conformance.md:{len(document.splitlines())}: " in done.stdout
    assert message in done.stdout


def test_conformance_wants_rows(tmp_path):
    assert run("conformance", tmp_path).returncode == 1
    assert run("conformance", make_tree(tmp_path, {"docs/conformance.md": ""})).returncode == 1


def test_count(tmp_path):
    good = "[==========] Running 2 test(s).\n[ RUN      ] a\n[       OK ] a\n[       OK ] b\n"
    bad = ("[       OK ] a\n[  FAILED  ] b\n[  PASSED  ] 1 test(s).\n"
           "[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] b\n")
    entries = [
        {"name": "x", "result": "OK", "stdout": good},
        {"name": "y", "result": "FAIL", "stdout": "[ RUN      ] a\n", "stderr": bad},
        {"name": "crash", "result": "FAIL", "stdout": "[       OK ] a\n"},
        {"name": "plain", "result": "OK", "stdout": "12 inputs\n"},
        {"name": "slow", "result": "TIMEOUT"},
        {"name": "none", "result": "SKIP"},
    ]
    log = tmp_path / "testlog.json"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    junit = tmp_path / "pytest.xml"
    junit.write_text('<testsuites><testsuite tests="10" failures="2" errors="1" skipped="3"/>'
                     "</testsuites>")
    assert run("count", log).stdout == "5 3\n"
    assert run("count", junit).stdout == "4 3\n"
    assert run("count", log, junit, tmp_path / "missing.xml").stdout == "9 7\n"


RACE = """\
==7==WARNING: ThreadSanitizer: data race (pid=7)
  Write of size 8 at 0x1 by thread T2:
""" + "    #0 frame\n" * 60 + "SUMMARY: ThreadSanitizer: data race a.c:5 in set\n"


def test_count_names_and_shows_what_failed(tmp_path):
    log = tmp_path / "testlog.json"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in [
        {"name": "good", "result": "OK", "stdout": "fine\n"},
        {"name": "bad", "result": "FAIL", "returncode": 1, "stdout": "[ RUN      ] a\n" * 90,
         "stderr": "[   LINE   ] --- b.c:7: error: Failure!\n[  FAILED  ] a\n"},
        {"name": "race", "result": "FAIL", "returncode": 66, "stdout": "x\n" * 9, "stderr": RACE},
    ]))
    assert run("count", "--failed", log).stdout == (
        "bad: a\nrace: FAIL (SUMMARY: ThreadSanitizer: data race a.c:5 in set)\n")
    said = run("count", "--show", log).stdout
    bad, race = ("\n" + said).split("\n--- ")[1:]
    assert bad.startswith(f"bad: FAIL, status 1 ({log})\n") and bad.endswith("[  FAILED  ] a")
    assert "b.c:7" in bad and len(bad.splitlines()) == 41
    assert race.startswith(f"race: FAIL, status 66 ({log})\n==7==WARNING: ThreadSanitizer: data race")
    assert "Write of size 8" in race and len(race.splitlines()) == 41

    junit, step = tmp_path / "pytest.xml", tmp_path / "layers.log"
    junit.write_text('<testsuites><testsuite tests="2" failures="1"><testcase classname="t" name="ok"/>'
                     '<testcase classname="t" name="no"><failure message="m">'
                     + "".join(f"{i}\n" for i in range(60)) +
                     "E   assert 1 == 2</failure></testcase></testsuite></testsuites>")
    step.write_text("a.c:1: base/ is above loop/\n")
    said = run("count", "--show", junit, step, tmp_path / "missing.json").stdout
    assert said.startswith("--- t::no\n36\n") and "E   assert 1 == 2\n" in said and "t::ok" not in said
    assert f"--- {step}\na.c:1: base/ is above loop/\n--- {tmp_path / 'missing.json'}\n" in said


@pytest.mark.parametrize("more, is_fair", [
    ({}, True),
    ({"returncode": 139}, False),
    ({"result": "TIMEOUT", "returncode": -15}, False),
    ({"returncode": 66, "stderr": RACE}, False),
    ({"stderr": "==7==AddressSanitizer: libc interceptors cannot be set up"}, False),
    ({"stderr": "a.c:3:5: runtime error: shift exponent 64"}, False),
    ({"stderr": "Test failed with exception: Segmentation fault(11)"}, False),
])
def test_count_says_what_may_be_run_again(tmp_path, more, is_fair):
    log = tmp_path / "testlog.json"
    entries = [{"name": "p:unit / slow", "result": "FAIL", "returncode": 1},
               {"name": "p:unit / bad", "result": "FAIL", "returncode": 1, **more},
               {"name": "p:unit / good", "result": "OK", "returncode": 0}]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    done = run("count", "--again", log)
    assert (done.returncode, done.stdout) == ((0, "slow\nbad\n") if is_fair else (1, ""))


def test_count_says_which_of_pytest_may_be_run_again(tmp_path):
    junit = tmp_path / "pytest.xml"

    def again(count, text):
        case = '<testcase classname="test.integration.test_x.TestY" name="t[{}]"><failure message="{}"/></testcase>'
        junit.write_text("<testsuites><testsuite>" + "".join(case.format(i, text) for i in range(count))
                         + "</testsuite></testsuites>")
        done = run("count", "--again", junit)
        return done.stdout.split() if done.returncode == 0 else None

    assert again(2, "no") == [f"test/integration/test_x.py::TestY::t[{i}]" for i in range(2)]
    assert again(0, "no") is None and again(4, "no") is None
    assert again(1, "it ended with status -11:") is None
    assert again(1, "it did not end within 60 s:") is None


def test_count_shows_300_lines_at_most(tmp_path):
    log = tmp_path / "testlog.json"
    log.write_text("".join(json.dumps({"name": f"t{i}", "result": "FAIL", "returncode": 1,
                                       "stderr": "line\n" * 50}) + "\n" for i in range(40)))
    said = run("count", "--show", log).stdout.splitlines()
    assert len(said) == 301 and said[-1] == "--- and 10 more" and said[0] == f"--- t0: FAIL, status 1 ({log})"
