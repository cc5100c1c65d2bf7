"""Crowd counting with a density head."""
