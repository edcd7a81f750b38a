package comparison

import (
	"fmt"
	"math"
	"slices"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched/eventlog"
)

// Runs is what a policy got in each repeat.
type Runs struct {
	Policy  string
	Repeats []eventlog.Metrics
	// PerMet is what a request that met its deadline took in each repeat, in joules; 0 or missing where not known.
	PerMet []float64
}

// level is the probability of a false alarm below which a difference is significant. Each test stands for itself: of 20
// differences that are not there, one is found.
const level = 0.05

// intervalConfidence is that of the intervals wherever there are enough repeats.
const intervalConfidence = 0.95

// Enough is how many repeats it takes for an interval with 95 % confidence, and
// for a difference to be significant at all.
const Enough = 6

// MinMissJobs is how many requests have to be released before a miss rate is claimed: with so many of which none
// misses, fewer than 10 % miss, with 95 % confidence.
func MinMissJobs() int { return stats.MinJobs(0.9, intervalConfidence, 0) }

// Compare holds policies against the baseline, which is one of them. All have played the same repeats, and repeat n of
// each had the same arrivals: what is tested are the differences within repeats, so that what makes a whole repeat
// harder does not count. again, if not nil, are further runs of the baseline in the same repeats, for [Comparison.AA].
func Compare(runs []Runs, baseline string, again *Runs) (*Comparison, error) {
	if err := check(runs, again); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(runs, func(r Runs) bool { return r.Policy == baseline })
	if at < 0 {
		return nil, fmt.Errorf("compare: the baseline %q is not among the policies", baseline)
	}
	base := &runs[at]
	n := len(base.Repeats)
	c := &Comparison{Driver: base.Repeats[0].Driver, Repeats: n, Baseline: baseline,
		Confidence: min(intervalConfidence, 1-math.Pow(2, float64(1-n)))}
	for i := range runs {
		against := base
		if i == at {
			against = nil
		}
		c.Policies = append(c.Policies, compare(&runs[i], against))
	}
	for i := range c.Policies {
		c.Policies[i].Geomean = geomean(&c.Policies[i], &c.Policies[at])
	}
	if again != nil {
		p := compare(again, base)
		p.Geomean = geomean(&p, &c.Policies[at])
		c.AA = &p
	}
	return c, nil
}

func check(runs []Runs, again *Runs) error {
	if len(runs) == 0 || len(runs[0].Repeats) == 0 {
		return fmt.Errorf("compare: nothing has been run")
	}
	first := &runs[0].Repeats[0]
	all := runs
	if again != nil {
		a := *again
		a.Policy = "the baseline again"
		all = append(all[:len(all):len(all)], a)
	}
	for _, r := range all {
		if len(r.Repeats) != len(runs[0].Repeats) {
			return fmt.Errorf("compare: %s has %d repeats, %s %d: only whole repeats can be compared", r.Policy,
				len(r.Repeats), runs[0].Policy, len(runs[0].Repeats))
		}
		for i := range r.Repeats {
			same := func(a, b eventlog.ModelMetrics) bool { return a.Model == b.Model }
			if !slices.EqualFunc(r.Repeats[i].Models, first.Models, same) {
				return fmt.Errorf("compare: %s played other models in repeat %d", r.Policy, i+1)
			}
		}
	}
	return nil
}

// compare summarises a policy; base is nil for the baseline itself.
func compare(r, base *Runs) Policy {
	p := Policy{Policy: r.Policy, PerMet: perMet(r, base)}
	miss := func(m *eventlog.Metrics) (float64, bool) {
		enough := true
		for i := range m.Models {
			enough = enough && m.Models[i].Released >= MinMissJobs()
		}
		return m.MeanMissRate, enough
	}
	p.Miss = measure(r, base, miss)
	for i := range r.Repeats[0].Models {
		x := Model{Model: r.Repeats[0].Models[i].Model}
		x.Miss = measure(r, base, func(m *eventlog.Metrics) (float64, bool) {
			return m.Models[i].MissRate, m.Models[i].Released >= MinMissJobs()
		})
		latency := func(q float64, of func(*eventlog.ModelMetrics) float64) Measure {
			return measure(r, base, func(m *eventlog.Metrics) (float64, bool) {
				n := m.Models[i].Met + m.Models[i].Late
				if n == 0 {
					return math.NaN(), false
				}
				return of(&m.Models[i]), stats.Claimable(n, q)
			})
		}
		x.P50 = latency(0.50, func(m *eventlog.ModelMetrics) float64 { return m.P50MS })
		x.P99 = latency(0.99, func(m *eventlog.ModelMetrics) float64 { return m.P99MS })
		x.kept(r, i)
		p.Models = append(p.Models, x)
	}
	return p
}

