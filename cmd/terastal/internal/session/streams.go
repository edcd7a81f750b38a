package session

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// mostStreams is how many streams of a device are tried at most where it is to have as many as pay.
const mostStreams = 8

// streams finds out how many streams pay on the devices that are to have as many, and makes accelerators of them.
func (w *Workspace) streams(ctx context.Context) error {
	m := &w.Machine
	for k := range m.Specs {
		s := &m.Specs[k]
		a := w.Config.Accelerator(s)
		if a == nil || a.Streams != config.AutoStreams {
			continue
		}
		n, err := w.pay(ctx, k)
		if err != nil {
			return err
		}
		if m.counted == nil {
			m.counted = map[string]int{}
		}
		m.counted[s.Name] = n
		if err := a.SetStreams(n); err != nil {
			return err
		}
	}
	if m.counted != nil && !m.automatic {
		m.replace(w.Config.Specs())
	}
	m.giveCores()
	return nil
}

// giveCores gives the thread of every stream that has no core one that no accelerator has, where all others have theirs
// and one is left for the scheduler: a thread that watches a device never pauses, and would get in the way elsewhere.
func (m *Machine) giveCores() {
	free := slices.Clone(m.Host.AllowedCores)
	var watching []*runtime.Spec
	for k := range m.Specs {
		s := &m.Specs[k]
		free = slices.DeleteFunc(free, func(c int) bool { return slices.Contains(s.Cores, c) })
		switch {
		case len(s.Cores) > 0 || !s.Computes():
		case !s.HasStreams() || s.Threads > 1:
			return // its threads may be anywhere
		default:
			watching = append(watching, s)
		}
	}
	if len(free) <= len(watching) {
		return
	}
	free = free[len(free)-len(watching):] // interrupts are mostly served by the first
	for i, s := range watching {
		s.Cores = free[i : i+1 : i+1]
	}
}

// replace takes accelerators that are streams of the devices that are open.
func (m *Machine) replace(specs []runtime.Spec) {
	for k := range specs {
		for _, old := range m.Specs {
			if s := &specs[k]; old.Name == s.OnDevice() {
				s.Provider, s.Options, s.LibrarySHA256, s.Local = old.Provider, old.Options, old.LibrarySHA256, old.Local
			}
		}
	}
	m.Specs = specs
}

// pay is how many streams of a device pay: what the profile or a measurement that was not finished found, else what is
// found now.
func (w *Workspace) pay(ctx context.Context, accelerator int) (int, error) {
	m := &w.Machine
	s := &m.Specs[accelerator]
	if !s.HasStreams() {
		w.options.Note("%s: the %s provider has one queue, so that %[1]s has one stream", s.Name, s.Provider)
		return 1, nil
	}
	most := m.room(accelerator)
	if most == 1 {
		w.options.Note("%s: the machine has no cores for the threads of more streams, so that it has one", s.Name)
		return 1, nil
	}
	if most = m.holds(s.Name, most, w.networks()); most == 1 {
		w.options.Note("%s: it has no memory for more streams, so that it has one", s.Name)
		return 1, nil
	}
	if n := w.previousStreams(s.Name); n > 0 {
		return min(n, most), nil
	}
	t, clean, err := w.apart(w.networks())
	if err != nil {
		return 0, err
	}
	defer clean()
	defer w.stages.done()
	n, err := profiler.Streams(ctx, t, accelerator, most, profiler.Options{Host: m.Host, Progress: w.stages.show})
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		w.options.Note("%s: %v, so that it has one stream", s.Name, err)
		return 1, nil
	}
	w.options.Note("%s: %d of up to %d streams pay", s.Name, n, most)
	return n, nil
}

// previousStreams is how many streams of a device were found to pay before, or, in a profile that the user names, how
// many there are; 0 where nothing says so.
func (w *Workspace) previousStreams(device string) int {
	path := w.profilePath()
	if n := profiler.PreviousStreams(path, journal(path), w.Machine.Host, device); n > 0 || w.options.Profile == "" {
		return n
	}
	p, err := profiler.Read(path)
	if err != nil {
		return 0
	}
	for i := range p.Devices {
		if p.Devices[i].Name == device {
			return len(p.Devices[i].Accelerators)
		}
	}
	return 0
}

// room is how many streams an accelerator may have, so that the thread of each has a core, and so have the other
// accelerators' threads and the scheduler.
func (m *Machine) room(accelerator int) int {
	s := &m.Specs[accelerator]
	if len(s.Cores) > 1 {
		return min(mostStreams, len(s.Cores))
	}
	free := len(m.Host.AllowedCores) - 1
	for k := range m.Specs {
		if other := &m.Specs[k]; k != accelerator && other.Computes() {
			free -= max(1, other.Threads)
		}
	}
	return min(mostStreams, max(1, free))
}

// watchers says what it means that streams' threads have no core each; "" where they have.
func (m *Machine) watchers() string {
	threads, streams := 0, 0
	for _, s := range m.Specs {
		if s.Computes() {
			threads += max(1, s.Threads)
		}
		if s.Computes() && !s.CPU() {
			streams++
		}
	}
	if cores := cmp.Or(len(m.Host.AllowedCores), m.Host.LogicalCores); streams == 0 || threads <= cores {
		return ""
	}
	return fmt.Sprintf("The accelerators have %d threads and the machine fewer cores: those that watch devices (%d) take "+
		"time from the CPU's accelerators", threads, streams)
}

// devices are the names of the accelerators that are streams of devices, by device.
func (m *Machine) devices() map[string][]string {
	out := map[string][]string{}
	for _, s := range m.Specs {
		if s.Of != "" {
			out[s.Of] = append(out[s.Of], s.Name)
		}
	}
	return out
}

// lowered says which devices' options ask for less than float32.
func (m *Machine) lowered() (notes []string) {
	for i := range m.Specs {
		s := &m.Specs[i]
		if name, tolerance := s.Precision(); name != "" && !slices.ContainsFunc(m.Specs[:i],
			func(x runtime.Spec) bool { return x.OnDevice() == s.OnDevice() }) {
			notes = append(notes, fmt.Sprintf("%q computes float32 in %s, as its options say: outputs of requests that ran "+
				"there may differ by %.0e of their size, not %.0e", s.OnDevice(), name, tolerance, runtime.Tolerance))
		}
	}
	return notes
}

// leads overrides the devices' measured leads by configured ones.
func leads(c *config.Config, s *sched.System) {
	for i := range s.Devices {
		d := &s.Devices[i]
		if a := c.Accelerator(&runtime.Spec{Name: d.Name}); a != nil && a.Lead != nil {
			d.Lead = *a.Lead
		}
	}
}
