package view

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// job is one request of a log.
type job struct {
	id       int64
	model    int
	release  time.Duration // scheduled
	noticed  time.Duration
	deadline time.Duration
	end      time.Duration
	outcome  sched.Outcome
	detail   string
	ran      time.Duration // sum of its layers
	used     sched.VariantSet
}

func (j *job) missed() bool { return j.outcome != sched.Met }

// span is one run of a layer to its end.
type span struct {
	job            int // index of the job
	layer          int
	implementation int
	accelerator    int
	dispatched     time.Duration
	start          time.Duration
	end            time.Duration
	predicted      time.Duration // finish
	reason         sched.Reason
}

// outage is when an accelerator was out of service.
type outage struct {
	accelerator int
	from, to    time.Duration
}

// history is a log by requests: jobs in order of their release records, spans in
// order of their ends.
type history struct {
	*eventlog.Log
	jobs    []job
	spans   []span
	outages []outage
}

func newHistory(l *eventlog.Log) *history {
	h := &history{Log: l}
	index := map[int64]int{}
	running := map[int64]*eventlog.Record{} // dispatch, by job
	down := map[int32]time.Duration{}
	var last time.Duration
	for i := range l.Records {
		r := &l.Records[i]
		last = r.At
		switch r.Kind {
		case sched.Released:
			index[r.Job] = len(h.jobs)
			h.jobs = append(h.jobs, job{id: r.Job, model: int(r.Model), release: r.Start, noticed: r.At, deadline: r.Until})
		case sched.Dispatched:
			running[r.Job] = r
		case sched.Completed:
			d, n := running[r.Job], index[r.Job]
			j := &h.jobs[n]
			j.ran += r.At - r.Start
			if v := l.Header.System.Models[r.Model].Layers[r.Layer].Implementations[r.Implementation].Variant; v > 0 {
				j.used |= 1 << (v - 1)
			}
			h.spans = append(h.spans, span{n, int(r.Layer), int(r.Implementation), int(r.Accelerator), d.At, r.Start, r.At, d.Until, d.Reason})
		case sched.Ended:
			j := &h.jobs[index[r.Job]]
			j.end, j.outcome, j.detail = r.At, r.Outcome, r.Detail
		case sched.Down:
			down[r.Accelerator] = r.At
		case sched.Up:
			if from, is := down[r.Accelerator]; is {
				h.outages = append(h.outages, outage{int(r.Accelerator), from, r.At})
				delete(down, r.Accelerator)
			}
		}
	}
	for k := range l.Header.System.Accelerators {
		if from, is := down[int32(k)]; is {
			h.outages = append(h.outages, outage{k, from, last})
		}
	}
	return h
}

// series is one policy on one driver, all its repeats together.
type series struct {
	number  int // from 0, in the order shown: real ones first
	label   string
	policy  string
	driver  string
	logs    []*history
	result  *result.PolicyResult // nil without one
	models  []outcomes
	miss    interval // mean over models
	compare *comparison.Policy
}

// outcomes is what one model's requests got under one series.
type outcomes struct {
	name      string
	deadline  float64 // ms
	totals    eventlog.Totals
	miss      interval
	responses []float64 // ms, sorted, of requests that finished
	p50, p90  float64   // ms
	p99       float64
	variants  int // of so many layers
	layers    int
	uses      []eventlog.VariantUse
	accuracy  *float64
}

// interval is a quantity with its 95 % interval.
type interval struct{ value, low, high float64 }

// overlaps reports whether two intervals have a value in common.
func (i interval) overlaps(o interval) bool { return i.low <= o.high && o.low <= i.high }

// allSeries arranges results and logs by driver and policy.
func (p *Page) allSeries() []*series {
	var out []*series
	find := func(driver, policy string) *series {
		for _, s := range out {
			if s.driver == driver && s.policy == policy {
				return s
			}
		}
		s := &series{policy: policy, driver: driver}
		out = append(out, s)
		return s
	}
	for i := range p.Results {
		r := &p.Results[i]
		for n := range r.Policies {
			find(r.Driver, r.Policies[n].Policy).result = &r.Policies[n]
		}
	}
	for _, l := range p.Logs {
		s := find(l.Header.Driver, l.Header.Policy)
		s.logs = append(s.logs, newHistory(l.Log))
	}
	slices.SortStableFunc(out, func(a, b *series) int { return cmp.Compare(a.driver, b.driver) }) // "real", "simulated"
	mixed := slices.ContainsFunc(out, func(s *series) bool { return s.driver != out[0].driver })
	for n, s := range out {
		s.number, s.label = n, s.policy
		if mixed && s.driver == eventlog.Simulated {
			s.label += " (simulated)"
		}
		s.summarise()
		for i := range p.Results {
			if c := p.Results[i].Comparison; c != nil {
				s.compared(c)
			}
		}
	}
	return out
}

func (s *series) summarise() {
	if len(s.logs) > 0 {
		s.fromLogs()
	} else if s.result != nil {
		for _, m := range s.result.Models {
			s.models = append(s.models, outcomes{name: m.Model, deadline: m.DeadlineMS, totals: m.Totals, miss: wilson(m.Released-m.Met, float64(m.Released)),
				p50: m.P50MS, p90: m.P90MS, p99: m.P99MS, variants: m.VariantsUsed, layers: m.LayersRun, uses: m.Variants, accuracy: m.NormalizedAccuracy})
		}
	}
	s.miss = meanOf(s.models)
}