// kept summarises what the i-th model's requests kept of the accuracy.
func (x *Model) kept(r *Runs, i int) {
	x.Floor = r.Repeats[0].Models[i].AccuracyFloor
	used := x.Floor > 0
	for n := range r.Repeats {
		m := &r.Repeats[n].Models[i]
		used = used || m.VariantsUsed > 0
		if m.WorstWindow != nil && (x.Worst == nil || *m.WorstWindow < *x.Worst) {
			x.Worst = m.WorstWindow
		}
	}
	values, _ := series(r, func(m *eventlog.Metrics) (float64, bool) {
		if a := m.Models[i].NormalizedAccuracy; a != nil {
			return *a, true
		}
		return math.NaN(), false
	})
	if used && values != nil {
		m := measured(values, nil, true)
		x.Accuracy = &m
	}
}

// measure summarises one quantity of a policy, and tests it against base's. of returns the quantity in one repeat, NaN
// where it is missing, and whether it can be claimed.
func measure(r, base *Runs, of func(*eventlog.Metrics) (float64, bool)) Measure {
	values, claimed := series(r, of)
	if values == nil {
		return Measure{}
	}
	if base == nil || !claimed {
		return measured(values, nil, claimed)
	}
	against, known := series(base, of)
	if !known {
		against = nil
	}
	return measured(values, against, claimed)
}

// perMet summarises joules; nil where a repeat has none.
func perMet(r, base *Runs) *Measure {
	known := func(r *Runs) bool { return len(r.PerMet) == len(r.Repeats) && !slices.Contains(r.PerMet, 0) }
	if !known(r) {
		return nil
	}
	var against []float64
	if base != nil && known(base) {
		against = base.PerMet
	}
	m := measured(r.PerMet, against, true)
	return &m
}

// measured summarises values, and tests them against others of the same repeats, if there are any.
func measured(values, against []float64, claimed bool) Measure {
	m := Measure{Values: values, Claimed: claimed}
	m.Median, m.Low, m.High = middle(values)
	if against == nil {
		return m
	}
	d := make([]float64, len(values))
	for i := range d {
		// Without what floating point adds: equal is equal.
		d[i] = math.Round((values[i]-against[i])*1e12) / 1e12
	}
	difference, low, high := middle(d)
	p, _ := stats.SignedRank(d)
	m.Difference, m.DifferenceLow, m.DifferenceHigh, m.P, m.Significant = &difference, &low, &high, &p, p <= level
	return m
}

// series is a quantity in every repeat; nil if one has none.
func series(r *Runs, of func(*eventlog.Metrics) (float64, bool)) (values []float64, claimed bool) {
	claimed = true
	for i := range r.Repeats {
		x, enough := of(&r.Repeats[i])
		if math.IsNaN(x) {
			return nil, false
		}
		values, claimed = append(values, x), claimed && enough
	}
	return values, claimed
}

// middle is the median with its interval.
func middle(values []float64) (median, low, high float64) {
	sorted := stats.Sorted(values)
	n := len(sorted)
	low, high = stats.MedianCI(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, low, high
}

// geomean is the geometric mean over models of the ratio of the median P50s; nil where no model has both.
func geomean(p, base *Policy) *float64 {
	sum, n := 0.0, 0
	for i := range p.Models {
		a, b := &p.Models[i].P50, &base.Models[i].P50
		if a.Claimed && b.Claimed && a.Median > 0 && b.Median > 0 {
			sum += math.Log(a.Median / b.Median)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	mean := math.Exp(sum / float64(n))
	return &mean
}

// Differs lists what of a policy differs significantly from the baseline, such
// as "p99 of kws", and how many quantities were tested.
func (p *Policy) Differs() (what []string, tested int) {
	look := func(m *Measure, name string) {
		if m.P != nil {
			tested++
		}
		if m.Significant {
			what = append(what, name)
		}
	}
	look(&p.Miss, "the mean miss rate")
	if p.PerMet != nil {
		look(p.PerMet, "the energy per met request")
	}
	for i := range p.Models {
		m := &p.Models[i]
		look(&m.Miss, "the miss rate of "+m.Model)
		look(&m.P50, "the p50 of "+m.Model)
		look(&m.P99, "the p99 of "+m.Model)
	}
	return what, tested
}
