package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/traffic"
)

func TestMain(m *testing.M) { orttest.Main(m) }

// bench is a system of small networks on accelerators, ready to run.
type bench struct {
	accs     []runtime.Accelerator
	networks []*runtime.Network
	programs []*runtime.Program
	drill    *runtime.Drill // begins when there is an executor
}

// levels are two accelerators of one processor.
var levels = []runtime.Spec{{Name: "all"}, {Name: "basic", Optimization: "basic"}}

// plain are two that compute alike.
var plain = []runtime.Spec{{Name: "first", Optimization: "basic"}, {Name: "second", Optimization: "basic"}}

// open loads the keyword-spotting network, once per granularity, on the
// accelerators; wrap, if not nil, stands between them and the runtime.
func open(t *testing.T, wrap func(runtime.Accelerator) runtime.Accelerator, granularities ...string) *bench {
	t.Helper()
	b := &bench{}
	for _, a := range rig.Accelerators(t, levels...) {
		if wrap != nil {
			a = wrap(a)
		}
		b.accs = append(b.accs, a)
	}
	for _, g := range granularities {
		b.add(t, network(t, g))
	}
	return b
}

func (b *bench) add(t testing.TB, n *runtime.Network) {
	t.Helper()
	p := testkit.Must(runtime.Prepare(n, b.accs, nil))(t)
	t.Cleanup(func() { p.Close() })
	b.networks, b.programs = append(b.networks, n), append(b.programs, p)
}

func network(t *testing.T, granularity string) *runtime.Network {
	t.Helper()
	n := rig.Network(t, "ds_cnn_kws", granularity)
	n.Name = "kws-" + granularity
	return n
}

// system is the bench as the scheduler sees it, with made-up latencies: which
// decisions are made does not matter here, only that they are carried out.
func (b *bench) system(latency func(model, layer, implementation, accelerator int) time.Duration) sched.System {
	var s sched.System
	for _, a := range b.accs {
		s.Accelerators = append(s.Accelerators, a.Name())
	}
	for m, p := range b.programs {
		sm := sched.Model{Name: b.networks[m].Name, Deadline: time.Second}
		for l := range b.networks[m].Layers {
			layer := sched.Layer{Name: fmt.Sprint(l)}
			for i := range p.Implementations(l) {
				im := sched.Implementation{Name: fmt.Sprint(i)}
				if i > 0 {
					sm.Variants++
					im.Variant = sm.Variants
				}
				for k := range b.accs {
					c := sched.Unavailable
					if p.Runs(l, i, k) {
						c = latency(m, l, i, k)
					}
					im.Latency = append(im.Latency, c)
				}
				layer.Implementations = append(layer.Implementations, im)
			}
			sm.Layers = append(sm.Layers, layer)
		}
		s.Models = append(s.Models, sm)
	}
	return s
}

func alternate(_, layer, _, accelerator int) time.Duration {
	return time.Duration(100+100*((layer+accelerator)%2)) * time.Microsecond
}

func (b *bench) executor(t testing.TB, s sched.System) *runtime.Executor {
	t.Helper()
	tables := testkit.Must(sched.Compile(s))(t)
	e := testkit.Must(runtime.NewExecutor(tables, b.programs, 7))(t)
	t.Cleanup(func() { e.Close(context.Background()) })
	if b.drill != nil {
		b.drill.Begin()
	}
	return e
}

func released(n int) traffic.Config {
	rates := make([]float64, n)
	for i := range rates {
		rates[i] = 400
	}
	return traffic.Config{Rates: rates, Process: traffic.Poisson, Duration: 200 * time.Millisecond, Seed: 3}
}

// check asserts what has to hold of every run.
func check(t *testing.T, r *runtime.Result) eventlog.Metrics {
	t.Helper()
	testkit.OK(t, r.Log.Validate())
	m := r.Log.Metrics()
	if !m.Balanced() || m.Released == 0 {
		t.Errorf("totals %+v do not balance", m.Totals)
	}
	if _, diff, err := r.Log.Replay(nil); err != nil || diff != "" {
		t.Errorf("replay: %v %s", err, diff)
	}
	if r.Decisions.N() == 0 {
		t.Error("no decision was timed")
	}
	return m
}

