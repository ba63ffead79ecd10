"""Measurements of this machine and this installation: speed as ratios, results as golden vectors.

Belongs here: what `semcom bench` runs, and inputs that no library under test has a hand in. Does not: the
quality of trained weights (:mod:`codec_runtime.evaluation`).
"""
