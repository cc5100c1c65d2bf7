"""Baselines for the policy gradient, behind the same interface; built by :func:`ean_core.search.build_strategy`."""
