package validation

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/sim"
)

// ErrMismatch is wrapped when what predicts is of other layers or accelerators than what was run.
var ErrMismatch = errors.New("it is of something else than the log")

// Predictor says how long layers take, from what was known before the run.
type Predictor struct {
	// Name says what it knows that from.
	Name string
	// alone is the median of an accelerator that works alone, by model, layer,
	// implementation and accelerator; sched.Unavailable where it cannot run.
	alone [][][][]time.Duration
	// handoff is what a change of accelerator costs, by model and layer, as
	// sched.Layer.Handoff; dispatch the time before every layer.
	handoff  [][][][]time.Duration
	dispatch []time.Duration
	// slow is how much longer a layer takes while another accelerator is busy,
	// by accelerator and other; nil means not at all.
	slow [][]float64
	// crowd is how much longer it takes by how many others of its device are busy; see [profiler.Profile.Contentions].
	crowd []sim.Contention
	// devices are those of the run, which have to wake when they rested.
	devices []sched.Device
	// draws makes the durations of a simulation, by seed; nil means that layers take what alone says, every time.
	draws func(seed uint64) (sim.Durations, error)
	// paced says that draws knows when cores were taken: nothing is added for those that were.
	paced bool
}

// FromSystem predicts what a log's own tables say: what decisions expected, in
// which interference and dispatch are contained. It has no distributions.
func FromSystem(sys *sched.System) *Predictor {
	p := &Predictor{Name: "the expected times in the log", dispatch: make([]time.Duration, len(sys.Accelerators)),
		devices: sys.Devices}
	for _, m := range sys.Models {
		var layers [][][]time.Duration
		var handoffs [][][]time.Duration
		for _, l := range m.Layers {
			var impls [][]time.Duration
			for _, im := range l.Implementations {
				impls = append(impls, slices.Clone(im.Latency))
			}
			layers, handoffs = append(layers, impls), append(handoffs, l.Handoff)
		}
		p.alone, p.handoff = append(p.alone, layers), append(p.handoff, handoffs)
	}
	return p
}

