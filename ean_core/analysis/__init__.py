"""Looking at networks and searches: plots, timing, statistics."""
