package view

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched/eventlog"
)

// PoliciesCompared prints policies side by side: medians over repeats, and what
// differs from the baseline.
func PoliciesCompared(w io.Writer, r *result.Result) {
	c := r.Comparison
	header := []string{"policy", ">mean miss rate", ">interval", ">against " + c.Baseline, ">p", ">p50 (geomean)"}
	real := c.Driver == eventlog.Real
	if real {
		header = append(header, ">taken by others")
	}
	t := table.New(header...)
	add := func(p *comparison.Policy, name string, again bool) {
		row := policyRow(p, name)
		if real {
			row = append(row, taken(r, p.Policy, again))
		}
		t.AppendRow(row)
	}
	for i := range c.Policies {
		add(&c.Policies[i], c.Policies[i].Policy, false)
	}
	if c.AA != nil {
		t.AppendSeparator()
		add(c.AA, c.AA.Policy+" again (A/A)", true)
	}
	render(w, t)
	fmt.Fprintln(w)
	few := byModelInText(w, c)
	fmt.Fprintln(w)
	legendInText(w, r, few)
}

// taken words the largest share of its processor time that an accelerator lost
// to others in any run of a policy, "-" where nothing counts it.
func taken(r *result.Result, policy string, again bool) string {
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
	return "up to " + percentInText(worst)
}

func policyRow(p *comparison.Policy, name string) table.Row {
	p50 := ""
	if p.Geomean != nil {
		p50 = fmt.Sprintf("%.2fx", *p.Geomean)
	}
	test := ""
	if p.Miss.P != nil {
		test = fmt.Sprintf("%.3f", *p.Miss.P)
	}
	return table.Row{name, pointsInText(p.Miss.Median) + " %" + star(&p.Miss), fmt.Sprintf("%s to %s", pointsInText(p.Miss.Low), pointsInText(p.Miss.High)),
		change(&p.Miss, func(d float64) string { return fmt.Sprintf("%+.2f points", 100*d) }), test, p50}
}

// byModel prints a row per model and policy, and reports whether some figures
// cannot be claimed.
func byModelInText(w io.Writer, c *comparison.Comparison) (few bool) {
	t := table.New("model", "policy", ">miss rate", ">change", ">p50", ">change", ">p99", ">change")
	base := &c.Policies[0]
	for i := range c.Policies {
		if c.Policies[i].Policy == c.Baseline {
			base = &c.Policies[i]
		}
	}
	for m := range base.Models {
		if m > 0 {
			t.AppendSeparator()
		}
		for i := range c.Policies {
			name := ""
			if i == 0 {
				name = shorten(base.Models[m].Model, 24)
			}
			x, b := &c.Policies[i].Models[m], &base.Models[m]
			few = few || !x.Miss.Claimed || !x.P50.Claimed || !x.P99.Claimed
			t.AppendRow(table.Row{name, c.Policies[i].Policy,
				fmt.Sprintf("%s ± %s %%%s", pointsInText(x.Miss.Median), pointsInText(spreadInText(&x.Miss)), star(&x.Miss)),
				change(&x.Miss, func(d float64) string { return fmt.Sprintf("%+.2f", 100*d) }),
				latencyInText(&x.P50), change(&x.P50, relative(&b.P50)), latencyInText(&x.P99), change(&x.P99, relative(&b.P99))})
		}
	}
	render(w, t)
	return few
}

