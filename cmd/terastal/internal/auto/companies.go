package auto

import (
	"fmt"
	"slices"
	"time"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// levels are the optimisation levels that are tried. With the blocked layout ("all") 3x3 and depthwise convolutions are
// faster, without it ("basic") many 1x1 ones; "extended" is "basic" and fusions that most layers do not have.
var levels = [...]string{"all", "basic"}

// gpuProviders are the providers that a GPU may open with.
var gpuProviders = [...]string{"cuda", "webgpu", "coreml", "directml"}

const gpuName = "gpu"

// GPUs are a GPU with each provider that it may open with.
func GPUs() (out []runtime.Spec) {
	for _, p := range gpuProviders {
		out = append(out, gpu(p))
	}
	return out
}

func gpu(provider string) runtime.Spec {
	return runtime.Spec{Name: gpuName, Provider: provider, Optimization: "all", Threads: 1}
}

// gains is how much faster in all two groups of cores have to be than twice as many halves of them for larger ones to be
// tried.
const gains = 1.02

// Next is the company that is to be measured next, given what is known so far and by when the models' requests are due;
// nil when enough is known.
//
// Accelerators are measured next to as many others as the machine has cores for: what a core does alone says little where
// caches, memory or the processor's clock are shared. First comes a GPU, with each provider that it opens with; then every
// core for itself, the levels in turn; then pairs; then groups of twice the size as long as the last size either brought
// more in all than the one before, or some model meets its deadline on nothing that is known.
func (c *Calibration) Next(due []time.Duration) []runtime.Spec {
	if s := c.nextGPU(); s != nil {
		return s
	}
	for k, cores := range c.Cores {
		for size := 1; size <= len(cores); size *= 2 {
			if size > 2 && !c.larger(k, size, due) {
				break
			}
			if s := c.group(cores, size); s != nil {
				return s
			}
		}
	}
	return nil
}

// nextGPU is a GPU with the next provider.
func (c *Calibration) nextGPU() []runtime.Spec {
	for _, p := range c.GPUs {
		if !c.has(func(s *runtime.Spec) bool { return s.Provider == p }) {
			s := gpu(p)
			if cores := c.Cores; len(cores) > 0 {
				last := cores[len(cores)-1]
				s.Cores = last[len(last)-1:]
			}
			return []runtime.Spec{s}
		}
	}
	return nil
}

// group is as many groups of so many cores as there are, the levels in turn; nil when all levels are known. Where there
// is only one such group, the level is the one that suits single cores, and no other is tried.
func (c *Calibration) group(cores []int, size int) (out []runtime.Spec) {
	copies := len(cores) / size
	var missing []string
	for _, level := range levels {
		if !c.has(func(s *runtime.Spec) bool {
			return s.Optimization == level && len(s.Cores) == size && s.CPU() && slices.Contains(cores, s.Cores[0])
		}) {
			missing = append(missing, level)
		}
	}
	switch {
	case len(missing) == 0 || copies == 1 && size > 1 && len(missing) < len(levels):
		return nil
	case copies == 1 && size > 1:
		missing = []string{c.suits()}
	case copies == 1:
		missing = missing[:1]
	}
	for i := range copies {
		level := missing[i%len(missing)]
		out = append(out, runtime.Spec{Name: fmt.Sprintf("cpu%d-%s", i, level), Provider: "cpu", Optimization: level,
			Threads: size, Cores: cores[i*size : (i+1)*size : (i+1)*size]})
	}
	return out
}

// has reports whether something is known about such an accelerator.
func (c *Calibration) has(like func(*runtime.Spec) bool) bool {
	for i := range c.Candidates {
		if like(&c.Candidates[i].Accelerator) {
			return true
		}
	}
	return false
}

// suits is the level at which all models together take least on single cores.
func (c *Calibration) suits() string {
	best, least := levels[0], time.Duration(0)
	for _, x := range c.classes() {
		if took, all := x.total(); x.cores == 1 && x.cpu() && all && (least == 0 || took < least) {
			best, least = x.spec.Optimization, took
		}
	}
	return best
}

// larger reports whether groups of so many cores are worth trying.
func (c *Calibration) larger(kind, size int, due []time.Duration) bool {
	classes := c.classes()
	if len(classes) == 0 {
		return false // nothing works
	}
	if len(late(classes, due)) > 0 {
		return true
	}
	work := func(size int) time.Duration { // of a core, for all models
		least := time.Duration(0)
		for _, x := range classes {
			took, all := x.total()
			if x.cpu() && x.kind == kind && x.cores == size && all && (least == 0 || took < least) {
				least = took
			}
		}
		return least * time.Duration(size)
	}
	half, quarter := work(size/2), work(size/4)
	return half > 0 && quarter > 0 && float64(half)*gains < float64(quarter)
}

// late lists the models that meet their deadline on no path over the accelerators, by index.
func late(classes []class, due []time.Duration) (out []int) {
	for m := range due {
		sum := time.Duration(0)
		for l := range classes[0].latency[m] {
			least := time.Duration(sched.Unavailable)
			for i := range classes {
				if took := classes[i].latency[m][l]; took >= 0 && (least < 0 || took < least) {
					least = took
				}
			}
			if least < 0 {
				sum = due[m] + 1
				break
			}
			sum += least
		}
		if sum > due[m] {
			out = append(out, m)
		}
	}
	return out
}
