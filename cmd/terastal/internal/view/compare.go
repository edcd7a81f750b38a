package view

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/eventlog"
)

// PoliciesCompared prints policies side by side: medians over repeats, and what differs from the baseline.
func PoliciesCompared(w io.Writer, r *result.Result) {
	means := meansTable(r)
	fit(w, means, 1, table.Part{Goes: from(means, "J per met", 3)})
	fmt.Fprintln(w)
	fit(w, comparisonByModel(r.Comparison), 2, table.Part{Goes: []int{6, 7, 8, 9, 10, 11}})
	fmt.Fprintln(w)
	if t := accuracyByModel(r.Comparison); len(t.Rows) > 0 {
		t.Text(w)
		fmt.Fprintln(w)
	}
	for _, text := range comparisonText(r) {
		table.Paragraph(w, text)
	}
}

// from are the places of so many columns from the one of this name on; none where the table does not have it.
func from(t *table.Table, name string, n int) (out []int) {
	at := slices.IndexFunc(t.Columns, func(c table.Column) bool { return c.Name == name })
	for k := at; at >= 0 && k < min(at+n, len(t.Columns)); k++ {
		out = append(out, k)
	}
	return out
}

// compared shows comparisons over repeats.
func (p *Page) compared() section {
	s := section{ID: "comparison", Title: "Policies compared", Wide: true}
	for i := range p.Results {
		if r := &p.Results[i]; r.Comparison != nil && len(r.Comparison.Policies) > 0 {
			s.Text = append(s.Text, comparisonText(r)...)
			t, driver := comparisonByModel(r.Comparison), " ("+r.Comparison.Driver+")"
			s.Tables = append(s.Tables, meansTable(r), t.Pick("Miss rates by model"+driver, 0, 1, 2, 3, 4, 5),
				t.Pick("Response times by model, of requests that finished"+driver, 0, 1, 6, 7, 8, 9, 10, 11))
			if t := accuracyByModel(r.Comparison); len(t.Rows) > 0 {
				s.Tables = append(s.Tables, t)
			}
		}
	}
	return s
}

// meansTable has a row per policy.
func meansTable(r *result.Result) *table.Table {
	c := r.Comparison
	t := table.New("policy", ">mean miss rate", ">interval", ">difference", "+>its interval", ">p", ">p50 (geomean)",
		">taken by others", ">J per met", ">difference", "+>its interval")
	t.Title = "Mean miss rates over models (" + c.Driver + ")"
	add := func(p *comparison.Policy, name string, again bool) {
		m := &p.Miss
		taken := ""
		if c.Driver == eventlog.Real {
			taken = takenByOthers(r, p.Policy, again)
		}
		ratio := ""
		if p.Geomean != nil {
			ratio = fmt.Sprintf("%.2fx", *p.Geomean)
		}
		r := t.Add(name, hundredths(m.Median)+" %"+star(m), between(hundredths(m.Low), hundredths(m.High)),
			difference(m, points), differenceInterval(m, points), pValue(m.P), ratio, taken)
		if e := p.PerMet; e != nil {
			r.Cells = append(r.Cells, jouleRange(e), difference(e, signedJoules), differenceInterval(e, signedJoules))
		}
	}
	for i := range c.Policies {
		add(&c.Policies[i], c.Policies[i].Policy, false)
	}
	if c.AA != nil {
		add(c.AA, c.AA.Policy+" again (A/A)", true)
	}
	return t.Dense()
}

// takenByOthers words the largest share of its processor time that an accelerator
// lost to others in any run of a policy, "-" where nothing counts it.
func takenByOthers(r *result.Result, policy string, again bool) string {
	worst := -1.0
	look := func(p *result.PolicyResult) {
		if p == nil || p.Policy != policy || p.Execution == nil {
			return
		}
		for _, x := range p.Preempted {
			worst = max(worst, x)
		}
	}
	for _, x := range append([]result.Repeat{{Policies: r.Policies, Again: r.Again}}, r.Later...) {
		if again {
			look(x.Again)
			continue
		}
		for i := range x.Policies {
			look(&x.Policies[i])
		}
	}
	if worst < 0 {
		return "-"
	}
	return "up to " + percent(worst)
}

