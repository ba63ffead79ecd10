"""The semantic codec runtime: the data plane and the science. Never imports :mod:`xapp`."""

__version__ = "0.1.0"
