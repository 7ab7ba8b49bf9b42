FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# What `souk --version` shows, such as "4157104 2026-11-29": the context has no repository.
ARG SOUK_BUILD_COMMIT=
RUN cargo build --release --locked --bin souk

FROM debian:bookworm-slim
# `souk import --server https://...` and TLS to MongoDB, RabbitMQ and OTLP need ca-certificates;
# deploy/compose/prepare needs openssl.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates openssl \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 souk \
 && useradd --system --uid 10001 --gid souk --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin souk \
 && install -d -o souk -g souk -m 0700 /data
WORKDIR /opt/souk
COPY --from=build /build/target/release/souk /usr/local/bin/souk
COPY --from=build /build/config ./config
COPY LICENSE ./

ENV SOUK_ENV=production \
    SOUK__HTTP__BIND=0.0.0.0:8080 \
    SOUK__STORE__PATH=/data
# A numeric user lets an orchestrator verify that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8080
# Asks /readyz. Kubernetes ignores this and has probes of its own.
HEALTHCHECK --interval=10s --timeout=7s --start-period=60s --retries=3 CMD ["souk", "health"]
ENTRYPOINT ["souk"]
CMD ["serve"]