// comparisonByModel has a row per model and policy.
func comparisonByModel(c *comparison.Comparison) *table.Table {
	t := table.New("model", "policy", ">miss rate", ">difference", "+>its interval", "+>p", ">p50", ">difference",
		"+>its interval", ">p99", ">difference", "+>its interval")
	base := &c.Policies[0]
	for i := range c.Policies {
		if c.Policies[i].Policy == c.Baseline {
			base = &c.Policies[i]
		}
	}
	for m := range base.Models {
		add := func(p *comparison.Policy, name string) {
			if m >= len(p.Models) {
				return
			}
			x, b := &p.Models[m], &base.Models[m]
			if !x.Miss.Claimed || !x.P50.Claimed || !x.P99.Claimed {
				few := fmt.Sprintf("* too few requests to claim it, so that it was not tested: p50 takes %d finished requests in "+
					"every repeat, p99 %d, a miss rate %d released ones.", jobsFor(0.50), jobsFor(0.99), comparison.MinMissJobs())
				t.Explain("miss rate", "%s", few)
				t.Explain("p99", "%s", few)
			}
			rate := fmt.Sprintf("%s ± %s %%%s", hundredths(x.Miss.Median), hundredths(reach(&x.Miss)), star(&x.Miss))
			t.Add(shorten(b.Model, 24), name, rate, difference(&x.Miss, points), differenceInterval(&x.Miss, points),
				pValue(x.Miss.P), latency(&x.P50), difference(&x.P50, relative(&b.P50)), differenceInterval(&x.P50, signedMS),
				latency(&x.P99), difference(&x.P99, relative(&b.P99)), differenceInterval(&x.P99, signedMS))
		}
		for i := range c.Policies {
			add(&c.Policies[i], c.Policies[i].Policy)
		}
		if c.AA != nil && c.Driver == eventlog.Real {
			add(c.AA, c.AA.Policy+" again (A/A)")
		}
	}
	return t
}

// accuracyByModel has a row per policy for every model of which variants were used.
func accuracyByModel(c *comparison.Comparison) *table.Table {
	t := table.New("model", "policy", ">accuracy kept", ">its interval", ">floor", worstColumn)
	t.Title = "Accuracy by model (" + c.Driver + ")"
	for m := range c.Policies[0].Models {
		if !slices.ContainsFunc(c.Policies, func(p comparison.Policy) bool { return p.Models[m].UsedVariants() }) {
			continue
		}
		for i := range c.Policies {
			x := &c.Policies[i].Models[m]
			if x.Accuracy == nil {
				continue
			}
			one := eventlog.ModelMetrics{AccuracyFloor: x.Floor, WorstWindow: x.Worst}
			t.Add(shorten(x.Model, 24), c.Policies[i].Policy, kept(x.Accuracy.Median),
				between(kept(x.Accuracy.Low), kept(x.Accuracy.High)), floorText(x.Floor), worstText(&one))
			if x.Floor > 0 {
				explainFloor(t, ", in any repeat")
			}
		}
	}
	return t.Dense()
}

