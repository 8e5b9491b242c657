# sceneseek as images. Targets:
#   runtime-cpu   serves and indexes on the CPU; no torch
#   runtime-gpu   the same on CUDA; the CUDA libraries are Python packages, the host brings the driver alone
#   export        runtime-cpu and what writes the bundle of `compact`; no torch, the weights come by pip when it runs
#   export-hub    writes bundles of packs from the model hub; with torch
# docs/how-to/operations.md says how they are run. Read-only root filesystems are meant (not for export-hub): what must be writable
# is /tmp, /index for a file: index, /keys for whoever makes keys, /feedback for ratings, /bundles for an export, and /cache
# for TensorRT's engines, for weights, for models from the hub and for the temporary database of an indexing run.
#
# Tags name a line that gets its fixes; whoever builds for others pins the digest: PYTHON_IMAGE=python@sha256:...
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

# An environment without pip of its own: it is filled from outside, and ships no installer.
FROM ${PYTHON_IMAGE} AS environment
# Another index, or a folder of wheels, reaches pip by these.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv --without-pip /opt/sceneseek
COPY constraints.txt /constraints.txt
COPY --from=wheel /wheels /wheels

FROM environment AS environment-cpu
# Further extras, each after a comma: --build-arg EXTRAS=,ray,s3,ocr
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
# An index of CPU builds of torch in the place of PyTorch's own.
ARG TORCH_INDEX
COPY scripts/install-torch /scripts/install-torch
RUN --mount=type=cache,target=/root/.cache/pip \
    /scripts/install-torch cpu python3 -m pip --python /opt/sceneseek/bin/python && \
    python3 -m pip --python /opt/sceneseek/bin/python install --constraint /constraints.txt \
        "$(echo /wheels/sceneseek-*.whl)[cpu,hub,evaluate]" && \
    /opt/sceneseek/bin/python -m ensurepip

# What every image has in common: a user that owns nothing but the directories of data, and no shell to log in with.
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
# ONNX Runtime reports its use to its makers unless it is told not to.
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
# Whether it lives, not whether it is ready: while nothing is indexed it is well, and waits. Not urllib: it would ask a
# proxy of the environment. A start has a minute; from then on three misses are one too many.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/sceneseek/bin/python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['SCENESEEK_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["serve"]

FROM runtime AS runtime-gpu
COPY --from=environment-gpu /opt/sceneseek /opt/sceneseek
# compute for CUDA; utility for nvidia-smi, by which TensorRT's engines are told apart.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS runtime-cpu
COPY --from=environment-cpu /opt/sceneseek /opt/sceneseek

# On top of the service's image: onnx, pip, and the trained weights that the runtime leaves out.
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
# The wheels of the weights are cached by sceneseek itself, in /cache.
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
HEALTHCHECK NONE
CMD ["export"]

FROM base AS export-hub
COPY --from=environment-hub /opt/sceneseek /opt/sceneseek
# What the model hub is asked for is kept with the other caches.
ENV HF_HOME=/cache/huggingface \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
CMD ["export"]

# Last, so that `docker build .` makes it.
FROM runtime-cpu AS default
