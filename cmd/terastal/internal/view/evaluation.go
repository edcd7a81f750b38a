package view

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/sched"
)

// The published reductions of the deadline-miss rate (arXiv 2606.06818), and the
// baselines they are against.
var (
	baselines = []string{"fcfs", "edf", "dream"}
	published = map[string]string{"fcfs": "40.58 %", "edf": "30.53 %", "dream": "36.27 %"}
)

// Evaluation writes docs/EVALUATION.md from a sweep.
func Evaluation(w io.Writer, results []study.Result) error {
	var b strings.Builder
	groups := study.Groups(results)
	policies := policiesOf(results)
	fmt.Fprint(&b, `# The published evaluation, repeated on the simulator

Written by `+"`make evaluation`"+`; do not edit. Same command, same file.

The task systems are those of arXiv 2606.06818 as far as they are known from public material (`+"`go doc ./sched/scenario`"+` names every
source): layer latencies from the XRBench edition of the MAESTRO cost model, layer variants and their measured accuracies from the authors'
public repository. Deadlines are the periods at scale 1. A miss rate is the share of released requests that were late or dropped; every
figure is the mean over a scenario's models, then over seeds. DREAM's formulas are as publicly recalled, not taken from its text or code.
Real hardware differs: handoffs, interference, dispatch overhead and branches are not in these tables.

`)
	seeds := 0
	for _, r := range results {
		seeds = max(seeds, r.Seeds)
	}
	fmt.Fprintf(&b, "%d combinations of scenario, traffic, rate scale and drop policy, %d policies, up to %d seeds each.\n\n", len(groups), len(policies), seeds)
	evaluationReductions(&b, groups)
	evaluationScenarios(&b, groups, policies)
	evaluationOverall(&b, groups, policies)
	evaluationLosses(&b, groups)
	_, err := io.WriteString(w, b.String())
	return err
}

