# One command for the laptop and for CI; `make help` lists them. A fresh Debian 12 needs Rust and
# nothing else: the targets install what they use.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The module needs nginx's headers and an nginx to run in, so it is checked apart from the rest.
REST := --workspace --exclude ngx_http_weir_module
MODULE := --package ngx_http_weir_module
# What the benchmarks run is what users run.
RELEASED := WEIR_BIN=$(abspath $(TARGET))/release/weir
# A file that may be in use is replaced by a new one, in one step.
PUT := scripts/put.sh
WITH_NGINX := eval "$$(scripts/nginx-source.sh)" &&

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what build, demo and tests need (Debian packages, S3 server, browser driver)
	@scripts/setup.sh all

.PHONY: build
build: build-weir build-module ## build/weir and build/ngx_http_weir_module.so

.PHONY: build-weir
build-weir:
	@scripts/setup.sh build
	cargo build --package weir --bin weir
	@$(PUT) $(TARGET)/debug/weir build/weir

.PHONY: build-module
build-module:
	@scripts/setup.sh build
	scripts/build-module.sh release

.PHONY: build-tests
build-tests: build ## build, the module's debug build with test hooks, and nginx 1.28 with a module for it
	scripts/build-module.sh debug
	scripts/build-module.sh vendored

.PHONY: build-release
build-release: build-module ## weir and the module as one ships them (Polars at full speed: allow half an hour)
	cargo build --package weir --bin weir --release
	@$(PUT) $(TARGET)/release/weir build/weir

.PHONY: demo
demo: ## the main job end to end: two gateways, 80 clients, one runaway retry loop, books, pages, mails (ONCE=1 ends by itself)
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory build
	cargo build --package weir-demo --bin weir-demo
	@$(TARGET)/debug/weir-demo

.PHONY: test
test: setup check build-tests test-units test-end-to-end ## every test, set-up included

.PHONY: check
check: ## formatting and lints
	@scripts/setup.sh build
	cargo fmt --all --check
	cargo clippy $(REST) --all-targets -- -D warnings
	$(WITH_NGINX) cargo clippy $(MODULE) --all-targets --features test-hooks -- -D warnings

.PHONY: deny
deny: ## licences, bans and sources of third-party code, by cargo-deny (its advisories need the internet)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check bans licenses sources

.PHONY: test-units
test-units: setup ## the tests of every crate
	cargo test $(REST) --exclude weir

.PHONY: test-end-to-end
test-end-to-end: setup build-tests ## tests/: real nginx, Redis, S3, SMTP and browser
	cargo test --package weir

.PHONY: screenshots
screenshots: setup ## every page, light and dark, desktop, phone and print, in build/screenshots/
	cargo test $(REST) --exclude weir --test looks

.PHONY: soak
soak: soak-reloads soak-kills soak-matrix soak-memory bench-findings ## what takes too long for every change (an hour and more)

.PHONY: soak-reloads
soak-reloads: setup build-tests ## a thousand reloads under load
	WEIR_RELOADS=1000 cargo test --package weir --test module_workers reloads_under_load

.PHONY: soak-kills
soak-kills: setup build-tests ## half an hour of workers, gateways and jobs killed at random under load (WEIR_KILL_SECONDS)
	WEIR_KILL_SECONDS=$${WEIR_KILL_SECONDS:-1800} cargo test --package weir --test kills -- --nocapture

.PHONY: soak-matrix
soak-matrix: setup build-tests ## tests/matrix/ with minutes of load per scenario, two and four gateways each (an hour and more)
	WEIR_MATRIX_SECONDS=$${WEIR_MATRIX_SECONDS:-120} cargo test --package weir --test matrix -- --nocapture

.PHONY: soak-memory
soak-memory: setup ## the memory that a million clients in an hour take
	WEIR_CLIENTS=1000000 cargo test $(REST) --exclude weir --test memory -- --nocapture

.PHONY: bench
bench: bench-setup bench-simulator-build bench-polars-build ## every figure beside its bar; results in bench/results/ (a quarter of an hour on an idle machine)
	@$(RELEASED) $(TARGET)/release/weir-bench

.PHONY: bench-gateway
bench-gateway: bench-setup ## processor time, latency, Redis, outages and memory, beside bare nginx, limit_req and Lua
	@$(TARGET)/release/weir-bench gateway

.PHONY: bench-instructions
bench-instructions: bench-setup ## instructions and system calls per request, by callgrind: fit for a noisy machine
	@$(TARGET)/release/weir-bench instructions

.PHONY: bench-scale
bench-scale: bench-setup bench-polars-build ## a policy of 100,000 clients: apply, swap, look-up, memory; from weir apply to the last worker
	@$(RELEASED) $(TARGET)/release/weir-bench scale

.PHONY: bench-simulator
bench-simulator: bench-setup bench-simulator-build ## what clients get against an exact sliding log, and how fast time is simulated
	@$(TARGET)/release/weir-bench simulator

.PHONY: bench-books
bench-books: bench-setup bench-polars-build ## bytes and processor time of a record, and a tick on top of a busy day (builds Polars at full speed)
	@$(TARGET)/release/weir-bench books

.PHONY: bench-site
bench-site: bench-polars-build ## rendering all pages of 1,000 clients and 200 endpoints, anew and unchanged; what readers wait for
	@scripts/setup.sh all
	@$(TARGET)/release/examples/render_bench

.PHONY: bench-findings
bench-findings: setup build-tests ## anomalies found and false, NAB's score, coverage of forecasts, a thousand kills of the mailer, seconds from crossing to mail
	cargo test $(REST) --exclude weir --lib nab_as_a_curve -- --ignored --nocapture
	cargo test $(REST) --exclude weir --lib -- what_is_put_in on_the_shared_series --nocapture
	WEIR_KILLS=$${WEIR_KILLS:-1000} cargo test $(REST) --exclude weir --test kills -- --nocapture
	cargo test --package weir --test alerts -- --ignored --nocapture

.PHONY: bench-setup
bench-setup: build-module
	@scripts/setup.sh bench
	cargo build --package weir-bench --release

.PHONY: bench-polars-build
bench-polars-build: # in one go, so that Polars is built once (ten minutes)
	cargo build --release --package weir --bin weir --package weir-metering --example append_cost \
		--package weir-analytics --example books_cost --package weir-reports --example render_bench

.PHONY: bench-simulator-build
bench-simulator-build:
	cargo build --package weir-simulator --release --example quality
