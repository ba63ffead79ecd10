"""The recipes that make weights: training, fine-tuning at a site, publishing as bundles.

Belongs here: loops, data, provenance. Does not: network definitions (codecs), serving.
"""
