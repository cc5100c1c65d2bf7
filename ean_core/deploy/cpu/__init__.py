"""Loops in C++ for what the end of a bottleneck needs and torch has no single operation for, as operators of torch."""
