# Cygnet. The two commands a newcomer needs: `make demo` and `make test`.

.PHONY: help build demo test check bench fuzz explore interop vm clean

CARGO ?= cargo

help:
	@echo 'make demo   two gateways, a tunnel and traffic, in network namespaces (root)'
	@echo 'make test   all tests: unit, namespaces, foreign peers, real kernels in a VM (root)'
	@echo 'make check  formatting and lints'
	@echo 'make interop  docs/interop.md anew: all foreign peers, also on kernels and suites that make test leaves out (root)'
	@echo 'make bench  benchmarks, each beside its limit'
	@echo 'make fuzz   every fuzz harness for FUZZ_SECONDS (600) seconds'
	@echo 'make explore  random runs of two engines, SEEDS (0..1000000); resumed where it was stopped'
	@echo 'make build  the release binary, target/release/cygnet'

build:
	@start=$$(date +%s); $(CARGO) build --release --locked -p cygnet && echo "[build] took $$(( $$(date +%s) - start )) s"

demo:
	@scripts/install-packages demo
	@$(MAKE) --no-print-directory build
	@target/release/cygnet demo

test:
	@scripts/install-packages test
	@scripts/test

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

bench:
	$(CARGO) bench --locked

fuzz:
	@scripts/fuzz

interop: vm
	@scripts/install-packages test
	@scripts/interop

explore:
	@mkdir -p target
	nice -n 10 $(CARGO) test --release --locked -p cygnet-engine --test explore -- $(or $(SEEDS),0..1000000) \
	  --progress $(CURDIR)/target/explore.progress --result $(CURDIR)/docs/exploration.txt

vm:
	@tests/vm/vm-build all qemu
	@CYGNET_VM_SUITE=forky tests/vm/vm-build rootfs

clean:
	$(CARGO) clean
	rm -rf demo-out
