package sched

// newPEDF is priced EDF: earliest deadline first among the requests that
// admission lets in, each on the accelerator where finish time and price-weighted
// latency together are least; see pricedRule.
func newPEDF(t *Tables) Policy { return newPricedRule(newPriced(t), pricedEDF()) }

// pricedEDF is the rule of that name.
func pricedEDF() ruleOptions {
	return ruleOptions{order: byDeadline, gain: 2, admission: true, dynamic: true}
}
