"""Digital path: real values -> integers -> real bytes, and back, under a hard cap.

Belongs here: quantisers, the learned entropy model, the range coder, the container, rate control, and the
image codec built of them. Networks that squeeze what crosses a cut: :mod:`codec_runtime.split.bottleneck`.
"""
