"""MLflow: https://mlflow.org/docs. MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME apply."""

import os
import re
import time
from collections.abc import Mapping

import numpy as np
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from training.sinks import Description


class MlflowSink:
    """See ``training.sinks.Sink``."""

    def __init__(self, run: Description, id: str | None) -> None:
        self.client = MlflowClient()
        if id is None or not self._exists(id):
            id = self._create(run)
        self.id = id
        self.client.update_run(id, status="RUNNING")
        self.client.log_text(id, yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True), "config.yaml")

    def _create(self, run: Description) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "irnext")
        experiment = self.client.get_experiment_by_name(name)
        number = self.client.create_experiment(name) if experiment is None else experiment.experiment_id
        id = self.client.create_run(number, run_name=run.output.name).info.run_id
        # Only now: a parameter cannot change, and a resumed run's may; config.yaml has the current ones.
        self.client.log_batch(id, params=[Param(key, str(value)) for key, value in run.hyper_parameters.items()])
        return id

    def _exists(self, id: str) -> bool:
        try:
            return self.client.get_run(id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return False
            raise

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve."""
        now = time.time_ns() // 10**6
        self.client.log_batch(
            self.id, metrics=[Metric(allowed(key), value, now, step) for key, value in values.items()]
        )

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Show an image, uint8 (H, W, 3)."""
        self.client.log_image(self.id, image, key=allowed(tag), step=step)

    def close(self, finished: bool) -> None:
        """Set the run's status."""
        self.client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


def allowed(name: str) -> str:
    """The name of a curve without the characters that MLflow refuses, and no longer than a file's may be."""
    return re.sub(r"[^\w\-. /]", "_", name[-150:], flags=re.ASCII)


open_sink = MlflowSink
