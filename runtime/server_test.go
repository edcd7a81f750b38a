package runtime_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// Requests submitted from many goroutines get the outputs of their own inputs,
// and the log is one that replays.
func TestServer(t *testing.T) {
	b := open(t, nil, "op", "model")
	e := b.executor(t, b.system(alternate))
	leaks := goleak.IgnoreCurrent()
	s, err := e.Serve(runtime.Options{Policy: "terastal", Log: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Serve(runtime.Options{Policy: "edf"}); !errors.Is(err, runtime.ErrBusy) {
		t.Errorf("a second server: %v", err)
	}
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
			for range 20 {
				p, err := s.Submit(runtime.Request{Model: g % 2, Inputs: in, Deadline: time.Hour})
				if err != nil {
					t.Error(err)
					return
				}
				r, err := p.Wait(context.Background())
				if err != nil || r.Outcome != sched.Met || r.Latency <= 0 {
					t.Errorf("%+v %v", r, err)
					return
				}
				if d, err := models.Compare(r.Outputs[0].Type, r.Outputs[0].Data, want[0][0]); err != nil || !(d.MaxRel < runtime.Tolerance) {
					t.Errorf("outputs differ: %+v %v", d, err)
				}
				r.Outputs[0].Close()
			}
			for _, t := range in {
				t.Close()
			}
		})
	}
	wg.Wait()
	r := s.Close(context.Background())
	if m := check(t, r); m.Met != 80 {
		t.Errorf("totals %+v", m.Totals)
	}
	if _, err := s.Submit(runtime.Request{}); !errors.Is(err, runtime.ErrClosed) {
		t.Errorf("submit after close: %v", err)
	}
	goleak.VerifyNone(t, leaks)
}

// What does not fit is refused; what the queue has no room for is answered.
func TestSubmitRefuses(t *testing.T) {
	b := open(t, nil, "model")
	e := b.executor(t, b.system(alternate))
	s, err := e.Serve(runtime.Options{Policy: "fcfs", Queue: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	in, err := b.networks[0].Inputs(1)
	if err != nil {
		t.Fatal(err)
	}
	closed := slices.Clone(in)
	for _, t := range closed {
		defer t.Close()
	}
	for _, c := range []struct {
		r    runtime.Request
		want string
	}{
		{runtime.Request{Model: 1}, "no model 1"},
		{runtime.Request{Deadline: -1}, "negative"},
		{runtime.Request{Inputs: []*runtime.Tensor{}}, "0 tensors, the model has 1"},
		{runtime.Request{Inputs: []*runtime.Tensor{nil}}, "missing or closed"},
		{runtime.Request{Outputs: in}, "outputs: tensor 0"},
	} {
		if _, err := s.Submit(c.r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
	full := 0
	var ps []*runtime.Pending
	for range 50 {
		p, err := s.Submit(runtime.Request{})
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	for _, p := range ps {
		r, err := p.Wait(context.Background())
		if err != nil {
			t.Fatal(err)
		}
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
}

func (h *held) Prepare(u runtime.Unit) (runtime.Kernel, error) {
	k, err := h.Accelerator.Prepare(u)
	return &heldKernel{k, h.until}, err
}

type heldKernel struct {
	runtime.Kernel
	until <-chan struct{}
}

func (k *heldKernel) Run(in, out []*runtime.Tensor) error {
	<-k.until
	return k.Kernel.Run(in, out)
}

// Closing with a context that has ended drops what waits, and every request is
// answered all the same.
func TestServerStops(t *testing.T) {
	// Layers under way last until a request has been dropped.
	dropped := make(chan struct{})
	b := open(t, func(a runtime.Accelerator) runtime.Accelerator { return &held{a, dropped} }, "op")
	e := b.executor(t, b.system(alternate))
	s, err := e.Serve(runtime.Options{Policy: "fcfs", Log: true})
	if err != nil {
		t.Fatal(err)
	}
	var ps []*runtime.Pending
	for range 60 {
		p, err := s.Submit(runtime.Request{})
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	go func() {
		<-ps[len(ps)-1].Done()
		close(dropped)
	}()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := s.Close(ctx)
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

// Dependent models are released by the engine and run with inputs of the
// executor.
func TestServerTriggers(t *testing.T) {
	b := open(t, nil, "op", "model")
	sys := b.system(alternate)
	sys.Models[1].Trigger = &sched.Trigger{Parent: sys.Models[0].Name, Probability: 1}
	e := b.executor(t, sys)
	s, err := e.Serve(runtime.Options{Policy: "edf", Log: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		p, err := s.Submit(runtime.Request{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if m := check(t, s.Close(context.Background())); m.Models[0].Released != 5 || m.Models[1].Released != 5 {
		t.Errorf("%+v", m.Models)
	}
}
