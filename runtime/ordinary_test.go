package runtime_test

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// elsewhereWhole pretends that whole models run elsewhere than on the CPU, which computes them.
type elsewhereWhole struct {
	runtime.Accelerator
	place runtime.Place
	by    func(model string) time.Duration // by what runs take longer
	off   float32                          // what outputs are multiplied by, less 1
	fails atomic.Int32                     // so many runs
	runs  atomic.Int32
}

func (x *elsewhereWhole) Place() runtime.Place { return x.place }

func (x *elsewhereWhole) OpenWhole(n *runtime.Network) (runtime.WholeModel, error) {
	if x.place.Name == "refuses" {
		return nil, errors.New("it refuses")
	}
	s, err := n.Model.Session(ort.Config{})
	return &pretendedWhole{s, x, n.Name}, err
}

type pretendedWhole struct {
	*ort.Session
	on    *elsewhereWhole
	model string
}

func (w *pretendedWhole) Run(in, out []ort.Value) error {
	w.on.runs.Add(1)
	if w.on.fails.Add(-1) >= 0 {
		return errors.New("it failed")
	}
	if w.on.by != nil {
		time.Sleep(w.on.by(w.model))
	}
	if err := w.Session.Run(in, out); err != nil {
		return err
	}
	for _, v := range out {
		data, err := ort.Bytes(v)
		if err != nil {
			return err
		}
		for i := 0; i < len(data); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
			binary.LittleEndian.PutUint32(data[i:], math.Float32bits(x*(1+w.on.off)))
		}
	}
	return nil
}

// wholes is a bench of two models on accelerators whose users have whole models in places.
func wholes(t *testing.T, places ...*elsewhereWhole) (*bench, *runtime.Executor) {
	b := &bench{}
	for i, a := range rig.Accelerators(t, plain[:len(places)]...) {
		places[i].Accelerator = a
		b.accs = append(b.accs, places[i])
	}
	b.add(t, network(t, "block"))
	b.add(t, network(t, "model"))
	return b, b.executor(t, b.system(alternate))
}

func unscheduled(t *testing.T, e *runtime.Executor, o runtime.Options) *runtime.Result {
	t.Helper()
	if o.Traffic.Rates == nil {
		o.Traffic = released(2)
	}
	o.Samples, o.Queue = 3, 1000
	r := testkit.Must(e.RunUnscheduled(t.Context(), o))(t)
	testkit.OK(t, r.Log.Validate())
	return r
}

// Each model runs where it is fastest, in later runs too, with outputs held against the tolerance of that place.
func TestUnscheduledPlaces(t *testing.T) {
	const long = 100 * time.Millisecond
	slow := func(models ...string) func(string) time.Duration {
		return func(m string) time.Duration {
			if slices.Contains(models, m) {
				return long
			}
			return 0
		}
	}
	one := &elsewhereWhole{place: runtime.Place{Name: "one", Tolerance: .05}, by: slow("kws-block"), off: .01}
	other := &elsewhereWhole{place: runtime.Place{Name: "other", Tolerance: runtime.Tolerance}, by: slow("kws-model"), off: .01}
	_, e := wholes(t, one, other)
	leaks := goleak.IgnoreCurrent()
	tr := released(2)
	tr.Rates = []float64{50, 50}
	for range 2 {
		r := unscheduled(t, e, runtime.Options{Traffic: tr, Drop: sched.DropLate, Adapt: true, Realtime: 5})
		if p := r.Places; len(p) != 2 || p[0].Model != "kws-block" || p[0].On != "other" || p[1].On != "one" ||
			p[0].Took <= 0 || p[0].Took >= long {
			t.Fatalf("places %+v", p)
		}
		testkit.Equal(t, r.Ignored, []string{"drop late", "adapt", "realtime 5"})
		if im := r.Log.Header.System.Models[1].Layers[0].Implementations[0]; im.Name != "one" {
			t.Errorf("the log says that it ran on %q", im.Name)
		}
		for _, s := range r.Samples {
			want := [2]runtime.Verification{{Wrong: 1}, {Verified: 1, Tolerance: .05}}[s.Model]
			if v := testkit.Must(e.Verify([]runtime.Sample{s}))(t); v.Verified != want.Verified || v.Wrong != want.Wrong ||
				v.Tolerance != want.Tolerance || !(v.MaxRelDiff > .005) {
				t.Errorf("model %d: %+v, want %+v", s.Model, v, want)
			}
		}
		one.by, other.by = slow("kws-model"), slow("kws-block") // it was decided before
	}
	before := one.runs.Load() + other.runs.Load()
	r := unscheduled(t, e, runtime.Options{Policy: runtime.UnscheduledCPU, Traffic: tr})
	v := testkit.Must(e.Verify(r.Samples))(t)
	if r.Places[0].On != "cpu" || r.Places[1].On != "cpu" || r.Log.Header.Policy != runtime.UnscheduledCPU ||
		v.Identical+v.Verified == 0 || v.Wrong > 0 || one.runs.Load()+other.runs.Load() != before {
		t.Errorf("on the CPU: %+v, %+v", r.Places, v)
	}
	goleak.VerifyNone(t, leaks)
}

