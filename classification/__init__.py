"""Image classification and the search on it."""
