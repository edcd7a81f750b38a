package fluid

import (
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/sched"
)

// limit is the deadline of a model and what its paths take. A path is an implementation and an accelerator for every
// layer.
type limit struct {
	deadline time.Duration
	// time is by layer, implementation and accelerator: the least that the layer takes, [sched.Never] where it cannot run.
	time [][][]time.Duration
	// handoff is by layer, from and to; nil where all are free.
	handoff [][][]time.Duration
	// toGo is by layer and the accelerator that the layer before ran on: the least time from it on, by any implementations;
	// originals is the same of originals.
	toGo, originals [][]time.Duration
	fastest         path // of the originals
	steps           int  // that all searches together may take
}

// path is what runs each layer of a request, and where.
type path struct {
	implementation []int32
	at             []int32
}

func newPath(layers int) path { return path{make([]int32, layers), make([]int32, layers)} }

func (p path) copyFrom(o path) {
	copy(p.implementation, o.implementation)
	copy(p.at, o.at)
}

// limitOf returns nil for a model whose paths all meet its deadline, and for one of whose originals none does: that
// counts as if it had no deadline. Implementations are those of seconds, accelerators these.
func limitOf(t *sched.Tables, model int, seconds [][][]float64, on []int) *limit {
	s, longest := timesOf(t, model, func(l int) int { return len(seconds[l]) }, on)
	if longest <= s.deadline {
		return nil
	}
	return s.prepared()
}

// endless is a deadline that no path misses.
const endless = sched.Never / 4

// pathsOf is limitOf for a model whose paths are searched, whether its deadline binds or not.
func pathsOf(t *sched.Tables, model int, seconds [][][]float64, on []int) *limit {
	s, _ := timesOf(t, model, func(l int) int { return len(seconds[l]) }, on)
	if s.prepared() == nil {
		s.deadline = endless
		s.prepared()
	}
	return s
}

// prepared returns nil where no path of originals meets the deadline.
func (s *limit) prepared() *limit {
	s.originals = s.leastTimes(true)
	if s.originals[0][0] > s.deadline {
		return nil
	}
	s.toGo, s.fastest = s.leastTimes(false), s.quickestOriginals()
	s.trim()
	return s
}

// trim takes away what no path in time can contain. That makes tolls far better bounds where single layers take long.
func (s *limit) trim() {
	accs := len(s.time[0][0])
	before := make([]time.Duration, accs) // by accelerator: the least time up to the layer before, which ran there
	for l, all := range s.time {
		starts := make([]time.Duration, accs)
		for k := range starts {
			starts[k] = before[k]
			if l > 0 {
				starts[k] = sched.Never
				for from, x := range before {
					starts[k] = min(starts[k], x+s.moved(l, int32(from), k))
				}
			}
		}
		for k := range accs {
			before[k] = sched.Never
			for _, on := range all {
				if on[k] < sched.Never {
					if starts[k]+on[k]+s.toGo[l+1][k] > s.deadline {
						on[k] = sched.Never
					}
					before[k] = min(before[k], starts[k]+on[k])
				}
			}
		}
	}
}

// timesOf is what so many implementations of every layer take on these accelerators, and a time that no path exceeds.
func timesOf(t *sched.Tables, model int, implementations func(l int) int, on []int) (s *limit, longest time.Duration) {
	m, sys := t.Model(int32(model)), t.System()
	s = &limit{deadline: m.Deadline(), steps: limitSteps}
	quick := quickest(sys)
	for l := range sys.Models[model].Layers {
		layer, slowest, worst := &sys.Models[model].Layers[l], time.Duration(0), time.Duration(0)
		var times, handoff [][]time.Duration
		for i := range implementations(l) {
			all := make([]time.Duration, len(on))
			for n, k := range on {
				if all[n] = m.Latency(int32(l), int32(i))[k]; all[n] < sched.Never {
					all[n] = time.Duration(quick[k] * float64(all[n]))
					slowest = max(slowest, all[n])
				}
			}
			times = append(times, all)
		}
		if l > 0 && layer.Handoff != nil {
			for _, from := range on {
				row := make([]time.Duration, len(on))
				for n, to := range on {
					row[n] = layer.Handoff[from][to]
				}
				handoff, worst = append(handoff, row), max(worst, slices.Max(row))
			}
		}
		s.time, s.handoff = append(s.time, times), append(s.handoff, handoff)
		longest += slowest + worst
	}
	return s, longest
}

// quickest is by accelerator how many times as long as its latencies layers take at the least: those of a device's
// streams are latencies with all of them busy.
func quickest(sys *sched.System) []float64 {
	out := slices.Repeat([]float64{1}, len(sys.Accelerators))
	for _, d := range sys.Devices {
		if n := len(d.Contention); n > 0 {
			for _, k := range d.Accelerators {
				out[k] = (1 + slices.Min(d.Contention)) / (1 + d.Contention[n-1])
			}
		}
	}
	return out
}

// leastTimes is by layer and the accelerator that the one before ran on the least time from the layer on.
func (s *limit) leastTimes(originals bool) [][]time.Duration {
	n, accs := len(s.time), len(s.time[0][0])
	out := make([][]time.Duration, n+1)
	out[n] = make([]time.Duration, accs)
	for l := n - 1; l >= 0; l-- {
		ends := make([]time.Duration, accs)
		for k := range ends {
			ends[k] = sched.Never
			for i, on := range s.time[l] {
				if i == 0 || !originals {
					ends[k] = min(ends[k], on[k])
				}
			}
			ends[k] += out[l+1][k]
		}
		out[l] = s.before(l, ends, make([]time.Duration, accs))
	}
	return out
}

// before sets out, by the accelerator that the layer before ran on, to the least of ends plus handoff.
func (s *limit) before(l int, ends, out []time.Duration) []time.Duration {
	least := slices.Min(ends)
	for from := range out {
		if out[from] = least; s.handoff[l] != nil {
			out[from] = sched.Never
			for to, x := range ends {
				out[from] = min(out[from], x+s.handoff[l][from][to])
			}
		}
	}
	return out
}

// quickestOriginals is the path of originals that takes the least time.
func (s *limit) quickestOriginals() path {
	p, from := newPath(len(s.time)), int32(-1)
	for l := range s.time {
		at, low := -1, time.Duration(math.MaxInt64)
		for k, c := range s.time[l][0] {
			if x := c + s.moved(l, from, k) + s.originals[l+1][k]; x < low {
				at, low = k, x
			}
		}
		p.at[l], from = int32(at), int32(at)
	}
	return p
}

// moved is the handoff of a layer to an accelerator.
func (s *limit) moved(l int, from int32, to int) time.Duration {
	if from < 0 || s.handoff[l] == nil {
		return 0
	}
	return s.handoff[l][from][to]
}

// takes is how long a path takes.
func (s *limit) takes(p path) time.Duration {
	var sum time.Duration
	from := int32(-1)
	for l, k := range p.at {
		sum += s.moved(l, from, int(k)) + s.time[l][p.implementation[l]][k]
		from = k
	}
	return sum
}
