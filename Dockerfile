# Two images from one lock file: `pipeline` runs Kedro and MLflow, `api` only serves.
ARG PYTHON_IMAGE=python:3.12.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ARG PIP_INDEX_URL=
ARG UV_DEFAULT_INDEX=${PIP_INDEX_URL}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --root-user-action=ignore uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_DEV=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /app
COPY deploy/install_dependencies.sh /usr/local/bin/

# Dependencies are a layer of their own, which a change of the code leaves as it is.
FROM builder AS api-dependencies
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    install_dependencies.sh --extra s3

FROM builder AS pipeline-dependencies
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    install_dependencies.sh --extra excel --extra pipelines --extra s3 --extra tracking-server

# Only the package itself: its dependencies come from the layers above.
FROM builder AS package
COPY pyproject.toml README.md ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/uv \
    uv build --wheel --out-dir /wheels

FROM ${PYTHON_IMAGE} AS runtime
RUN groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app \
    && install --directory --owner app --group app /app/data
ENV PATH=/app/bin:/app/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLOPS_PROJECT_PATH=/app \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /app

FROM runtime AS pipeline
ENV DO_NOT_TRACK=true \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT=true \
    MPLCONFIGDIR=/tmp/matplotlib
# A named volume that is mounted for the first time takes its owner from these folders. Kedro wants
# the source folder that pyproject.toml names to exist; the package itself is installed.
RUN install --directory --owner app --group app /volumes/s3 /volumes/api \
    && mkdir -p src conf/local
COPY --from=pipeline-dependencies /app/.venv .venv
RUN --mount=type=bind,from=builder,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    uv pip install --no-cache --no-deps --offline --compile-bytecode --python .venv /wheels/*.whl
COPY pyproject.toml ./
COPY conf conf
COPY deploy/bin deploy/grants.sql bin/
USER 10001:10001
CMD ["pipeline"]
# Last, because a new revision would make all layers after it anew.
ARG VERSION=0
ARG REVISION=unknown
ENV MLOPS_CODE_REVISION=${REVISION}
LABEL org.opencontainers.image.title="mlops-for-mle" \
      org.opencontainers.image.description="Kedro pipelines, data generator and MLflow server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS api
COPY --from=api-dependencies /app/.venv .venv
RUN --mount=type=bind,from=builder,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=type=bind,from=package,source=/wheels,target=/wheels \
    uv pip install --no-cache --no-deps --offline --compile-bytecode --python .venv /wheels/*.whl
COPY deploy/bin/healthy bin/healthy
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["healthy", "http://127.0.0.1:8000/health/ready"]
CMD ["python", "-m", "mlops_for_mle.serving"]
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mlops-for-mle" \
      org.opencontainers.image.description="Prediction API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
