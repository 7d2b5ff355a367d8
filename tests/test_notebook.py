"""docs/irnext.ipynb runs from top to bottom, on the CPU and in its own process, and is stored with what it shows."""

import json

from conftest import ROOT, command_of, run_process

NOTEBOOK = ROOT / "docs" / "irnext.ipynb"
# As Jupyter would run it, without its kernel: one cell after the other, with the same names.
RUN = """
import json, sys
names = {}
for cell in json.load(open(sys.argv[1]))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
"""


def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs():
    command = command_of("-c", RUN, NOTEBOOK)
    command["env"] |= {"MPLBACKEND": "agg"}
    result = run_process(command | {"cwd": ROOT / "docs"})
    assert result.returncode == 0, result.stderr
    *_, gain = result.stdout.splitlines()
    assert gain.startswith("mean gain ")
    assert float(gain.split()[2]) > 5


def test_the_notebook_is_stored_with_its_outputs():
    assert NOTEBOOK.stat().st_size < 1.5e6
    cells = code_cells()
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
