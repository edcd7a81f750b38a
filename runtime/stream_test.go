package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	pb "github.com/terastal/terastal/internal/onnxpb"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/internal/testkit/rig"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/policy"
	"github.com/terastal/terastal/sched/traffic"
)

// streams is a bench of a device with so many streams, and a CPU accelerator after them.
func streams(t *testing.T, seed uint64, n int) (*bench, *rig.Device) {
	t.Helper()
	d := rig.NewDevice("gpu", seed)
	b := &bench{}
	for i := range n {
		name := runtime.StreamName("gpu", i)
		on := rig.Accelerators(t, runtime.Spec{Name: name, Optimization: "basic"})[0]
		b.accs = append(b.accs, d.Stream(name, on))
	}
	b.accs = append(b.accs, rig.Accelerators(t, runtime.Spec{Name: "cpu", Optimization: "basic"})...)
	return b, d
}

// onDevice is the bench's system with a device of all accelerators but the last, which may decide so early.
func (b *bench) onDevice(lead time.Duration, latency func(m, l, i, k int) time.Duration) sched.System {
	s := b.system(latency)
	d := sched.Device{Name: "gpu", Lead: lead}
	for k := range len(b.accs) - 1 {
		d.Accelerators = append(d.Accelerators, k)
	}
	s.Devices = []sched.Device{d}
	return s
}

// random is a network of element-wise nodes that read any of the tensors before them; what nobody reads is an output.
func random(t *testing.T, rng *rand.Rand, name string) *runtime.Network {
	t.Helper()
	g := &pb.GraphProto{}
	unread := map[string]bool{}
	var tensors, cuts []string
	for i := range 1 + rng.IntN(2) {
		x := fmt.Sprint("x", i)
		g.Input = append(g.Input, pb.NewValue(x, pb.TensorProto_FLOAT, 5))
		tensors = append(tensors, x)
	}
	made := map[string]bool{} // what is computed twice would be merged
	for n := 4 + rng.IntN(6); len(cuts) < n; {
		y, in := fmt.Sprint("y", len(cuts)), []string{tensors[max(0, len(tensors)-1-rng.IntN(4))]}
		op := []string{"Sigmoid", "Tanh", "Sin", "Cos"}[rng.IntN(4)]
		if other := tensors[max(0, len(tensors)-1-rng.IntN(4))]; rng.IntN(2) == 0 && other != in[0] {
			in, op = append(in, other), []string{"Mul", "Sub"}[rng.IntN(2)]
		}
		what := op + strings.Join(slices.Sorted(slices.Values(in)), ",")
		if made[what] {
			continue
		}
		made[what] = true
		for _, x := range in {
			delete(unread, x)
		}
		g.Node = append(g.Node, pb.NewNode(op, in, []string{y}).Named(y))
		tensors, cuts, unread[y] = append(tensors, y), append(cuts, y), true
	}
	for _, y := range tensors {
		if unread[y] {
			g.Output = append(g.Output, pb.NewValue(y, pb.TensorProto_FLOAT, 5))
		}
	}
	n := rig.Graph(t, name, g, 17, "cuts:"+strings.Join(cuts[:len(cuts)-1], ","))
	if len(n.Layers) != len(g.Node) {
		t.Fatalf("%d layers, not one for each of %d nodes", len(n.Layers), len(g.Node))
	}
	return n
}

// right holds a slot's outputs against the whole model's.
func right(t *testing.T, slot *runtime.Slot, want [][]byte, when string) {
	t.Helper()
	for i, out := range slot.Outputs() {
		c := testkit.Must(models.Compare(out.Type, out.Data, want[i]))(t)
		if !(c.MaxRel <= runtime.Tolerance) {
			t.Fatalf("%s: output %d differs by %g of its largest magnitude", when, i, c.MaxRel)
		}
	}
}

