package sched

import (
	"fmt"
	"strconv"
	"strings"
)

// portfolio makes the rules that rollouts choose from, those named by number
// ("0+3+12"), or all. The first is priced EDF.
func portfolio(p *priced, which string) []Policy {
	var all []Policy
	for _, o := range portfolioRules() {
		all = append(all, newPricedRule(p, o))
	}
	for _, laxity := range []float64{0, 1, 0.5} {
		all = append(all, newTerastalWith(terastalOptions{laxity: laxity})(p.t))
	}
	all = append(all, newFCFS(p.t), newEDF(p.t))
	if which == "" {
		return all
	}
	var out []Policy
	for _, f := range strings.Split(which, "+") {
		n, err := strconv.Atoi(f)
		if err != nil {
			broken("rules %q were not checked", which)
		}
		out = append(out, all[n])
	}
	return out
}

// portfolioSize is how many rules there are.
const portfolioSize = 14

// checkRules checks what a user typed as the rules.
func checkRules(which string) error {
	for _, f := range strings.Split(which, "+") {
		if n, err := strconv.Atoi(f); err != nil || n < 0 || n >= portfolioSize {
			return fmt.Errorf("rollout has no rule %q: write numbers from 0 to %d with + between them", f, portfolioSize-1)
		}
	}
	return nil
}

// portfolioRules are the priced rules of the portfolio.
func portfolioRules() []ruleOptions {
	return []ruleOptions{
		pricedEDF(),
		{order: byDeadline, gain: 1, admission: true, caution: 0.6},
		{order: byHalfLaxity, gain: 2, admission: true, dynamic: true},
		{order: byLaxity, gain: 1, admission: true, dynamic: true},
		{order: byArrival, gain: 2, dynamic: true},
		{order: byDeadline},
		{order: byDeadline, gain: 8, admission: true},
		{order: byArrival},
		{order: byHalfLaxity, gain: 4, caution: 0.6},
	}
}
