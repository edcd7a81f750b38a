package runtime_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/traffic"
)

// TestORTTrace: what ONNX Runtime says it ran lies inside the layers that ran it,
// in every one of them, for each of several runs on the same sessions.
func TestORTTrace(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	trace := testkit.Must(runtime.NewORTTrace())(t)
	b := &bench{}
	for _, s := range levels {
		a := testkit.Must(new(runtime.Devices).OpenTraced(s, trace))(t)
		t.Cleanup(func() { a.Close() })
		b.accs = append(b.accs, a)
	}
	b.add(t, network(t, "op"))
	s := b.system(alternate)
	for l := range s.Models[0].Layers { // as a plan names them
		s.Models[0].Layers[l].Name = b.networks[0].Layers[l].Name
		s.Models[0].Layers[l].Implementations[0].Name = runtime.Original
	}
	e := b.executor(t, s)
	var runs []*runtime.Result
	for seed := range uint64(2) {
		tr := traffic.Config{Rates: []float64{200}, Duration: 100 * time.Millisecond, Seed: seed}
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Traffic: tr}))(t)
		runs = append(runs, r)
	}
	if files, _ := os.ReadDir(os.Getenv("TMPDIR")); len(files) != 1 {
		t.Errorf("files are in %v, want one folder", files)
	}
	for _, r := range runs {
		insideLayers(t, r, trace.Spans(r.Log, r.Started))
	}
	// What is on another clock is not taken for the run's.
	if got := trace.Spans(runs[0].Log, runs[0].Started.Add(time.Hour)); got.Found != 0 || len(got.Spans) != 0 ||
		len(got.Notes) != 1 {
		t.Errorf("an hour off, %d layers are found, notes %v", got.Found, got.Notes)
	}
	testkit.OK(t, trace.Close())
	if files, _ := os.ReadDir(os.Getenv("TMPDIR")); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
}

// insideLayers asserts that spans lie in the layers that ran, and every layer has some.
func insideLayers(t *testing.T, r *runtime.Result, got *runtime.Traced) {
	t.Helper()
	layers := map[int][]eventlog.Record{} // by accelerator
	completed := 0
	for _, x := range r.Log.Records {
		if x.Kind == sched.Completed {
			completed++
			layers[int(x.Accelerator)] = append(layers[int(x.Accelerator)], x)
		}
	}
	if completed == 0 || got.Layers != completed || got.Found != completed || len(got.Notes) != 0 {
		t.Fatalf("%d runs of layers, %d traced, %d found: %v", completed, got.Layers, got.Found, got.Notes)
	}
	const cut = 2 * time.Microsecond // what ONNX Runtime's times leave out
	seen := map[int64]bool{}
	for _, s := range got.Spans {
		inside := false
		for _, x := range layers[s.Accelerator] {
			if s.Start >= x.Start-cut && s.End <= x.At+cut {
				inside = true
				seen[x.Job<<16|int64(x.Layer)] = true
			}
		}
		if !inside || s.Args["operator"] == "" || strings.HasSuffix(s.Name, "_kernel_time") {
			t.Fatalf("%+v lies in no layer", s)
		}
	}
	if len(seen) != completed {
		t.Errorf("%d of %d runs of layers have spans", len(seen), completed)
	}
}
