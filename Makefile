# One way to build, run and test. Each target installs what it lacks (Debian packages, a Python environment in target/).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
DATA ?= target/sandbox
LISTEN ?= 127.0.0.1:8700
VENV := target/venv
PINS := tests/python/requirements.txt
BENCH_PINS := tests/python/requirements-bench.txt
MEMBERS ?= 3
SECONDS_EACH ?= 60
RESTARTS ?= 3
FUZZ_TARGETS := config journal http nhsmesh chunk_range

# $(call packages,NAMES): installs those that are missing; says which where there is no apt-get.
define packages
	@missing=""; for name in $(1); do \
	    dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; \
	done; \
	if [ -n "$$missing" ]; then \
	    command -v apt-get >/dev/null || { echo "install these, or what your system calls them:$$missing" >&2; exit 1; }; \
	    echo "installing:$$missing"; \
	    $(SUDO) apt-get install -y --no-install-recommends $$missing >/dev/null \
	        || { $(SUDO) apt-get update >/dev/null && $(SUDO) apt-get install -y --no-install-recommends $$missing >/dev/null; }; \
	fi
endef

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: packages-build
packages-build:
	$(call packages,build-essential pkg-config libsystemd-dev)
	@command -v cargo >/dev/null || { echo "install the Rust toolchain (rustup), 1.95 or later" >&2; exit 1; }

# What the printed lines need.
.PHONY: packages-run
packages-run:
	$(call packages,curl python3-venv)

.PHONY: packages-test
packages-test:
	$(call packages,python3-venv curl openssl e2fsprogs mount util-linux iproute2 nftables dnsmasq-base nginx-light rabbitmq-server redis-server redis-sentinel)

# The image's root is made of Debian's packages, once; a later build finds them in target/image-cache.
.PHONY: packages-image
packages-image:
	$(call packages,mmdebstrap squashfs-tools cpio zstd kmod binutils openssl sbsigntool faketime debian-archive-keyring)

.PHONY: packages-container
packages-container: packages-image
	$(call packages,systemd systemd-container util-linux iproute2 python3 puppet-module-puppetlabs-stdlib shellcheck)

.PHONY: packages-boot-test
packages-boot-test: packages-container
	$(call packages,qemu-system-x86 ovmf ipxe ipxe-qemu swtpm swtpm-tools dnsmasq-base nginx-light curl puppetserver)

.PHONY: build
build: packages-build ## Build the binaries: target/release/vertebra and vertebra-provisioning
	cargo build --release -p vertebra -p vertebra-provisioning

.PHONY: run
run: packages-build packages-run ## Run a sandbox on 127.0.0.1:8700, data in target/sandbox (LISTEN=, DATA=); Ctrl-C stops it
	@cargo build --release -p vertebra
	@exec target/release/vertebra sandbox --data $(DATA) --listen $(LISTEN)

cluster: DATA := target/cluster
cluster: LISTEN := 127.0.0.1:8710
.PHONY: cluster
cluster: packages-build ## Run two nodes and a witness on 127.0.0.1:8710 to 8712, data in target/cluster (DATA=, LISTEN=, MEMBERS=3)
	@cargo build --release -p vertebra
	@exec target/release/vertebra sandbox --data $(DATA) --listen $(LISTEN) --members $(MEMBERS)

.PHONY: venv
venv: $(VENV)/.made ## Make the Python environment of other people's clients

$(VENV)/.made: $(PINS) | packages-test
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $(PINS)
	@touch $@

# Units and simulations need a second build of the node; it has less optimisation, to take less time. All else drives the binary.
UNIT_TESTS := cargo test --release -p vertebra -p vertebra-provisioning --lib --config profile.release.package.vertebra.opt-level=1

.PHONY: test
test: packages-build packages-test packages-container venv ## Everything that guards a change: tidy, units, simulation, the wire, faults
	@mkdir -p target
	$(SUDO) images/build packages >target/image-packages.log 2>&1 & root=$$!; \
	    cargo build --release --workspace; \
	    wait $$root || { cat target/image-packages.log >&2; exit 1; }
	$(UNIT_TESTS) --no-fail-fast -- --test-threads 4
	cargo test --release --workspace --test '*' --no-fail-fast
	$(MAKE) --jobs 2 --output-sync=target test-puppet container-test

.PHONY: packages-puppet
packages-puppet:
	$(call packages,systemd shellcheck puppet-agent puppet-lint puppet-strings ruby-rspec-puppet \
	    puppet-module-puppetlabs-stdlib openssl iproute2 nftables chrony keepalived fdisk dosfstools e2fsprogs cryptsetup-bin mount python3)

# As root: loop devices, and programs that judge their own configuration.
.PHONY: test-puppet
test-puppet: packages-build packages-puppet ## Units, the data disk's program, the Puppet module and its data (part of test)
	cargo build --release --workspace
	$(SUDO) systemd/tests/units
	$(SUDO) systemd/tests/disk
	$(SUDO) systemd/tests/restart
	puppet/tests/static
	$(SUDO) rspec -I puppet/spec puppet/spec

.PHONY: container-test
container-test: packages-build packages-container ## The image's root in a container: units, crash, watchdog, restarts, Puppet, runbooks (RESTARTS=3)
	shellcheck images/build images/initrd/init images/initrd/dhcp
	cargo build --release --workspace
	tree="$$($(SUDO) images/build root)" && $(SUDO) python3 tests/appliance/test_container.py "$$tree" --restarts $(RESTARTS)

