"""The runtime process: Open Inference Protocol, directives, telemetry, activation, training jobs.

Pure parts: :mod:`.open_inference` (bytes <-> tensors), :mod:`.inference` (tensors <-> tensors),
:mod:`.directives`, :mod:`.registry`, :mod:`.telemetry`, :mod:`.pictures`. :mod:`.runtime` holds them
together, :mod:`.app` and the ``*_routes`` modules speak HTTP, :mod:`.main` is the process. Does not belong
here: what a bundle is (:mod:`codec_runtime.bundle`), the networks, or how they are trained.
"""
