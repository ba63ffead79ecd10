"""URL paths of the runtime. Model inference itself is the Open Inference Protocol (``/v2/...``)."""

from __future__ import annotations

DIRECTIVES = "/semcom/v1/directives"
"""POST DirectiveBatch -> DirectiveAck. GET ``?user=ID`` -> UserDirectives, for that user's device."""

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

ALIGNMENT_JOBS = "/semcom/v1/alignment/jobs"
"""POST AlignmentJob -> TrainingReport (202); state and candidate are at :data:`TRAINING_JOBS`.

GET ``/{job}`` -> AlignmentUpdate of one that succeeded.
"""

ALIGNMENT_TABLE = "/semcom/v1/alignment/table"
"""PUT AdapterTable -> AdapterTableAck."""

INBOX = "/semcom/v1/inbox"
"""PUT ``/metadata/{name}`` and ``/targets/{path}``: TUF files. Nothing there is trusted before activation.

GET -> InboxListing: which files (with sha256) are already there, so that only the missing ones travel.
"""

ACTIVATIONS = "/semcom/v1/activations"
"""POST ActivationRequest -> ActivationReport: verify through TUF, load, warm up, swap.

Files that come with it and the inbox does not take are answered as :data:`INBOX` answers them.
"""

GRAPHS = "/semcom/v1/graphs"
"""GET ``/{digest}`` -> SplitGraph of a classifier that the site serves, as its cuts name it; 404 for others.
"""

CLASSIFIERS = "/semcom/v1/classifiers"
"""GET ``/{network}/{version}/manifest`` -> its signed manifest; ``.../heads/{cut}`` -> safetensors file of
the weights that a device needs for a cut, of the sha256 that the manifest names."""

TRUST = "/semcom/v1/trust"
"""GET -> names and sha256 (hex) of the TUF metadata that the site has; ``/{name}`` -> one of the files. For
devices, which verify by it what they take from the site."""

MESSAGEPACK = "application/vnd.msgpack"
"""Content type of every request and response body under ``/semcom/v1/`` except inbox file bytes."""