// Every policy runs every layer for real: all requests finish, their outputs are the whole model's, the log is
// consistent and replays, and nothing is left running.
func TestRun(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	leaks := goleak.IgnoreCurrent()
	for _, p := range policy.All() {
		t.Run(p.Name, func(t *testing.T) {
			r, err := e.Run(context.Background(), runtime.Options{Policy: p.Name, Traffic: released(2), Samples: 5, Queue: 1000})
			testkit.OK(t, err)
			m := check(t, r)
			if m.Dropped+m.Failed > 0 || m.Utilization["all"] == 0 || m.Utilization["basic"] == 0 {
				t.Errorf("metrics %+v", m)
			}
			latest := int64(0)
			for _, s := range r.Samples {
				latest = max(latest, s.Job)
			}
			if latest < int64(m.Released/2) {
				t.Errorf("the latest sample is job %d of %d: samples are to be spread over the run", latest, m.Released)
			}
			v := testkit.Must(e.Verify(r.Samples))(t)
			if v.Verified != 10 || v.Wrong != 0 || !(v.MaxRelDiff < 1e-5) {
				t.Errorf("verification %+v", v)
			}
		})
	}
	goleak.VerifyNone(t, leaks)
}

// Verification has to notice a single wrong output.
func TestVerifyFindsWrongOutputs(t *testing.T) {
	b := open(t, nil, "block")
	e := b.executor(t, b.system(alternate))
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 4}))(t)
	s := r.Samples[1]
	s.Outputs[0][3] ^= 0x40 // the sign or exponent of one element
	v := testkit.Must(e.Verify(r.Samples))(t)
	if v.Wrong != 1 || v.Verified != 3 {
		t.Errorf("verification %+v, want one wrong and three right", v)
	}
}

// A variant is another implementation of a layer: where the tables make it
// the only way to meet the budget, the runtime runs it.
func TestVariantsRun(t *testing.T) {
	b := open(t, nil)
	n := network(t, "block")
	data := testkit.Must(n.Layers[1].ONNX())(t)
	n.Variants = map[int][]runtime.Unit{1: {{Name: "copy", ONNX: data, Inputs: n.Layers[1].Inputs,
		Outputs: n.Layers[1].Outputs}}}
	b.add(t, n)
	s := b.system(func(_, layer, implementation, _ int) time.Duration {
		if layer == 1 && implementation == 0 {
			return 2 * time.Minute // never meets its budget of the deadline
		}
		return time.Millisecond
	})
	s.Models[0].Valid, s.Models[0].Deadline = []sched.VariantSet{1}, time.Minute
	s.Models[0].Accuracy, s.Models[0].Floor = []float64{0.97}, 0.95
	e := b.executor(t, s)
	r, err := e.Run(context.Background(), runtime.Options{Policy: "terastal", Traffic: released(1), Samples: 3})
	testkit.OK(t, err)
	m := check(t, r)
	if m.Models[0].VariantsUsed != m.Released {
		t.Errorf("%d of %d requests used the variant", m.Models[0].VariantsUsed, m.Released)
	}
	// What is counted while it runs is what the log says afterwards.
	x, k := &m.Models[0], r.Stats.Models[0].Kept
	if k.Floor != 0.95 || k.Mean != *x.DeliveredAccuracy || k.Worst != *x.WorstWindow || math.Abs(k.Recent-0.97) > 1e-9 {
		t.Errorf("kept %+v, the log has %v and %v", k, *x.DeliveredAccuracy, *x.WorstWindow)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Verified != 3 || v.WithVariants != 3 {
		t.Errorf("verification %+v, %v", v, err)
	}
	r.Samples[0].Outputs[0][3] ^= 0x40 // the sign or exponent of one element
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong != 1 {
		t.Errorf("verification %+v, %v, want one wrong", v, err)
	}
}

// faulty makes runs of one layer fail, and refuses to prepare another: the accelerator behind it is real.
type faulty struct {
	runtime.Accelerator
	fail, refuse string // parts of unit names
}

func (f faulty) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	if f.refuse != "" && strings.HasSuffix(u.Name, f.refuse) {
		return nil, errors.New("refused by the test")
	}
	k, err := f.Accelerator.Prepare(u)
	if err == nil && f.fail != "" && strings.HasSuffix(u.Name, f.fail) {
		k = failing{k}
	}
	return k, err
}

type failing struct{ runtime.Kernel }

func (failing) Run(_, _ []*runtime.Tensor) error { return errors.New("broken by the test") }