// Requests that run their layers in turn on any streams of two devices and in host memory compute what the whole model
// does, captured or not, whatever the streams overtake: every hazard between streams, copies and buffers is ordered. So it
// is for requests after some that failed, and for those after a stream was lost.
func TestStreamsInAnyOrder(t *testing.T) {
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b, one := streams(t, seed, 3)
		two := rig.NewDevice("other", seed)
		two.Events = seed%3 > 0
		on := rig.Accelerators(t, runtime.Spec{Name: "other", Optimization: "basic"})[0]
		b.accs = append(b.accs, two.Stream("other", on))
		if seed >= 12 {
			b.drill = runtime.NewDrill([]runtime.Fault{testkit.Must(runtime.ParseFault("error p=0.1"))(t),
				testkit.Must(runtime.ParseFault("lost accelerator=gpu.0 after=40"))(t)}, seed)
			for k := range b.accs {
				b.accs[k] = b.drill.Wrap(b.accs[k])
			}
		}
		n := network(t, "block")
		if seed > 0 {
			n = random(t, rng, "random")
		}
		b.add(t, n)
		p := b.programs[0]
		const slots = 3
		var at [slots]*runtime.Slot
		var input, layer [slots]int
		var sets [][]*runtime.Tensor
		for i := range 2 {
			sets = append(sets, testkit.Must(n.Inputs(seed+uint64(i)))(t))
		}
		want := testkit.Must(n.Reference(sets))(t)
		for i := range at {
			at[i] = testkit.Must(p.NewSlot())(t)
			defer at[i].Close()
			at[i].SetInputs(sets[0])
		}
		if seed%2 == 0 { // after everything has run
			for l := range n.Layers {
				for k := range 3 {
					testkit.OK(t, at[0].Run(l, 0, k))
					testkit.OK(t, at[0].Capture(l, 0, k))
				}
			}
			at[0].SetInputs(sets[0])
		}
		if b.drill != nil {
			b.drill.Begin()
		}
		for range 200 * len(n.Layers) / 4 {
			i := rng.IntN(slots)
			err := at[i].Run(layer[i], 0, rng.IntN(len(b.accs)))
			layer[i]++
			if b.drill != nil && (errors.Is(err, runtime.ErrInjected) || errors.Is(err, runtime.ErrTensorsLost)) {
				layer[i] = 0
				at[i].SetInputs(sets[input[i]])
				continue
			}
			testkit.OK(t, err)
			if layer[i] < len(n.Layers) && rng.IntN(20) > 0 { // else the request ends here, whatever is under way
				continue
			}
			if layer[i] == len(n.Layers) && rng.IntN(10) > 0 {
				testkit.OK(t, at[i].Wait())
				right(t, at[i], want[input[i]], fmt.Sprintf("seed %d", seed))
			}
			layer[i], input[i] = 0, rng.IntN(2)
			at[i].SetInputs(sets[input[i]])
		}
		if one.Taken() == 0 {
			t.Error("the device's memory was not used")
		}
	}
}

// Schedules over streams and the CPU, decided before layers end: outputs are the whole models', logs replay, nothing
// happens for the first time in a run, a stream is used by its thread only, and nothing is left running.
func TestScheduleOnStreams(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		b, d := streams(t, seed, 1+int(seed))
		d.Graphs = seed != 1
		for m := range 3 {
			b.add(t, random(t, rng, fmt.Sprint("random", m)))
		}
		leaks := goleak.IgnoreCurrent()
		lead := time.Duration(seed) * 100 * time.Microsecond
		e := b.executor(t, b.onDevice(lead, func(m, l, i, k int) time.Duration { return alternate(m, l, i, k%2) }))
		for _, policy := range []string{"fcfs", "edf", "terastal", "pedf"} {
			d.Watch()
			o := runtime.Options{Policy: policy, Hang: patient, Traffic: released(3), Samples: 20, Queue: 1000}
			o.Traffic.Rates, o.Traffic.Seed = []float64{300, 300, 300}, seed
			r := testkit.Must(e.Run(context.Background(), o))(t)
			m := check(t, r)
			if m.Failed > 0 || m.Met+m.Late != m.Released {
				t.Errorf("seed %d, %s: %+v", seed, policy, m.Totals)
			}
			if v, err := e.Verify(r.Samples); err != nil || v.Verified == 0 || v.Wrong != 0 {
				t.Errorf("seed %d, %s: %+v %v", seed, policy, v, err)
			}
			announced := slices.ContainsFunc(r.Log.Records, func(x eventlog.Record) bool { return x.Kind == sched.Announced })
			if announced != (lead > 0) {
				t.Errorf("seed %d, %s: layers were announced: %v", seed, policy, announced)
			}
			captured := 0
			for _, w := range r.Workers {
				captured += w.Captured
			}
			if (captured > 0) != d.Graphs {
				t.Errorf("seed %d, %s: %d captured layers", seed, policy, captured)
			}
			if firsts, strangers, _ := d.Seen(); len(firsts)+len(strangers) > 0 {
				t.Errorf("seed %d, %s: for the first time %q, by others %q", seed, policy, firsts, strangers)
			}
		}
		e.Close(context.Background())
		goleak.VerifyNone(t, leaks)
	}
}

