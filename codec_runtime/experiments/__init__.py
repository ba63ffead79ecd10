"""Experiments on the codec, one module each: training schemes, forgetting, gradient conflict, rates.

Belongs here: what is trained and measured to answer one question, the verdict, its JSON. Does not: training
recipes (training), metrics and plots (evaluation), options (xapp/cli/experiment.py). Each module has a frozen
``...Settings`` with every number that the answer depends on, and a function from those to the result that is
written to docs/results.
"""
