"""Networks and their weights: ``build_model(num_blocks=4)``, ``load_model("best.pt")``."""

from models.build import MODELS, build_model
from models.irnext import IRNeXt
from models.weights import load_model, load_weights

__all__ = ["MODELS", "IRNeXt", "build_model", "load_model", "load_weights"]
