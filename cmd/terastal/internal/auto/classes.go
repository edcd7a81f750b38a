package auto

import (
	"slices"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// class is accelerators that are alike: so many cores of a kind at a level, or a GPU with so many streams.
type class struct {
	spec    runtime.Spec // one of them
	kind    int          // of its cores
	cores   int          // that each takes
	streams int          // of a GPU, each of which is one of them; 0 for a CPU
	latency [][]time.Duration
}

func (x *class) cpu() bool { return x.streams == 0 }

// total is what all models take together; false where a layer does not run.
func (x *class) total() (sum time.Duration, all bool) {
	for _, layers := range x.latency {
		for _, took := range layers {
			if took < 0 {
				return 0, false
			}
			sum += took
		}
	}
	return sum, true
}

// classes are what works of the candidates. A GPU makes one for every number of streams that pays: each stream takes as
// much longer as all of them together get less done than as many GPUs would.
func (c *Calibration) classes() (out []class) {
	alike := map[int][][][]time.Duration{}
	for i := range c.Candidates {
		x := &c.Candidates[i]
		switch {
		case x.Failed != "":
		case !x.Accelerator.CPU():
			for n, k := 1, 0; n <= x.Streams(); n, k = 2*n, k+1 {
				by := 1.0
				if k > 0 {
					by = float64(n) * x.Rates[0] / x.Rates[k]
				}
				out = append(out, class{spec: x.Accelerator, kind: len(c.Cores) - 1, cores: 1, streams: n,
					latency: stretched(x.Latency, by)})
			}
		default:
			n := class{spec: x.Accelerator, kind: c.kind(x.Accelerator.Cores), cores: max(1, len(x.Accelerator.Cores))}
			at := slices.IndexFunc(out, func(y class) bool {
				return y.cpu() && y.kind == n.kind && y.cores == n.cores && y.spec.Optimization == n.spec.Optimization
			})
			if at < 0 {
				at, out = len(out), append(out, n)
			}
			alike[at] = append(alike[at], x.Latency)
		}
	}
	for at, of := range alike {
		out[at].latency = medians(of)
	}
	return out
}

// kind is which kind cores are of.
func (c *Calibration) kind(cores []int) int {
	return max(0, slices.IndexFunc(c.Cores, func(kind []int) bool { return len(cores) > 0 && slices.Contains(kind, cores[0]) }))
}

// stretched multiplies latencies.
func stretched(latency [][]time.Duration, by float64) [][]time.Duration {
	out := make([][]time.Duration, len(latency))
	for m := range latency {
		for _, took := range latency[m] {
			if took != sched.Unavailable {
				took = max(1, time.Duration(float64(took)*by))
			}
			out[m] = append(out[m], took)
		}
	}
	return out
}

// medians are what layers take on several accelerators that are alike. A layer that does not run on one runs on none.
func medians(of [][][]time.Duration) [][]time.Duration {
	out := make([][]time.Duration, len(of[0]))
	for m := range of[0] {
		for l := range of[0][m] {
			var all []time.Duration
			for _, latency := range of {
				all = append(all, latency[m][l])
			}
			all = stats.Sorted(all)
			took := stats.Quantile(all, 0.5)
			if all[0] < 0 {
				took = sched.Unavailable
			}
			out[m] = append(out[m], took)
		}
	}
	return out
}
