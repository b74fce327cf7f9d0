# The queries are checked against the committed .sqlx data, so this build needs no database.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin hookonce && cp target/release/hookonce /usr/local/bin/hookonce

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/hookonce --create-home --shell /usr/sbin/nologin hookonce
COPY --from=build /usr/local/bin/hookonce /usr/local/bin/hookonce
USER hookonce
# The admin API's token is kept here; with DATABASE_URL set, nothing else is.
ENV HOOKONCE_DATA_DIR=/var/lib/hookonce HOOKONCE__LOG__FORMAT=json
VOLUME /var/lib/hookonce
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s CMD ["hookonce", "ready"]
ENTRYPOINT ["hookonce"]
CMD ["serve"]
