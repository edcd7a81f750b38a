package profiler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/runtime"
)

// profile makes the document of what has been measured so far.
func (m *measurement) profile(partial bool) (*Profile, error) {
	p := &Profile{Created: created(m.Now), Host: m.Host, ORT: ort.Version, Precision: m.Precision,
		Partial: partial, Accelerators: m.Accelerators, Handoffs: m.handoffs(), Noise: m.noise()}
	if !m.begin.IsZero() {
		p.Took = m.spent()
	}
	for _, n := range m.Networks {
		p.Models = append(p.Models, describe(n))
	}
	// What was measured on a device's first stream holds for all of them.
	for k, d := range m.of {
		p.Interference = append(p.Interference, d.interference(k)...)
		p.Chains = append(p.Chains, d.chains(k)...)
		if d.peak != nil {
			peak := *d.peak
			peak.Accelerator = k
			p.Peaks = append(p.Peaks, peak)
		}
		if gaps := stats.Sorted(d.gaps); len(gaps) > 0 {
			p.Dispatches = append(p.Dispatches, Dispatch{k, len(gaps), stats.Quantile(gaps, .5), stats.Quantile(gaps, .99)})
		}
	}
	for _, d := range m.drivers {
		if d.apart || len(d.streams) > 1 {
			p.Devices = append(p.Devices, d.describe())
		}
	}
	err := p.fill(func(c cellIndex) Cell {
		at := place{Do: layerRun, Model: c.model, Layer: c.layer, Implementation: c.implementation}
		return m.of[c.accelerator].cell(at)
	})
	m.doubt(p)
	return p, err
}

// describe is what a profile says of a network.
func describe(n *runtime.Network) Model {
	m := Model{Name: n.Name, SHA256: n.Model.SHA256(), Cut: models.Cut(n.Layers).String()}
	m.Granularity = cmp.Or(n.Granularity, m.Cut)
	for l := range n.Layers {
		x := &n.Layers[l]
		layer := Layer{Name: x.Name, SHA256: x.SHA256, Ops: x.Ops, MACs: x.MACs, Parameters: x.Parameters,
			Implementations: []string{original}, Shape: shapeText(x.Outputs)}
		for _, v := range n.Variants[l] {
			layer.Implementations = append(layer.Implementations, v.Name)
		}
		m.Layers = append(m.Layers, layer)
	}
	return m
}

// cell is what is known of a layer's implementation.
func (d *driver) cell(at place) Cell {
	load := d.loads[at]
	c := Cell{Load: load.Took, Memory: load.Memory, Refused: cmp.Or(d.dead[at], load.Refused)}
	if times := d.solo[at]; c.Refused == "" && len(times) > 0 {
		c.fill(times, d.Precision)
	}
	return c
}

// fill computes the cell's statistics from times in the order they were taken.
func (c *Cell) fill(times []time.Duration, precision float64) {
	sorted := stats.Sorted(times)
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	at := func(q float64) time.Duration { return stats.Quantile(sorted, q) }
	c.N, c.Min, c.Mean = len(times), sorted[0], sum/time.Duration(len(times))
	c.P50, c.P90, c.P95, c.P99 = at(.5), at(.9), at(.95), at(.99)
	c.Low, c.High = stats.MedianCI(sorted)
	far := at(.75) + 3*(at(.75)-at(.25))
	for _, t := range times {
		if t > far {
			c.Outliers++
		}
	}
	c.Unstable = !precise(sorted, precision)
	kept := min(len(times), keptSamples)
	for i := range kept {
		c.Samples = append(c.Samples, times[i*len(times)/kept])
	}
}

// median of times, 0 if there are none.
func median(times []time.Duration) time.Duration { return stats.Quantile(stats.Sorted(times), 0.5) }

// median of a place's times on the accelerator alone.
func (d *driver) median(p place) time.Duration { return median(d.solo[p]) }

