# The image: one binary and the system's certificate authorities, as an unprivileged user, with nothing else that could be run.
FROM rust:1.95-slim-bookworm AS build
# The distribution keeps no old versions to pin; what is built depends on Cargo.lock alone.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist && cp target/dist/etcdguardian /etcdguardian

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /etcdguardian /usr/local/bin/etcdguardian
COPY LICENSE /licenses/LICENSE
USER 65532:65532
EXPOSE 9180
ENTRYPOINT ["/usr/local/bin/etcdguardian"]
