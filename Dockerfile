# An image for servers: the package, Python and the libraries, and no compiler. The page "Containers"
# of the documentation has the commands. `make test-image` tries each step without Docker.

FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates gcc libc6-dev pkg-config python3-dev python3-venv \
      libngtcp2-dev libngtcp2-crypto-gnutls-dev libgnutls28-dev
WORKDIR /src
COPY LICENSE README.md pyproject.toml setup.py pytest_pywebtransport.py ./
COPY vendor vendor
COPY pywebtransport pywebtransport
# Such as uvloop,redis,prometheus.
ARG EXTRAS=uvloop
RUN python3 -m venv /opt/pywebtransport \
    && /opt/pywebtransport/bin/pip install --no-cache-dir ".[$EXTRAS]" \
    && strip --strip-unneeded /opt/pywebtransport/lib/python3*/site-packages/pywebtransport/_quic/*.so \
    && /opt/pywebtransport/bin/pip uninstall --yes pip

FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates python3 libngtcp2-16 libngtcp2-crypto-gnutls8 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/app app
COPY --from=build /opt/pywebtransport /opt/pywebtransport
WORKDIR /srv
COPY examples/deployment/app.py ./
ENV PATH=/opt/pywebtransport/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/app
USER app
EXPOSE 4433/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["pywebtransport"]
CMD ["serve", "app:app", "--host", "::", "--port", "4433", "--json-logs", \
     "--certfile", "/run/certificates/tls.crt", "--keyfile", "/run/certificates/tls.key"]