// legend says what the tables do not.
func legendInText(w io.Writer, r *result.Result, few bool) {
	c := r.Comparison
	first, last := r.Traffic.Seed, r.Traffic.Seed+uint64(c.Repeats)-1
	seeds := fmt.Sprintf("seeds %d to %d", first, last)
	if first == last {
		seeds = fmt.Sprintf("seed %d", first)
	}
	if c.Repeats == 1 {
		Paragraph(w, fmt.Sprintf("One run of %g s per policy, %s, on the same arrivals. Nothing can be tested with one run: what differs may be chance; --repeats %d is the fewest that can show a difference.",
			r.Traffic.DurationS, seeds, comparison.Enough))
	} else {
		Paragraph(w, fmt.Sprintf("%d repeats of %g s, %s: the same arrivals for all policies of a repeat, in changing order. Figures are medians over repeats; intervals and ± hold the median with %.3g %% confidence.",
			c.Repeats, r.Traffic.DurationS, seeds, 100*c.Confidence))
		if c.Repeats < comparison.Enough {
			Paragraph(w, fmt.Sprintf("%d repeats are too few for any difference to be significant: --repeats %d or more.", c.Repeats, comparison.Enough))
		}
		Paragraph(w, fmt.Sprintf("~: no significant difference from %s (Wilcoxon's signed-rank test of the differences within repeats, p above 0.05). Each test stands for itself: of 20 differences that are not there, one shows on average.", c.Baseline))
	}
	Paragraph(w, "Response times are of finished requests: a policy that drops more can look faster. "+
		"p50 (geomean): geometric mean over models of p50 over the baseline's.")
	if c.Driver == eventlog.Real {
		Paragraph(w, "Taken by others: the largest share of its processor time that an accelerator had to give to other threads and processes, in any run.")
	}
	if few {
		Paragraph(w, fmt.Sprintf("* too few requests to claim it, so that it was not tested: p50 takes %d finished requests in every repeat, p99 %d, a miss rate %d released ones.",
			jobsFor(0.50), jobsFor(0.99), comparison.MinMissJobs()))
	}
	noise(w, c)
	for _, p := range r.Policies {
		if p.VariantShare() > 0 {
			Paragraph(w, fmt.Sprintf("In the first repeat, %s had variants run %s of the layers of finished requests, "+
				"which kept %s of the accuracy.", p.Policy, percentInText(p.VariantShare()), accuracyKept(p.AccuracyKept())))
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
		fmt.Fprintf(w, "outputs: %d of %d sampled requests have those of the whole model\n", verified, verified+wrong)
	}
}

// noise says what the A/A runs showed.
func noise(w io.Writer, c *comparison.Comparison) {
	if c.AA == nil || c.AA.Miss.P == nil {
		return
	}
	if c.Driver == eventlog.Simulated {
		fmt.Fprintln(w, "A/A: simulations repeat exactly, so that a policy never differs from itself.")
		return
	}
	m := &c.AA.Miss
	text := fmt.Sprintf("A/A: between two runs of %s in the same repeat the mean miss rate differs by %+.2f points (%+.2f to %+.2f): what is no larger is noise of this machine.",
		c.Baseline, 100**m.Difference, 100**m.DifferenceLow, 100**m.DifferenceHigh)
	if what, tested := c.AA.Differs(); len(what) > 0 {
		text += fmt.Sprintf(" Of %d quantities %d differ significantly where nothing can: %s.", tested, len(what), strings.Join(what, ", "))
	}
	Paragraph(w, text)
}

// points is a share in per cent without its sign.
func pointsInText(x float64) string { return fmt.Sprintf("%.2f", 100*x) }

// spread is how far an interval reaches from the median.
func spreadInText(m *comparison.Measure) float64 { return max(m.High-m.Median, m.Median-m.Low) }

func star(m *comparison.Measure) string {
	if m.Claimed {
		return ""
	}
	return "*"
}

// latency is a response time with its interval as a share of it.
func latencyInText(m *comparison.Measure) string {
	if len(m.Values) == 0 {
		return "-"
	}
	share := 0.0
	if m.Median > 0 {
		share = 100 * spreadInText(m) / m.Median
	}
	return fmt.Sprintf("%s ± %.0f %%%s", msTextInText(m.Median), math.Ceil(share), star(m))
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

// change words a difference from the baseline: "~" where it is not significant,
// nothing for the baseline itself and where none was tested.
func change(m *comparison.Measure, word func(float64) string) string {
	switch {
	case m.P == nil:
		return ""
	case !m.Significant:
		return "~"
	}
	return word(*m.Difference)
}
