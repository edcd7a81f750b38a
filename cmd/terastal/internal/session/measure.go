package session

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// InTheWay says what to do with a profile of something else that lies where a new one goes.
type InTheWay int

const (
	// Refuse leaves it, and is an error.
	Refuse InTheWay = iota
	// MoveAside renames it.
	MoveAside
	// Replace overwrites it, and starts over where a measurement was not finished.
	Replace
)

// ErrInTheWay is wrapped when a file would have to be overwritten that holds something else.
var ErrInTheWay = errors.New("it is not overwritten")

// Measure profiles all layers and writes the profile to its file, which it names. It continues a measurement that was
// not finished. When ctx ends, what there is is written, and the error says so.
func (w *Workspace) Measure(ctx context.Context, in InTheWay) (path string, err error) {
	path = w.profilePath()
	return path, w.measureTo(ctx, path, in)
}

func (w *Workspace) measureTo(ctx context.Context, path string, in InTheWay) error {
	if in == Replace {
		if err := profiler.RemoveJournal(journal(path)); err != nil {
			return err
		}
	} else if err := w.clear(path, in); err != nil {
		return err
	}
	p, err := w.measure(ctx, w.networks(), 1, journal(path), nil)
	switch {
	case errors.Is(err, profiler.ErrJournal) && in == MoveAside:
		w.options.Note("starting over: %v", err)
		return w.measureTo(ctx, path, Replace)
	case p == nil:
		return err
	case err == nil:
		return w.keep(p, path)
	}
	w.Profile = p
	if written := p.Write(path); written != nil {
		return written
	}
	return fmt.Errorf("%w: what was measured is in %s; the same command continues from there", err, path)
}

// clear makes room for a profile, unless the one that is there is of the same.
func (w *Workspace) clear(path string, in InTheWay) error {
	p, err := profiler.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		if err = w.matches(p); err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	if in == Refuse {
		return fmt.Errorf("%w: %w", err, ErrInTheWay)
	}
	aside, renamed := moveAside(path)
	if renamed == nil {
		w.options.Note("%v; moved it to %s", err, aside)
	}
	return renamed
}

// moveAside renames a file to the next free name.
func moveAside(path string) (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.old%d", path, n)
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(path, aside)
		}
	}
}

func journal(path string) string { return path + ".journal" }

// keep uses a profile and writes it to its file.
func (w *Workspace) keep(p *profiler.Profile, path string) error {
	w.Profile = p
	if err := p.Write(path); err != nil {
		return err
	}
	for _, x := range p.Warnings {
		w.options.Note("warning: %s", x.Text)
	}
	return profiler.RemoveJournal(journal(path))
}

// loadProfile uses the profile at path if it fits what is open and is whole. A
// profile that does not is refused and left as it is.
func (w *Workspace) loadProfile(path string) error {
	p, err := profiler.Read(path)
	if err != nil {
		return err
	}
	if err := w.matches(p); err != nil {
		return fmt.Errorf("%s: %w: measure again with `terastal profile`", path, err)
	}
	if p.Partial {
		return fmt.Errorf("%s: %w: complete it with `terastal profile`", path, profiler.ErrPartial)
	}
	w.Profile = p
	return nil
}

// EnsureProfile uses the profile of the options or of the output folder, or measures one and writes it there if the
// file does not exist. One that is stale, damaged or partial is refused when the options named it; one that an earlier
// run left is moved aside, or completed.
func (w *Workspace) EnsureProfile(ctx context.Context) error {
	return w.ensureProfile(ctx, w.profilePath(), w.options.Profile != "")
}

