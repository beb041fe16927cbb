# The image of every participant of the containerised testnet. It runs as a user without rights.
FROM python:3.11-slim-bookworm

WORKDIR /app
COPY constraints.txt ./
# Dependencies first: they change seldom, and torch is large.
RUN pip install --no-cache-dir -c constraints.txt \
    aiohttp chiavdf cryptography msgpack numpy plyvel rich scikit-learn torch
COPY pyproject.toml README.md ./
COPY chain chain
COPY consensus consensus
COPY pool pool
COPY ponas_node ponas_node
COPY bench bench
RUN pip install --no-cache-dir --no-deps . \
    && useradd --create-home --uid 10001 ponas \
    && mkdir -p /data /network && chown ponas:ponas /data /network

USER ponas
ENV OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
VOLUME ["/data"]
EXPOSE 8644 8645
ENTRYPOINT ["ponas"]
CMD ["--help"]
