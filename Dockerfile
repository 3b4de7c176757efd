# One image serves, migrates and runs every command; docs/deployment.md says how. Build it with: docker build --tag demo-user .

# Any system with Python 3.13 as python3: requirements.lock is for that version.
ARG BASE=python:3.13-slim

FROM ${BASE} AS builder
WORKDIR /srv/demo-user
COPY requirements.lock ./
# With an index of your own: docker build --secret id=pip.conf,src=/etc/pip.conf
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --quiet --no-cache-dir --no-compile --only-binary :all: \
        --require-hashes --requirement requirements.lock \
    && /opt/venv/bin/pip uninstall --quiet --yes pip
COPY . .
# The service cannot write bytecode where it runs, and must be able to read what a strict umask has checked out.
RUN rm requirements.lock \
    && chmod -R a+rX . \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib .

FROM ${BASE}
ARG BASE
ARG REVISION=""
LABEL org.opencontainers.image.title="demo-user" \
    org.opencontainers.image.description="User accounts over HTTP, on UtilMeta and Django" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${BASE}"
RUN groupadd --gid 10001 demo-user \
    && useradd --uid 10001 --gid demo-user --no-create-home --home-dir /data --shell /usr/sbin/nologin demo-user \
    && install --directory --owner demo-user --group demo-user --mode 0700 /data
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /srv/demo-user /srv/demo-user

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    UTILMETA_PRODUCTION=1 \
    GRANIAN_HOST=0.0.0.0 \
    GRANIAN_PORT=8001
WORKDIR /srv/demo-user
# As a number, so that Kubernetes knows that it is not root.
USER 10001:10001
# For SQLite: DATABASE_URL=sqlite:////data/db.sqlite3. Beside it, the service writes to /tmp alone.
VOLUME /data
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["./deploy/check-health"]
CMD ["./deploy/serve"]
