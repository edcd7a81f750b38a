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
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/variants"
)

// ProfilePath is where a run's own profile lies.
func (f *Flow) ProfilePath() string { return ProfilePath(f.Config) }

// ProfilePath is where a configuration's own profile lies.
func ProfilePath(c *config.Config) string { return filepath.Join(c.Out, "profile.json") }

// profilePath is where the profile is that is being used or made.
func (f *Flow) profilePath() string {
	if f.opts.Profile != "" {
		return f.opts.Profile
	}
	return f.ProfilePath()
}

// job is what a worker is told before it is asked anything.
type job struct {
	Library string         `json:"library"` // of ONNX Runtime
	Specs   []runtime.Spec `json:"accelerators"`
	Index   int            `json:"index"`
	Table   string         `json:"table,omitempty"` // of an emulated accelerator
	Local   runtime.Local  `json:"local"`
	Models  []source       `json:"models"`
	Seed    uint64         `json:"seed"`
}

// Work is the worker of an accelerator: it reads from in what to measure, and
// answers on out until in ends. It takes the calling thread.
func Work(in io.Reader, out io.Writer, open func(resolved string, o models.Options) (*models.Model, error)) error {
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
	t := profiler.Task{Accelerators: j.Specs, Seed: j.Seed, Open: func(s runtime.Spec) (runtime.Accelerator, error) {
		return openAccelerator(&s, j.Table, nil)
	}}
	for _, m := range j.Models {
		n, err := m.network(open, func(string) string { return "" })
		if err != nil {
			return err
		}
		t.Networks = append(t.Networks, n)
	}
	return profiler.Serve(r, out, t, j.Index)
}

// worker starts the worker of an accelerator for these models, in a process of
// its own.
func (f *Flow) worker(index int, sources []source) (profiler.Conn, error) {
	cmd, err := f.opts.Worker()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(job{Library: f.ORT.Path, Specs: f.Specs, Index: index, Table: f.emulations[index], Local: f.Specs[index].Local, Models: sources, Seed: f.Config.Traffic.Seed})
	if err != nil {
		return nil, err
	}
	c, err := profiler.Start(cmd)
	if err != nil {
		return nil, err
	}
	// A worker that is gone already says why when it is asked.
	c.Write(append(line, '\n'))
	return c, nil
}

// Measure profiles all layers and writes the profile to path, which must be
// free or hold a profile of the same. It goes on with a measurement that was
// not finished. When ctx ends, what there is is written, and the error says so.
func (f *Flow) Measure(ctx context.Context, path string) error {
	if err := f.replaceable(path); err != nil {
		return fmt.Errorf("%w: %w", err, ErrInTheWay)
	}
	return f.measure(ctx, path)
}

// MeasureAside is Measure, but what is in the way is moved aside.
func (f *Flow) MeasureAside(ctx context.Context, path string) error {
	if err := f.replaceable(path); err != nil {
		aside, renamed := moveAside(path)
		if renamed != nil {
			return renamed
		}
		f.opts.Note("%v; moved it to %s", err, aside)
	}
	err := f.measure(ctx, path)
	if errors.Is(err, profiler.ErrJournal) {
		f.opts.Note("beginning anew: %v", err)
		if err := profiler.RemoveJournal(journal(path)); err != nil {
			return err
		}
		err = f.measure(ctx, path)
	}
	return err
}

// MeasureAnew is Measure, but begins anew and replaces whatever there is.
func (f *Flow) MeasureAnew(ctx context.Context, path string) error {
	if err := profiler.RemoveJournal(journal(path)); err != nil {
		return err
	}
	return f.measure(ctx, path)
}

// ErrInTheWay is wrapped when a file would have to be overwritten that holds
// something else.
var ErrInTheWay = errors.New("it is not overwritten")

// replaceable returns nil where there is nothing, or a profile of what is open
// now.
func (f *Flow) replaceable(path string) error {
	p, err := profiler.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.matches(p); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
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

func (f *Flow) measure(ctx context.Context, path string) error {
	p, err := f.measured(ctx, f.Networks, journal(path), nil)
	if p == nil {
		return err
	}
	f.Profile = p
	if written := p.Write(path); written != nil {
		return written
	}
	if err != nil {
		return fmt.Errorf("%w: what was measured is in %s; the same command goes on from there", err, path)
	}
	for _, w := range p.Warnings {
		f.opts.Note("warning: %s", w.Text)
	}
	return profiler.RemoveJournal(journal(path))
}

// measured measures networks, which are models of the configuration by name, and
// shows how far it is. journal may be empty; enough is [profiler.Options]'s.
func (f *Flow) measured(ctx context.Context, networks []*runtime.Network, journal string,
	enough func(model, layer, implementation, accelerator int, times []time.Duration) bool) (*profiler.Profile, error) {
	folder, err := os.MkdirTemp("", "terastal-variants-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	t := f.task()
	t.Networks = networks
	var sources []source
	for _, n := range networks {
		m := slices.IndexFunc(f.sources, func(s source) bool { return s.Name == n.Name })
		s := f.sources[m]
		if s.Variants, err = written(n, filepath.Join(folder, fmt.Sprint(m))); err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	t.Start = func(k int) (profiler.Conn, error) { return f.worker(k, sources) }
	defer f.stages.done()
	return profiler.Measure(ctx, t, profiler.Options{
		Precision: f.Config.Profile.Precision, Budget: f.Config.Profile.Budget,
		Journal: journal, Enough: enough, Progress: f.progress,
		Now: time.Now(), Host: f.Host,
	})
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

// matches returns nil when the profile is of what is open.
func (f *Flow) matches(p *profiler.Profile) error {
	return p.Matches(f.Host, f.task())
}

// task is what is open, to be measured.
func (f *Flow) task() profiler.Task {
	return profiler.Task{Accelerators: f.Specs, Networks: f.Networks, Seed: f.Config.Traffic.Seed}
}

// LoadProfile uses the profile at path if it fits what is open and is whole. A
// profile that does not is refused and left as it is.
func (f *Flow) LoadProfile(path string) error {
	p, err := profiler.Read(path)
	if err != nil {
		return err
	}
	if err := f.matches(p); err != nil {
		return fmt.Errorf("%s: %w: measure again with `terastal profile`", path, err)
	}
	if p.Partial {
		return fmt.Errorf("%s: %w: go on with `terastal profile`", path, profiler.ErrPartial)
	}
	f.Profile = p
	return nil
}

// EnsureProfile uses the profile at path, or measures one and writes it there
// when there is none. One that is stale, damaged or partial is refused when the
// user named it; one that an earlier run left is moved aside, or completed.
func (f *Flow) EnsureProfile(ctx context.Context, path string, named bool) error {
	if err := f.ProveAgain(ctx); err != nil {
		return err
	}
	err := f.LoadProfile(path)
	switch {
	case err == nil:
		f.opts.Note("using the profile %s of %s", path, f.Profile.Created)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return f.Measure(ctx, path)
	case named:
		return err
	case errors.Is(err, profiler.ErrPartial):
		return f.Measure(ctx, path)
	}
	return f.MeasureAside(ctx, path)
}
