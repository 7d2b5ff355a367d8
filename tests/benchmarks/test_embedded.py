"""The embedded benchmark: its table and, slow, a run of its script."""

import json

import pytest
from conftest import command_of, run_process

from benchmarks.embedded import is_ahead, table
from data.images import read_image


def test_the_table_has_all_scores_and_tells_who_is_ahead():
    result = {
        "images": 8,
        "protocol": "rgb",
        "input": {"psnr": 20.0, "ssim": 0.5},
        "classical": {"psnr": 21.123, "ssim": 0.61234},
        "restored": {"psnr": 22.5, "ssim": 0.7},
        "method": "median",
    }
    line = table({"desnowing": result}).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["desnowing", "8", "rgb", "20.00 / 0.5000", "21.12 / 0.6123 (median)", "22.50 / 0.7000"]
    assert is_ahead(result)
    assert not is_ahead(result | {"restored": {"psnr": 21.0, "ssim": 0.9}})
    assert not is_ahead(result | {"input": {"psnr": 23.0, "ssim": 0.9}})


@pytest.mark.slow
def test_the_script_trains_scores_and_goes_on_with_what_is_missing(tmp_path):
    command = f"-m benchmarks.embedded --output {tmp_path / 'out'} --data {tmp_path / 'data'} --epochs 2 --tasks"
    first = run_process(command_of(command, "desnowing"))
    result = json.loads((tmp_path / "out" / "desnowing" / "result.json").read_text())
    assert first.returncode == (0 if is_ahead(result) else 1)
    assert "desnowing" in first.stderr or is_ahead(result)
    assert 10 < result["input"]["psnr"] < result["classical"]["psnr"] < 30
    both = run_process(command_of(command, "desnowing", "deblurring"))
    assert both.returncode in (0, 1)
    assert "epoch 2/2" in both.stdout
    lines = (tmp_path / "out" / "benchmark.md").read_text().splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["desnowing", "deblurring"]
    assert json.loads((tmp_path / "out" / "desnowing" / "result.json").read_text()) == result
    sheet = read_image(tmp_path / "out" / "benchmark.jpg")
    assert sheet.shape[0] == 2 * 240 + 6
