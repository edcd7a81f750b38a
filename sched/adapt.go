package sched

import (
	"slices"
	"time"
)

// Adaptation of predictions to what layers really take. The profile is measured
// once; clocks, temperature and neighbours change.
const (
	adaptShare = 16 // a completion moves the estimate by one part in this many
	adaptLow   = 2  // the estimate stays above the profile's divided by this
	adaptHigh  = 4  // and below it multiplied by this
)

// adaptation keeps the tables' latencies near the last runs' durations, and the sums over remaining layers with them.
type adaptation struct {
	t       *Tables
	profile [][]time.Duration // by model: the latencies measured offline
}

func newAdaptation(t *Tables) *adaptation {
	a := &adaptation{t: t}
	for i := range t.models {
		a.profile = append(a.profile, slices.Clone(t.models[i].latency))
	}
	return a
}

// observe takes in how long a layer took on an accelerator, handoff included.
func (a *adaptation) observe(t *Tail, k int, took time.Duration) {
	m := &a.t.models[t.Model]
	at := int(m.row[t.Layer]+t.Implementation)*m.accs + k
	if handoff := m.Handoff(&Job{Layer: t.Layer, At: t.From}); handoff != nil {
		took -= handoff[k] // it is not the layer's
	}
	base := a.profile[t.Model][at]
	estimate := m.latency[at] + (took-m.latency[at])/adaptShare
	m.latency[at] = max(1, base/adaptLow, min(estimate, base*adaptHigh, maxLatency))
	m.sumUp(int(t.Layer))
}

// Clone returns tables that can follow others without changing these.
func (t *Tables) Clone() *Tables {
	c := *t
	c.models = slices.Clone(t.models)
	for i := range c.models {
		m := &c.models[i]
		m.latency, m.mean = slices.Clone(m.latency), slices.Clone(m.mean)
		m.remain, m.best = slices.Clone(m.remain), slices.Clone(m.best)
	}
	return &c
}

// CopyFrom makes tables that were cloned from others equal to these again.
func (t *Tables) CopyFrom(o *Tables) {
	for i := range t.models {
		m, from := &t.models[i], &o.models[i]
		copy(m.latency, from.latency)
		copy(m.remain, from.remain)
		copy(m.best, from.best)
		copy(m.mean, from.mean)
	}
}
