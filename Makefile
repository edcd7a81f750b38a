# make run   the main job: the demo, with all set-up it needs
# make test  everything that has to pass: vet, staticcheck, all tests under the race detector; tests of long arithmetic in
#            one goroutine, where it finds nothing, in full without it (see internal/sequential)
# make test-webgpu  the tests that need a Vulkan device, on a software one that is fetched once (Debian)
# make check the same without the tests that need ONNX Runtime, and gofmt
# make bench the benchmarks
# make gpu   hold the machine's GPU against goals, in 8 minutes: a table, and the documents in out/gpu. PROVIDER=webgpu
#            takes another provider than CUDA
# make variants  fit the variants that the zoo ships for the trained networks again, design others for them with all
#            families, measure the trained D2S variants, and rewrite docs/evaluation/variants.md
# make evaluation  simulate the published evaluation again and rewrite the tables of docs/evaluation/published.md
# make evaluation-rollout  the same for pedf and rollout and docs/evaluation/rollout.md; run again, it continues where it stopped
# make evaluation-accuracy  the same for accuracy spent for time and docs/evaluation/accuracy.md: half an hour of two
#            processors. What it holds on this machine: scripts/accuracy-goals.sh, another half an hour, left alone
# make evaluation-skewed  the same for accelerators that are unlike each other and docs/evaluation/skewed.md

CC ?= cc
GO ?= go
# The setup script prints the library's path; it is a no-op once it is there.
ORT = ONNXRUNTIME_LIB="$$(scripts/setup-onnxruntime.sh)"