// handoffs sums the medians of the conversions and copies that the accelerators do for each change.
func (m *measurement) handoffs() []Handoff {
	sums := map[Handoff]Handoff{} // by the change alone
	for _, d := range m.drivers {
		for _, x := range d.moves {
			for _, change := range d.changes(x) {
				sum := sums[change]
				for do, tensors := range x.tensors() {
					for _, t := range tensors {
						sum.Tensors++
						sum.P50 += d.median(place{Do: do, Model: x.Model, Tensor: t})
					}
				}
				sums[change] = sum
			}
		}
	}
	var list []Handoff
	for h, sum := range sums {
		h.Tensors, h.P50 = sum.Tensors, sum.P50
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Handoff) int {
		return slices.Compare([]int{a.Model, a.Layer, a.From, a.To}, []int{b.Model, b.Layer, b.From, b.To})
	})
	return list
}

// changes lists the changes of accelerator that a move is part of: those from and to all streams of the device.
func (d *driver) changes(x move) []Handoff {
	var list []Handoff
	for _, k := range d.streams {
		change := Handoff{Model: x.Model, Layer: x.Layer, From: x.From, To: x.To}
		if x.From == d.k {
			change.From = k
		} else {
			change.To = k
		}
		list = append(list, change)
	}
	return list
}

// slowdown compares the layers' times next to others with those alone: in all, by layer in order, and over how many
// rounds; false where there are none.
func (d *driver) slowdown(times map[place][]time.Duration) (all float64, ratios []float64, n int, ok bool) {
	var alone, crowded time.Duration
	for p, ts := range times {
		one, two := d.median(p), median(ts)
		if one <= 0 || two <= 0 || d.dead[p] != "" {
			continue
		}
		alone, crowded, n = alone+one, crowded+two, max(n, len(ts))
		ratios = append(ratios, float64(two)/float64(one)-1)
	}
	if alone <= 0 {
		return 0, nil, 0, false
	}
	slices.Sort(ratios)
	return float64(crowded)/float64(alone) - 1, ratios, n, true
}

// interference is what each busy accelerator costs accelerator k, which this one is measured for.
func (d *driver) interference(k int) []Interference {
	var list []Interference
	for busy, of := range d.of {
		if slowdown, ratios, n, ok := d.slowdown(d.crowded[of.k]); ok {
			list = append(list, Interference{Accelerator: k, Busy: busy, Slowdown: slowdown,
				Q1: stats.Quantile(ratios, .25), Q3: stats.Quantile(ratios, .75), N: n})
		}
	}
	return list
}

// describe is what is known of the device that the accelerator is the first stream of.
func (d *driver) describe() Device {
	x := Device{}
	if d.device != nil {
		x = *d.device
	}
	x.Name, x.Accelerators = d.Accelerators[d.k].OnDevice(), d.streams
	x.Auto = d.Auto[x.Name]
	last := 0.0
	for n := range d.streams {
		slowdown, _, _, ok := d.slowdown(d.contended[n])
		if n > 0 && !ok {
			break
		}
		last = min(max(last, slowdown), maxSlowdown)
		x.Contention = append(x.Contention, last)
	}
	if len(x.Contention) < 2 {
		x.Contention = nil
	}
	return x
}

// chains are the chains on accelerator k, which this one is measured for.
func (d *driver) chains(k int) []Chain {
	var list []Chain
	for m, n := range d.Networks {
		at := place{Do: chainRun, Model: m}
		c := Chain{Model: m, Accelerator: k, N: len(d.solo[at]), Chained: d.median(at),
			Plain: d.median(place{Do: plainRun, Model: m}), Whole: d.median(place{Do: wholeRun, Model: m}),
			Graph: d.median(place{Do: graphRun, Model: m})}
		if in(m, len(d.captured)) {
			c.Captured = d.captured[m]
		}
		if c.N == 0 {
			continue
		}
		for l := range n.Layers {
			c.Sum += d.median(place{Do: layerRun, Model: m, Layer: l})
		}
		list = append(list, c)
	}
	return list
}