// FromProfile predicts from what was measured. The profile has to be of the
// system's accelerators, models, layers and implementations.
func FromProfile(profile *profiler.Profile, sys *sched.System) (*Predictor, error) {
	if err := matches(profile, sys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	p := FromSystem(sys)
	p.Name, p.slow, p.draws = "simulator", profile.Slowdowns(), leveled(profile)
	p.crowd = profile.Contentions()
	for i := range profile.Cells {
		c := &profile.Cells[i]
		at := &p.alone[c.Model][c.Layer][c.Implementation][c.Accelerator]
		switch {
		case c.Measured():
			*at = c.P50
		case *at != sched.Unavailable:
			return nil, fmt.Errorf("%w: it has no time of layer %q of %q on %q", ErrMismatch,
				sys.Models[c.Model].Layers[c.Layer].Name, sys.Models[c.Model].Name, sys.Accelerators[c.Accelerator])
		}
	}
	for m := range p.handoff {
		clear(p.handoff[m])
	}
	for _, h := range profile.Handoffs {
		p.addHandoff(h)
	}
	for _, d := range profile.Dispatches {
		p.dispatch[d.Accelerator] = d.P50
	}
	return p, nil
}

// leveled draws from the profile's distributions, at a level of each accelerator that is drawn once per simulation: a
// profile does not know it better than two measurements of the same thing agree.
func leveled(profile *profiler.Profile) func(seed uint64) (sim.Durations, error) {
	return func(seed uint64) (sim.Durations, error) {
		drawn, err := profile.Durations(seed)
		if err != nil || profile.Noise == nil {
			return drawn, err
		}
		rng := rand.New(rand.NewPCG(seed, 0x6c65766c))
		level := make([]float64, len(profile.Accelerators))
		for k := range level {
			level[k] = math.Exp(levelSigma(profile.Noise) * rng.NormFloat64())
		}
		return func(at time.Duration, d sched.Dispatch) time.Duration {
			return time.Duration(float64(drawn(at, d)) * level[d.Accelerator])
		}, nil
	}
}

// levelSigma is the standard deviation of one measurement of which two differ by
// the noise floor in the median: normal deviates differ by 0.954 of theirs.
func levelSigma(n *profiler.Noise) float64 { return min(0.5, max(0, n.Median/0.954)) }

func (p *Predictor) addHandoff(h profiler.Handoff) {
	at := &p.handoff[h.Model][h.Layer]
	if *at == nil {
		for range p.dispatch {
			*at = append(*at, make([]time.Duration, len(p.dispatch)))
		}
	}
	(*at)[h.From][h.To] = h.P50
}

// matches returns nil if the profile is of the system.
func matches(p *profiler.Profile, sys *sched.System) error {
	var accs []string
	for _, a := range p.Accelerators {
		accs = append(accs, a.Name)
	}
	if !slices.Equal(accs, sys.Accelerators) {
		return fmt.Errorf("accelerators %q, the log has %q", accs, sys.Accelerators)
	}
	if len(p.Models) != len(sys.Models) {
		return fmt.Errorf("%d models, the log has %d", len(p.Models), len(sys.Models))
	}
	for m := range sys.Models {
		if err := matchesModel(&p.Models[m], &sys.Models[m]); err != nil {
			return err
		}
	}
	return nil
}

func matchesModel(have *profiler.Model, want *sched.Model) error {
	if have.Name != want.Name || len(have.Layers) != len(want.Layers) {
		return fmt.Errorf("model %q with %d layers, the log has %q with %d", have.Name, len(have.Layers), want.Name,
			len(want.Layers))
	}
	for l := range want.Layers {
		x, y := &have.Layers[l], &want.Layers[l]
		impls := implementationNames(y)
		if x.Name != y.Name || !slices.Equal(x.Implementations, impls) {
			return fmt.Errorf("layer %q of %q with implementations %q, the log has %q with %q", x.Name, want.Name,
				x.Implementations, y.Name, impls)
		}
	}
	return nil
}

// SameProfile reports whether the run was planned with this very profile: some statistic of it gives the latencies in
// the log. Another one of the same layers predicts too, but what decisions expected is then not what it says.
func SameProfile(p *profiler.Profile, sys *sched.System) bool {
	var deadlines []time.Duration
	for _, m := range sys.Models {
		deadlines = append(deadlines, m.Deadline)
	}
	for _, q := range []profiler.Quantile{profiler.P50, profiler.Mean, profiler.P90, profiler.P95, profiler.P99,
		profiler.Min} {
		if s, err := p.System(deadlines, q); err == nil && sameLatencies(&s, sys) {
			return true
		}
	}
	return false
}

func sameLatencies(a, b *sched.System) bool {
	for m := range a.Models {
		for l := range a.Models[m].Layers {
			for i := range a.Models[m].Layers[l].Implementations {
				if !slices.Equal(a.Models[m].Layers[l].Implementations[i].Latency,
					b.Models[m].Layers[l].Implementations[i].Latency) {
					return false
				}
			}
		}
	}
	return true
}

// expected is what the predictor says of a run in the state that it met: the layer alone, the conversion before it and
// what waking its device costs, stretched by the accelerators that ran at the same time.
type expected struct{ alone, handoff, waking, interference, dispatch time.Duration }

func (e expected) total() time.Duration {
	return e.alone + e.handoff + e.waking + e.interference + e.dispatch
}

func (p *Predictor) of(r *layerRun) expected {
	e := expected{alone: p.alone[r.model][r.layer][r.implementation][r.accelerator], dispatch: p.dispatch[r.accelerator]}
	if h := p.handoff[r.model][r.layer]; h != nil && r.from >= 0 {
		e.handoff = h[r.from][r.accelerator]
	}
	for i := range p.devices {
		if d := &p.devices[i]; r.rested > 0 && slices.Contains(d.Accelerators, int(r.accelerator)) {
			e.waking = max(0, d.Extra(r.rested)-r.woken)
		}
	}
	e.interference = time.Duration(p.slower(r) * float64(e.alone+e.handoff+e.waking))
	return e
}

// slower is by how much longer a run takes with what ran at the same time.
func (p *Predictor) slower(r *layerRun) (f float64) {
	if p.slow != nil {
		for o, share := range r.overlap {
			f += share * p.slow[r.accelerator][o]
		}
	}
	for _, c := range p.crowd {
		if len(c.Slowdown) == 0 || !slices.Contains(c.Accelerators, int(r.accelerator)) {
			continue
		}
		// Shares are of the time that it took, slowed down: in each it did so much less.
		done := 0.0
		for n, share := range r.streams {
			done += share / (1 + c.Slowdown[min(n, len(c.Slowdown)-1)])
		}
		if done > 0 {
			f += 1/done - 1
		}
	}
	return f
}
