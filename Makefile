# make run   the main job: the demo, with all set-up it needs
# make test  everything that has to pass: vet, staticcheck, all tests under the race detector
# make check the same without the tests that need ONNX Runtime, and gofmt
# make bench the benchmarks
# make variants  design variants for the trained networks again and rewrite the tables of docs/VARIANTS.md
# make evaluation  simulate the published evaluation again and rewrite docs/EVALUATION.md

CC ?= cc
GO ?= go
# The setup script prints the library's path; it is a no-op once it is there.
ORT = ONNXRUNTIME_LIB="$$(scripts/setup-onnxruntime.sh)"

.PHONY: build run test check bench evaluation variants setup tools clean

build: tools
	$(GO) build -o bin/terastal ./cmd/terastal

run: setup build
	$(ORT) bin/terastal demo

test: setup tools
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(ORT) TERASTAL_REQUIRE_ORT=1 $(GO) test -race -timeout 20m ./...

check: tools
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -short ./sched/... ./internal/config ./internal/document ./internal/imports ./internal/stats ./variants

bench: setup tools
	$(ORT) $(GO) test -run '^$$' -bench . -benchmem ./...

evaluation: build
	bin/terastal sweep --seeds 24 --csv out/evaluation.csv
	bin/terastal sweep report out/evaluation.csv >out/EVALUATION.md
	mv out/EVALUATION.md docs/EVALUATION.md

variants: setup build
	$(ORT) scripts/variants/tables.sh out/variants

setup:
	@scripts/setup-onnxruntime.sh >/dev/null

tools:
	@command -v $(GO) >/dev/null || { echo "make: Go is missing: install Go 1.26 or later from go.dev/dl"; exit 1; }
	@command -v $(CC) >/dev/null || { echo "make: a C compiler is missing: install gcc or clang (Debian: sudo apt-get install gcc)"; exit 1; }

clean:
	rm -rf bin out
