package session

import (
	"context"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/auto"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// briefly is how long the accelerators of a company are measured, once they are loaded.
const briefly = 500 * time.Millisecond

// tryGPU finds out with which providers a GPU opens, and what each offers.
func (m *Machine) tryGPU(o *Options) {
	if len(m.Host.GPUs) == 0 {
		return
	}
	for _, s := range auto.GPUs() {
		if s.Localize(o.Plugins, ort.EnginesDir()) == nil && m.probe(&s, o.Probe) == nil {
			m.gpus = append(m.gpus, s.Provider)
		}
	}
}

// auto gives a configuration that names no accelerators those of its profile, or chooses some.
func (w *Workspace) auto(ctx context.Context) error {
	m := &w.Machine
	specs := w.kept()
	if specs == nil {
		var err error
		if specs, err = w.chosen(ctx); err != nil {
			return err
		}
	}
	var err error
	if m.Specs, err = w.Config.Among(specs); err != nil {
		return err
	}
	if err := m.check(w.Config, &w.options); err != nil {
		return err
	}
	m.offers = nil // another provider may have been the last
	for k := range m.Specs {
		if s := &m.Specs[k]; s.HasStreams() {
			if m.counted == nil {
				m.counted = map[string]int{}
			}
			m.counted[s.OnDevice()] = max(m.counted[s.OnDevice()], s.Stream+1)
		}
		if err := m.probe(&m.Specs[k], w.options.Probe); err != nil {
			return err
		}
	}
	return nil
}

// kept are the accelerators of the profile that lies where the configuration's goes, if it is of the same models on this
// machine, so that changed rates do not make it worthless; nil otherwise.
func (w *Workspace) kept() []runtime.Spec {
	if w.Config.Auto != config.AutoKeep {
		return nil
	}
	path := w.profilePath()
	p, err := profiler.Read(path)
	if err != nil {
		return nil
	}
	if at, _ := p.Measurable(); !at || elsewhere(p, profiler.ThisHost()) != "" || len(p.Models) != len(w.Models) {
		return nil
	}
	for i, n := range w.networks() {
		x := &p.Models[i]
		if x.Name != n.Name || x.SHA256 != n.Model.SHA256() || len(x.Layers) != len(n.Layers) {
			return nil
		}
	}
	for i := range p.Accelerators {
		s := &p.Accelerators[i]
		outside := func(core int) bool { return !slices.Contains(w.Machine.Host.AllowedCores, core) }
		if slices.ContainsFunc(s.Cores, outside) || !s.CPU() && !slices.Contains(w.Machine.gpus, s.Provider) {
			return nil
		}
	}
	w.options.Note("auto keeps the accelerators of %s (--auto choose looks for better ones)", path)
	return p.Accelerators
}

// chosen are accelerators that a calibration chooses.
func (w *Workspace) chosen(ctx context.Context) ([]runtime.Spec, error) {
	wanted := w.wanted()
	c := auto.New(w.Machine.Host, ort.Version, hostinfo.This().Kinds(), w.Machine.gpus, w.networks())
	folder := ort.CalibrationsDir()
	if w.Config.Auto != config.AutoAgain {
		c.Load(folder)
	}
	defer w.stages.done()
	for s := c.Next(wanted.Deadlines); s != nil; s = c.Next(wanted.Deadlines) {
		begin := time.Now()
		found, err := w.brief(ctx, s)
		if err != nil {
			return nil, err
		}
		c.Add(s, found, time.Since(begin))
	}
	choice, err := c.Choose(wanted)
	if err != nil {
		return nil, err
	}
	if c.Choice = choice; c.Created == "" {
		c.Created = time.Now().Format(time.RFC3339)
	}
	if err := c.Save(folder); err != nil {
		w.options.Note("the calibration is not kept: %v", err)
	}
	w.stages.done()
	for _, line := range choice.Lines {
		w.options.Note("%s", line)
	}
	return choice.Accelerators, nil
}

// brief measures the layers on accelerators that work at the same time.
func (w *Workspace) brief(ctx context.Context, specs []runtime.Spec) ([]profiler.Brief, error) {
	m := &w.Machine
	m.Specs = slices.Clone(specs)
	if err := m.check(w.Config, &w.options); err != nil {
		return nil, err
	}
	t, clean, err := w.apart(w.networks())
	if err != nil {
		return nil, err
	}
	defer clean()
	most := min(mostStreams, max(1, len(m.Host.AllowedCores)-1))
	if s := &specs[0]; s.HasStreams() {
		most = max(1, m.holds(s.Name, most, w.networks()))
	}
	return profiler.Calibrate(ctx, t, most, profiler.Options{Budget: briefly, Host: m.Host,
		Progress: func(_ string, share float64) { w.stages.show("calibrating accelerators", share) }})
}

// wanted is what accelerators are chosen for.
func (w *Workspace) wanted() auto.Wanted {
	var x auto.Wanted
	for i := range w.Config.Models {
		m := &w.Config.Models[i]
		x.Deadlines = append(x.Deadlines, dueAt(m, m.Rate))
		x.Rates = append(x.Rates, m.Rate)
		x.Triggers = append(x.Triggers, trigger(m))
	}
	if w.options.EqualShares {
		x.Rates = nil
	}
	return x
}