// Layers of a device without events follow each other without anybody waiting, where its lead allows that.
func TestDeviceWithoutEvents(t *testing.T) {
	for _, lead := range []time.Duration{0, time.Millisecond} {
		b, d := streams(t, 1, 1)
		d.Events, d.Graphs = false, false
		b.add(t, network(t, "block"))
		e := b.executor(t, b.onDevice(lead, func(_, _, _, k int) time.Duration { return time.Duration(1+9*k) * 100 * time.Microsecond }))
		d.Watch()
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Hang: patient, Traffic: released(1),
			Samples: 10, Queue: 1000}))(t)
		if m := check(t, r); m.Met != m.Released || m.Utilization["gpu.0"] == 0 {
			t.Errorf("%+v", m)
		}
		if v, err := e.Verify(r.Samples); err != nil || v.Verified != 10 {
			t.Errorf("%+v %v", v, err)
		}
		if _, strangers, waits := d.Seen(); len(strangers) > 0 || (waits > 0) != (lead == 0) {
			t.Errorf("lead %v: %d waits, used by %q", lead, waits, strangers)
		}
	}
}

// What cannot be captured is named, once for all streams, and runs all the same.
func TestUncapturedOnStreams(t *testing.T) {
	b, d := streams(t, 5, 2)
	n := network(t, "block")
	d.Refuses = func(unit string) string {
		if strings.HasPrefix(unit, n.Layers[2].Name+"/") {
			return "it copies to the host"
		}
		return ""
	}
	b.add(t, n)
	e := b.executor(t, b.onDevice(0, alternate))
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Traffic: released(1), Samples: 3}))(t)
	check(t, r)
	want := []runtime.Uncaptured{{Model: n.Name, Layer: n.Layers[2].Name, Implementation: runtime.Original,
		Why: "it copies to the host"}}
	if len(r.Devices) != 1 || !slices.Equal(r.Devices[0].Uncaptured, want) || !slices.Equal(r.Devices[0].Accelerators, []int{0, 1}) {
		t.Errorf("%+v", r.Devices)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// A device that is lost with all its streams fails what it holds, whatever was submitted; the CPU does the rest.
func TestStreamsLost(t *testing.T) {
	for seed := range uint64(3) {
		b, d := streams(t, seed, 2)
		f := testkit.Must(runtime.ParseFault("lost accelerator=gpu after=60 times=1"))(t)
		drill := runtime.NewDrill([]runtime.Fault{f}, seed)
		drill.Device("gpu", []string{"gpu.0", "gpu.1"})
		for k, a := range b.accs {
			b.accs[k] = drill.Wrap(a)
		}
		b.drill = drill
		b.add(t, network(t, "block"))
		e := b.executor(t, b.onDevice(time.Millisecond, alternate))
		d.Watch()
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "edf", Hang: patient, Traffic: released(1),
			Samples: 10, Queue: 1000}))(t)
		m := check(t, r)
		if m.Failed == 0 || m.Met == 0 || m.Met+m.Late+m.Failed != m.Released {
			t.Errorf("seed %d: %+v", seed, m.Totals)
		}
		if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
			t.Errorf("seed %d: %+v %v", seed, v, err)
		}
	}
}

