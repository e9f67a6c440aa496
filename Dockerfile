# A gateway with weir: nginx, the module and the `weir` command.
#
#   docker build -t weir .
#   docker run -v ./nginx.conf:/etc/nginx/nginx.conf:ro -v ./policy.toml:/etc/weir/policy.toml:ro weir
#
# The first stage compiles Polars at full speed; allow half an hour.

FROM rust:1-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx-dev libclang-dev libpcre2-dev libssl-dev zlib1g-dev pkg-config nodejs npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/build-module.sh release \
    && cargo build --package weir --bin weir --release \
    && install -m 755 target/release/weir build/weir

FROM debian:bookworm-slim
# The module loads only into the nginx it was made for: both stages take it from the same release.
RUN apt-get update \
    && apt-get install -y --no-install-recommends nginx ca-certificates tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o www-data -g www-data -m 750 /var/spool/weir /var/lib/weir \
    && install -d /etc/weir
COPY --from=build /src/build/ngx_http_weir_module.so /usr/lib/nginx/modules/
COPY --from=build /src/build/weir /usr/bin/
# Fails the build when the module and this nginx do not fit.
RUN printf 'load_module modules/ngx_http_weir_module.so;\nevents {}\n' > /tmp/fits.conf \
    && nginx -t -c /tmp/fits.conf && rm /tmp/fits.conf
VOLUME ["/var/spool/weir", "/var/lib/weir"]
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
