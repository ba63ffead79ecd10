"""The radio channel between encoder and decoder: power normalisation, noise and fading.

Belongs here: textbook channel models on complex baseband symbols. Does not: anything that learns.
"""
