"""Measurements of speed: contenders take turns, each in a process of its own, and medians and ratios are reported."""