func policiesOf(results []study.Result) []string {
	var out []string
	for _, r := range results {
		if !slices.Contains(out, r.Policy) {
			out = append(out, r.Policy)
		}
	}
	order := sched.Policies()
	rank := func(name string) int {
		base, options, _ := strings.Cut(name, ":")
		at := slices.IndexFunc(order, func(p sched.PolicyInfo) bool { return p.Name == base })
		if options != "" { // after what it changes
			at = len(order) + at
		}
		return at
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// standard reports whether a group is the published setting: given rates, late
// requests dropped, no noise.
func standard(g *study.Group) bool {
	r := &g.Results[0]
	return r.Scale == 1 && r.Noise == 0 && r.Drop == sched.DropLate
}

func evaluationReductions(b *strings.Builder, groups []study.Group) {
	fmt.Fprint(b, "## Reductions beside the published ones\n\nReduction of terastal's mean miss rate, at scale 1, late requests dropped, and in parentheses the baseline's own.\nNegative: terastal misses more. The range beside terastal's is the 95 % confidence interval over seeds.\n\n")
	fmt.Fprint(b, "| scenario | traffic | terastal | against FCFS | EDF | DREAM | normalised accuracy |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	sum, n := map[string]float64{}, 0
	for i := range groups {
		g := &groups[i]
		t := g.Of("terastal")
		if !standard(g) || t == nil {
			continue
		}
		row := []string{t.Scenario, t.Traffic(), intervalInText(t)}
		for _, base := range baselines {
			text := "-"
			switch r := g.Of(base); {
			case r == nil:
			case r.Miss > 0:
				text = fmt.Sprintf("%.0f %% (%s)", 100*(1-t.Miss/r.Miss), rate(r.Miss))
			default:
				text = "(" + rate(r.Miss) + ")"
			}
			row = append(row, text)
		}
		fmt.Fprintf(b, "| %s | %s |\n", strings.Join(row, " | "), accuracyText(t.Accuracy))
		n++
		for _, base := range baselines {
			if r := g.Of(base); r != nil {
				sum[base] += r.Miss
			}
		}
		sum["terastal"] += t.Miss
	}
	if n == 0 {
		return
	}
	row := []string{"**all of these**", "", rate(sum["terastal"] / float64(n))}
	for _, base := range baselines {
		row = append(row, fmt.Sprintf("**%.0f %%** (%s)", 100*(1-sum["terastal"]/sum[base]), rate(sum[base]/float64(n))))
	}
	fmt.Fprintf(b, "| %s | |\n", strings.Join(row, " | "))
	fmt.Fprintf(b, "| published, average | unknown | | %s | %s | %s | 0.9776 over models with variants |\n\n", published["fcfs"], published["edf"], published["dream"])
}

func evaluationScenarios(b *strings.Builder, groups []study.Group, policies []string) {
	fmt.Fprint(b, "## Every policy, at scale 1, late requests dropped\n\nMean miss rates; the lowest in bold.\n\n")
	fmt.Fprintf(b, "| scenario | traffic | %s |\n| --- | --- |%s\n", strings.Join(policies, " | "), strings.Repeat(" --- |", len(policies)))
	for i := range groups {
		g := &groups[i]
		if !standard(g) {
			continue
		}
		best := g.Best(policies...)
		fmt.Fprintf(b, "| %s | %s |", best.Scenario, best.Traffic())
		for _, p := range policies {
			switch r := g.Of(p); {
			case r == nil:
				fmt.Fprint(b, " - |")
			case r.Miss == best.Miss:
				fmt.Fprintf(b, " **%s** |", rate(r.Miss))
			default:
				fmt.Fprintf(b, " %s |", rate(r.Miss))
			}
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b)
}

func evaluationOverall(b *strings.Builder, groups []study.Group, policies []string) {
	fmt.Fprint(b, "## The whole grid\n\nMean over all combinations, and how often each policy beats, loses to and ties with the best of FCFS, EDF and DREAM (an oracle that picks\nthe best of the three in every combination; paired t test over seeds, 5 %, uncorrected).\n\n")
	fmt.Fprint(b, "| policy | mean miss rate | normalised accuracy | won / lost / tied |\n| --- | --- | --- | --- |\n")
	for _, p := range policies {
		miss, accuracy, n := 0.0, 0.0, 0
		var countInText [3]int
		for i := range groups {
			r, best := groups[i].Of(p), groups[i].Best(baselines...)
			if r == nil || best == nil {
				continue
			}
			miss += r.Miss
			if r.Accuracy == nil {
				accuracy = math.NaN()
			} else {
				accuracy += *r.Accuracy
			}
			n++
			v, _, _ := study.Paired(r.BySeed, best.BySeed)
			countInText[v]++
		}
		if n > 0 {
			fmt.Fprintf(b, "| %s | %s | %.4f | %d / %d / %d |\n", p, rate(miss/float64(n)), accuracy/float64(n), countInText[study.Won], countInText[study.Lost], countInText[study.Tied])
		}
	}
	oracle, n := 0.0, 0
	for i := range groups {
		if best := groups[i].Best(baselines...); best != nil {
			oracle += best.Miss
			n++
		}
	}
	if n > 0 {
		fmt.Fprintf(b, "| the best of FCFS, EDF and DREAM in each | %s | | |\n", rate(oracle/float64(n)))
	}
	fmt.Fprintln(b)
}

// lossesShown is how many of the worst combinations the document names.
const lossesShown = 20

func evaluationLosses(b *strings.Builder, groups []study.Group) {
	type loss struct {
		t, best *study.Result
		by, p   float64
	}
	var losses []loss
	for i := range groups {
		t, best := groups[i].Of("terastal"), groups[i].Best(baselines...)
		if t == nil || best == nil {
			continue
		}
		if v, by, p := study.Paired(t.BySeed, best.BySeed); v == study.Lost {
			losses = append(losses, loss{t, best, by, p})
		}
	}
	slices.SortStableFunc(losses, func(a, b loss) int { return cmp.Compare(b.by, a.by) })
	fmt.Fprintf(b, "## Where terastal loses\n\n%d combinations, significantly, against the best of the three baselines; the %d worst:\n\n", len(losses), min(lossesShown, len(losses)))
	fmt.Fprint(b, "| scenario | traffic | scale | drop | terastal | best baseline | difference | p | model that loses most |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, l := range losses[:min(lossesShown, len(losses))] {
		fmt.Fprintf(b, "| %s | %s | %g | %s | %s | %s %s | %+.3f | %.2g | %s |\n", l.t.Scenario, l.t.Traffic(), l.t.Scale, l.t.Drop, rate(l.t.Miss), l.best.Policy, rate(l.best.Miss), l.by, l.p, losesMost(l.t, l.best))
	}
	fmt.Fprint(b, `
The column on the right names the model whose miss rate differs most, terastal's first. Our reading, where it is the one with the
shortest period: budgets are proportional to latency and layers are ordered by their slack against them, so that a layer of a long-period model
that is behind its virtual deadline goes first, and a short-period request, which has little absolute slack, does not recover from the wait. No
experiment isolates this; that terastal-nobudgets misses nothing on periodic ar_social at scale 1 (above) agrees with it. Without dropping,
requests that are late already keep taking accelerators from those that could still be saved. Aligned traffic begins within a microsecond, in an
order that the seed draws: exactly at once, a run would be a single trajectory that hangs on how ties are broken.
`)
}

// losesMost names the model whose miss rate differs most between two results.
func losesMost(t, best *study.Result) string {
	at, most := -1, 0.0
	for i := range t.Models {
		if i < len(best.Models) && t.Models[i].MissRate-best.Models[i].MissRate > most {
			at, most = i, t.Models[i].MissRate-best.Models[i].MissRate
		}
	}
	if at < 0 {
		return "-"
	}
	return fmt.Sprintf("%s %.2f / %.2f", t.Models[at].Model, t.Models[at].MissRate, best.Models[at].MissRate)
}

func intervalInText(r *study.Result) string {
	return fmt.Sprintf("%s (%s to %s)", rate(r.Miss), rate(max(0, r.Low)), rate(r.High))
}

func accuracyText(x *float64) string {
	if x == nil {
		return "unknown"
	}
	return rate(*x)
}

func rate(x float64) string { return fmt.Sprintf("%.4f", x) }

// Scenario prints the results of a scenario's policies as text.
func Scenario(w io.Writer, results []study.Result) {
	t := table.New("policy", "model", ">released", ">met", ">late", ">dropped", ">miss rate", ">p50", ">p90", ">p99", ">accuracy")
	for n, r := range results {
		if n > 0 {
			t.AppendSeparator()
		}
		for i, m := range r.Models {
			name := ""
			if i == 0 {
				name = r.Policy
			}
			p50, p90, p99 := latenciesInText(m)
			t.AppendRow(table.Row{name, m.Model, m.Released, m.Met, m.Late, m.Dropped, percentInText(m.MissRate), p50, p90, p99, accuracyText(m.NormalizedAccuracy)})
		}
		t.AppendRow(table.Row{"", "mean of miss rates", "", "", "", "", percentInText(r.Miss), fmt.Sprintf("%.1f", 100*max(0, r.Low)), "to", percentInText(r.High), accuracyText(r.Accuracy)})
	}
	render(w, t)
	for i := range results {
		for _, base := range results[:i] {
			if base.Miss > 0 && i == len(results)-1 {
				_, _, p := study.Paired(results[i].BySeed, base.BySeed)
				fmt.Fprintf(w, "%s misses %.0f %% less than %s (p = %.2g, paired over seeds)\n", results[i].Policy, 100*(1-results[i].Miss/base.Miss), base.Policy, p)
			}
		}
	}
}
