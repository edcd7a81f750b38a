package view

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/study"
	"github.com/terastal/terastal/sched"
)

// published4 are the policies that ours are held against, the best of them in
// each combination.
var published4 = []string{"fcfs", "edf", "dream", "terastal"}

// Section is a sweep of its own in a report.
type Section struct {
	Title   string
	Results []study.Result
}

// Rollout writes docs/EVALUATION-ROLLOUT.md from a sweep with the policies pedf
// and rollout, whatever its scenarios, noises and drop policies, and from others
// that get a table each.
func Rollout(w io.Writer, results []study.Result, others []Section) error {
	var b strings.Builder
	fmt.Fprint(&b, `# Priced EDF and rollouts, on the simulator

Written by `+"`make evaluation-rollout`"+`; do not edit. Same command, same file.

Task systems and traffic are those of [EVALUATION.md](EVALUATION.md). Policies: `+"`pedf`"+` (priced EDF), `+"`rollout`"+` (the best of 14 rules by
short simulations; searches take no time here), and those that they are held against. Rows that begin with rollout: change an option of it.
The best of four is an oracle that takes the best of FCFS, EDF, DREAM and Terastal in every combination, by the same seeds that it is then compared
on, which flatters it. Won, lost and tied are by a paired t test over seeds at 5 %, uncorrected. With noise, every layer takes a lognormal factor of mean 1
as long as predicted.

`)
	groups := study.Groups(results)
	type class struct {
		noise float64
		drop  sched.DropPolicy
	}
	var classes []class
	for i := range groups {
		c := class{groups[i].Results[0].Noise, groups[i].Results[0].Drop}
		if !slices.Contains(classes, c) {
			classes = append(classes, c)
		}
	}
	slices.SortStableFunc(classes, func(a, b class) int { return cmp.Or(cmp.Compare(a.noise, b.noise), cmp.Compare(a.drop, b.drop)) })
	fmt.Fprint(&b, "## All combinations\n\n")
	quiet := rolloutGroups(groups, func(r *study.Result) bool { return r.Noise == 0 && r.Drop != sched.DropNone })
	rolloutTable(&b, "No noise, requests dropped when late or when hopeless: the grid that the goals are about", quiet)
	for _, c := range classes {
		some := rolloutGroups(groups, func(r *study.Result) bool { return r.Noise == c.noise && r.Drop == c.drop })
		rolloutTable(&b, fmt.Sprintf("Noise %.0f %%, drop %v", 100*c.noise, c.drop), some)
	}
	if err := rolloutScales(&b, groups); err != nil {
		return err
	}
	rolloutLosses(&b, groups)
	if len(others) > 0 {
		fmt.Fprint(&b, "\n## Ablations, other systems, and what is not as predicted\n\nSmaller grids: what they are is in the Makefile.\n\n")
	}
	for _, o := range others {
		rolloutTable(&b, o.Title, study.Groups(o.Results))
	}
	rolloutGuard(&b, append([]Section{{"The grids of all combinations above", results}}, others...))
	fmt.Fprint(&b, rolloutNotes)
	_, err := io.WriteString(w, b.String())
	return err
}