RELEASE ?= $(shell date +%Y.%m.%d)-1
FLAVOUR ?= test
.PHONY: image
image: packages-build packages-image ## A release in target/releases (BOOT_CA=, SECURE_BOOT_KEY=, SECURE_BOOT_CERT=, FLAVOUR=, RELEASE=)
	@[ -n "$(BOOT_CA)" ] || { echo "make image BOOT_CA=ca.pem: the certificate that nodes know their boot service by" >&2; exit 1; }
	cargo build --release -p vertebra -p vertebra-provisioning
	$(SUDO) images/build release --flavour $(FLAVOUR) --release $(RELEASE) --out target/releases --boot-ca $(BOOT_CA) \
	    $(if $(SECURE_BOOT_KEY),--secure-boot-key $(SECURE_BOOT_KEY) --secure-boot-cert $(SECURE_BOOT_CERT))

# Two package trees of their own, and what packages write into them by chance is not the same in both.
.PHONY: image-twice
image-twice: packages-build packages-image ## The same release twice, each from packages installed anew: every file must be the same
	cargo build --release -p vertebra -p vertebra-provisioning
	$(SUDO) rm -rf --one-file-system target/twice && mkdir -p target/twice
	for name in ca sb; do openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$$name" \
	    -keyout target/twice/$$name.key -out target/twice/$$name.pem 2>/dev/null; done
	for out in first second; do \
	    $(SUDO) images/build release --flavour $(FLAVOUR) --release twice --out target/twice/$$out --cache target/twice/$$out-cache \
	        --boot-ca target/twice/ca.pem --secure-boot-key target/twice/sb.key --secure-boot-cert target/twice/sb.pem; \
	done
	$(SUDO) diff -r target/twice/first/twice target/twice/second/twice
	@echo "the same: $$($(SUDO) ls target/twice/first/twice | xargs)"

.PHONY: boot-test
boot-test: packages-build packages-boot-test ## Bare machines in QEMU, both data centres (SCENARIOS=, by the beginnings of their names; FLAVOUR=); long
	cargo build --release -p vertebra -p vertebra-provisioning
	$(SUDO) python3 tests/appliance/boot.py --flavour $(FLAVOUR) --keep target/boot-test/logs $(SCENARIOS)

.PHONY: soak
soak: packages-build packages-test venv ## The same faults for hours: 100,000 seeds of the journal and of a cluster, 2,000 kills, 500 power cuts, 500 histories, 500 lost sites, 200 rolling restarts, failing brokers and Redis, fuzzing
	cargo build --release --workspace
	VERTEBRA_SIM_SEEDS=100000 $(UNIT_TESTS) -- journal::simulation log::simulation::a_simulated_cluster
	VERTEBRA_KILL_CYCLES=2000 VERTEBRA_POWER_CYCLES=500 VERTEBRA_FUZZ_ROUNDS=200000 \
	    cargo test --release -p vertebra-tests --test faults
	cargo test --release -p vertebra-tests --test events -- --ignored --test-threads=1 --nocapture
	cargo test --release -p vertebra-tests --test redis -- --ignored --test-threads=1 --nocapture
	VERTEBRA_HISTORIES=500 VERTEBRA_SITE_LOSSES=500 VERTEBRA_ROLLING_RESTARTS=200 cargo test --release -p vertebra-tests --test cluster -- --nocapture
	$(MAKE) fuzz

# The instrumentation needs flags that the stable compiler keeps for itself. The binaries are run directly, so that
# corpora and artefacts lie below target/ and not beside the sources.
.PHONY: fuzz
fuzz: packages-build ## Coverage-guided fuzzing, SECONDS_EACH=60 for each target; crashes in target/fuzz-artifacts
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz-build --codegen-units 16
	@for name in $(FUZZ_TARGETS); do \
	    corpus=target/fuzz-corpus/$$name; artifacts=target/fuzz-artifacts/$$name; \
	    mkdir -p $$corpus $$artifacts; \
	    echo "fuzzing $$name for $(SECONDS_EACH) s"; \
	    ASAN_OPTIONS=detect_leaks=0 target/fuzz-build/*/release/$$name $$corpus tests/fuzz/seeds/$$name \
	        -artifact_prefix=$$artifacts/ -max_total_time=$(SECONDS_EACH) -rss_limit_mb=2048 -timeout=20 \
	        -max_len=4096 -print_final_stats=1 >target/fuzz-$$name.log 2>&1 \
	        || { tail -n 60 target/fuzz-$$name.log; exit 1; }; \
	    grep -E 'DONE|number_of_executed' target/fuzz-$$name.log; \
	done

$(VENV)/.bench: $(VENV)/.made $(BENCH_PINS)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $(BENCH_PINS)
	@touch $@

BENCH_PROFILE := --config profile.release.package.vertebra-tests.opt-level=3

.PHONY: packages-bench
packages-bench:
	$(call packages,fio redis-server nginx-light postgresql-15 etcd-server etcd-client rabbitmq-server iproute2 nftables util-linux rsync stunnel4 python3)

.PHONY: bench
bench: packages-build packages-bench $(VENV)/.bench ## Speed, each measure beside its peer in the same run: target/bench.md (VERTEBRA_BENCH_PATIENTS=, VERTEBRA_BENCH_MESSAGES=; measures: tests/src/bin/bench/main.rs)
	cargo build --release --workspace $(BENCH_PROFILE)
	target/release/bench

.PHONY: bench-growth
bench-growth: packages-build ## What four times as many patients cost (VERTEBRA_BENCH_PATIENTS=, VERTEBRA_BENCH_GROWTH=); long
	cargo build --release --workspace $(BENCH_PROFILE)
	target/release/bench growth

.PHONY: clean
clean: ## Remove what was built, the sandbox included
	rm -rf target