// A layer that fails takes its own job down and nothing else.
func TestFailingLayer(t *testing.T) {
	healthy := network(t, "block")
	last := fmt.Sprintf("%q", healthy.Layers[len(healthy.Layers)-1].Name)
	b := open(t, func(a runtime.Accelerator) runtime.Accelerator {
		if a.Name() == "basic" {
			return faulty{Accelerator: a, fail: "layer " + last}
		}
		return a
	}, "block", "model")
	e := b.executor(t, b.system(alternate))
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(2), Samples: 4}))(t)
	m := check(t, r)
	if m.Failed == 0 || m.Met == 0 {
		t.Errorf("%d failed and %d met, want some of both", m.Failed, m.Met)
	}
	for reason := range m.Models[0].DropReasons {
		if reason != "broken by the test" {
			t.Errorf("a job failed because %q", reason)
		}
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
		t.Errorf("verification %+v, %v", v, err)
	}
}

// A layer that one accelerator refuses runs on the others; one that all refuse is an error that names it.
func TestRefusedLayer(t *testing.T) {
	n := network(t, "block")
	first := fmt.Sprintf("layer %q", n.Layers[0].Name)
	b := open(t, func(a runtime.Accelerator) runtime.Accelerator {
		if a.Name() == "all" {
			return faulty{Accelerator: a, refuse: first}
		}
		return a
	}, "block")
	if b.programs[0].Runs(0, 0, 0) || b.programs[0].Refused(0, 0, 0) == nil || !b.programs[0].Runs(0, 0, 1) {
		t.Fatal("the refusal is not recorded")
	}
	e := b.executor(t, b.system(alternate))
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Traffic: released(1)}))(t)
	check(t, r)
	for _, rec := range r.Log.Records {
		if rec.Kind == sched.Dispatched && rec.Layer == 0 && rec.Accelerator == 0 {
			t.Fatal("the refused layer was dispatched")
		}
	}

	all := []runtime.Accelerator{faulty{Accelerator: b.accs[0], refuse: first},
		faulty{Accelerator: b.accs[1], refuse: first}}
	testkit.Refused(runtime.Prepare(n, all, nil))(t, "runs on no accelerator: refused by the test")

	// Tables that send the layer where it was refused do not fit the programs.
	s := b.system(alternate)
	s.Models[0].Layers[0].Implementations[0].Latency[0] = time.Millisecond
	tables := testkit.Must(sched.Compile(s))(t)
	testkit.Refused(runtime.NewExecutor(tables, b.programs, 1))(t, "refused by the test")
}

// Cancelling ends the run early with a log that is complete all the same.
func TestCancel(t *testing.T) {
	b := open(t, nil, "op")
	e := b.executor(t, b.system(alternate))
	tr := released(1)
	tr.Duration = time.Hour
	tr.Rates[0] = 200
	ctx, cancel := context.WithCancel(context.Background())
	leaks := goleak.IgnoreCurrent()
	r := testkit.Must(e.Run(ctx, runtime.Options{Policy: "fcfs", Traffic: tr, Progress: func(s runtime.Stats) {
		if s.At > 100*time.Millisecond {
			cancel()
		}
	}}))(t)
	check(t, r)
	if !r.Interrupted {
		t.Error("the run does not say that it was interrupted")
	}
	goleak.VerifyNone(t, leaks)
}

// Bounds of the queue are kept: what is released beyond them is dropped, with the reason, and the totals balance.
func TestOverload(t *testing.T) {
	b := open(t, nil, "op")
	e := b.executor(t, b.system(alternate))
	tr := traffic.Config{Rates: []float64{20000}, Phases: traffic.AlignedPhases, Duration: 100 * time.Millisecond}
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Traffic: tr, Queue: 3}))(t)
	m := check(t, r)
	if m.Models[0].DropReasons[sched.DropReasonQueueFull] == 0 {
		t.Errorf("no job was dropped for a full queue: %+v", m.Totals)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		spec runtime.Spec
		want string
	}{
		{runtime.Spec{}, "needs a name"},
		{runtime.Spec{Name: "a", Provider: "foo"}, `unknown provider "foo"`},
		{runtime.Spec{Name: "a", Optimization: "turbo"}, `unknown optimization "turbo"`},
		{runtime.Spec{Name: "a", Cores: []int{1 << 20}}, "core 1048576"},
	} {
		testkit.Refused(runtime.OpenORT(c.spec))(t, c.want, runtime.ErrSpec)
	}
	if _, err := runtime.OpenORT(runtime.Spec{Name: "a", Provider: "qnn"}); err == nil || errors.Is(err, runtime.ErrSpec) {
		t.Errorf("qnn: %v, want an error that is no ErrSpec", err)
	}
}

