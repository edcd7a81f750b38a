package runtime_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gorgonia.org/tensor"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dense"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// Requests submitted from many goroutines get the outputs of their own inputs, and the log is one that replays.
func TestServer(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	ctx := context.Background()
	leaks := goleak.IgnoreCurrent()
	testkit.OK(t, e.Serve(runtime.Options{Policy: "terastal", Log: true}))
	testkit.Fails(t, e.Serve(runtime.Options{Policy: "edf"}), runtime.ErrBusy)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			n := b.networks[g%2]
			in, err := n.Inputs(uint64(100 + g))
			if err != nil {
				t.Error(err)
				return
			}
			want, err := n.Reference([][]*runtime.Tensor{in})
			if err != nil {
				t.Error(err)
				return
			}
			inputs := byName(t, in)
			for range 20 {
				p, err := e.Submit(ctx, n.Name, inputs, runtime.RequestOptions{Deadline: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				r, err := p.Wait(ctx)
				if err != nil || r.Outcome != sched.Met || r.Latency <= 0 {
					t.Errorf("%+v %v", r, err)
					return
				}
				info := n.Model.Outputs()[0]
				got, err := dense.Bytes(r.Outputs[info.Name])
				if err != nil {
					t.Error(err)
					return
				}
				if d, err := models.Compare(info.Type, got, want[0][0]); err != nil || !(d.MaxRel < runtime.Tolerance) {
					t.Errorf("outputs differ: %+v %v", d, err)
				}
			}
			for _, t := range in {
				t.Close()
			}
		})
	}
	wg.Wait()
	r := e.Stop(context.Background())
	if m := check(t, r); m.Met != 80 {
		t.Errorf("totals %+v", m.Totals)
	}
	testkit.Refused(e.Submit(ctx, b.networks[0].Name, nil, runtime.RequestOptions{}))(t, runtime.ErrStopped)
	goleak.VerifyNone(t, leaks)
}

// byName is tensors as a request takes them, in the same memory.
func byName(t testing.TB, list []*runtime.Tensor) runtime.Tensors {
	t.Helper()
	out := runtime.Tensors{}
	for _, x := range list {
		d := testkit.Must(dense.Of(x.Tensor, x.Data))(t)
		out[x.Name] = d
	}
	return out
}

// submit is a request with inputs of the executor.
func submit(t testing.TB, e *runtime.Executor, model string) *runtime.Pending {
	t.Helper()
	return testkit.Must(e.Submit(context.Background(), model, nil, runtime.RequestOptions{}))(t)
}

// What does not fit is refused; what the queue has no room for is answered.
func TestSubmitRefuses(t *testing.T) {
	b := open(t, nil, "model")
	e := b.executor(t, b.system(alternate))
	testkit.OK(t, e.Serve(runtime.Options{Policy: "fcfs", Queue: 2}))
	in := testkit.Must(b.networks[0].Inputs(1))(t)
	for _, t := range in {
		defer t.Close()
	}
	name := b.networks[0].Name
	inputs := byName(t, in)
	other := tensor.New(tensor.WithShape(2, 3), tensor.Of(tensor.Float32))
	for _, c := range []struct {
		model  string
		inputs runtime.Tensors
		o      runtime.RequestOptions
		want   string
	}{
		{"kws-op", nil, runtime.RequestOptions{}, `no model "kws-op"`},
		{name, nil, runtime.RequestOptions{Deadline: -1}, "negative"},
		{name, runtime.Tensors{}, runtime.RequestOptions{}, "inputs: 0 tensors, the model has 1"},
		{name, runtime.Tensors{"input": nil}, runtime.RequestOptions{}, `there is no tensor "input"`},
		{name, runtime.Tensors{"input": other}, runtime.RequestOptions{}, `inputs: "input"`},
		{name, inputs, runtime.RequestOptions{Outputs: inputs}, `outputs: there is no tensor "output"`},
		{name, nil, runtime.RequestOptions{Outputs: runtime.Tensors{"output": other}}, `outputs: "output"`},
	} {
		testkit.Refused(e.Submit(context.Background(), c.model, c.inputs, c.o))(t, c.want)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	testkit.Refused(e.Submit(ended, name, nil, runtime.RequestOptions{}))(t, context.Canceled)
	full := 0
	var ps []*runtime.Pending
	for range 50 {
		ps = append(ps, submit(t, e, b.networks[0].Name))
	}
	for _, p := range ps {
		r := testkit.Must(p.Wait(context.Background()))(t)
		if r.Outcome == sched.Dropped && r.Reason == sched.DropReasonQueueFull && r.Outputs == nil {
			full++
		}
	}
	if full == 0 || full == 50 {
		t.Errorf("%d of 50 requests found the queue full", full)
	}
}

// held is an accelerator whose layers last until a channel is closed.
type held struct {
	runtime.Accelerator
	until <-chan struct{}
	holds *atomic.Bool
}

func (h *held) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := h.Accelerator.Prepare(u)
	return &heldKernel{k, h}, err
}

type heldKernel struct {
	runtime.Kernel
	of *held
}

func (k *heldKernel) Run(in, out []*runtime.Tensor) error {
	if k.of.holds.Load() {
		<-k.of.until
	}
	return k.Kernel.Run(in, out)
}

// Closing with a context that has ended drops what waits, and every request is answered all the same.
func TestServerStops(t *testing.T) {
	// Layers under way last until a request has been dropped.
	dropped := make(chan struct{})
	var holds atomic.Bool
	b := open(t, func(a runtime.Accelerator) runtime.Accelerator { return &held{a, dropped, &holds} }, "op")
	e := b.executor(t, b.system(alternate))
	holds.Store(true)
	testkit.OK(t, e.Serve(runtime.Options{Policy: "fcfs", Log: true}))
	var ps []*runtime.Pending
	for range 60 {
		ps = append(ps, submit(t, e, b.networks[0].Name))
	}
	go func() {
		<-ps[len(ps)-1].Done()
		close(dropped)
	}()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := e.Stop(ctx)
	if m := check(t, r); m.Released != 60 || m.Dropped == 0 || !r.Interrupted {
		t.Errorf("totals %+v, interrupted %v", m.Totals, r.Interrupted)
	}
	for _, p := range ps {
		select {
		case <-p.Done():
		default:
			t.Fatal("a request has no answer")
		}
	}
}

// Dependent models are released by the engine and run with inputs of the executor.
func TestServerTriggers(t *testing.T) {
	b := open(t, nil, "op", "model")
	sys := b.system(alternate)
	sys.Models[1].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 1}
	e := b.executor(t, sys)
	testkit.OK(t, e.Serve(runtime.Options{Policy: "edf", Log: true}))
	for range 5 {
		testkit.Must(submit(t, e, b.networks[0].Name).Wait(context.Background()))(t)
	}
	if m := check(t, e.Stop(context.Background())); m.Models[0].Released != 5 || m.Models[1].Released != 5 {
		t.Errorf("%+v", m.Models)
	}
}
