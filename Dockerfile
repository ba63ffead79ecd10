# Container images of both processes, and of the Flower engine for federated rounds.
#
#   docker build --target xapp          -t registry.example.org/semcom/semcom-xapp:0.1.0 .
#   docker build --target codec-runtime -t registry.example.org/semcom/semcom-codec-runtime:0.1.0 .
#   docker build --target flower        -t registry.example.org/semcom/semcom-flower:0.1.0 .
#
# Build arguments
#   BASE_IMAGE       any Debian 12 image; its Python 3.11 is the version that ricxappframe installs on
#   TORCH_INDEX_URL  package index of the torch build; the CPU build by default (the one on PyPI brings CUDA libraries)
#   PIP_INDEX_URL    package index of everything else; pip's default if empty
#
# RMR: neither image holds librmr. The xApp then speaks RMR through its own `wire` transport, byte for byte the
# same SI95 framing. To use librmr, derive an image that installs the O-RAN SC's Debian packages:
#   FROM registry.example.org/semcom/semcom-xapp:0.1.0
#   USER root
#   COPY rmr_*.deb /tmp/
#   RUN dpkg --install /tmp/rmr_*.deb && rm /tmp/rmr_*.deb && ldconfig
#   USER 10001:10001
ARG BASE_IMAGE=debian:bookworm-slim

# ---- what both final images run on -----------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
# Versions are Debian 12's: pinning them would break the build with the next security update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 semcom \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin semcom
ENV PATH=/opt/semcom/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# ---- compilers and the dependencies; nothing of this stage but /opt/semcom reaches an image --------------------
FROM base AS build
# hiredis 2.0.0 has no wheel for Python 3.11 and is compiled here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/semcom
ARG PIP_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# The requirements alone, so that a change of the code does not install them again.
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
[open(n + '.txt', 'w').write('\n'.join(r)) for n, r in \
[('xapp', p['dependencies']), ('runtime', p['optional-dependencies']['runtime'])]]" \
    && if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --requirement xapp.txt --constraint constraints.txt

FROM build AS build-xapp
COPY LICENSE README.md ./
COPY codec_runtime ./codec_runtime
COPY xapp ./xapp
RUN if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --constraint constraints.txt . \
    && pip check

FROM build AS build-codec-runtime
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
# The CPU build's version (2.13.0+cpu) sorts above the plain one and so wins over the CUDA build of the main index.
RUN if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --extra-index-url "$TORCH_INDEX_URL" --requirement runtime.txt --constraint constraints.txt
COPY LICENSE README.md ./
COPY codec_runtime ./codec_runtime
COPY xapp ./xapp
RUN if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --constraint constraints.txt ".[runtime]" \
    && pip check

# Not on top of `build`: flwr needs a protobuf that the xApp's libraries forbid.
FROM base AS build-flower
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/semcom
ARG PIP_INDEX_URL=""
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt codec_runtime/adapters/federation/flower/requirements.txt ./
RUN if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --extra-index-url "$TORCH_INDEX_URL" --requirement requirements.txt --constraint constraints.txt \
    && pip check
COPY pyproject.toml LICENSE README.md ./
COPY codec_runtime ./codec_runtime
# The command `semcom` is the xApp's, which this image does not hold.
RUN if [ -z "$PIP_INDEX_URL" ]; then unset PIP_INDEX_URL; fi \
    && pip install --no-deps --constraint constraints.txt . \
    && rm /opt/semcom/bin/semcom

# ---- semcom xapp: the control plane; no torch ------------------------------------------------------------------
FROM base AS xapp
LABEL org.opencontainers.image.title="semcom-xapp" \
      org.opencontainers.image.description="near-RT RIC xApp that steers a semantic codec runtime" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-xapp /opt/semcom /opt/semcom
# The platform mounts the onboarded descriptor over /opt/ric/config; the seed routes must lie outside it.
COPY descriptors/config-file.json descriptors/schema.json /opt/ric/config/
COPY descriptors/routes.rt /etc/semcom/routes.rt
# State: the update repository and, unless key_dir says otherwise, its signing keys.
RUN install -d -o 10001 -g 10001 /var/lib/semcom
VOLUME /var/lib/semcom
# The platform sets neither of the first two. RMR_RTG_SVC: the routing manager connects to this port (rmrroute); the
# wire transport opens none without it.
ENV CONFIG_FILE=/opt/ric/config/config-file.json \
    RMR_SEED_RT=/etc/semcom/routes.rt \
    RMR_RTG_SVC=4561
USER 10001:10001
WORKDIR /tmp
# http (health, metrics, subscription notifications), RMR data, RMR routes
EXPOSE 8080 4560 4561
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8080/ric/v1/health/alive', timeout=2)"]
ENTRYPOINT ["/usr/bin/tini", "--", "semcom", "xapp"]

# ---- semcom runtime: the codec server beside the base station --------------------------------------------------
FROM base AS codec-runtime
LABEL org.opencontainers.image.title="semcom-codec-runtime" \
      org.opencontainers.image.description="semantic codec server, Open Inference Protocol over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-codec-runtime /opt/semcom /opt/semcom
# State: installed bundles, the TUF client's trusted metadata, the inbox, training jobs.
RUN install -d -o 10001 -g 10001 /var/lib/semcom
VOLUME /var/lib/semcom
# Listening off loopback, the runtime starts only with SEMCOM_RUNTIME_TLS_CERT, _TLS_KEY and _CLIENT_CA (mutual TLS)
# or, on a closed testbed network, with SEMCOM_RUNTIME_ALLOW_INSECURE=true.
ENV SEMCOM_RUNTIME_HOST=0.0.0.0 \
    SEMCOM_RUNTIME_PORT=8480 \
    SEMCOM_RUNTIME_STATE_DIR=/var/lib/semcom
USER 10001:10001
WORKDIR /tmp
EXPOSE 8480
STOPSIGNAL SIGTERM
# Liveness, not identity: under mutual TLS the check shows the server's own certificate, which needs the client usage.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "import os, ssl, urllib.request as r; e = os.environ.get; p = 'SEMCOM_RUNTIME_'; c = ssl._create_unverified_context(); t = e(p + 'TLS_CERT'); t and c.load_cert_chain(t, e(p + 'TLS_KEY')); r.build_opener(r.ProxyHandler({}), r.HTTPSHandler(context=c)).open('http%s://127.0.0.1:%s/v2/health/live' % ('s' * bool(t), e(p + 'PORT', '8480')), timeout=3)"]
ENTRYPOINT ["/usr/bin/tini", "--", "semcom", "runtime"]

# ---- Flower: SuperLink (`flower-superlink ...`) or SuperNode (`flower-supernode ...`), chosen by the command -----
FROM base AS flower
LABEL org.opencontainers.image.title="semcom-flower" \
      org.opencontainers.image.description="Flower engine of federated adapter updates" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-flower /opt/semcom /opt/semcom
# State: Flower's own, checkpoints of the federation (SuperLink), label states of the user (SuperNode).
RUN install -d -o 10001 -g 10001 /var/lib/semcom
VOLUME /var/lib/semcom
ENV FLWR_HOME=/var/lib/semcom/flwr \
    FLWR_TELEMETRY_ENABLED=0
USER 10001:10001
WORKDIR /tmp
# the SuperLink's API over HTTPS
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["flower-supernode", "--help"]