// fromLogs pools the repeats. Logs of another set of models than the first are
// left out; they would be of another configuration.
func (s *series) fromLogs() {
	first := s.logs[0].Header.System.Models
	same := func(h *history) bool {
		return slices.EqualFunc(h.Header.System.Models, first, func(a, b sched.Model) bool { return a.Name == b.Name && a.Deadline == b.Deadline })
	}
	s.logs = slices.DeleteFunc(s.logs, func(h *history) bool { return !same(h) })
	s.models = make([]outcomes, len(first))
	misses := make([][]bool, len(first))
	sums, known := make([]float64, len(first)), make([]int, len(first))
	for m := range first {
		s.models[m].name, s.models[m].deadline = first[m].Name, ms(first[m].Deadline)
	}
	for _, h := range s.logs {
		metrics := h.Metrics()
		for m := range s.models {
			o, x := &s.models[m], &metrics.Models[m]
			o.totals.Released += x.Released
			o.totals.Met += x.Met
			o.totals.Late += x.Late
			o.totals.Dropped += x.Dropped
			o.totals.Failed += x.Failed
			o.variants += x.VariantsUsed
			o.layers += x.LayersRun
			o.addUses(x.Variants)
			if n := x.Met + x.Late; x.NormalizedAccuracy != nil && n > 0 {
				sums[m] += *x.NormalizedAccuracy * float64(n)
				known[m] += n
			}
		}
		for i := range h.jobs {
			j := &h.jobs[i]
			misses[j.model] = append(misses[j.model], j.missed())
			if j.outcome == sched.Met || j.outcome == sched.Late {
				s.models[j.model].responses = append(s.models[j.model].responses, ms(j.end-j.release))
			}
		}
	}
	for m := range s.models {
		o := &s.models[m]
		slices.Sort(o.responses)
		o.p50, o.p90, o.p99 = stats.Quantile(o.responses, .5), stats.Quantile(o.responses, .9), stats.Quantile(o.responses, .99)
		o.miss = missInterval(misses[m])
		if known[m] > 0 {
			a := sums[m] / float64(known[m])
			o.accuracy = &a
		}
	}
}

func (o *outcomes) addUses(uses []eventlog.VariantUse) {
	for _, u := range uses {
		i := slices.IndexFunc(o.uses, func(x eventlog.VariantUse) bool { return x.Layer == u.Layer && x.Variant == u.Variant })
		if i < 0 {
			o.uses = append(o.uses, u)
		} else {
			o.uses[i].Runs += u.Runs
		}
	}
}

// compared takes miss rates from a comparison over repeats, whose intervals hold
// what differs from run to run too.
func (s *series) compared(c *comparison.Comparison) {
	if c.Driver != s.driver {
		return
	}
	for i := range c.Policies {
		p := &c.Policies[i]
		if p.Policy != s.policy || len(p.Miss.Values) < 2 {
			continue
		}
		s.compare, s.miss = p, measured(&p.Miss)
		for _, m := range p.Models {
			for n := range s.models {
				if s.models[n].name == m.Model {
					s.models[n].miss = measured(&m.Miss)
				}
			}
		}
	}
}

func measured(m *comparison.Measure) interval { return interval{m.Median, m.Low, m.High} }

// z is the normal quantile of a 95 % interval.
const z = 1.959964

// wilson is the score interval of a share of n, which need not be whole.
func wilson(misses int, n float64) interval {
	if n == 0 {
		return interval{0, 0, 1}
	}
	return wilsonOf(float64(misses)/n, n)
}

func wilsonOf(p, n float64) interval {
	d := 1 + z*z/n
	mid := (p + z*z/(2*n)) / d
	half := z / d * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return interval{p, min(p, max(0, mid-half)), max(p, min(1, mid+half))}
}

// blocks is how many parts of a run the clustering of misses is measured from.
const blocks = 20

// tBlocks is the quantile of Student's t of a 95 % interval from a variance
// between so many blocks.
const tBlocks = 2.093024

// missInterval is the miss rate of requests in order of release. Misses come in
// clusters, so that n requests say less than n independent ones: the variance
// of the rate between blocks of the run, over that of independent requests, is
// the factor by which n counts less in Wilson's interval (the effective sample
// size of survey statistics as in Korn and Graubard, 1998, with the variance of
// batch means).
func missInterval(missed []bool) interval {
	n := len(missed)
	total := 0
	for _, m := range missed {
		if m {
			total++
		}
	}
	if n < 2*blocks || total == 0 || total == n {
		return wilson(total, float64(n))
	}
	p := float64(total) / float64(n)
	between := 0.0
	for b := range blocks {
		from, to := b*n/blocks, (b+1)*n/blocks
		k := 0
		for _, m := range missed[from:to] {
			if m {
				k++
			}
		}
		d := float64(k)/float64(to-from) - p
		between += d * d
	}
	between /= blocks - 1
	effect := max(1, between/(p*(1-p)/(float64(n)/blocks))*(tBlocks/z)*(tBlocks/z))
	return wilsonOf(p, float64(n)/effect)
}

// meanOf is the mean of the models' miss rates; its interval adds the distances
// of theirs in quadrature.
func meanOf(models []outcomes) interval {
	n := float64(len(models))
	if n == 0 {
		return interval{}
	}
	var out interval
	var low, high float64
	for _, m := range models {
		out.value += m.miss.value / n
		low += (m.miss.value - m.miss.low) * (m.miss.value - m.miss.low)
		high += (m.miss.high - m.miss.value) * (m.miss.high - m.miss.value)
	}
	out.low, out.high = max(0, out.value-math.Sqrt(low)/n), min(1, out.value+math.Sqrt(high)/n)
	return out
}

// ranked sorts the series of the first driver by their miss rate.
func ranked(all []*series) []*series {
	var out []*series
	for _, s := range all {
		if s.driver == all[0].driver && len(s.models) > 0 {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *series) int { return cmp.Compare(a.miss.value, b.miss.value) })
	return out
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