// Layers that fail on streams are tried again, or fail their request where it has moved on from them. What they read is
// copied home by the stream that they failed on, whichever left it on the device.
func TestStreamErrors(t *testing.T) {
	b, d := streams(t, 3, 2)
	f := testkit.Must(runtime.ParseFault("error p=0.05"))(t)
	b.drill = runtime.NewDrill([]runtime.Fault{f}, 3)
	for k := range b.accs[:2] {
		b.accs[k] = b.drill.Wrap(b.accs[k])
	}
	b.add(t, network(t, "block"))
	e := b.executor(t, b.onDevice(time.Millisecond, func(m, l, i, k int) time.Duration { return alternate(m, l, i, k%2) }))
	d.Watch()
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Retries: 5, Hang: patient,
		Traffic: released(1), Samples: 10, Queue: 1000}))(t)
	if _, strangers, _ := d.Seen(); len(strangers) > 0 {
		t.Errorf("used by others: %q", strangers)
	}
	if m := check(t, r); m.Met+m.Late+m.Failed != m.Released || m.Met == 0 ||
		!slices.ContainsFunc(r.Log.Records, func(x eventlog.Record) bool { return x.Kind == sched.Requeued }) {
		t.Errorf("%+v", m.Totals)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// Where the device's memory is used up a request that needs more fails, and no other.
func TestStreamsOutOfMemory(t *testing.T) {
	b, d := streams(t, 3, 1)
	b.add(t, network(t, "block"))
	slot := testkit.Must(b.programs[0].NewSlot())(t)
	slot.SetInputs(testkit.Must(b.networks[0].Inputs(1))(t))
	testkit.OK(t, slot.Run(0, 0, 0))
	one := d.Taken()
	slot.Close()
	d.Room = 2*one + one/2
	e := b.executor(t, b.onDevice(time.Millisecond, func(_, _, _, k int) time.Duration {
		return time.Duration(1+k) * 100 * time.Microsecond
	}))
	tr := released(1)
	tr.Rates[0] = 4000 // more requests at once than have room
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Hang: patient, Traffic: tr, Samples: 10,
		Queue: 1000}))(t)
	m := check(t, r)
	if m.Failed == 0 || m.Met == 0 || m.Met+m.Late+m.Failed != m.Released {
		t.Errorf("%+v", m.Totals)
	}
	for reason := range m.Models[0].DropReasons {
		if !strings.Contains(reason, runtime.ErrNoRoom.Error()) || strings.Contains(reason, "\n") {
			t.Errorf("a request failed because %q", reason)
		}
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 {
		t.Errorf("%+v %v", v, err)
	}
}

// Accelerators that wait for a stream that hangs are not given up with it, whichever request they wait for, and closing
// everything does not wait for it.
func TestWaitingForAStreamThatHangs(t *testing.T) {
	b, d := streams(t, 3, 1)
	for range 2 {
		b.add(t, network(t, "block"))
	}
	b.networks[1].Name = "other"
	e := b.executor(t, b.onDevice(time.Minute, alternate))
	b.accs[0].(*rig.Stream).Hold(true)
	hang := func(x sched.Dispatch) time.Duration { return time.Second }
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Hang: hang, Traffic: released(2),
		Queue: 1000}))(t)
	if m := check(t, r); m.Failed == 0 || m.Met+m.Late+m.Failed != m.Released || !slices.Equal(r.Lost, []string{"gpu.0"}) {
		t.Errorf("%+v, lost %q", m.Totals, r.Lost)
	}
	e.Close(context.Background())
	for _, p := range b.programs {
		p.Close()
	}
	if n := d.Blocked(); n > 0 {
		t.Errorf("closing waited %d times for a device that hangs", n)
	}
	b.accs[0].(*rig.Stream).Hold(false)
}

// A stream that hangs is given up with the layers that it holds, two of them; once it gets on it takes layers again.
func TestStreamHangs(t *testing.T) {
	b, _ := streams(t, 3, 2)
	b.add(t, network(t, "block"))
	leaks := goleak.IgnoreCurrent()
	e := b.executor(t, b.onDevice(time.Minute, func(_, _, _, k int) time.Duration {
		return time.Duration(1+k) * 100 * time.Microsecond
	}))
	stuck := b.accs[0].(*rig.Stream)
	stuck.Hold(true)
	hang := func(x sched.Dispatch) time.Duration { return 300 * time.Millisecond }
	r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Hang: hang, Traffic: released(1),
		Samples: 10, Queue: 1000}))(t)
	m := check(t, r)
	if m.Failed == 0 || m.Failed > 2 || m.Met+m.Late+m.Failed != m.Released || !slices.Equal(r.Lost, []string{"gpu.0"}) {
		t.Errorf("%+v, lost %q", m.Totals, r.Lost)
	}
	if v, err := e.Verify(r.Samples); err != nil || v.Wrong > 0 || v.Verified == 0 {
		t.Errorf("%+v %v", v, err)
	}
	stuck.Hold(false)
	for range 100 {
		r = testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Hang: patient, Traffic: released(1),
			Queue: 1000}))(t)
		if m = check(t, r); m.Utilization["gpu.0"] > 0 {
			break
		}
	}
	if m.Utilization["gpu.0"] == 0 || m.Met+m.Late != m.Released {
		t.Errorf("after the hang: %+v", m)
	}
	e.Close(context.Background())
	goleak.VerifyNone(t, leaks)
}

