# One image for the consumer (`ingest run`), the migration (`alembic upgrade head`) and the command line.
# Nothing in it needs BuildKit: Docker's older builder and podman build it, too.
#
# To pin the base, name it by its digest: --build-arg PYTHON_IMAGE=python@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# The tools that build are in an environment of their own, which stays behind: the image's has not even pip.
RUN python -m venv tools && python -m venv --without-pip /opt/venv
COPY requirements/build.txt requirements/run.txt requirements/
# The locks are complete, so nothing is resolved. Wheels only: there is no compiler here.
RUN tools/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements/build.txt \
    && tools/bin/pip --python /opt/venv/bin/python install --quiet --require-hashes --no-deps --only-binary :all: \
        --no-compile -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY ingest ingest
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheel . \
    && tools/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-index --no-compile wheel/*.whl
COPY alembic.ini /app/
COPY migrations /app/migrations
# Compiled now, because later nobody may write. A file's hash, not its time, ties it to its source, and is not asked
# for at each start: nothing changes in an image.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib /app/migrations

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ARG REVISION=""
LABEL org.opencontainers.image.title="loom-ingest" \
      org.opencontainers.image.description="Puts what Kafka holds into TimescaleDB, each message exactly once." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A name for the number: libraries ask the system who they are.
RUN groupadd --gid 10001 loom \
    && useradd --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin loom
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 10001:10001
EXPOSE 8080
# No shell between: SIGTERM reaches Python.
ENTRYPOINT ["ingest"]
CMD ["run"]
