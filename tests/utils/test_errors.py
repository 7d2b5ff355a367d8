"""Scripts under the standard outputs and in the locales that there are."""

import subprocess
import sys

import pytest
from conftest import ROOT, assert_refused, command_of, run_process

from data.images import read_image, write_image
from utils.errors import printable

# Without reconfigure, as in Jupyter's %run and some IDEs; and none at all, as under pythonw.
PLAIN = """
import runpy, sys
class Plain:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text)
    def flush(self): self.stream.flush()
sys.stdout = {stdout}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("stdout", ["Plain(sys.stdout)", "__import__('io').StringIO()", "None"])
@pytest.mark.parametrize("script", ["restore.py", "test.py", "train.py", "data/check.py"])
def test_scripts_end_in_one_line_whatever_stdout_is(script, stdout):
    command = command_of("-c", PLAIN.format(stdout=stdout), script, "--nonsense=1")
    command["env"] |= {"PYTHONPATH": str(ROOT)}
    assert_refused(run_process(command))


def test_restoring_works_whatever_stdout_is(reside, small_weights, tmp_path):
    arguments = ("--weights", small_weights, "--input", reside / "test" / "gt", "--output", tmp_path / "out")
    command = command_of("-c", PLAIN.format(stdout="Plain(sys.stdout)"), "restore.py", *arguments)
    command["env"] |= {"PYTHONPATH": str(ROOT)}
    result = run_process(command)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("1 restored")


BOM = b"\xef\xbb\xbf"


@pytest.fixture(params=[b"", BOM], ids=["without BOM", "with BOM"])
def configured(reside, tmp_path, request):
    """A configuration, its base and its list, with characters beyond ASCII in all of them, one name in each line."""
    for side, name in (("hazy", "30_\u00fc_1"), ("gt", "30")):
        source = next((reside / "test" / side).iterdir())
        write_image(reside / "test" / side / f"{name}.png", read_image(source))
    (reside / "split.txt").write_bytes(request.param + "30_\u00fc_1.png\n".encode())
    its = ROOT / "configs" / "dehazing_its.yaml"
    (tmp_path / "base.yaml").write_bytes(request.param + f"# D\u00e9brumage\nbase: {its}\n".encode())
    test = "data: {test: {SOTS-Indoor: {only: split.txt}}}"
    (tmp_path / "own.yaml").write_bytes(request.param + f"base: base.yaml\ntask: d\u00e9brumage\n{test}\n".encode())
    return tmp_path / "own.yaml", reside


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_text_files_are_utf_8_in_every_locale(configured, locale):
    config, root = configured
    command = command_of("-m data.check", "--config", config, "--data.root", root)
    command["env"] |= {"LC_ALL": locale, "PYTHONUTF8": "0"}
    encoding = subprocess.run(
        [sys.executable, "-c", "import locale; print(locale.getpreferredencoding())"],
        env=command["env"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert ("UTF-8" in encoding) == (locale != "C"), encoding
    result = run_process(command)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "SOTS-Indoor: 1 pairs, 1 targets" in result.stdout


@pytest.mark.parametrize(
    "name", ["\x1b[2Jx", "a\x07\x08b", "\x9b31m", "\u202egnp.exe", "\udcff", "line\nbreak\rx", "tab\tx", "\0"]
)
def test_a_message_prints_on_one_line_whatever_it_quotes(name):
    line = printable(f"/data/{name}.png: not an image")
    assert line.isprintable()
    assert line.startswith("/data/")
    assert line.endswith(".png: not an image")


def test_long_names_lose_their_middle_and_others_nothing():
    folder, name = "f" * 120, "n" * 251
    assert printable(f"/{folder}/a.png: größer") == f"/{folder}/a.png: größer"
    line = printable(f"/{folder}/{name}.png: not an image")
    assert line.startswith(f"/{folder}/nnn")
    assert line.endswith("nnn.png: not an image")
    assert len(line) < 300
    assert len(printable("word " * 1_000_000)) <= 2000