// Whatever the policy, the traffic, how layers are dropped and what fails: ledgers balance, logs replay, and outputs that
// there are are right.
func TestAnyScheduleOnStreams(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 9))
		b, d := streams(t, seed, 1+rng.IntN(4))
		if rng.IntN(2) == 0 {
			faults := []string{"error p=0.02", "lost accelerator=gpu.0 after=300 times=1", "slow p=0.01 by=5", "panic p=0.01"}
			f := testkit.Must(runtime.ParseFault(faults[rng.IntN(len(faults))]))(t)
			b.drill = runtime.NewDrill([]runtime.Fault{f}, seed)
			for k := range len(b.accs) - 1 {
				b.accs[k] = b.drill.Wrap(b.accs[k])
			}
		}
		d.Graphs = rng.IntN(2) == 0
		for m := range 3 {
			b.add(t, random(t, rng, fmt.Sprint("random", m)))
		}
		lead := time.Duration(rng.IntN(300)) * time.Microsecond
		s := b.onDevice(lead, func(m, l, i, k int) time.Duration {
			return alternate(m, l, i, k%2) / time.Duration(1+rng.IntN(5))
		})
		for m := range s.Models {
			s.Models[m].Deadline = time.Duration(1+rng.IntN(20)) * time.Millisecond
		}
		if rng.IntN(2) == 0 {
			s.Devices[0].Waking = []sched.Waking{{Idle: time.Millisecond, Extra: 100 * time.Microsecond}}
		}
		e := b.executor(t, s)
		for _, p := range policy.All() {
			o := runtime.Options{Policy: p.Name, Hang: patient, Traffic: released(3), Samples: 20, Queue: 20,
				Retries: rng.IntN(3), Adapt: rng.IntN(2) == 0, FreeCore: rng.IntN(2) == 0, Drop: sched.DropPolicy(rng.IntN(3))}
			rate := float64(100 + rng.IntN(2000))
			o.Traffic.Rates, o.Traffic.Seed, o.Traffic.Duration = []float64{rate, rate, rate}, seed, 100*time.Millisecond
			if rng.IntN(3) == 0 {
				o.Traffic.Process = traffic.ClosedLoop
			}
			r := testkit.Must(e.Run(context.Background(), o))(t)
			if m := check(t, r); !m.Balanced() {
				t.Errorf("%+v", m.Totals)
			}
			if v, err := e.Verify(r.Samples); err == nil && v.Wrong != 0 {
				t.Errorf("seed %d, %s: %+v %v", seed, p.Name, v, err)
			}
		}
	}
}

// A device that is to be kept warm has something to do while its accelerator has not.
func TestKeepWarm(t *testing.T) {
	b, d := streams(t, 3, 2)
	b.add(t, network(t, "block"))
	d.Warm = true
	e := b.executor(t, b.onDevice(0, alternate))
	d.Watch()
	testkit.OK(t, e.Serve(runtime.Options{Policy: "fcfs"}))
	for d.Submitted(0) < 3 { // copies of the first stream while there are no requests
		goruntime.Gosched()
	}
	if n := d.Submitted(1); n > 0 {
		t.Errorf("the second stream has done %d things", n)
	}
	r, err := submit(t, e, b.networks[0].Name).Wait(context.Background())
	if err != nil || r.Outputs == nil {
		t.Error(r, err)
	}
	e.Stop(context.Background())
	if _, strangers, _ := d.Seen(); len(strangers) > 0 {
		t.Errorf("used by others: %q", strangers)
	}
}

// The thread that keeps a device warm does not wait at a run's end for another stream of it that hangs, nor for its own;
// nor does closing a request's tensors.
func TestWarmDeviceHangs(t *testing.T) {
	for held := range 2 {
		b, d := streams(t, 3, 2)
		b.add(t, network(t, "block"))
		d.Warm = true
		leaks := goleak.IgnoreCurrent()
		e := b.executor(t, b.onDevice(0, alternate))
		stuck := b.accs[held].(*rig.Stream)
		stuck.Hold(true)
		hang := func(sched.Dispatch) time.Duration { return 300 * time.Millisecond }
		r := testkit.Must(e.Run(context.Background(), runtime.Options{Policy: "fcfs", Hang: hang, Traffic: released(1),
			Queue: 1000}))(t)
		check(t, r)
		slot := testkit.Must(b.programs[0].NewSlot())(t)
		slot.SetInputs(testkit.Must(b.networks[0].Inputs(1))(t))
		testkit.OK(t, slot.Run(0, 0, 1-held))
		slot.Close()
		e.Close(context.Background())
		goleak.VerifyNone(t, leaks) // the thread that hung has ended, too
		if n := d.Blocked(); n > 0 || !slices.Equal(r.Lost, []string{stuck.Name()}) {
			t.Errorf("waited %d times for a device that hangs; lost %q", n, r.Lost)
		}
		stuck.Hold(false)
	}
}
