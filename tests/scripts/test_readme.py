"""The README: short, and every command in it runs as it stands there, on small data in place of the published."""

import re
import shlex
import shutil

import pytest
from conftest import ROOT, TINY, run_script, write_reside
from skimage.data import chelsea
from test_docs import blocks_of

from data.images import write_image

README = (ROOT / "README.md").read_text()
COMMANDS = [line.split("    #")[0] for block in blocks_of(ROOT / "README.md") for line in block.splitlines()]
# make: tests/test_install.py, and make demo by make test-slow; the others belong to the environment
NOT_RUN = ("make setup", "make demo", "tensorboard ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_weights):
    """What the commands read: a photograph, pairs in two folders, and a small data set shaped like RESIDE."""
    root = tmp_path_factory.mktemp("readme")
    reside = write_reside(root / "data" / "reside-indoor")
    shutil.copytree(reside / "test" / "hazy", root / "hazy")
    shutil.copytree(reside / "test" / "gt", root / "gt")
    shutil.copytree(reside / "test" / "hazy", root / "theirs")
    write_image(root / "photo.jpg", chelsea()[:96, :80])
    write_image(root / "photos" / "cat.png", chelsea()[:64, :80])
    (root / "runs" / "demo" / "checkpoints").mkdir(parents=True)
    shutil.copy(small_weights, root / "runs" / "demo" / "checkpoints" / "best.pt")
    return root


def test_every_command_of_the_readme_runs(folder):
    commands = [line for line in COMMANDS if not line.startswith(NOT_RUN)]
    assert len(commands) >= 7
    for line in commands:
        python, *words = shlex.split(line)
        assert python == "python", line
        script = f"-m {words[1]}" if words[0] == "-m" else words[0]
        arguments = [
            word if word.startswith(("-", "configs/")) or not re.search(r"[/.]", word) else folder / word.lstrip("/")
            for word in words[2 if words[0] == "-m" else 1 :]
        ]
        result = run_script(script, *arguments, *(TINY if script == "train.py" else []))
        assert result.returncode == 0, f"{line}: {result.stderr}"
        if "--output" in arguments:
            assert list(arguments[arguments.index("--output") + 1].iterdir()), line


def test_the_readme_is_short_and_in_order():
    assert len(README.splitlines()) <= 120
    headings = re.findall(r"^## (.*)$", README, re.M)
    assert headings == ["Try it", "Your own photographs", "Training", "Testing", "Results", "The code"]
    first, second = re.findall(r"^!\[[^]]*\]\((.*)\)$", README, re.M)[:2]
    assert README.index(first) < README.index(second) < README.index("## Try it")


def test_every_task_links_to_where_its_data_are_published():
    rows = [line for line in README.splitlines() if line.startswith("| ") and "`d" in line]
    assert len(rows) >= 8
    for row in rows:
        assert re.search(r"\]\(https://", row), row
    assert "https://github.com/c-yn/IRNeXt" in README
