package study

import (
	"math"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Verdict is the outcome of comparing two policies on the same arrivals.
type Verdict int

const (
	Tied Verdict = iota // no significant difference
	Won
	Lost
)

// Paired compares the mean miss rates of a and b over the same seeds by a
// two-sided paired t test at 5 %, uncorrected: Won means that a misses less.
func Paired(a, b []float64) (v Verdict, difference, p float64) {
	n := min(len(a), len(b))
	d := make([]float64, n)
	for i := range d {
		d[i] = a[i] - b[i]
	}
	mean, sd := stat.MeanStdDev(d, nil)
	switch {
	case n < 2 || (sd == 0 && mean == 0):
		return Tied, mean, 1
	case sd == 0:
		p = 0
	default:
		t := math.Abs(mean) / (sd / math.Sqrt(float64(n)))
		p = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(n - 1)}.Survival(t)
	}
	switch {
	case p > 0.05:
		return Tied, mean, p
	case mean < 0:
		return Won, mean, p
	}
	return Lost, mean, p
}

// Group is all policies' results on the same arrivals.
type Group struct {
	Results []Result
}

// Of returns the result of a policy, or nil.
func (g *Group) Of(policy string) *Result {
	for i := range g.Results {
		if g.Results[i].Policy == policy {
			return &g.Results[i]
		}
	}
	return nil
}

// Best returns the result with the lowest mean miss rate among the policies, or
// nil if none is there.
func (g *Group) Best(policies ...string) *Result {
	var best *Result
	for _, p := range policies {
		if r := g.Of(p); r != nil && (best == nil || r.Miss < best.Miss) {
			best = r
		}
	}
	return best
}

// Traffic is the name of the arrival process.
func (r *Result) Traffic() string { return r.traffic() }

// Groups collects results that differ in the policy only, in order of first
// appearance.
func Groups(results []Result) []Group {
	var out []Group
	at := map[string]int{}
	for _, r := range results {
		key := sortKey(&r)
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			out = append(out, Group{})
		}
		out[i].Results = append(out[i].Results, r)
	}
	return out
}
