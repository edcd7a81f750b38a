# make run   the main job: the demo, with all set-up it needs
# make test  everything that has to pass: vet, staticcheck, all tests under the race detector
# make check the same without the tests that need ONNX Runtime, and gofmt
# make bench the benchmarks
# make evaluation  simulate the published evaluation again and rewrite docs/EVALUATION.md
# make evaluation-rollout  the same for pedf and rollout and docs/EVALUATION-ROLLOUT.md; stopped, it goes on where it was

CC ?= cc
GO ?= go
# The setup script prints the library's path; it is a no-op once it is there.
ORT = ONNXRUNTIME_LIB="$$(scripts/setup-onnxruntime.sh)"

.PHONY: build run test check bench evaluation evaluation-rollout setup tools clean

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

# One file per shard, so that what is there already is not simulated again.
ROLLOUT = --policies fcfs,edf,dream,terastal,pedf,rollout
SHARDS = 1 2 3 4 5 6 7

evaluation-rollout: build $(SHARDS:%=out/rollout/main-%.csv) $(SHARDS:%=out/rollout/noise-%.csv)
	bin/terastal sweep report --rollout out/rollout/*.csv >out/EVALUATION-ROLLOUT.md
	mv out/EVALUATION-ROLLOUT.md docs/EVALUATION-ROLLOUT.md

out/rollout/main-%.csv: | build
	bin/terastal sweep $(ROLLOUT) --shard $*/7 --seeds 8 --drop late,hopeless --csv $@

out/rollout/noise-%.csv: | build
	bin/terastal sweep $(ROLLOUT) --shard $*/7 --seeds 4 --drop late --noise 0.1,0.3 --csv $@

setup:
	@scripts/setup-onnxruntime.sh >/dev/null

tools:
	@command -v $(GO) >/dev/null || { echo "make: Go is missing: install Go 1.26 or later from go.dev/dl"; exit 1; }
	@command -v $(CC) >/dev/null || { echo "make: a C compiler is missing: install gcc or clang (Debian: sudo apt-get install gcc)"; exit 1; }

clean:
	rm -rf bin out
