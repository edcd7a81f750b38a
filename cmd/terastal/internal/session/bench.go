package session

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// bench measures the layers of networks, every accelerator in another process.
type bench struct {
	config  *config.Config
	machine *Machine
	sources []source // of the networks, by name
	worker  func() *exec.Cmd
	stages  *stages
}

// task is to measure these networks on all accelerators.
func (b *bench) task(networks []*runtime.Network) profiler.Task {
	return profiler.Task{Accelerators: b.machine.Specs, Networks: networks, Seed: b.config.Traffic.Seed}
}

// matches returns nil when a profile is of these networks, here.
func (b *bench) matches(p *profiler.Profile, networks []*runtime.Network) error {
	return p.Matches(b.machine.Host, b.task(networks))
}

// measure measures networks and shows how far it is. budget is the share of the
// configuration's to take; journal may be empty; enough is [profiler.Options]'s.
func (b *bench) measure(ctx context.Context, networks []*runtime.Network, budget float64, journal string,
	enough func(model, layer, implementation, accelerator int, times []time.Duration) bool) (*profiler.Profile, error) {
	folder, err := os.MkdirTemp("", "terastal-variants-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	t := b.task(networks)
	var sources []source
	for m, n := range networks {
		i := slices.IndexFunc(b.sources, func(s source) bool { return s.Name == n.Name })
		s := b.sources[i]
		if s.Variants, err = written(n, filepath.Join(folder, fmt.Sprint(m))); err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	t.Start = func(k int) (profiler.Conn, error) { return b.start(k, sources) }
	defer b.stages.done()
	c := &b.config.Profile
	return profiler.Measure(ctx, t, profiler.Options{Precision: c.Precision, Host: b.machine.Host,
		Budget: time.Duration(budget * float64(c.Budget)), Journal: journal, Enough: enough, Progress: b.stages.show})
}

// written writes a network's variants to files that workers load.
func written(n *runtime.Network, prefix string) (list []plan.Variant, err error) {
	for l := range n.Layers {
		for i, u := range n.Variants[l] {
			v := plan.Variant{Layer: l, Name: u.Name, File: fmt.Sprintf("%s-%d-%d.onnx", prefix, l, i),
				SHA256: variants.SHA256(u.ONNX)}
			if err := os.WriteFile(v.File, u.ONNX, 0o600); err != nil {
				return nil, err
			}
			list = append(list, v)
		}
	}
	return list, nil
}

// job is what a worker is told before it is asked anything.
type job struct {
	Library string         `json:"library"` // of ONNX Runtime
	Specs   []runtime.Spec `json:"accelerators"`
	Index   int            `json:"index"`
	Local   runtime.Local  `json:"local"`
	Models  []source       `json:"models"`
	Seed    uint64         `json:"seed"`
}

// start starts the worker of an accelerator for these models.
func (b *bench) start(k int, models []source) (profiler.Conn, error) {
	m := b.machine
	line, err := json.Marshal(job{Library: m.ORT.Path, Specs: m.Specs, Index: k, Local: m.Specs[k].Local, Models: models,
		Seed: b.config.Traffic.Seed})
	if err != nil {
		return nil, err
	}
	c, err := profiler.Start(b.worker())
	if err != nil {
		return nil, err
	}
	// A worker that is gone already says why when it is asked.
	c.Write(append(line, '\n'))
	return c, nil
}

// Work is the worker of an accelerator: it reads from in what to measure, and
// answers on out until in ends. It takes the calling thread.
func Work(in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("worker: nothing to do: %w", err)
	}
	var j job
	if err := json.Unmarshal(line, &j); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	if j.Index < 0 || j.Index >= len(j.Specs) {
		return fmt.Errorf("worker: there is no accelerator %d", j.Index)
	}
	if _, err := ort.Start(j.Library); err != nil {
		return err
	}
	j.Specs[j.Index].Local = j.Local
	runtime.RoomFor(1)
	t := profiler.Task{Accelerators: j.Specs, Seed: j.Seed, Open: openAccelerator}
	for _, m := range j.Models {
		n, err := m.open(func(string) string { return "" })
		if err != nil {
			return err
		}
		t.Networks = append(t.Networks, n)
	}
	return profiler.Serve(r, out, t, j.Index)
}

// stages shows one piece of long work after the other, each with a meter.
type stages struct {
	open func(what string) Meter

	mu    sync.Mutex
	what  string
	meter Meter // nil between pieces
}

// show shows how far a piece of work is, which ends the one before. It may be called from any goroutine.
func (s *stages) show(what string, share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meter != nil && s.what != what {
		s.meter.Done()
		s.meter = nil
	}
	if s.meter == nil {
		s.what, s.meter = what, s.open(what)
	}
	s.meter.Set(share)
}

// done ends the last piece.
func (s *stages) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meter != nil {
		s.meter.Done()
	}
	s.meter = nil
}