// rolloutNotes are what the tables do not show.
const rolloutNotes = `## What was tried and left out

Five rules of the first 19 (least laxity ratio with and without prices, mean laxity, terastal with virtual deadlines beyond its budgets, DREAM with fixed
weights): together they took a search's events from the others and gained nothing. Correcting single latencies by what layers took (` + "`--adapt`" + `) under interference:
accelerators that are seldom used keep their optimistic predictions and draw layers to them. Instead one pace of all layers scales every
prediction (` + "`go doc -u ./sched pace`" + `). Half as many rolled events per search: rolls then end too early.

A guard that accounts for the others in shadow was not built: the table above says what one that knows the future would gain. A real one has to simulate
the others by the same predictions that the rollouts trust, gets to know the best only after its losses, and falls back wrongly wherever the machine is slower
than predicted, since the shadows are not. So there is no guarantee for traffic unlike that of all these tables. In overload with nothing dropped, queues of dozens of
requests used up a search's bounds while the rule that dispatches was rolled, and that rule stayed, whichever it was: rollout missed .4004 there, pedf .3431. Such a search now
answers pedf. Letting it roll that rule with half or a quarter of the bounds, so that others get their turn, without that answer missed more than before (mcv_heavy, 400 ms, 2 seeds:
.463 and .471 against .429); with it, the difference was within the noise (700 ms, 4 seeds).

How far to look ahead: first one mean period of the models, which in the published systems is their relative deadline. Where requests come much more often than they are due,
that ends before anything that queues is decided. Four small networks on two CPU accelerators, due after 10 to 25 ms, with periods of 1 to 2 ms (the demo's, its measured profile simulated
at 1.3 times the capacity, late requests dropped, 4 seeds of 500 ms): with periods .2411, with relative deadlines .2023, pedf .2042, fcfs .2905. So the horizon is now the mean relative deadline.
With it, over 8 seeds, rollout, pedf, fcfs and terastal miss .0693, .0833, .2193, .2710 at 1.1 times the capacity and .2027, .2035, .2886, .4161 at 1.3; with noise of 10 %, interference of
10 % and results 200 us late .1518, .1514, .2347, .4327 and .2967, .2965, .4274, .5586.

A portfolio chosen offline for the scenario at hand (all rules rolled to the end at every search of 2 s of Poisson traffic at 1.3 times the rates, then the
greedy choice by the sum of least costs): what fewer rules leave of a search's events goes into rolling the rest. On the grid of the ablations, a part of which is
what was chosen by, rollout with all 14 rules .0632, with the 6 chosen for each scenario .0637 (difference +.0005 +- .0028, 95 % over 4 seeds), with the 4 chosen
.0654 (+.0021 +- .0025), with the same 6 for all (` + "`rollout:rules=0+1+2+4+10+11`" + `) .0639 (+.0007 +- .0028), with the same 4 (` + "`rules=0+2+4+10`" + `) .0667 (+.0035 +- .0028). The 6 do not
make searches faster (BenchmarkSearch, one core that others used too, p50 at 1.3 times the rates: mcv_heavy 104 us with 14 rules, 105 with 6, 79 with 4; ar_social@4K 81, 94, 86).

Searches of 60 us at the median at 1.3 times the rates (they take about 80 to 105): only fewer events get there, and miss more. ` + "`events=500`" + ` has 54 us on mcv_heavy
and 37 on ar_social@4K, and misses .0762 on the same grid (+.0130 +- .0053); ` + "`events=700`" + ` .0667 (+.0035 +- .0035); with half the horizon, ` + "`events=500`" + ` .0699 (+.0067 +- .0023) and
` + "`events=600`" + ` .0688 (+.0056 +- .0031); with that, 6 rules and ` + "`events=550`" + ` .0681 (+.0049 +- .0028); 6 rules and ` + "`events=600`" + ` .0707 (+.0075 +- .0020); a search at every event with ` + "`events=500`" + `
.0712 (+.0080 +- .0010). The bound stays at 1000. The differences are from rollout in the same runs, 20 combinations
and 4 seeds; every policy named here can be given to the command of the ablations in the Makefile.

Rolling layers that do not take as long as predicted (differences from rollout with 95 % intervals over seeds; runs of 1 s at 1.3 times the rates, late requests dropped). One drawn
future per search, the same for all rules, with lognormal factors: of 15 % +.0033 +- .0073 and of 30 % +.0093 +- .0129 where the noise is 30 % (6 combinations, 6 seeds; 2 combinations, 8 seeds).
All layers a fixed share longer, as a high quantile would have it: 25 % longer -.0050 +- .0056 at that noise (6 combinations, 6 seeds), and 10 % longer -.0094 +- .0068, and -.0105 +- .0077
where accelerators drift by 30 %, but +.0009 +- .0038 at 10 % noise and +.0142 +- .0056 without noise, with two of four combinations lost (4 combinations, 6 seeds). So schedules are rolled as predicted.

Not tried: several drawn futures per search, layers longer by as much as predictions were wrong lately, and coarser rolled layers.
`

func rolloutGroups(groups []study.Group, wanted func(*study.Result) bool) []study.Group {
	var out []study.Group
	for _, g := range groups {
		if wanted(&g.Results[0]) {
			out = append(out, g)
		}
	}
	return out
}

// rolloutTable compares the policies over groups that have the four baselines.
func rolloutTable(b *strings.Builder, title string, groups []study.Group) {
	groups = slices.DeleteFunc(groups, func(g study.Group) bool { return g.Best(published4...) == nil })
	if len(groups) == 0 {
		return
	}
	var all []study.Result
	for _, g := range groups {
		all = append(all, g.Results...)
	}
	fmt.Fprintf(b, "%s (%d combinations, %d seeds each):\n\n", title, len(groups), all[0].Seeds)
	fmt.Fprint(b, "| policy | mean miss rate, 95 % interval over seeds | normalised accuracy | won / lost / tied | most above the best of four | its p |\n| --- | --- | --- | --- | --- | --- |\n")
	oracle := make([]float64, all[0].Seeds)
	for i := range groups {
		for s, x := range groups[i].Best(published4...).BySeed {
			oracle[s] += x / float64(len(groups))
		}
	}
	fmt.Fprintf(b, "| the best of four | %s | | | | |\n", meanInterval(oracle))
	for _, p := range policiesOf(all) {
		miss := make([]float64, all[0].Seeds)
		accuracy, n := 0.0, 0
		var countInText [3]int
		worst, worstP := math.Inf(-1), 1.0
		for i := range groups {
			r, best := groups[i].Of(p), groups[i].Best(published4...)
			if r == nil {
				continue
			}
			n++
			for s, x := range r.BySeed {
				miss[s] += x
			}
			if r.Accuracy == nil {
				accuracy = math.NaN()
			} else {
				accuracy += *r.Accuracy
			}
			v, by, q := study.Paired(r.BySeed, best.BySeed)
			if countInText[v]++; by > worst {
				worst, worstP = by, q
			}
		}
		if n < len(groups) {
			continue
		}
		for s := range miss {
			miss[s] /= float64(n)
		}
		fmt.Fprintf(b, "| %s | %s | %.4f | %d / %d / %d | %+.4f | %.2g |\n", p, meanInterval(miss), accuracy/float64(n), countInText[study.Won], countInText[study.Lost], countInText[study.Tied], worst, worstP)
	}
	fmt.Fprintln(b)
}

