"""Taking a trained model into use."""

from ean_core.deploy.fuse import fuse

__all__ = ["fuse"]