// noise compares the samples of every cell from before and after its process was replaced, or their halves if it was
// not.
func (m *measurement) noise() *Noise {
	var diffs []float64
	for _, d := range m.drivers {
		for p, times := range d.solo {
			if p.Do != layerRun || len(times) < minSamples {
				continue
			}
			at := d.split[p]
			if at < minSamples/2 || len(times)-at < minSamples/2 {
				at = len(times) / 2
			}
			diffs = append(diffs, math.Abs(float64(median(times[at:]))/float64(median(times[:at]))-1))
		}
	}
	if len(diffs) == 0 {
		return nil
	}
	slices.Sort(diffs)
	return &Noise{Median: stats.Quantile(diffs, .5), P90: stats.Quantile(diffs, .9)}
}

// doubt adds warnings.
func (m *measurement) doubt(p *Profile) {
	unstable, failed := 0, 0
	for i := range p.Cells {
		unstable += count(p.Cells[i].Unstable)
	}
	for _, d := range m.drivers {
		for at := range d.dead {
			failed += count(at.Do == layerRun)
		}
	}
	for _, d := range m.drivers {
		p.warn(d.undescribed, WarnFailed, "the lead of %q, what waking it costs and the memory it needs could not be measured",
			d.Accelerators[d.k].OnDevice())
	}
	p.warn(failed > 0, WarnFailed, "%d of %d cells crashed, hung or failed %d times and are not offered",
		failed, len(p.Cells), attempts)
	p.warn(unstable > 0, WarnUnstable,
		"%d of %d cells did not reach %.1f %% precision in %v: the machine is noisy or the budget short",
		unstable, len(p.Cells), p.Precision*100, p.Took.Round(100*time.Millisecond))
	if p.Noise != nil {
		p.warn(p.Noise.Median > p.Precision, WarnNoise,
			"medians drifted by %.1f %% while measuring (median cell), more than the precision aimed at", 100*p.Noise.Median)
	}
	g := p.Host.Governor
	p.warn(g != "" && g != "performance", WarnGovernor,
		"the frequency governor is %q: set it to \"performance\" for times that can be repeated", g)
	if !m.begin.IsZero() {
		m.disturbed(p)
	}
	p.warn(p.Host.Load1m > float64(max(1, p.Host.LogicalCores))/4, WarnLoad,
		"the load average was %.1f on %d cores before the measurement began: something else was running",
		p.Host.Load1m, p.Host.LogicalCores)
}

// Shares of the measuring time from which on a disturbance is worth a warning.
const (
	muchSteal    = 0.02
	muchThrottle = 0.01
)

// disturbed warns of what the machine's counters say.
func (m *measurement) disturbed(p *Profile) {
	c, took := hostinfo.ReadCounters(hostinfo.This()).Sub(m.counted), time.Since(m.begin)
	p.warn(c.Throttles > 0, WarnThrottled,
		"the processor was slowed down %d times because it was too hot: let it cool, or lower the load", c.Throttles)
	throttled, stolen := c.Throttled.Seconds()/took.Seconds(), c.Steal.Seconds()/took.Seconds()
	p.warn(throttled > muchThrottle, WarnThrottled,
		"the container was kept from running for %.1f %% of the time: raise its CPU quota", 100*throttled)
	p.warn(stolen > muchSteal, WarnThrottled, "the hypervisor gave %.1f %% of a core's time to others", 100*stolen)
	for _, text := range c.GPULimits(took) {
		p.warn(true, WarnThrottled, "%s", text)
	}
}

// warn adds a warning if it is true.
func (p *Profile) warn(is bool, code, format string, args ...any) {
	if is {
		p.Warnings = append(p.Warnings, Warning{code, fmt.Sprintf(format, args...)})
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
