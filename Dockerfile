# The worker's image: built with TLS, run as nobody, without a shell in between.
#
#   docker build -t accrual .
#   docker build -t accrual --build-arg FEATURES= .      # no TLS: three minutes less of OpenSSL
#
# Plain Dockerfile syntax on purpose (no RUN --mount): it builds with BuildKit, the legacy builder,
# podman and kaniko alike.

FROM rust:1.95-bookworm AS build
WORKDIR /src

# Dependencies first, against an empty crate: this layer is built again only when Cargo.toml or
# Cargo.lock change, and it is nearly all of the time that a build takes.
ARG FEATURES=tls
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
 && echo 'fn main() {}' >src/main.rs \
 && : >src/lib.rs \
 && cargo build --release --locked --bin accrual --features "$FEATURES"

# .dockerignore admits only what the build reads. The empty crate's artefacts are newer than the
# sources that are copied in, so cargo has to be told that these have changed.
COPY . .
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --bin accrual --features "$FEATURES"

FROM debian:bookworm-slim
# The certificate authorities for TLS to Kafka and Redis come from the build image, which has them:
# so this stage installs nothing, and needs no network.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/accrual /usr/local/bin/accrual

# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
EXPOSE 9464
# A worker that was killed gets its partitions back only when Kafka has given up on the old one, after
# session.timeout.ms (10 s): until then it starts, and is not yet unhealthy.
HEALTHCHECK --interval=5s --timeout=3s --start-period=90s --retries=6 \
    CMD ["/usr/local/bin/accrual", "probe", "http://127.0.0.1:9464/readyz"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/accrual"]
CMD ["run", "--config", "/etc/accrual/accrual.yaml"]
