package view

import (
	"cmp"
	"math"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// series is one policy on one driver, all its repeats together.
type series struct {
	number  int // from 0, in the order shown: real ones first
	label   string
	policy  string
	driver  string
	logs    []*history
	result  *result.PolicyResult // nil without one
	all     eventlog.Metrics
	models  []outcomes
	miss    interval // mean over models
	compare *comparison.Policy
}

// outcomes is what one model's requests got under one series.
type outcomes struct {
	*eventlog.ModelMetrics
	miss      interval
	responses []float64 // ms, sorted, of requests that finished, where logs have them
}

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
		if len(s.logs) > 0 {
			s.fromLogs()
		} else {
			s.fromMetrics(s.result.Metrics)
		}
		s.miss = meanOf(s.models)
		for i := range p.Results {
			if c := p.Results[i].Comparison; c != nil {
				s.compared(c)
			}
		}
	}
	return out
}

// seriesOf are the series of single runs.
func seriesOf(metrics []eventlog.Metrics) []*series {
	var out []*series
	for n, m := range metrics {
		s := &series{number: n, label: m.Policy}
		s.fromMetrics(m)
		s.miss = meanOf(s.models)
		out = append(out, s)
	}
	return out
}

// seriesOver are those of simulations over seeds; of one there is no interval.
func seriesOver(results []study.Result) []*series {
	var out []*series
	for n, r := range results {
		s := &series{number: n, label: r.Policy, miss: interval{r.Miss, max(0, r.Low), r.High}}
		if r.Seeds < 2 {
			s.miss.low = math.NaN()
		}
		s.fromMetrics(eventlog.Metrics{Policy: r.Policy, Models: r.Models})
		for m := range s.models { // whose seeds are not known one by one
			s.models[m].miss = interval{r.Models[m].MissRate, math.NaN(), math.NaN()}
			s.all.Totals.Add(r.Models[m].Totals)
		}
		out = append(out, s)
	}
	return out
}

func (s *series) fromMetrics(m eventlog.Metrics) {
	s.all = m
	for i := range m.Models {
		x := &m.Models[i]
		s.models = append(s.models, outcomes{ModelMetrics: x, miss: wilson(x.Totals.MissRate(), float64(x.Released))})
	}
}

// fromLogs pools the repeats. Logs of another set of models than the first are
// left out; they would be of another configuration.
func (s *series) fromLogs() {
	first := s.logs[0].Header.System.Models
	same := func(h *history) bool {
		return slices.EqualFunc(h.Header.System.Models, first,
			func(a, b sched.Model) bool { return a.Name == b.Name && a.Deadline == b.Deadline })
	}
	s.logs = slices.DeleteFunc(s.logs, func(h *history) bool { return !same(h) })
	s.models = make([]outcomes, len(first))
	misses := make([][]bool, len(first))
	kept := make([]keptOver, len(first))
	for n, h := range s.logs {
		metrics := h.Metrics()
		if n == 0 {
			s.all = metrics
		}
		for m := range s.models {
			x := &metrics.Models[m]
			if n > 0 {
				addTo(&s.all.Models[m], x)
			}
			kept[m].add(x)
		}
		if n > 0 {
			s.all.Totals.Add(metrics.Totals)
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
		o, x := &s.models[m], &s.all.Models[m]
		o.ModelMetrics, o.miss = x, missInterval(misses[m])
		slices.Sort(o.responses)
		x.P50MS, x.P90MS = stats.Quantile(o.responses, .5), stats.Quantile(o.responses, .9)
		x.P99MS = stats.Quantile(o.responses, .99)
		kept[m].into(x)
	}
}

// addTo adds what can be added of a repeat.
func addTo(o, x *eventlog.ModelMetrics) {
	o.Totals.Add(x.Totals)
	o.VariantsUsed += x.VariantsUsed
	o.LayersRun += x.LayersRun
	for _, u := range x.Variants {
		same := func(x eventlog.VariantUse) bool { return x.Layer == u.Layer && x.Variant == u.Variant }
		if i := slices.IndexFunc(o.Variants, same); i >= 0 {
			o.Variants[i].Runs += u.Runs
		} else {
			o.Variants = append(o.Variants, u)
		}
	}
}

// compared takes miss rates from a comparison over repeats, whose intervals hold what differs from run to run too.
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
				if s.models[n].Model == m.Model {
					s.models[n].miss = measured(&m.Miss)
				}
			}
		}
	}
}

func measured(m *comparison.Measure) interval { return interval{m.Median, m.Low, m.High} }

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

// model is a series' outcomes of a model; nil if it did not have it.
func (s *series) model(name string) *outcomes {
	for i := range s.models {
		if s.models[i].Model == name {
			return &s.models[i]
		}
	}
	return nil
}

// modelNames are those of all series, in order.
func modelNames(all []*series) []string {
	var out []string
	for _, s := range all {
		for _, m := range s.models {
			if !slices.Contains(out, m.Model) {
				out = append(out, m.Model)
			}
		}
	}
	return out
}
