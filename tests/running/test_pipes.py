import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TALKER = f"""
import logging, subprocess, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from kd_steps.running import pipes
pipes.go_on_without_reader()
logging.basicConfig(stream=sys.stderr)
print("begin", flush=True)
sys.stdin.readline()
for line in range(5000):
    print("epoch", line)
    logging.warning("epoch %d", line)
subprocess.run([sys.executable, "-c", "print('a child', flush=True)"], check=True)
open("done", "w").write("whole")
"""


def test_work_goes_on_when_its_reader_is_gone(tmp_path):
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", TALKER], cwd=tmp_path, text=True, **both)
    assert process.stdout.readline() == "begin\n"
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "done").read_text() == "whole"


def test_with_a_reader_all_is_heard(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TALKER], cwd=tmp_path, input="\n", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["begin", *(f"epoch {n}" for n in range(5000)), "a child"]
    assert done.stderr.count("WARNING") == 5000
