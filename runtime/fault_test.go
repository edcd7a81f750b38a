package runtime_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

func TestParseFault(t *testing.T) {
	f, err := runtime.ParseFault("hang accelerator=gpu model=a layer=b after=5 times=1 for=2s p=0.5")
	want := runtime.Fault{Kind: "hang", Accelerator: "gpu", Model: "a", Layer: "b", P: .5, After: 5, Times: 1,
		For: 2 * time.Second, By: 2}
	if err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	for text, want := range map[string]string{
		"": "starts with one of error, hang", "burn": "starts with", "error x=1": `unknown key "x"`, "error p=much": "no value",
		"error p=0": "p is above 0", "error p=2": "p is above 0", "slow by=0.5": "by is 1", "hang for=-1s": "not negative", "error after=-1": "not negative",
	} {
		testkit.Refused(runtime.ParseFault(text))(t, want, text)
	}
}

func FuzzParseFault(f *testing.F) {
	f.Add("error p=0.1 times=3")
	f.Add("hang for=1s after=2 accelerator=x")
	f.Fuzz(func(t *testing.T, text string) {
		if x, err := runtime.ParseFault(text); err == nil && (!(x.P > 0) || !(x.By >= 1)) {
			t.Errorf("%q gave %+v", text, x)
		}
	})
}

// drill opens the bench with faults.
func drill(t *testing.T, faults ...string) *bench {
	t.Helper()
	var fs []runtime.Fault
	for _, text := range faults {
		f := testkit.Must(runtime.ParseFault(text))(t)
		fs = append(fs, f)
	}
	d := runtime.NewDrill(fs, 9)
	b := open(t, d.Wrap, "op", "model")
	b.drill = d
	return b
}

// play runs traffic that finishes unless faults keep it from that.
func play(t *testing.T, b *bench, o runtime.Options) (*runtime.Executor, *runtime.Result) {
	t.Helper()
	e := b.executor(t, b.system(alternate))
	o.Policy, o.Traffic, o.Samples, o.Queue = "fcfs", released(2), 4, 1000
	r := testkit.Must(e.Run(context.Background(), o))(t)
	return e, r
}

// Errors and panics fail the requests they hit, for the reason they give, and the outputs of the others are right.
func TestInjectedErrors(t *testing.T) {
	for _, kind := range []string{"error", "panic"} {
		t.Run(kind, func(t *testing.T) {
			b := drill(t, kind+" p=0.02")
			leaks := goleak.IgnoreCurrent()
			e, r := play(t, b, runtime.Options{})
			m := check(t, r)
			if m.Failed == 0 || m.Met == 0 || m.Failed+m.Met != m.Released {
				t.Errorf("totals %+v", m.Totals)
			}
			for _, x := range m.Models {
				for reason := range x.DropReasons {
					if !strings.Contains(reason, "injected fault") || !strings.Contains(reason, "layer") {
						t.Errorf("a request failed because %q", reason)
					}
				}
			}
			if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
				t.Errorf("%+v %v", v, err)
			}
			e.Close(context.Background())
			goleak.VerifyNone(t, leaks)
		})
	}
}

