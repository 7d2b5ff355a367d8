"""The validation images that are shown: which, which part of them, and that they stay the same."""

import pytest
import torch
from conftest import train_tiny, weights_of, write_reside
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.scoring import Score
from evaluation.sheets import region_of_interest
from training.examples import SIDE, choose, example


@given(st.lists(st.floats(0, 60), min_size=1, max_size=9))
def test_hard_median_and_easy_are_different_images_in_this_order(psnrs):
    scores = [Score(str(number), {}, {"psnr": psnr}, None) for number, psnr in enumerate(psnrs)]
    shown = choose(scores)
    assert len(set(shown.values())) == len(shown) == min(3, len(psnrs))
    found = [psnrs[int(shown[name])] for name in ("hard", "median", "easy") if name in shown]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (min(psnrs), max(psnrs))


@pytest.mark.parametrize("height, width", [(400, 700), (300, 100), (80, 300), (64, 64), (SIDE, SIDE)])
@pytest.mark.parametrize("corner", [0, -1])
def test_the_region_is_where_the_input_differs_most(height, width, corner):
    target = torch.full((1, 3, height, width), 0.5)
    input = target.clone()
    input[..., corner * 32 :, corner * 32 :][..., :32, :32] += 0.25
    rows, columns = region_of_interest(input[0], target[0], SIDE, SIDE)
    crop = (input - target)[..., rows, columns]
    assert crop.shape[-2:] == (min(SIDE, height), min(SIDE, width))
    assert crop.count_nonzero() == 3 * 32 * 32
    parts = example(input, target, target)
    assert {part.shape for part in parts.values()} == {(*crop.shape[-2:], 3)}
    assert (parts["input"] > parts["target"]).any()
    assert not parts["error"].any()


def steps_of(output, part):
    """The steps of each image of a part that the event files show."""
    curves = EventAccumulator(str(output)).Reload()
    tags = [tag for tag in curves.Tags()["images"] if tag.endswith(f"/{part}")]
    return {tag.rsplit("/", 1)[0]: [event.step for event in curves.Images(tag)] for tag in tags}


def test_a_resumed_run_keeps_its_choice_until_the_set_changes(tmp_path):
    root, output = write_reside(tmp_path / "reside", test_hazes=5), tmp_path / "run"
    assert train_tiny(root, output, "--train.epochs=2").returncode == 0
    chosen = weights_of(output)["progress"]["shown"]
    assert sorted(chosen["SOTS-Indoor"]) == ["easy", "hard", "median"]
    swapped = dict(zip(chosen["SOTS-Indoor"], reversed(chosen["SOTS-Indoor"].values()), strict=True))
    state = weights_of(output)
    state["progress"]["shown"]["SOTS-Indoor"] = swapped  # not what a choice at this step would be
    torch.save(state, output / "checkpoints" / "last.pt")
    assert train_tiny(root, output, "--train.epochs=3", "--resume=auto").returncode == 0
    assert weights_of(output)["progress"]["shown"] == {"SOTS-Indoor": swapped}
    assert sorted(steps_of(output, "input").values()) == [[3], [3], [3]]
    # The median image is the same.
    assert sorted(steps_of(output, "output").values()) == [[3, 6], [3, 6], [3, 6, 9], [9], [9]]
    gone = swapped["hard"]
    (root / "test" / f"{gone}.png").unlink()
    assert train_tiny(root, output, "--train.epochs=4", "--resume=auto").returncode == 0
    again = weights_of(output)["progress"]["shown"]["SOTS-Indoor"]
    assert len(again) == 3
    assert gone not in again.values()