func meanInterval(xs []float64) string {
	mean, low, high := study.Interval(xs)
	return fmt.Sprintf("%s (%s to %s)", rate(mean), rate(low), rate(high))
}

// rolloutScales shows miss rates by scenario and rate scale, with the fluid
// bound.
func rolloutScales(b *strings.Builder, groups []study.Group) error {
	type key struct {
		scenario string
		scale    float64
	}
	type row struct {
		sum, n map[string]float64
	}
	rows := map[key]*row{}
	var keys []key
	var all []study.Result
	for i := range groups {
		r := &groups[i].Results[0]
		best := groups[i].Best(published4...)
		if r.Noise != 0 || r.Drop != sched.DropLate || best == nil {
			continue
		}
		k := key{r.Scenario, r.Scale}
		if rows[k] == nil {
			rows[k] = &row{map[string]float64{}, map[string]float64{}}
			keys = append(keys, k)
		}
		for _, x := range groups[i].Results {
			rows[k].sum[x.Policy] += x.Miss
			rows[k].n[x.Policy]++
			all = append(all, x)
		}
		rows[k].sum[""] += best.Miss
		rows[k].n[""]++
	}
	if len(keys) == 0 {
		return nil
	}
	var policies []string
	for _, p := range policiesOf(all) {
		if !strings.Contains(p, ":") {
			policies = append(policies, p)
		}
	}
	fmt.Fprintf(b, "## By scenario and rate scale\n\nMean miss rates over the arrival processes, late requests dropped, no noise. The fluid bound is the least that any schedule misses in the long run at\nthese mean rates (`go doc ./sched Tables.MissBound`); it knows no bursts, deadlines or whole layers.\n\n| scenario | scale | fluid bound | the best of four | %s |\n| --- | --- | --- | --- |%s\n", strings.Join(policies, " | "), strings.Repeat(" --- |", len(policies)))
	for _, k := range keys {
		bound, err := study.MissBound(k.scenario, k.scale)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "| %s | %g | %s | %s |", k.scenario, k.scale, rate(bound), rate(rows[k].sum[""]/rows[k].n[""]))
		for _, p := range policies {
			fmt.Fprintf(b, " %s |", rate(rows[k].sum[p]/rows[k].n[p]))
		}
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b)
	return nil
}

// rolloutGuard shows what a guard that knew the best fixed policy of each single
// run beforehand could gain over rollout.
func rolloutGuard(b *strings.Builder, sections []Section) {
	fmt.Fprint(b, `## What a guard could gain

A guard that falls back on one of the others for good, where that does better, gains at most what one does that knows before each single run (a combination and
a seed) which of them that is. That gain is a mean miss rate over all runs.

| runs | how many | in which one of the four misses less | gain with these | in which one of the four or pedf does | gain with these |
| --- | --- | --- | --- | --- | --- |
`)
	for _, s := range sections {
		var worse [2]int
		var gain [2]float64
		n := 0
		for _, g := range study.Groups(s.Results) {
			ours := g.Of("rollout")
			if ours == nil || g.Best(published4...) == nil {
				continue
			}
			for seed, x := range ours.BySeed {
				n++
				for i, others := range [][]string{published4, append([]string{"pedf"}, published4...)} {
					least := x
					for _, p := range others {
						if r := g.Of(p); r != nil {
							least = min(least, r.BySeed[seed])
						}
					}
					if least < x {
						worse[i]++
						gain[i] += x - least
					}
				}
			}
		}
		if n > 0 {
			fmt.Fprintf(b, "| %s | %d | %d | %.5f | %d | %.5f |\n", s.Title, n, worse[0], gain[0]/float64(n), worse[1], gain[1]/float64(n))
		}
	}
	fmt.Fprintln(b)
}

// rolloutLosses lists the combinations that pedf or rollout lose.
func rolloutLosses(b *strings.Builder, groups []study.Group) {
	fmt.Fprint(b, "## Where they lose\n\nEvery combination in which one of the two misses significantly more than the best of the four.\n\n| policy | scenario | traffic | scale | noise | drop | its miss rate | best of four | difference | p |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, p := range []string{"pedf", "rollout"} {
		for i := range groups {
			r, best := groups[i].Of(p), groups[i].Best(published4...)
			if r == nil || best == nil {
				continue
			}
			if v, by, q := study.Paired(r.BySeed, best.BySeed); v == study.Lost {
				fmt.Fprintf(b, "| %s | %s | %s | %g | %g | %s | %s | %s %s | %+.4f | %.2g |\n", p, r.Scenario, r.Traffic(), r.Scale, r.Noise, r.Drop, rate(r.Miss), best.Policy, rate(best.Miss), by, q)
			}
		}
	}
}
