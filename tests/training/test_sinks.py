"""Services besides TensorBoard: what they get, resuming in them, and that none of their failures ends a training."""

import json
import struct
import sys
import threading
import time

import pytest
from conftest import ROOT, assert_refused, run_process, tiny_training, train_tiny, write_reside
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.sinks import IDS, SINKS, background, check_sinks, known_ids
from utils.errors import InputError

BOTH = "--train.sinks=[wandb,mlflow]"


@pytest.fixture
def services(monkeypatch, tmp_path):
    """Settings of both services under which nothing leaves the machine; each run needs a process of its own, since
    wandb reads them once."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SINKS)
def test_a_missing_package_is_named_before_anything_is_written(reside, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    result = train_tiny(reside, tmp_path / "run", f"--train.sinks=[{name}]")
    assert_refused(result, f"train.sinks: {name} is not installed: pip install {name}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", SINKS)
def test_the_folder_that_a_service_leaves_is_not_taken_for_its_package(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InputError, match=f"{name} is not installed"):
        check_sinks([name])


def test_an_unknown_service_is_refused(reside, tmp_path):
    assert_refused(train_tiny(reside, tmp_path / "run", "--train.sinks=[comet]"), "train.sinks", "comet", "wandb")


class Service:
    """A service that takes what it gets, unless ``broken``."""

    id = "1"

    def __init__(self, broken: bool = False) -> None:
        self.broken, self.got = broken, []

    def scalars(self, values, step):
        if self.broken:
            raise ConnectionError("no route\nto host")
        self.got.append(step)

    def close(self, finished):
        self.got.append(finished)


def test_an_outage_costs_its_points_and_one_warning(capsys):
    service = Service()
    sink = background.Background("service", lambda name: service)
    for step in range(8):
        service.broken = 2 <= step < 5
        sink.call("scalars", {"loss": 1.0}, step)
        while not sink.calls.empty():
            time.sleep(0.001)
        time.sleep(0.01)
    sink.close(True)
    assert service.got == [0, 1, 5, 6, 7, True]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: service: ConnectionError: no route to host; the training goes on")


def test_a_service_that_cannot_be_opened_at_first_gets_the_rest(capsys):
    service, tries = Service(), iter([False, False, True])

    def open(name):
        if not next(tries):
            raise OSError("not now")
        return service

    sink = background.Background("service", open)
    for step in range(3):
        sink.call("scalars", {}, step)
    sink.close(False)
    assert service.got == [1, 2, False]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_service_that_hangs_delays_nothing(monkeypatch, capsys):
    monkeypatch.setattr(background, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.05)
    released = threading.Event()
    start = time.monotonic()
    sink = background.Background("service", lambda name: released.wait(60) and Service())
    for step in range(2 * background.WAITING):
        sink.call("scalars", {}, step)
    sink.close(True)
    assert time.monotonic() - start < 10
    released.set()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"wandb": 3}', '{"wandb": {"a": 1}}', "\0"])
def test_a_damaged_file_of_ids_is_as_none(tmp_path, content):
    (tmp_path / IDS).write_text(content)
    assert known_ids(tmp_path) == {}


def train_in(folder, *arguments):
    """train.py, started in a folder, where MLflow puts the images."""
    command = tiny_training(*arguments)
    _, script, *options = command["args"]
    return run_process(command | {"cwd": folder, "args": [sys.executable, str(ROOT / script), *options]})


def curves_of(output):
    """The points of each curve in TensorBoard: {tag: {step: value}}, and the steps of each image."""
    events = EventAccumulator(str(output), size_guidance={"images": 0}).Reload()
    scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    return scalars, {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def records_of(content):
    """The records of a LevelDB log, as wandb writes it after seven bytes: parts of them, in blocks of 32 KiB."""
    place, record = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def wandb_history(folder):
    """The ids of the runs in a folder of an offline run, and its rows."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("run-*.wandb")
    records = [Record.FromString(content) for content in records_of(file.read_bytes())]
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    return {record.run.run_id for record in records if record.HasField("run")}, rows


@pytest.mark.extra
def test_both_services_get_what_tensorboard_gets_and_resuming_goes_on_in_the_same_runs(services):
    pytest.importorskip("wandb", reason="pip install -r requirements-extra.txt")
    mlflow = pytest.importorskip("mlflow", reason="pip install -r requirements-extra.txt")
    root, output = write_reside(services / "reside"), services / "run"
    for options in (["--train.epochs=2"], ["--train.epochs=3", "--train.lr=2e-4", "--resume=auto"]):
        result = train_in(services, root, output, BOTH, *options)
        assert result.returncode == 0, result.stderr
        assert "warning: " not in result.stderr
    scalars, images = curves_of(output)
    ids = json.loads((output / IDS).read_text())

    folders = sorted((output / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    seen = {}
    for folder in folders:
        found, rows = wandb_history(folder)
        assert found == {ids["wandb"]}
        for row in rows:
            for name, value in row.items():
                seen.setdefault(name, {})[row["step"]] = value
        assert len(list((folder / "files" / "media").rglob("*.png"))) > 0
    for tag, points in scalars.items():
        assert seen[tag] == pytest.approx(points, rel=1e-5), tag
    assert all(sorted(seen[tag]) == steps for tag, steps in images.items())

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("irnext").experiment_id])
    assert run.info.run_id == ids["mlflow"]
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.0001"  # of the start; a parameter cannot change
    assert "lr: 0.0002" in mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/config.yaml")
    for tag, points in scalars.items():
        history = client.get_metric_history(run.info.run_id, tag)
        assert {metric.step: metric.value for metric in history} == pytest.approx(points, rel=1e-5), tag
        assert len(history) == len(points)
    files = [item.path for item in client.list_artifacts(run.info.run_id, "images") if item.path.endswith(".png")]
    assert len(files) == sum(map(len, images.values()))


@pytest.mark.extra
@pytest.mark.parametrize("trouble", ["network", "disk", "not logged in"])
def test_a_service_that_fails_for_real_does_not_end_the_training(services, monkeypatch, trouble):
    for name in SINKS:
        pytest.importorskip(name, reason="pip install -r requirements-extra.txt")
    if trouble == "disk":
        (services / "file").touch()
        monkeypatch.setenv("WANDB_DIR", str(services / "file" / "wandb"))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{services}/file/mlflow.db")
    else:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("HOME", str(services))
        if trouble == "network":
            monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        else:
            monkeypatch.delenv("WANDB_API_KEY", raising=False)
    output, options = services / "run", ["--train.epochs=1", "--train.warmup_epochs=0"]
    result = train_in(services, write_reside(services / "reside"), output, BOTH, *options)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    # Without its folder, wandb takes the one for temporary files.
    assert {line.split(": ")[1] for line in warnings} == ({"mlflow"} if trouble == "disk" else set(SINKS))
    scalars, _ = curves_of(output)
    assert list(scalars["loss/total"]) == [1, 2, 3]