func (w *Workspace) ensureProfile(ctx context.Context, path string, named bool) error {
	if err := w.Variants.ProveAgain(ctx); err != nil {
		return err
	}
	err := w.loadProfile(path)
	switch {
	case err == nil:
		w.options.Note("using the profile %s of %s", path, w.Profile.Created)
		return nil
	case named && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return w.measureTo(ctx, path, MoveAside)
}

// task is to measure these networks on all accelerators.
func (w *Workspace) task(networks []*runtime.Network) profiler.Task {
	return profiler.Task{Accelerators: w.Machine.Specs, Networks: networks, Seed: w.Config.Traffic.Seed,
		Auto: w.Machine.counted}
}

// matches returns nil when a profile is of the models, here.
func (w *Workspace) matches(p *profiler.Profile) error {
	return p.Matches(w.Machine.Host, w.task(w.networks()))
}

// measure measures networks, every accelerator in another process, and shows how far it is. budget is the share of the
// configuration's to take; journal may be empty; enough is [profiler.Options]'s.
func (w *Workspace) measure(ctx context.Context, networks []*runtime.Network, budget float64, journal string,
	enough func(model, layer, implementation, accelerator int, times []time.Duration) bool) (*profiler.Profile, error) {
	if err := w.fits(networks, nil); err != nil {
		return nil, err
	}
	t, clean, err := w.apart(networks)
	if err != nil {
		return nil, err
	}
	defer clean()
	defer w.stages.done()
	c := &w.Config.Profile
	return profiler.Measure(ctx, t, profiler.Options{Precision: c.Precision, Host: w.Machine.Host,
		Budget: time.Duration(budget * float64(c.Budget)), Journal: journal, Enough: enough, Progress: w.stages.show})
}

// apart is the task with every accelerator in another process, which gets variants from files that clean removes.
func (w *Workspace) apart(networks []*runtime.Network) (t profiler.Task, clean func(), err error) {
	folder, err := os.MkdirTemp("", "terastal-variants-")
	if err != nil {
		return t, nil, err
	}
	clean = func() { os.RemoveAll(folder) }
	var sources []source
	for m, n := range networks {
		i := slices.IndexFunc(w.Models, func(x *Model) bool { return x.Name == n.Name })
		s := w.Models[i].source
		if s.Variants, err = written(n, filepath.Join(folder, fmt.Sprint(m))); err != nil {
			clean()
			return t, nil, err
		}
		sources = append(sources, s)
	}
	t = w.task(networks)
	t.Start = func(k int) (profiler.Conn, error) { return w.start(k, sources) }
	return t, clean, nil
}

// written writes a network's variants to files that workers load.
func written(n *runtime.Network, prefix string) (list []plan.Variant, err error) {
	for l := range n.Layers {
		for i, u := range n.Variants[l] {
			v := plan.Variant{Layer: l, Name: u.Name, Provider: u.Provider, Options: u.Options}
			if u.ONNX == nil {
				v.SHA256 = n.Layers[l].SHA256
			} else {
				v.File, v.SHA256 = fmt.Sprintf("%s-%d-%d.onnx", prefix, l, i), variants.SHA256(u.ONNX)
				if err := os.WriteFile(v.File, u.ONNX, 0o600); err != nil {
					return nil, err
				}
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
func (w *Workspace) start(k int, models []source) (profiler.Conn, error) {
	m := &w.Machine
	line, err := json.Marshal(job{Library: m.ORT.Path, Specs: m.Specs, Index: k, Local: m.Specs[k].Local, Models: models,
		Seed: w.Config.Traffic.Seed})
	if err != nil {
		return nil, err
	}
	c, err := profiler.Start(w.options.Worker())
	if err != nil {
		return nil, err
	}
	// A worker that is gone already says why when it is asked.
	c.Write(append(line, '\n'))
	return c, nil
}

// Work is the worker of an accelerator: it reads from in what to measure, and
// answers on out until in ends. It takes the calling thread.
func Work(in io.Reader, out io.Writer) error { return work(in, out, nil) }

func work(in io.Reader, out io.Writer, open opening) error {
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
	for k := range j.Specs {
		if j.Specs[k].OnDevice() == j.Specs[j.Index].OnDevice() { // one process measures all streams
			j.Specs[k].Local = j.Local
		}
	}
	runtime.RoomFor(1)
	t := profiler.Task{Accelerators: j.Specs, Seed: j.Seed, Open: opener(open),
		Networks: make([]*runtime.Network, len(j.Models))}
	err = together(len(j.Models), func(i int) (err error) {
		t.Networks[i], err = j.Models[i].open(func(string) string { return "" })
		return err
	})
	if err != nil {
		return err
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
	if s.what != what {
		s.end()
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
	s.end()
}

func (s *stages) end() {
	if s.meter != nil {
		s.meter.Done()
	}
	s.meter = nil
}