// With retries a failed layer runs again, elsewhere while its accelerator
// rests, and every request finishes with the right outputs.
func TestRetries(t *testing.T) {
	b := drill(t, "error accelerator=basic p=0.05")
	e, r := play(t, b, runtime.Options{Retries: 5})
	m := check(t, r)
	requeued, elsewhere, downs := 0, 0, 0
	failedOn := map[int64]int32{}
	for _, rec := range r.Log.Records {
		switch rec.Kind {
		case sched.Requeued:
			requeued++
			failedOn[rec.Job] = rec.Accelerator
		case sched.Down:
			downs++
		case sched.Dispatched:
			if on, ok := failedOn[rec.Job]; ok && on != rec.Accelerator {
				elsewhere++
			}
			delete(failedOn, rec.Job)
		}
	}
	if requeued == 0 || elsewhere == 0 || downs < requeued {
		t.Errorf("%d layers were tried again, %d elsewhere, with %d rests", requeued, elsewhere, downs)
	}
	if m.Failed > 0 && requeued < m.Failed || m.Met+m.Failed != m.Released {
		t.Errorf("totals %+v", m.Totals)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// An accelerator whose every layer fails does not attract all the work: it rests most of the time.
func TestDeadAcceleratorRests(t *testing.T) {
	b := drill(t, "error accelerator=basic")
	_, r := play(t, b, runtime.Options{})
	m := check(t, r)
	if m.Failed == 0 || m.Failed > m.Released/2 || m.Met == 0 {
		t.Errorf("totals %+v", m.Totals)
	}
}

// A hanging layer takes its accelerator out of service and fails its request;
// the other accelerator does the rest, and nothing waits for the hang to end.
func TestHang(t *testing.T) {
	b := drill(t, "hang accelerator=basic after=20 times=1")
	leaks := goleak.IgnoreCurrent()
	e, r := play(t, b, runtime.Options{Hang: func(sched.Dispatch) time.Duration { return 300 * time.Millisecond }})
	m := check(t, r)
	if m.Failed != 1 || m.Met != m.Released-1 {
		t.Errorf("totals %+v", m.Totals)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], `hangs on "basic"`) || !r.Stats.Accelerators[1].Down ||
		!slices.Equal(r.Lost, []string{"basic"}) {
		t.Errorf("notes %q", r.Notes)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
		t.Errorf("%+v %v", v, err)
	}
	// While it hangs, further runs do without.
	again, err := e.Run(context.Background(), runtime.Options{Policy: "edf", Traffic: released(2), Queue: 1000})
	testkit.OK(t, err)
	if m := check(t, again); m.Utilization["basic"] != 0 || m.Met != m.Released {
		t.Errorf("the second run: %+v", m)
	}
	// Closing the accelerator ends the hang, and with it the thread.
	for _, a := range b.accs {
		a.Close()
	}
	e.Close(context.Background())
	goleak.VerifyNone(t, leaks)
}

// A layer that was given up and returns after all leaves the caller's memory alone: the request has its response.
func TestLateReturn(t *testing.T) {
	b := drill(t, "hang times=1 for=400ms")
	leaks := goleak.IgnoreCurrent()
	e := b.executor(t, b.system(alternate))
	testkit.OK(t, e.Serve(runtime.Options{Policy: "fcfs", Hang: func(sched.Dispatch) time.Duration { return 200 * time.Millisecond }}))
	whole := b.networks[1] // in one layer, which is the last
	info := whole.Model.Outputs()[0]
	memory := bytes.Repeat([]byte{0xa5}, int(info.Bytes()))
	outputs := runtime.Tensors{info.Name: testkit.Must(dense.Of(info, memory))(t)}
	ctx := context.Background()
	pending := testkit.Must(e.Submit(ctx, whole.Name, nil, runtime.RequestOptions{Outputs: outputs, Deadline: time.Minute}))(t)
	if r := testkit.Must(pending.Wait(ctx))(t); r.Outcome != sched.Failed || r.Outputs != nil {
		t.Errorf("%+v", r)
	}
	e.Stop(ctx)
	e.Close(context.Background())
	goleak.VerifyNone(t, leaks) // the layer has returned
	if !bytes.Equal(memory, bytes.Repeat([]byte{0xa5}, len(memory))) {
		t.Error("the outputs of a request that had failed were written")
	}
}

// When every accelerator is lost, requests are dropped and the run ends.
func TestAllHang(t *testing.T) {
	b := drill(t, "hang times=1")
	_, r := play(t, b, runtime.Options{Hang: func(sched.Dispatch) time.Duration { return 200 * time.Millisecond }})
	if m := check(t, r); m.Failed != 2 || m.Dropped != m.Released-2 {
		t.Errorf("totals %+v", m.Totals)
	}
}

// A hang that ends by itself is one slow layer when it was not given up.
func TestSlow(t *testing.T) {
	b := drill(t, "slow accelerator=all by=3", "hang accelerator=basic for=50ms times=2")
	e, r := play(t, b, runtime.Options{})
	if m := check(t, r); m.Met != m.Released {
		t.Errorf("totals %+v", m.Totals)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// Verification finds outputs that are no numbers.
func TestNaN(t *testing.T) {
	b := drill(t, "nan")
	e, r := play(t, b, runtime.Options{})
	check(t, r)
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong == 0 || v.Verified > 0 || v.NotFinite != v.Wrong ||
		v.MaxAbsDiff != 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// The same faults strike the same runs of layers each time a drill begins, and none when it is over.
func TestFaultsAreSeeded(t *testing.T) {
	f := testkit.Must(runtime.ParseFault("error p=0.1"))(t)
	d := runtime.NewDrill([]runtime.Fault{f}, 9)
	b := open(t, d.Wrap, "model")
	failures := func() (out []int) {
		s := testkit.Must(b.programs[0].NewSlot())(t)
		defer s.Close()
		in := testkit.Must(b.networks[0].Inputs(1))(t)
		s.SetInputs(in)
		for n := range 200 {
			if s.Run(0, 0, 0) != nil {
				out = append(out, n)
			}
		}
		return out
	}
	if x := failures(); len(x) > 0 {
		t.Errorf("%v failed before the drill", x)
	}
	d.Begin()
	first := failures()
	d.Begin()
	if again := failures(); len(first) < 5 || !slices.Equal(first, again) {
		t.Errorf("%v, then %v", first, again)
	}
	d.End()
	if x := failures(); len(x) > 0 {
		t.Errorf("%v failed after the drill", x)
	}
}

// A device is lost with all its streams, though a fault strikes on one; another run finds it again.
func TestLostDevice(t *testing.T) {
	f := testkit.Must(runtime.ParseFault("lost accelerator=gpu after=40 times=1"))(t)
	d := runtime.NewDrill([]runtime.Fault{f}, 9)
	d.Device("gpu", []string{"all", "basic"})
	b := open(t, d.Wrap, "op", "model")
	b.drill = d
	for range 2 {
		e, r := play(t, b, runtime.Options{Drop: sched.DropLate})
		d.End()
		m := check(t, r)
		if m.Met == 0 || m.Failed == 0 {
			t.Errorf("totals %+v", m.Totals)
		}
		lost, after := false, 0
		for _, rec := range r.Log.Records {
			switch {
			case rec.Kind == sched.Ended && rec.Outcome == sched.Failed:
				lost = true
			case rec.Kind == sched.Completed && lost:
				after++
			}
		}
		if after > 1 { // the other stream may be in the middle of a layer
			t.Errorf("%d layers were computed on a lost device", after)
		}
		if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
			t.Errorf("%+v %v", v, err)
		}
	}
}

// Time that is lost in layers is counted by accelerator, that of first runs apart.
func TestStallsAreCounted(t *testing.T) {
	b := drill(t, "slow accelerator=basic model=kws-op by=1000 times=8") // some layers take a microsecond: no stall
	_, r := play(t, b, runtime.Options{Hang: patient})
	check(t, r)
	w := &r.Workers[1]
	if n := w.FirstUse.N + w.Stalls.N; n < 3 || w.FirstUse.N == 0 || w.FirstUse.Took < time.Duration(w.FirstUse.N)*time.Millisecond {
		t.Errorf("first uses %+v, stalls %+v", w.FirstUse, w.Stalls)
	}
	if layers := r.Stats.Accelerators[1].Layers; w.Plain != layers || w.Captured != 0 {
		t.Errorf("%d plain layers and %d captured ones of %d", w.Plain, w.Captured, layers)
	}
}