// comparisonText says what the tables do not.
func comparisonText(r *result.Result) []string {
	c := r.Comparison
	seeds := fmt.Sprintf("seeds %d to %d", r.Traffic.Seed, r.Traffic.Seed+uint64(c.Repeats)-1)
	if c.Repeats <= 1 {
		seeds = fmt.Sprintf("seed %d", r.Traffic.Seed)
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if c.Repeats == 1 {
		add("One run of %g s per policy, %s, on the same arrivals. Nothing can be tested with one run: what differs may be "+
			"chance; --repeats %d is the fewest that can show a difference.", r.Traffic.DurationS, seeds, comparison.Enough)
	} else {
		add("%d repeats of %g s, %s: the same arrivals for all policies of a repeat, in changing order. Figures are medians "+
			"over repeats; intervals and ± hold the median with %.3g %% confidence. Differences are from %s.",
			c.Repeats, r.Traffic.DurationS, seeds, 100*c.Confidence, c.Baseline)
		if c.Repeats < comparison.Enough {
			add("%d repeats are too few for any difference to be significant: --repeats %d or more.", c.Repeats,
				comparison.Enough)
		}
		add("~: no significant difference from %s (Wilcoxon's signed-rank test of the differences within repeats, p above "+
			"0.05). Each test stands for itself: of 20 differences that are not there, one shows on average.", c.Baseline)
	}
	add("Response times are of finished requests: a policy that drops more can look faster. p50 (geomean): geometric " +
		"mean over models of p50 over the baseline's.")
	if c.Driver == eventlog.Real {
		add("Taken by others: the largest share of its processor time that an accelerator had to give to other threads " +
			"and processes, in any run.")
	}
	if slices.ContainsFunc(c.Policies, func(p comparison.Policy) bool { return p.PerMet != nil }) {
		add("J per met: joules per request that met its deadline. %s", energyText(r.Policies))
	}
	if text := noiseText(c); text != "" {
		out = append(out, text)
	}
	for _, p := range r.Policies {
		if p.VariantShare() > 0 {
			add("In the first repeat, %s had variants run %s of the layers of finished requests, which kept %s of the accuracy.",
				p.Policy, percent(p.VariantShare()), optional(p.AccuracyKept(), kept))
		}
	}
	verified, wrong, all := 0, 0, r.Policies
	for _, x := range r.Later {
		all = append(all[:len(all):len(all)], x.Policies...)
	}
	for _, p := range all {
		if p.Verification != nil {
			verified, wrong = verified+p.Verified, wrong+p.Wrong
		}
	}
	if verified+wrong > 0 {
		add("outputs: %d of %d sampled requests have those of the whole model", verified, verified+wrong)
	}
	return out
}

// noiseText says what the baseline's second runs showed.
func noiseText(c *comparison.Comparison) string {
	switch {
	case c.AA == nil:
		return ""
	case c.Driver == eventlog.Simulated:
		return "A/A: simulations repeat exactly, so that a policy never differs from itself."
	case c.AA.Miss.P == nil:
		return "A/A: " + c.Baseline + " played twice in every repeat, on too few requests to test it against itself."
	}
	m := &c.AA.Miss
	text := fmt.Sprintf("A/A: between two runs of %s in the same repeat the mean miss rate differs by %s (%s): what is "+
		"no larger is noise of this machine.", c.Baseline, points(*m.Difference), differenceInterval(m, points))
	if what, tested := c.AA.Differs(); len(what) > 0 {
		text += fmt.Sprintf(" Of %d quantities %d differ significantly where nothing can: %s.", tested, len(what),
			strings.Join(what, ", "))
	}
	return text
}

// reach is how far an interval reaches from the median.
func reach(m *comparison.Measure) float64 { return max(m.High-m.Median, m.Median-m.Low) }

func star(m *comparison.Measure) string {
	if m.Claimed {
		return ""
	}
	return "*"
}

// latency is a response time with its interval as a share of it.
func latency(m *comparison.Measure) string {
	if len(m.Values) == 0 {
		return "-"
	}
	share := 0.0
	if m.Median > 0 {
		share = 100 * reach(m) / m.Median
	}
	return fmt.Sprintf("%s ± %.0f %%%s", msText(m.Median), math.Ceil(share), star(m))
}

// relative words a difference as a share of the baseline's median.
func relative(base *comparison.Measure) func(float64) string {
	return func(d float64) string {
		if base.Median == 0 {
			return "-"
		}
		return fmt.Sprintf("%+.0f %%", 100*d/base.Median)
	}
}

// difference words that from the baseline: "~" where it is not significant,
// nothing for the baseline itself and where none was tested.
func difference(m *comparison.Measure, word func(float64) string) string {
	switch {
	case m.P == nil:
		return ""
	case !m.Significant:
		return "~"
	}
	return word(*m.Difference)
}

// differenceInterval words the interval of the difference, whether it is significant or not.
func differenceInterval(m *comparison.Measure, word func(float64) string) string {
	if m.DifferenceLow == nil || m.DifferenceHigh == nil {
		return ""
	}
	return between(word(*m.DifferenceLow), word(*m.DifferenceHigh))
}
