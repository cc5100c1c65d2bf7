"""Semantic segmentation on MMSegmentation's decoders; the only package that imports mmseg."""
