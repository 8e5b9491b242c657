# Images of sceneseek. Targets:
#   runtime-cpu   serves and indexes on the CPU; no torch
#   runtime-gpu   the same on CUDA; the CUDA libraries are Python packages, the host provides only the driver
#   export        runtime-cpu plus the export of the bundle `compact`; no torch, pip downloads the weights at run time
#   export-hub    exports bundles of packs from the model hub; with torch
# docs/how-to/operations.md describes how to run them. All but export-hub support a read-only root filesystem. Writable
# paths: /tmp; /index for a file: index; /keys to create keys; /feedback for ratings; /bundles for an export; and /cache
# for TensorRT engines, weights, models from the hub and the temporary database of an indexing run.
#
# The tag receives fixes; for distribution, pin the digest: PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY sceneseek sceneseek
COPY export export
COPY training training
COPY indexer indexer
COPY evaluation evaluation
COPY server server
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip wheel --no-deps --wheel-dir /wheels .

# An environment without pip: packages are installed from outside, and the image has no installer.
FROM ${PYTHON_IMAGE} AS environment
# Another package index, or a folder of wheels, for pip.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv --without-pip /opt/sceneseek
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels

FROM environment AS environment-cpu
# Additional extras, each after a comma: --build-arg EXTRAS=,ray,s3,ocr
ARG EXTRAS
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sceneseek/bin/python install --constraint /constraints.txt \
        "$(echo /wheels/sceneseek-*.whl)[cpu,serve,index,qdrant${EXTRAS}]" && \
    rm -r /opt/sceneseek/lib/python3.11/site-packages/sceneseek_export/weights

FROM environment AS environment-gpu
ARG EXTRAS
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/sceneseek/bin/python install --constraint /constraints.txt \
        "$(echo /wheels/sceneseek-*.whl)[gpu,serve,index,qdrant${EXTRAS}]" && \
    rm -r /opt/sceneseek/lib/python3.11/site-packages/sceneseek_export/weights

FROM environment AS environment-hub
# An index of CPU builds of torch, instead of PyTorch's.
ARG TORCH_INDEX
COPY scripts/install-torch /scripts/install-torch
RUN --mount=type=cache,target=/root/.cache/pip \
    /scripts/install-torch cpu python3 -m pip --python /opt/sceneseek/bin/python && \
    python3 -m pip --python /opt/sceneseek/bin/python install --constraint /constraints.txt \
        "$(echo /wheels/sceneseek-*.whl)[cpu,hub,evaluate]" && \
    /opt/sceneseek/bin/python -m ensurepip

# Common to all images: a user without a login shell that owns only the data directories.
FROM ${PYTHON_IMAGE} AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sceneseek" \
      org.opencontainers.image.description="Text-to-image search with a score you can trust" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 sceneseek && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sceneseek && \
    install --directory --owner 10001 --group 10001 /bundles /index /cache /keys /feedback && \
    install --directory /images
# ONNX Runtime sends telemetry by default.
ENV PATH=/opt/sceneseek/bin:/usr/local/bin:/usr/bin:/bin \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCENESEEK_BUNDLE=/bundles/compact \
    SCENESEEK_INDEX=file:/index \
    SCENESEEK_CACHE=/cache \
    SQLITE_TMPDIR=/cache \
    SCENESEEK_HOST=0.0.0.0 \
    SCENESEEK_PORT=8080
WORKDIR /tmp
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["sceneseek"]
CMD ["--help"]

FROM base AS runtime
EXPOSE 8080
# Liveness, not readiness: without an index the service is healthy and waits. Not urllib, which would use a proxy from
# the environment. Start-up may take a minute; after that, three failures in a row make it unhealthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/sceneseek/bin/python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['SCENESEEK_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["serve"]

FROM runtime AS runtime-gpu
COPY --from=environment-gpu /opt/sceneseek /opt/sceneseek
# compute for CUDA; utility for nvidia-smi, which identifies the GPU of TensorRT engines.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS runtime-cpu
COPY --from=environment-cpu /opt/sceneseek /opt/sceneseek

# On top of the service's image: onnx, pip, and the trained weights, which the runtime omits.
FROM runtime-cpu AS export
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
USER root
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=environment,source=/wheels,target=/wheels \
    --mount=type=bind,from=environment,source=/constraints.txt,target=/constraints.txt \
    /opt/sceneseek/bin/python -m ensurepip && \
    /opt/sceneseek/bin/python -m pip install --constraint /constraints.txt "$(echo /wheels/sceneseek-*.whl)[cpu,export]" && \
    /opt/sceneseek/bin/python -m pip install --constraint /constraints.txt --force-reinstall --no-deps \
        "$(echo /wheels/sceneseek-*.whl)"
USER 10001:10001
# sceneseek itself caches the wheels of the weights, in /cache.
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
HEALTHCHECK NONE
CMD ["export"]

FROM base AS export-hub
COPY --from=environment-hub /opt/sceneseek /opt/sceneseek
# Downloads from the model hub are kept with the other caches.
ENV HF_HOME=/cache/huggingface \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
CMD ["export"]

# Last, so that `docker build .` builds it.
FROM runtime-cpu AS default
