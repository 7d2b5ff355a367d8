"""Networks and their weights: ``build_model(num_blocks=4)``, ``load_model("best.pt")``."""

__all__ = ["MODELS", "IRNeXt", "build_model", "load_model", "load_weights"]


def __getattr__(name: str) -> object:
    """Import what is asked for: ``python -m models.convert`` handles signals before torch is imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from models import build, irnext, weights

    return next(getattr(module, name) for module in (build, irnext, weights) if hasattr(module, name))
