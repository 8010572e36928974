"""Tests of a session of their own that leave something behind, and the test after each, which must not find it."""

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent
# What a test does, and what the next one may not find. These are put back without a word.
SILENT = {
    "threads": ("import torch; torch.set_num_threads(3)", "torch.get_num_threads() == 3"),
    "opencv": ("import cv2; cv2.setNumThreads(3)", "cv2.getNumThreads() == 3"),
    "dtype": ("import torch; torch.set_default_dtype(torch.float64)", "torch.get_default_dtype() == torch.float64"),
    "onednn": ("import torch; torch.backends.mkldnn.enabled = False", "not torch.backends.mkldnn.enabled"),
    "cudnn": ("import torch; torch.backends.cudnn.deterministic = True", "torch.backends.cudnn.deterministic"),
    "deterministic": (
        "import torch; torch.use_deterministic_algorithms(True)",
        "torch.are_deterministic_algorithms_enabled()",
    ),
    "gradients": ("import torch; torch.set_grad_enabled(False)", "not torch.is_grad_enabled()"),
    "random": (
        "random.seed(1); numpy.random.seed(1); torch.manual_seed(1)",
        "random.getstate() == random.Random(1).getstate() or numpy.random.get_state()[1][0] == 1"
        " or torch.initial_seed() == 1",
    ),
    "log": ("logging.getLogger('ours').setLevel(50)", "logging.getLogger('ours').level == 50"),
    "variable of a library": ("os.environ['OMP_NUM_THREADS'] = '9'", "os.environ['OMP_NUM_THREADS'] == '9'"),
    "warnings": ("warnings.simplefilter('error')", "warnings.filters[0][0] == 'error'"),
}
# These are errors of the test that did it, which name what it left.
TOLD = {
    "folder": ("os.chdir('/')", "os.getcwd() == '/'", "the working directory: /, before"),
    "variable": (
        "os.environ['RETORT_OURS'] = 'x'",
        "'RETORT_OURS' in os.environ",
        "the variable RETORT_OURS: 'x', before None",
    ),
    "gone variable": ("del os.environ['HOME']", "'HOME' not in os.environ", "the variable HOME: None, before"),
    "import path": ("sys.path.append('/ours')", "'/ours' in sys.path", "sys.path: ['/ours']"),
    "umask": ("os.umask(0o001)", "os.umask(0o022) == 0o001", "the umask: 001, before"),
    "signal": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "signal.getsignal(signal.SIGTERM) == signal.SIG_IGN",
        "the handler of SIGTERM",
    ),
    "child": (
        "KEPT.append(subprocess.Popen(['sleep', '60']))",
        "KEPT[0].wait(5) != -signal.SIGKILL",
        "a running child process: ",
    ),
    "thread": (
        "KEPT.append(threading.Event()); threading.Thread(target=KEPT[0].wait, args=(30,), name='ours').start()",
        "KEPT[0].set()",
        "a running thread: ours",
    ),
}
IMPORTS = "import logging, os, random, signal, subprocess, sys, threading, warnings\n"
LIBRARIES = "import cv2, numpy, torch\nlogging.getLogger('ours')\n"


def session(folder, *tests, imports=""):
    """Run tests, each a line of code, one after the other, and give what pytest says of them."""
    bodies = [f"def test_{number}():\n    {code}\n" for number, code in enumerate(tests)]
    (folder / "test_inner.py").write_text(IMPORTS + imports + "KEPT = []\n" + "\n\n".join(bodies))
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {SUPPORT}\n")
    (folder / "conftest.py").write_text("pytest_plugins = ['process_state']\n")
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", folder]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def test_what_libraries_change_is_put_back_without_a_word(tmp_path):
    tests = [line for code, found in SILENT.values() for line in (code, f"assert not ({found})")]
    said = session(tmp_path, *tests, imports=LIBRARIES)
    assert f"{len(tests)} passed" in said, said


def test_what_a_test_leaves_is_its_error_and_put_back(tmp_path):
    tests = [line for code, found, _ in TOLD.values() for line in (code, f"assert not ({found}); KEPT.clear()")]
    said = session(tmp_path, *tests)
    assert f"{len(tests)} passed, {len(TOLD)} errors" in said, said
    for number, (_, _, told) in enumerate(TOLD.values()):
        assert f"ERROR test_inner.py::test_{2 * number} " in said
        assert f"test_{2 * number} leaves behind\n{told}" in said


def test_no_library_is_imported_for_it(tmp_path):
    found = "assert not {'torch', 'cv2', 'numpy', 'ultralytics'} & {*sys.modules}"
    assert "2 passed" in session(tmp_path, "pass", found)


def test_threads_that_a_modules_fixture_sets_with_the_first_import_do_not_reach_the_tests(tmp_path):
    fixture = """
import pytest
@pytest.fixture(scope="module", autouse=True)
def trained():
    import torch
    torch.set_num_threads(3)
"""
    found = "assert sys.modules['torch'].get_num_threads() == int(os.environ['OMP_NUM_THREADS'])"
    said = session(tmp_path, found, imports=fixture)
    assert "1 passed" in said, said
