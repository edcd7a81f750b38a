package policy

import (
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

type wholeModel struct {
	t        *sched.Tables
	inner    sched.Policy   // over tables with one layer per model
	observer sched.Observer // the same, if it is one
	state    sched.State    // as the inner policy sees it
	index    []int32        // of its jobs in the real state
	chosen   []sched.Choice
}

// Whole makes another policy schedule whole models instead of layers: it decides where a request runs when it starts,
// and all of its layers run there, one right after the other. Originals only. It is what systems do that cannot split
// models. Where Config.Adapt corrects the tables, the inner policy still sees the profile's.
func Whole(of sched.Constructor) sched.Constructor {
	return func(c sched.Config) (sched.Policy, error) {
		merged, err := fluid.WholeModels(c.Tables)
		if err != nil {
			return nil, err
		}
		p := &wholeModel{t: c.Tables}
		c.Tables = merged
		if p.inner, err = of(c); err != nil {
			return nil, err
		}
		p.observer, _ = p.inner.(sched.Observer)
		return p, nil
	}
}

func (p *wholeModel) Select(s *sched.State, out []sched.Choice) []sched.Choice {
	out = p.look(s, out)
	p.chosen = p.inner.Select(&p.state, p.chosen[:0])
	for _, c := range p.chosen {
		c.Job = p.index[c.Job]
		out = append(out, c)
	}
	return out
}

// look makes the state that the inner policy sees: requests that have not started, and accelerators that are busy until
// the end of a whole model. It appends the next layers of those that have started.
func (p *wholeModel) look(s *sched.State, out []sched.Choice) []sched.Choice {
	p.state.Now = s.Now
	p.state.Accelerators = append(p.state.Accelerators[:0], s.Accelerators...)
	p.state.Recent = append(p.state.Recent[:0], s.Recent...)
	p.state.Jobs, p.index = p.state.Jobs[:0], p.index[:0]
	for i := range s.Jobs {
		j := &s.Jobs[i]
		m := p.t.Model(j.Model)
		switch {
		case j.Waiting() && j.Layer > 0:
			// It belongs to the accelerator that ran the layer before, which has nothing else to do unless it is down, or
			// has taken another when this one's last layer was about to end, and failed.
			if k := int(j.At); s.Idle(k) && p.state.Accelerators[k].Job == sched.Idle {
				out = append(out, sched.Choice{Job: int32(i), Accelerator: j.At, Reason: sched.SameAccelerator})
				p.occupy(k, j, max(s.Free(k), j.Ready)+p.left(m, k, j.Layer))
			}
		case !j.Waiting():
			// Also on an accelerator that is down, which finishes what it runs. One about to end may take the next.
			if k := int(j.On); s.Accelerators[k].Job == j.ID {
				p.occupy(k, j, s.End(j)+p.left(m, k, j.Layer+1))
			}
		default:
			p.state.Jobs = append(p.state.Jobs, *j)
			p.index = append(p.index, int32(i))
		}
	}
	return out
}

// occupy makes an accelerator busy until the end of the job's last layer.
func (p *wholeModel) occupy(k int, j *sched.Job, until time.Duration) {
	a := &p.state.Accelerators[k]
	a.Job, a.Free = j.ID, until
}

// left is how long the originals take from a layer on, all on accelerator k.
func (p *wholeModel) left(m *sched.ModelTable, k int, from int32) time.Duration {
	var sum time.Duration
	for l := from; l < int32(m.Layers()); l++ {
		sum += m.Latency(l, 0)[k]
	}
	return sum
}

// Completed, Ended and GiveUp pass on what the inner policy may want to know and says.
func (p *wholeModel) Completed(predicted, took time.Duration) {
	if p.observer != nil {
		p.observer.Completed(predicted, took)
	}
}

func (p *wholeModel) Ended(j sched.Job, o sched.Outcome, at time.Duration) {
	if p.observer != nil {
		p.observer.Ended(j, o, at)
	}
}

func (p *wholeModel) GiveUp(s *sched.State, from int) int {
	if p.observer == nil {
		return -1
	}
	p.chosen = p.look(s, p.chosen[:0])
	first, _ := slices.BinarySearch(p.index, int32(from))
	i := p.observer.GiveUp(&p.state, first)
	if i < 0 {
		return -1
	}
	return int(p.index[i])
}
