package sched

import (
	"fmt"
	"slices"
	"time"
)

// wholeModel makes a policy schedule whole models instead of layers: it decides
// where a request runs when it starts, and all of its layers run there, one
// right after the other. Originals only. It is what systems do that cannot
// split models. Where Config.Adapt corrects the tables, the inner policy still
// sees the profile's.
type wholeModel struct {
	t      *Tables
	merged *Tables // one layer per model
	inner  Policy  // over the merged tables
	state  State   // as the inner policy sees it
	index  []int32 // of its jobs in the real state
	chosen []Choice
}

// newWholeModel wraps the policy that the function makes.
func newWholeModel(t *Tables, inner func(*Tables) Policy) (Policy, error) {
	merged, err := merge(t)
	if err != nil {
		return nil, fmt.Errorf("whole models: %w", err)
	}
	return &wholeModel{t: t, merged: merged, inner: inner(merged)}, nil
}

// merge returns tables with every model in one layer, its latency and energy
// the sum of the originals'.
func merge(t *Tables) (*Tables, error) {
	s := System{Accelerators: t.system.Accelerators}
	for i := range t.system.Models {
		m := &t.system.Models[i]
		whole := Model{Name: m.Name, Deadline: m.Deadline, Trigger: m.Trigger}
		im := Implementation{Name: "whole", Latency: make([]time.Duration, t.accs)}
		energy := make([]float64, t.accs)
		for k := range im.Latency {
			for l := range m.Layers {
				c := m.Layers[l].Implementations[0].Latency[k]
				if c == Unavailable {
					im.Latency[k] = Unavailable
					break
				}
				im.Latency[k] += c
				if m.Energy != nil {
					energy[k] += m.Energy[l][k]
				}
			}
		}
		if m.Energy != nil {
			whole.Energy = [][]float64{energy}
		}
		whole.Layers = []Layer{{Name: "whole", Implementations: []Implementation{im}}}
		s.Models = append(s.Models, whole)
	}
	return Compile(s)
}

func (p *wholeModel) Select(s *State, out []Choice) []Choice {
	out = p.look(s, out)
	p.chosen = p.inner.Select(&p.state, p.chosen[:0])
	for _, c := range p.chosen {
		c.Job = p.index[c.Job]
		out = append(out, c)
	}
	return out
}

// look makes the state that the inner policy sees: requests that have not
// started, and accelerators that are busy until the end of a whole model. It
// appends the next layers of those that have started.
func (p *wholeModel) look(s *State, out []Choice) []Choice {
	p.state.Now = s.Now
	p.state.Accelerators = append(p.state.Accelerators[:0], s.Accelerators...)
	p.state.Recent = append(p.state.Recent[:0], s.Recent...)
	p.state.Jobs, p.index = p.state.Jobs[:0], p.index[:0]
	for i := range s.Jobs {
		j := &s.Jobs[i]
		m := &p.t.models[j.Model]
		switch {
		case j.Waiting() && j.Layer > 0:
			// It belongs to the accelerator that ran the layer before, which
			// has nothing else to do unless it is down.
			if k := int(j.At); s.idle(k) {
				out = append(out, Choice{Job: int32(i), Accelerator: j.At, Reason: SameAccelerator})
				p.occupy(k, j, s.Now+p.left(m, k, int(j.Layer)))
			}
		case !j.Waiting():
			// Also on an accelerator that is down, which finishes what it runs.
			k := int(j.On)
			p.occupy(k, j, max(s.Now, s.Accelerators[k].Free)+p.left(m, k, int(j.Layer)+1))
		default:
			p.state.Jobs = append(p.state.Jobs, *j)
			p.index = append(p.index, int32(i))
		}
	}
	return out
}

// drops asks the inner policy about requests that have not started.
func (p *wholeModel) drops(s *State, job int) bool {
	inner, ok := p.inner.(dropper)
	if !ok || s.Jobs[job].Layer > 0 {
		return false
	}
	p.chosen = p.look(s, p.chosen[:0])
	return inner.drops(&p.state, slices.Index(p.index, int32(job)))
}

// occupy makes an accelerator busy until the end of the job's last layer.
func (p *wholeModel) occupy(k int, j *Job, until time.Duration) {
	a := &p.state.Accelerators[k]
	a.Job, a.Free = j.ID, until
}

// left is how long the originals take from a layer on, all on accelerator k.
func (p *wholeModel) left(m *modelTable, k, from int) time.Duration {
	var sum time.Duration
	for l := from; l < m.layers; l++ {
		sum += m.latency[int(m.row[l])*p.t.accs+k]
	}
	return sum
}

// configure passes on what the inner policy may want to know of the engine.
func (p *wholeModel) configure(cfg *Config) {
	if c, ok := p.inner.(configured); ok {
		inner := *cfg
		inner.Tables = p.merged
		c.configure(&inner)
	}
}

// paced passes on how long layers take.
func (p *wholeModel) paced(predicted, took time.Duration) {
	if c, ok := p.inner.(pacer); ok {
		c.paced(predicted, took)
	}
}

// ended passes on what the inner policy may want to learn.
func (p *wholeModel) ended(j Job, o Outcome, at time.Duration) {
	if w, ok := p.inner.(watcher); ok {
		w.ended(j, o, at)
	}
}
