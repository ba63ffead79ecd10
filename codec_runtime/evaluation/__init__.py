"""Measuring codecs: image quality, the rate-quality surface, and the baselines they are held against."""
