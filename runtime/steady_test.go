package runtime_test

import (
	"context"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// tiny is a network of three layers that take about a microsecond each.
func tiny(t testing.TB, name string) *runtime.Network {
	t.Helper()
	node := func(op, in, out string) *pb.NodeProto {
		return pb.NewNode(op, []string{in}, []string{out}).Named(out)
	}
	return rig.Graph(t, name, &pb.GraphProto{
		Input:  []*pb.ValueInfoProto{pb.NewValue("x", pb.TensorProto_FLOAT, 8)},
		Output: []*pb.ValueInfoProto{pb.NewValue("y", pb.TensorProto_FLOAT, 8)},
		Node:   []*pb.NodeProto{node("Exp", "x", "a"), node("Sigmoid", "a", "b"), node("Tanh", "b", "y")},
	}, 17, "cuts:a,b")
}

// tinyBench is n tiny networks on two accelerators.
func tinyBench(t testing.TB, n int) *bench {
	t.Helper()
	b := &bench{accs: rig.Accelerators(t, plain...)}
	for i := range n {
		b.add(t, tiny(t, "tiny"+string(rune('a'+i))))
	}
	return b
}

// A dispatch allocates nothing: a run of ten times as many layers does not
// allocate more, whatever the policy and with every record kept.
func TestDispatchAllocatesNothing(t *testing.T) {
	b := tinyBench(t, 3)
	e := b.executor(t, b.system(alternate))
	for _, policy := range []string{"fcfs", "edf", "dream", "terastal", "edf-model"} {
		run := func(length time.Duration) (objects, layers float64) {
			r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: policy,
				Traffic: traffic.Config{Rates: []float64{1, 1, 1}, Process: traffic.ClosedLoop, Duration: length}}))(t)
			for _, a := range r.Stats.Accelerators {
				layers += float64(a.Layers)
			}
			return float64(r.GC.Objects), layers
		}
		run(50 * time.Millisecond) // whatever is made once
		few, fewLayers := run(100 * time.Millisecond)
		many, manyLayers := run(time.Second)
		for length := 2 * time.Second; manyLayers < 3*fewLayers && length < time.Minute; length *= 2 {
			many, manyLayers = run(length) // the machine was busy
		}
		if manyLayers < 3000 || manyLayers < 3*fewLayers {
			t.Fatalf("%v and %v layers ran: too few to tell", fewLayers, manyLayers)
		}
		// A few per second of helpers, and one for every 16384 records kept.
		if per := (many - few) / (manyLayers - fewLayers); per > 0.02 {
			t.Errorf("%s: %.3f objects are allocated per layer (%.0f for %.0f, %.0f for %.0f)", policy, per, few, fewLayers,
				many, manyLayers)
		}
	}
}

// Serving a hundred thousand requests leaves the process as large as serving the first tenth of them.
func TestMemoryIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	b := tinyBench(t, 2)
	e := b.executor(t, b.system(alternate))
	testkit.OK(t, e.Serve(runtime.Options{Policy: "edf"}))
	serve := func(n int) {
		for range n {
			var ps [2]*runtime.Pending
			for m := range ps {
				ps[m] = submit(t, e, b.networks[m].Name)
			}
			for _, p := range ps {
				r, err := p.Wait(context.Background())
				if err != nil || r.Outputs == nil {
					t.Fatal(r, err)
				}
			}
		}
	}
	serve(5000)
	before := resident(t)
	serve(45000)
	if after := resident(t); after > before+16<<20 {
		t.Errorf("%d MiB resident after 10000 requests, %d MiB after 100000", before>>20, after>>20)
	}
	r := e.Stop(context.Background())
	if n := r.Stats.Models[0].Met + r.Stats.Models[0].Late; n != 50000 || r.Log != nil {
		t.Errorf("%d requests of 50000 finished, log %v", n, r.Log != nil)
	}
}

// resident is the process's resident memory, garbage left out.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib := 0
			for _, c := range rest {
				if c >= '0' && c <= '9' {
					kib = 10*kib + int(c-'0')
				}
			}
			return kib << 10
		}
	}
	t.Skip("no VmRSS")
	return 0
}

// Runs and servers, one of them with a hang, leave no threads and no files behind.
func TestNothingIsLeft(t *testing.T) {
	count := func(what string) int {
		entries, err := os.ReadDir("/proc/self/" + what)
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	b := drill(t, "hang accelerator=basic times=1 for=400ms")
	e := b.executor(t, b.system(alternate))
	run := func() {
		o := runtime.Options{Policy: "fcfs", Traffic: released(2), Queue: 1000, Quiet: true, FreeCore: true,
			Hang: func(sched.Dispatch) time.Duration { return 200 * time.Millisecond }}
		o.Traffic.Duration = 20 * time.Millisecond
		testkit.Must(e.Run(context.Background(), o))(t)
		testkit.OK(t, e.Serve(runtime.Options{Policy: "edf"}))
		e.Stop(context.Background())
	}
	run()
	threads, files := count("task"), count("fd")
	for range 20 {
		run()
	}
	// Go keeps idle threads; 20 runs and servers have had 80 workers.
	if n := count("task"); n > threads+8 {
		t.Errorf("%d threads, before %d", n, threads)
	}
	if n := count("fd"); n > files+2 {
		t.Errorf("%d open files, before %d", n, files)
	}
}
