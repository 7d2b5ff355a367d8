"""The benchmark of restoring a folder."""

import re

from conftest import assert_refused, run_script


def test_the_benchmark_prints_the_share_of_the_network(small_weights):
    command = ("-m benchmarks.restoring", "--weights", small_weights)
    result = run_script(*command, "--images=5", "--width=200", "--height=120", "--format=png")
    assert result.returncode == 0, result.stderr
    assert "5 photographs of 200x120, png" in result.stdout
    whole, network, in_a_row = (float(text) for text in re.findall(r"([\d.]+) s", result.stdout))
    assert 0 < network <= in_a_row
    assert whole > 0
    shares = [float(text) for text in re.findall(r"share ([\d.]+)", result.stdout)]
    assert len(shares) == 2
    assert all(share > 0 for share in shares)
    assert_refused(run_script(*command, "--format=gif"), "--format", "png", "gif")
