"""Networks of the image codec and the linear codec they start from.

Belongs here: modules from tensors to tensors, their cost. Does not: channel, training loops, files.
"""
