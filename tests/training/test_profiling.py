"""A trace of a few steps through train.py."""

import json

from conftest import assert_refused, assert_same_run, train_tiny, weights_of


def warnings_of(result):
    """What the run says on stderr, without the profiler's own notes."""
    return [line for line in result.stderr.splitlines() if ".cpp:" not in line]


def test_a_trace_holds_the_steps_asked_for_and_does_not_change_the_run(trained, tmp_path):
    root, output, _ = trained
    result = train_tiny(root, tmp_path, "--train.profile=2")
    assert (result.returncode, warnings_of(result)) == (0, [])
    (trace,) = (tmp_path / "profile").iterdir()
    assert trace.name == "steps_6_to_7.pt.trace.json"  # the suffix by which TensorBoard finds it
    names = [event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]]
    assert {name for name in names if name.startswith("ProfilerStep#")} == {"ProfilerStep#5", "ProfilerStep#6"}
    assert "aten::convolution" in names
    assert any("Adam" in name for name in names)
    assert_same_run(weights_of(tmp_path), weights_of(output))


def test_a_run_too_short_for_a_trace_says_so(trained, tmp_path):
    root, *_ = trained
    result = train_tiny(root, tmp_path, "--train.profile=2", "--train.epochs=2", "--train.batch_size=4")
    assert result.returncode == 0
    assert warnings_of(result) == ["warning: train.profile: no trace, because the run ended before step 6"]
    assert not (tmp_path / "profile").exists()
    assert_refused(train_tiny(root, tmp_path / "out", "--train.profile=0"), "train.profile", "from 1 to 1000")