# The packages with tests that the race detector skips or shortens. Builds for it check the engine's invariants; so do these.
SEQUENTIAL = $(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep ' .*internal/sequential' | cut -d ' ' -f 1

# Takes 6 GiB of memory and half a minute; go test ./models runs it.
LARGE = '^TestModelBeyondTwoGiB$$'

.PHONY: build run test test-webgpu gpu check bench evaluation evaluation-rollout evaluation-accuracy evaluation-skewed variants setup tools clean

build: tools
	$(GO) build -o bin/terastal ./cmd/terastal

run: setup build
	$(ORT) bin/terastal demo

test: setup tools
	$(GO) vet ./...
	$(GO) vet -tags invariants ./sched
	$(GO) tool staticcheck ./...
	$(ORT) TERASTAL_REQUIRE_ORT=1 $(GO) test -vet=off -race -timeout 20m ./...
	$(ORT) TERASTAL_REQUIRE_ORT=1 $(GO) test -vet=off -tags invariants -skip $(LARGE) -timeout 20m $$($(SEQUENTIAL))

# Tests of the same names that need no device run, too. Results are not cached: what decides is not Go's to see.
test-webgpu: setup tools
	environment="$$(scripts/setup-software-vulkan.sh)" && eval "$$environment" && \
		$(ORT) TERASTAL_REQUIRE_ORT=1 TERASTAL_REQUIRE_WEBGPU=1 $(GO) test -count=1 -timeout 20m \
		-run 'WebGPU|Memor|Copies|Device|Moves|Lost|Queue|Refused|TestScripts/webgpu' ./internal/ort ./runtime ./profiler ./variants ./cmd/terastal

PROVIDER = cuda

gpu: setup build
	$(CC) -O2 -I "$$($(GO) list -m -f '{{.Dir}}' github.com/yalue/onnxruntime_go)" scripts/gpu/chain.c -o bin/chain \
		-ldl -lpthread -lm
	ONNXRUNTIME_LIB="$$(scripts/setup-onnxruntime.sh $(if $(filter cuda,$(PROVIDER)),--with cuda))" \
		scripts/gpu/check.sh $(PROVIDER) out/gpu

check: tools
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -short ./sched/... ./cmd/terastal/internal/config ./internal/document ./internal/house ./internal/stats ./variants

bench: setup tools
	$(ORT) $(GO) test -run '^$$' -bench . -benchmem ./...

evaluation: build
	bin/terastal sweep --seeds 24 --csv out/evaluation.csv
	scripts/evaluation.py published --into docs/evaluation/published.md out/evaluation.csv

# One file per shard, so that what is there already is not simulated again.
OWN = --policies fcfs,edf,dream,terastal,pedf,rollout
SHARDS = 1 2 3 4 5 6 7
SMALL = --traffic poisson,jitter --scales 1,1.3 --seeds 4 --drop late --duration 1s
OTHERS = fewer drift interference overhead late originals one-accelerator skewed keep overload long

evaluation-rollout: build $(SHARDS:%=out/rollout/main-%.csv) out/rollout/noise.csv $(OTHERS:%=out/rollout/other/%.csv)
	scripts/evaluation.py rollout --into docs/evaluation/rollout.md out/rollout/*.csv \
		--also "The same at fewer seeds, for the systems below=out/rollout/other/fewer.csv" \
		--also "Accelerators drift: up to 30 % slower, each in its own rhythm of 500 ms=out/rollout/other/drift.csv" \
		--also "Interference: 20 % slower for every other accelerator that is busy=out/rollout/other/interference.csv" \
		--also "Dispatching takes 20 us that nothing predicts=out/rollout/other/overhead.csv" \
		--also "Searches next to dispatching, whose results come 100 us late=out/rollout/other/late.csv" \
		--also "Models without variants=out/rollout/other/originals.csv" \
		--also "One accelerator, with rates for its capacity=out/rollout/other/one-accelerator.csv" \
		--also "Skewed accelerators: the second 4 times as slow as published and the third 16 times, with rates for their capacity=out/rollout/other/skewed.csv" \
		--also "Nothing dropped=out/rollout/other/keep.csv" \
		--also "Overload: twice the rates for 1 s, nothing dropped, up to 64 requests of each model=out/rollout/other/overload.csv" \
		--also "Runs of 60 s=out/rollout/other/long.csv"

out/rollout/main-%.csv: | build
	bin/terastal sweep $(OWN) --shard $*/7 --seeds 8 --drop late,hopeless --csv $@

out/rollout/noise.csv: | build
	bin/terastal sweep $(OWN) --seeds 4 --drop late --scales 1,1.3 --noise 0.1,0.3 --csv $@

out/rollout/other/fewer.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --csv $@

out/rollout/other/drift.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --drift 0.3 --csv $@

out/rollout/other/interference.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --interference 0.2 --csv $@

out/rollout/other/overhead.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --overhead 20us --csv $@

out/rollout/other/late.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --search-time 100us --csv $@

out/rollout/other/originals.csv out/rollout/other/skewed.csv: out/rollout/other/%.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --variation $* --csv $@

out/rollout/other/one-accelerator.csv: | build
	bin/terastal sweep $(OWN) $(SMALL) --variation one-accelerator --duration 3s --csv $@

out/rollout/other/keep.csv: | build
	bin/terastal sweep $(OWN) --traffic poisson,jitter --scales 1,1.3 --seeds 4 --drop none --duration 1s --csv $@

out/rollout/other/overload.csv: | build
	bin/terastal sweep $(OWN) --scenarios paper/mcv_heavy,paper/ar_social@4K --traffic poisson --scales 2 --seeds 4 --drop none --duration 1s --csv $@

out/rollout/other/long.csv: | build
	bin/terastal sweep $(OWN) --scenarios paper/mcv_heavy --traffic poisson --scales 1 --seeds 4 --drop late --duration 60s --csv $@

# What the published method keeps on the mean over models, as a floor of every model; and the floor of every model with
# which the mean over models is about that. What spends nothing is simulated without one.
FLOOR = 0.9776
EQUAL = 0.9
ACCURACY = --seeds 8 --drop late,hopeless
CURVES = --accuracy 1,0.999,0.99,0.98 --limit 0.01,0.05

evaluation-accuracy: build out/accuracy/others.csv out/accuracy/noise.csv $(foreach f,floor equal,$(patsubst %,out/accuracy/$f-%.csv,1 2 3 4)) $(patsubst %,out/accuracy/noise-%.csv,1 2 3 4 5 6 7 8) out/accuracy/curves/curves.json
	scripts/evaluation.py accuracy --into docs/evaluation/accuracy.md out/accuracy/*.csv --curves out/accuracy/curves/curves.json

out/accuracy/others.csv: | build
	bin/terastal sweep $(ACCURACY) --noise 0,0.1,0.3 --policies fcfs,edf,dream,terastal,pedf --csv $@

out/accuracy/floor-%.csv: | build
	bin/terastal sweep $(ACCURACY) --noise 0 --policies terastal-budget,pedf,rollout --accuracy $(FLOOR) --shard $*/4 --csv $@

out/accuracy/equal-%.csv: | build
	bin/terastal sweep $(ACCURACY) --noise 0 --policies terastal-budget,pedf,rollout --accuracy $(EQUAL) --shard $*/4 --csv $@

out/accuracy/noise.csv: | build
	bin/terastal sweep $(ACCURACY) --noise 0.1,0.3 --policies terastal-budget,pedf --accuracy $(FLOOR) --csv $@

out/accuracy/noise-%.csv: | build
	bin/terastal sweep $(ACCURACY) --noise 0.1,0.3 --policies rollout --accuracy $(FLOOR) --shard $*/8 --csv $@

out/accuracy/curves/curves.json: | build
	bin/terastal sweep curves --scenario paper/mcv_heavy --policies fcfs,edf,terastal,terastal-budget,pedf,rollout $(CURVES) --from 0.5 --to 1.7 --step 0.3 --seeds 4 --duration 12s --out $(@D)

# Systems that were measured, and published ones whose accelerators are made unlike each other. Stalls come with noise,
# and in files of their own: they are options of a sweep, not a dimension.
MEASURED = $(notdir $(basename $(wildcard sched/scenario/data/hw/*.json)))
MADE = mcv_heavy ar_social@4K
SKEWED = --traffic periodic,poisson,bursts --load 0.3,0.6,0.8,0.95,1.1 --drop late --seeds 8 --duration 1s \
	--policies fifo,triton-like,triton-like-deadlines,fcfs,edf,heft,dream,terastal,pedf,rollout
NOISES = --noise 0,0.3,1
STALLS = --noise 0.3 --stall 50ms

evaluation-skewed: build $(foreach s,$(MEASURED),out/skewed/hw-$s.csv out/skewed/hw-stalls-$s.csv) \
		$(foreach s,$(MADE),out/skewed/made-$s.csv out/skewed/made-stalls-$s.csv)
	scripts/evaluation.py skewed --into docs/evaluation/skewed.md out/skewed/*.csv

out/skewed/hw-stalls-%.csv: | build
	bin/terastal sweep $(SKEWED) --scenarios hw/$* $(STALLS) --csv $@

out/skewed/hw-%.csv: | build
	bin/terastal sweep $(SKEWED) --scenarios hw/$* $(NOISES) --csv $@

out/skewed/made-stalls-%.csv: | build
	bin/terastal sweep $(SKEWED) --scenarios paper/$* --variation skewed $(STALLS) --csv $@

out/skewed/made-%.csv: | build
	bin/terastal sweep $(SKEWED) --scenarios paper/$* --variation skewed $(NOISES) --csv $@

variants: setup build
	$(ORT) scripts/variants/tables.sh out/variants

setup:
	@scripts/setup-onnxruntime.sh >/dev/null

tools:
	@command -v $(GO) >/dev/null || { echo "make: Go is missing: install Go 1.26 or later from go.dev/dl"; exit 1; }
	@command -v $(CC) >/dev/null || { echo "make: a C compiler is missing: install gcc or clang (Debian: sudo apt-get install gcc)"; exit 1; }

clean:
	rm -rf bin out
