package runtime_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/traffic"
)

// Devices take part in schedules: whatever the policy, requests finish with the right outputs, with the device's
// tensors copied home when others continue with them, and nothing is left running.
func TestScheduleWithDevice(t *testing.T) {
	kinds(t, func(t *testing.T, open func(*testing.T, string) *device) {
		d := open(t, "gpu")
		b := together(t, d, nil, "block", "model")
		e := b.executor(t, b.system(func(m, l, i, k int) time.Duration { return alternate(m, l, i, k%2) }))
		leaks := goleak.IgnoreCurrent()
		for _, policy := range []string{"fcfs", "edf", "terastal"} {
			for _, drop := range []sched.DropPolicy{sched.DropNone, sched.DropLate} {
				o := runtime.Options{Policy: policy, Drop: drop, Hang: patient, Traffic: released(2), Samples: 5, Queue: 1000}
				o.Traffic.Rates = []float64{100, 100}
				r := testkit.Must(e.Run(context.Background(), o))(t)
				m := check(t, r)
				if m.Failed > 0 || m.Utilization["gpu"] == 0 || m.Utilization["all"]+m.Utilization["basic"] == 0 {
					t.Errorf("%s: %+v", policy, m)
				}
				if v, err := e.Verify(r.Samples); err != nil || v.Verified == 0 || v.Wrong != 0 {
					t.Errorf("%s: verification %+v %v", policy, v, err)
				}
			}
		}
		if d.shared.Load() {
			t.Error("two threads used the device at once")
		}
		goleak.VerifyNone(t, leaks)
	})
}

