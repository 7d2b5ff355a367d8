"""python -m data.check on sets that are right, and on sets that are not."""

import cv2
import numpy as np
from conftest import ROOT, assert_refused, run_script, write_reside
from PIL import Image
from shapes import write_shape

from data.images import read_image, write_image


def check(name, root, *options):
    return run_script("-m data.check", "--config", ROOT / "configs" / f"{name}.yaml", "--data.root", root, *options)


def test_a_good_set_is_described(reside):
    grey = cv2.cvtColor(read_image(reside / "train" / "hazy" / "10_1.png"), cv2.COLOR_RGB2GRAY)
    Image.fromarray(grey).save(reside / "train" / "hazy" / "10_1.png")
    result = check("dehazing_its", reside, "--decode")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "train: 5 pairs, 3 targets",
        "    sizes: 100x70 (8)",
        "    not RGB: 1 greyscale; converted to RGB when read, alpha is dropped",
        "    smaller than the crop of 256x256: 8; padded by reflection",
        "test SOTS-Indoor: 2 pairs, 1 targets",
        "    sizes: 100x70 (3)",
        "no problems found",
    ]


def test_everything_that_is_wrong_is_named_at_once(reside):
    train, test = reside / "train", reside / "test"
    (train / "hazy" / "10_1.png").write_bytes((train / "hazy" / "10_1.png").read_bytes()[:-100])
    write_image(train / "gt" / "11.png", np.zeros((10, 10, 3), np.uint8))
    (test / "gt" / "20.png").rename(test / "gt" / "21.png")
    result = check("dehazing_its", reside)
    assert_refused(result, "3 problems", "10_1.png")
    for line in ("1 broken image: ", "2 pairs of different size: ", "2 input images without a target: "):
        assert line in result.stdout


def test_damage_inside_is_found_by_decoding(reside):
    path = reside / "train" / "gt" / "12.png"
    content = bytearray(path.read_bytes())
    content[60:2000] = bytes(1940)
    path.write_bytes(content)
    assert check("dehazing_its", reside).returncode == 0
    assert_refused(check("dehazing_its", reside, "--decode"), "1 broken image", path)


def test_files_cut_off_anywhere_are_found_by_their_headers(tmp_path):
    root = write_shape("desnowing_csd", tmp_path / "csd")
    snow = root / "train2500" / "Snow"
    first, second, third = (snow / f"{number}.tif" for number in (1, 2, 3))
    image = Image.fromarray(read_image(third))
    image.save(third, "BMP")  # what a file is called does not matter
    image.save(second, compression="tiff_lzw")
    whole = {path: path.read_bytes() for path in (first, second, third)}
    for share in (0.1, 0.5, 0.9, 0.99):
        for path, content in whole.items():
            path.write_bytes(content[: int(share * len(content))])
        result = check("desnowing_csd", root)
        assert_refused(result, "1 problem")
        assert "3 broken images: " in result.stdout
        assert all(str(path) in result.stdout for path in whole)


def test_targets_shared_between_training_and_test(tmp_path):
    root = write_shape("desnowing_csd", tmp_path / "csd")
    content = (root / "train2500" / "Gt" / "2.tif").read_bytes()
    (root / "test2000" / "Gt" / "51.tif").write_bytes(content)
    result = check("desnowing_csd", root)
    assert result.returncode == 0
    known = "the published training and test splits share scenes; found here: 1 test target also in the training set: "
    assert known in result.stdout

    root = write_reside(tmp_path / "reside")
    target = read_image(root / "train" / "gt" / "11.png")
    Image.fromarray(target).save(root / "test" / "gt" / "20.jpg", quality=80)
    (root / "test" / "gt" / "20.png").unlink()
    assert check("dehazing_its", root).returncode == 0
    assert_refused(check("dehazing_its", root, "--decode"), "20.jpg is", "11.png")


def test_wrong_use_of_the_check(tmp_path, reside):
    assert_refused(check("dehazing_its", tmp_path / "nowhere"), "nowhere: no such folder")
    assert_refused(check("dehazing_its", reside, "--decoed"), "--decoed")