func TestNewTensorRefusesWrongSize(t *testing.T) {
	n := network(t, "model")
	info := n.Model.Inputs()[0]
	testkit.Refused(runtime.NewTensor(info, make([]byte, info.Bytes()-1)))(t, info.Name)
}

// Requests that run at the same time share no memory: with one slot shared by mistake, outputs would mix.
func TestSlotsAreIndependent(t *testing.T) {
	b := open(t, nil, "op")
	p := b.programs[0]
	var slots []*runtime.Slot
	var inputs [][]*runtime.Tensor
	for seed := range uint64(2) {
		s := testkit.Must(p.NewSlot())(t)
		defer s.Close()
		in := testkit.Must(b.networks[0].Inputs(seed))(t)
		s.SetInputs(in)
		slots, inputs = append(slots, s), append(inputs, in)
	}
	for l := range b.networks[0].Layers {
		for n, s := range slots {
			testkit.OK(t, s.Run(l, 0, (l+n)%2))
		}
	}
	want := testkit.Must(b.networks[0].Reference(inputs))(t)
	for n, s := range slots {
		out := s.Outputs()[0]
		d, err := models.Compare(out.Type, out.Data, want[n][0])
		if err != nil || !(d.MaxRel < runtime.Tolerance) {
			t.Errorf("request %d: %+v %v", n, d, err)
		}
	}
	if slices.Equal(slots[0].Outputs()[0].Data, slots[1].Outputs()[0].Data) {
		t.Error("different inputs gave the same outputs: the test says nothing")
	}
}

// The tensors of a spread slot keep what they hold: layers run again in any order compute what they computed before.
func TestSpreadSlot(t *testing.T) {
	b := open(t, nil, "op")
	s := testkit.Must(b.programs[0].NewSpreadSlot())(t)
	defer s.Close()
	in := testkit.Must(b.networks[0].Inputs(1))(t)
	s.SetInputs(in)
	layers := len(b.networks[0].Layers)
	for n := range 2 * layers { // forwards, then backwards
		testkit.OK(t, s.Run(min(n, 2*layers-1-n), 0, 0))
	}
	want := testkit.Must(b.networks[0].Reference([][]*runtime.Tensor{in}))(t)
	out := s.Outputs()[0]
	if d, err := models.Compare(out.Type, out.Data, want[0][0]); err != nil || !(d.MaxRel < runtime.Tolerance) {
		t.Errorf("%+v %v", d, err)
	}
}

// A policy that searches does so next to the engine: its searches are timed and
// logged, and dispatching continues meanwhile.
func TestSearchDetached(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	for _, free := range []bool{false, true} {
		r, err := e.Run(context.Background(), runtime.Options{Policy: "rollout", Traffic: released(2), Queue: 1000,
			FreeCore: free})
		testkit.OK(t, err)
		m := check(t, r)
		found := 0
		for i := range r.Log.Records {
			if r.Log.Records[i].Kind == sched.RuleFound {
				found++
			}
		}
		if !r.Log.Header.SearchDetached || found == 0 || r.Searches.N() < found || m.Failed > 0 {
			t.Errorf("%d searches, %d results in the log, metrics %+v", r.Searches.N(), found, m)
		}
	}
}

// A policy that no name finds runs by its constructor, and the log is replayed with it.
func TestForeignPolicy(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	o := runtime.Options{Policy: "ours", Traffic: released(2), Queue: 1000}
	testkit.Refused(e.Run(context.Background(), o))(t, `unknown policy "ours"`)
	o.NewPolicy = sched.LLF
	r := testkit.Must(e.Run(context.Background(), o))(t)
	n, difference, err := r.Log.Replay(sched.LLF)
	if err != nil || difference != "" || n < 100 || r.Log.Header.Policy != "ours" {
		t.Errorf("%d decisions of %s compared, %s, %v", n, r.Log.Header.Policy, difference, err)
	}
}
