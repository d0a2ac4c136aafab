# One image for every process of ours; compose.yaml says which one a container is.

FROM python:3.13-slim AS environment

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never

RUN pip install --no-cache-dir "uv>=0.13,<0.14"

# The packages change seldom and our own code often: this layer is built from the lock alone.
WORKDIR /gatepost
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-install-project


FROM python:3.13-slim

ENV PATH=/gatepost/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

RUN groupadd --system --gid 10001 gatepost && useradd --system --uid 10001 --gid gatepost --no-create-home gatepost

# Photos and videos of welcome messages: a fresh volume takes over whose the folder is.
RUN install --directory --owner=10001 --group=10001 /var/lib/gatepost/media

WORKDIR /gatepost
COPY --from=environment /gatepost/.venv .venv
COPY services services
COPY shared shared
RUN python -m compileall -q services shared

USER 10001:10001

# A program and not a shell: it is process 1, which is what signals and health checks go to.
ENTRYPOINT ["python", "-m", "services"]
CMD ["--help"]
