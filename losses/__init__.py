from losses.multi_scale import LossTerms, MultiScaleLoss

__all__ = ["LossTerms", "MultiScaleLoss"]