// A place that does not open a model, or does not run it, leaves it to the others.
func TestUnscheduledRefused(t *testing.T) {
	broken := &elsewhereWhole{place: runtime.Place{Name: "broken"}}
	broken.fails.Store(1 << 30)
	refuses := &elsewhereWhole{place: runtime.Place{Name: "refuses"}}
	_, e := wholes(t, refuses, broken)
	_, err := e.RunUnscheduled(t.Context(), runtime.Options{Traffic: released(2)})
	testkit.Fails(t, err, "unscheduled: it refuses; broken: it failed")
	_, e = wholes(t, refuses, &elsewhereWhole{place: runtime.Place{Name: "good", Tolerance: runtime.Tolerance}})
	if r := unscheduled(t, e, runtime.Options{}); r.Places[0].On != "good" || r.Log.Metrics().Failed > 0 {
		t.Errorf("places %+v", r.Places)
	}
	plain := open(t, func(a runtime.Accelerator) runtime.Accelerator { return struct{ runtime.Accelerator }{a} }, "model")
	_, err = plain.executor(t, plain.system(alternate)).RunUnscheduled(t.Context(), runtime.Options{Traffic: released(1)})
	testkit.Fails(t, err, `unscheduled: accelerator "all" has no ordinary sessions`)
}

// Retries run a failed request again.
func TestUnscheduledRetries(t *testing.T) {
	for retries, failed := range []int{3, 1, 1, 0} {
		x := &elsewhereWhole{place: runtime.Place{Name: "x", Tolerance: runtime.Tolerance}}
		_, e := wholes(t, x)
		x.fails.Store(3)
		tr := traffic.Config{Rates: []float64{10, 0}, Phases: traffic.AlignedPhases, Duration: 450 * time.Millisecond}
		if m := unscheduled(t, e, runtime.Options{Retries: retries, Traffic: tr}).Log.Metrics(); m.Failed != failed || m.Met == 0 {
			t.Errorf("%d retries: %+v", retries, m.Totals)
		}
	}
}

// Where first runs of a thread take longer, the threads have run every model before the traffic begins.
func TestUnscheduledReady(t *testing.T) {
	x := &elsewhereWhole{place: runtime.Place{Name: "x", Tolerance: runtime.Tolerance, PerThread: true}}
	_, e := wholes(t, x)
	r := unscheduled(t, e, runtime.Options{})
	if m := r.Log.Metrics(); int(x.runs.Load()) != 8*2+m.Released-m.Dropped {
		t.Errorf("%d runs for %+v", x.runs.Load(), m.Totals)
	}
	x.fails.Store(1)
	_, err := e.RunUnscheduled(t.Context(), runtime.Options{Traffic: released(2)})
	testkit.Fails(t, err, "it failed")
}

// A drill that is on is refused, since it would not reach the run; one that is over is not.
func TestUnscheduledDrill(t *testing.T) {
	b := drill(t, "error p=0.5")
	e := b.executor(t, b.system(alternate))
	_, err := e.RunUnscheduled(t.Context(), runtime.Options{Traffic: released(2)})
	testkit.Fails(t, err, "leave out the faults or the policy")
	b.drill.End()
	if m := unscheduled(t, e, runtime.Options{}).Log.Metrics(); m.Failed > 0 || m.Met == 0 {
		t.Errorf("%+v", m.Totals)
	}
}

// On emulated accelerators a whole model takes as long as its layers, one request at a time.
func TestUnscheduledEmulated(t *testing.T) {
	by := map[string]time.Duration{"near": time.Millisecond, "far": 8 * time.Millisecond}
	b := &bench{}
	inner := rig.Accelerators(t, plain...)
	for i, name := range []string{"near", "far"} {
		x := runtime.Emulation{Name: name, Latency: func(u runtime.Unit) (time.Duration, bool) { return by[name], true }}
		if i == 0 {
			x.Inner = inner[0]
		}
		b.accs = append(b.accs, testkit.Must(runtime.OpenEmulated(x))(t))
	}
	b.add(t, network(t, "block"))
	e := b.executor(t, b.system(alternate))
	layers := len(b.networks[0].Layers)
	r := unscheduled(t, e, runtime.Options{Traffic: traffic.Config{Rates: []float64{1}, Process: traffic.ClosedLoop,
		Duration: 100 * time.Millisecond}})
	if p := r.Places[0]; p.On != "near (emulated)" || p.Took < time.Duration(layers)*time.Millisecond {
		t.Errorf("places %+v, of %d layers", r.Places, layers)
	}
	burst := traffic.Config{Rates: []float64{500}, Phases: traffic.AlignedPhases, Duration: 20 * time.Millisecond}
	r = unscheduled(t, e, runtime.Options{Traffic: burst})
	var ends []time.Duration
	for _, rec := range r.Log.Records {
		if rec.Kind == sched.Completed {
			ends = append(ends, rec.At)
		}
	}
	if whole := time.Duration(layers) * time.Millisecond; len(ends) != 10 || ends[9] < 10*whole {
		t.Errorf("10 requests of %v each end at %v", whole, ends)
	}
	if v := testkit.Must(e.Verify(r.Samples))(t); v.Wrong > 0 || v.Verified == 0 {
		t.Errorf("%+v", v)
	}
	b.accs = b.accs[1:]
	b.programs = nil
	b.networks = nil
	b.add(t, network(t, "model"))
	r = unscheduled(t, b.executor(t, b.system(alternate)), runtime.Options{Traffic: traffic.Config{Rates: []float64{10},
		Duration: 200 * time.Millisecond}})
	if m := r.Log.Metrics(); m.Met != 2 || r.Places[0].On != "far (emulated)" {
		t.Errorf("without computing: %+v, %+v", m.Totals, r.Places)
	}
}
