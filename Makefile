# The two commands of the README are `make demo` and `make test`; each does its own set-up.

BIN := .venv/bin
SERVERS := mosquitto:mosquitto rabbitmq-server:rabbitmq-server
PEERS := mosquitto_pub:mosquitto-clients node:nodejs npm:npm openssl:openssl
COMPILER := g++:g++ make:make \
    avr-g++:gcc-avr /usr/lib/avr/include/avr/io.h:avr-libc /usr/include/simavr/sim_avr.h:libsimavr-dev

.PHONY: help demo test check bench format clean

help:
	@echo 'make demo                 see a reading travel from a board to a queue, and an answer to a pin'
	@echo 'make demo DEMO_SECONDS=20 the same for 20 seconds, with a summary'
	@echo 'make test                 every check: style, types, tests'
	@echo 'make bench                how fast it is, beside a peer in the same run'

demo:
	@tools/setup.sh embedded,uvloop $(SERVERS)
	@DEMO_SECONDS='$(DEMO_SECONDS)' exec $(BIN)/python -m examples.demo

# Most tests wait for brokers and boards: three workers keep two cores busy. A file stays on one worker, for its servers.
PYTEST_ARGS ?= -q -n 3 --dist loadfile --no-loadscope-reorder --durations=15

test: check
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check:
	@tools/setup.sh embedded,uvloop,dev $(SERVERS) $(PEERS) $(COMPILER)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench:
	@tools/setup.sh embedded,uvloop,dev $(SERVERS) $(PEERS) $(COMPILER)
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

format:
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis firmware_stubs/*/build
