"""URL paths of the runtime. Model inference itself is the Open Inference Protocol (``/v2/...``)."""

from __future__ import annotations

DIRECTIVES = "/semcom/v1/directives"
"""POST DirectiveBatch -> DirectiveAck."""

SITE = "/semcom/v1/site"
"""GET -> SiteStatus: instance id, models served with their manifests."""

TELEMETRY = "/semcom/v1/telemetry"
"""POST a list of telemetry events (UE clients); GET streams concatenated MessagePack events (xApp).

``GET ?after=N`` resumes behind sequence number N; a gap in ``seq`` means that the bounded buffer
dropped the oldest events.
"""

TRAINING_JOBS = "/semcom/v1/training/jobs"
"""POST TrainingJob -> TrainingReport (202). GET ``/{job}`` -> TrainingReport.

GET ``/{job}/candidate/{file}`` -> bytes of ``manifest.msgpack``, ``weights.safetensors`` or, where the
manifest states one, ``delta.safetensors``.
"""

INBOX = "/semcom/v1/inbox"
"""PUT ``/metadata/{name}`` and ``/targets/{path}``: TUF files. Nothing there is trusted before activation.

GET -> InboxListing: which files (with sha256) are already there, so that only the missing ones travel.
"""

ACTIVATIONS = "/semcom/v1/activations"
"""POST ActivationRequest -> ActivationReport: verify through TUF, load, warm up, swap."""

MESSAGEPACK = "application/vnd.msgpack"
"""Content type of every request and response body under ``/semcom/v1/`` except inbox file bytes."""
