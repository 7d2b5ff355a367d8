"""The curves of finished trainings in docs/evidence."""

import json

import cv2
import numpy as np
import pytest
from conftest import assert_refused, run_script, train_tiny, write_reside


def test_runs_are_drawn_and_what_they_were_started_with_is_kept(tmp_path):
    data = write_reside(tmp_path / "data")
    for name in ("first", "second $x$"):
        assert train_tiny(data, tmp_path / name).returncode == 0
    runs = [tmp_path / "first", tmp_path / "second $x$"]
    result = run_script("-m benchmarks.trainings", *runs, "--output", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "out" / "trainings.jsonl").read_text().splitlines()]
    assert [line["run"] for line in lines] == ["first", "second $x$"]
    assert all(line["command"] and line["torch"] for line in lines)
    figure = cv2.imdecode(np.fromfile(tmp_path / "out" / "trainings.png", np.uint8), cv2.IMREAD_COLOR)
    assert figure.std() > 10


@pytest.mark.parametrize("content", [None, "", "events"])
def test_a_folder_without_a_run_is_refused(content, tmp_path):
    run = tmp_path / "run"
    if content is not None:
        run.mkdir()
        (run / "events.out.tfevents.1").write_text(content)
    assert_refused(run_script("-m benchmarks.trainings", run, "--output", tmp_path / "out"), run)