// Slots are reused at once by other requests, whatever was on its way home.
func TestDeviceUnderOverload(t *testing.T) {
	d := pretended(t, "gpu")
	b := together(t, d, nil, "op", "block")
	s := b.system(func(m, l, i, k int) time.Duration { return alternate(m, l, i, k%2) })
	for m := range s.Models {
		s.Models[m].Deadline = 2 * time.Millisecond
	}
	e := b.executor(t, s)
	o := runtime.Options{Policy: "edf", Drop: sched.DropLate, Traffic: released(2), Samples: 20, Queue: 20}
	o.Traffic.Rates = []float64{3000, 3000}
	r := testkit.Must(e.Run(context.Background(), o))(t)
	if m := check(t, r); m.Dropped == 0 || m.Failed > 0 || d.shared.Load() {
		t.Errorf("%+v", m)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong != 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// gated is an accelerator whose first layers do not end before the others have ended some.
type gated struct {
	runtime.Accelerator
	memory  runtime.Memory
	elapsed func() int64
	left    atomic.Int64 // layers that are yet to wait
	stalled atomic.Int64
}

func (g *gated) Memory() runtime.Memory { return g.memory }

func (g *gated) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := g.Accelerator.Prepare(u)
	return &gatedKernel{k, g}, err
}

type gatedKernel struct {
	runtime.Kernel
	g *gated
}

func (k *gatedKernel) Run(in, out []*runtime.Tensor) error {
	if k.g.left.Add(-1) >= 0 {
		goal, limit := k.g.elapsed()+3, time.Now().Add(5*time.Second)
		for k.g.elapsed() < goal {
			if time.Now().After(limit) {
				k.g.stalled.Add(1)
				break
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return k.Kernel.Run(in, out)
}

// counting is an accelerator that counts its layers.
type counting struct {
	runtime.Accelerator
	layers *atomic.Int64
}

func (c *counting) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := c.Accelerator.Prepare(u)
	return &countingKernel{k, c.layers}, err
}

type countingKernel struct {
	runtime.Kernel
	layers *atomic.Int64
}

func (k *countingKernel) Run(in, out []*runtime.Tensor) error {
	defer k.layers.Add(1)
	return k.Kernel.Run(in, out)
}

// While a layer runs on the device, layers keep being dispatched to the CPU and
// end there, those of requests that were on the device included.
func TestDeviceDoesNotStallOthers(t *testing.T) {
	var layers atomic.Int64
	d := pretended(t, "gpu")
	g := &gated{Accelerator: d, memory: d.Memory(), elapsed: layers.Load}
	b := &bench{accs: []runtime.Accelerator{g}}
	for _, a := range rig.Accelerators(t, plain...) {
		b.accs = append(b.accs, &counting{a, &layers})
	}
	b.add(t, network(t, "block"))
	n := network(t, "block")
	n.Name = "other"
	b.add(t, n)
	e := b.executor(t, b.system(alternate))
	g.left.Store(10)
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Samples: 10, Hang: patient,
		Traffic: traffic.Config{Rates: []float64{1, 1}, Process: traffic.ClosedLoop, Duration: time.Second}}))(t)
	check(t, r)
	if d.shared.Load() {
		t.Error("two threads used the device at once")
	}
	if g.stalled.Load() > 0 || g.left.Load() > 0 {
		t.Errorf("%d layers of the device kept all others waiting; %d were not run", g.stalled.Load(), g.left.Load())
	}
	if during := dispatchedDuring(r, 0); during == 0 {
		t.Error("the log has no layer that was dispatched to the CPU while one ran on the device")
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong != 0 || v.Verified == 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// dispatchedDuring counts the layers that other accelerators were given while one ran on accelerator k.
func dispatchedDuring(r *runtime.Result, k int32) int {
	n, since := 0, 0
	busy := false
	for _, rec := range r.Log.Records {
		switch {
		case rec.Kind == sched.Dispatched && rec.Accelerator == k:
			busy, since = true, 0
		case rec.Kind == sched.Dispatched && busy:
			since++
		case rec.Kind == sched.Completed && rec.Accelerator == k && busy:
			busy = false
			n += since
		}
	}
	return n
}

// patient gives up no accelerator: a software device on a busy machine can take long.
func patient(sched.Dispatch) time.Duration { return time.Minute }

// lossy opens the bench with a device that faults.
func lossy(t *testing.T, d *device, faults ...string) *bench {
	t.Helper()
	var fs []runtime.Fault
	for _, text := range faults {
		f := testkit.Must(runtime.ParseFault(text))(t)
		fs = append(fs, f)
	}
	drill := runtime.NewDrill(fs, 9)
	b := together(t, d, drill.Wrap, "block", "model")
	b.drill = drill
	return b
}

// A device that is lost takes the requests with it whose tensors it has, for a
// reason that says so; it is taken out of service, and the CPU does what it can.
func TestDeviceLost(t *testing.T) {
	kinds(t, func(t *testing.T, open func(*testing.T, string) *device) {
		const only, at = 4, 5
		d := open(t, "gpu")
		b := lossy(t, d, "lost accelerator=gpu after=3 model=kws-block layer="+network(t, "block").Layers[at].Name)
		leaks := goleak.IgnoreCurrent()
		// One layer runs on the device only, which is then the best place for the next one, where it is lost.
		e := b.executor(t, b.system(func(m, l, _, k int) time.Duration {
			switch {
			case m == 0 && l == only && k > 0:
				return sched.Unavailable
			case k > 0:
				return time.Millisecond
			}
			return 10 * time.Microsecond
		}))
		o := runtime.Options{Policy: "edf", Traffic: released(2), Samples: 4, Queue: 1000, Retries: 1, Hang: patient}
		o.Traffic.Rates[0] = 40 // few: those that come too late are tried in vain
		r := testkit.Must(e.Run(context.Background(), o))(t)
		m := check(t, r)
		if m.Failed == 0 || m.Met+m.Late+m.Failed+m.Dropped != m.Released ||
			m.Models[1].Met+m.Models[1].Late != m.Models[1].Released {
			t.Errorf("totals %+v", m.Totals)
		}
		for reason := range m.Models[0].DropReasons {
			if !strings.Contains(reason, "lost") {
				t.Errorf("a request failed because %q", reason)
			}
		}
		var down, cpu, whileThere bool
		last, tried := map[int64]sched.Record{}, map[int64]bool{}
		for _, rec := range r.Log.Records {
			switch rec.Kind {
			case sched.Down:
				down, cpu = down || rec.Accelerator == 0, cpu || rec.Accelerator > 0
			case sched.Dispatched:
				last[rec.Job] = sched.Record(rec)
			case sched.Requeued:
				tried[rec.Job] = true
			case sched.Ended:
				whileThere = whileThere || rec.Outcome == sched.Failed && last[rec.Job].Layer == at && !tried[rec.Job]
			}
		}
		if !down || cpu {
			t.Errorf("the device was taken out of service: %v, the CPU: %v", down, cpu)
		}
		if !whileThere {
			t.Error("no request was lost with its tensors: the test says nothing")
		}
		if v, err := e.Verify(r.Samples); err == nil && v.Wrong > 0 {
			t.Errorf("%+v", v)
		}
		e.Close(context.Background())
		goleak.VerifyNone(t, leaks)
	})
}

// Tensors that a device does not give back fail the layer that needs them, on
// whatever accelerator, and nothing after it.
func TestTensorsLost(t *testing.T) {
	d := pretended(t, "gpu")
	b := together(t, d, nil, "block")
	in := testkit.Must(b.networks[0].Inputs(3))(t)
	slot := testkit.Must(b.programs[0].NewSlot())(t)
	defer slot.Close()
	for range 2 {
		slot.SetInputs(in)
		testkit.OK(t, slot.Run(0, 0, 0))
		d.broken.Store(true)
		for _, k := range []int{2, 0, 1} {
			testkit.Fails(t, slot.Run(1, 0, k), runtime.ErrTensorsLost, errBroken)
		}
		d.broken.Store(false)
	}
}

// A layer that fails on a device whose memory still works runs again elsewhere with the inputs that it left there.
func TestDeviceErrorsAreRetried(t *testing.T) {
	kinds(t, func(t *testing.T, open func(*testing.T, string) *device) {
		b := lossy(t, open(t, "gpu"), "error accelerator=gpu p=0.2")
		e, r := play(t, b, runtime.Options{Retries: 10, Hang: patient})
		m := check(t, r)
		requeued := 0
		for _, rec := range r.Log.Records {
			if rec.Kind == sched.Requeued {
				requeued++
			}
		}
		if requeued == 0 || m.Failed > 0 || m.Met+m.Late != m.Released {
			t.Errorf("%d layers were tried again; totals %+v", requeued, m.Totals)
		}
		if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
			t.Errorf("%+v %v", v, err)
		}
	})
}

// Wrong numbers in a device's memory are found.
func TestDeviceNaN(t *testing.T) {
	b := lossy(t, pretended(t, "gpu"), "nan accelerator=gpu")
	e, r := play(t, b, runtime.Options{})
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong == 0 || v.NotFinite == 0 {
		t.Errorf("%+v %v", v, err)
	}
}
