package sched

import "time"

// Observed shows what a policy does, to tests that are not part of the package
// and so cannot wrap the optional parts of one.
type Observed struct {
	Policy
	// Selected is told the state before and after a decision, and the decision.
	Selected func(before, after *State, out []Choice)
	// Dropping is told whether the policy's own rule drops a waiting job.
	Dropping func(s *State, job int, drop bool)
}

func (o Observed) Select(s *State, out []Choice) []Choice {
	var before State
	before.CopyFrom(s)
	out = o.Policy.Select(s, out)
	o.Selected(&before, s, out)
	return out
}

func (o Observed) drops(s *State, job int) bool {
	d, ok := o.Policy.(dropper)
	drop := ok && d.drops(s, job)
	o.Dropping(s, job, drop)
	return drop
}

func (o Observed) ended(j Job, outcome Outcome, at time.Duration) {
	if w, ok := o.Policy.(watcher); ok {
		w.ended(j, outcome, at)
	}
}

func (o Observed) configure(cfg *Config) {
	if c, ok := o.Policy.(configured); ok {
		c.configure(cfg)
	}
}

func (o Observed) paced(predicted, took time.Duration) {
	if p, ok := o.Policy.(pacer); ok {
		p.paced(predicted, took)
	}
}

// RuleOptions are ruleOptions for tests that are not part of the package.
type RuleOptions struct {
	Order              int
	Gain, Caution      float64
	Admission, Dynamic bool
}

func exported(o ruleOptions) RuleOptions {
	return RuleOptions{int(o.order), o.gain, o.caution, o.admission, o.dynamic}
}

// PortfolioRules are the priced rules that rollouts choose from.
func PortfolioRules() (out []RuleOptions) {
	for _, o := range portfolioRules() {
		out = append(out, exported(o))
	}
	return out
}

// RolloutOptions are rolloutOptions.
type RolloutOptions struct {
	Every, Events, Touches                      int
	Horizon, Tight, Fade, Variant, Good, Margin float64
}

// DefaultRollout are those of policy rollout.
func DefaultRollout() RolloutOptions {
	o := defaultRollout()
	return RolloutOptions{o.every, o.events, o.touches, o.horizon, o.tight, o.fade, o.variant, o.good, o.margin}
}

// RolledSeed sets apart what rolled engines draw.
const RolledSeed = rolledSeed

// Adopt makes an engine go on from a state, beginning with a decision there, with
// layers that take so many times as long as the tables say.
func Adopt(e *Engine, s *State, slow float64) {
	if e.adopt(s); slow != 1 {
		e.slow = slow
	}
	e.dispatch()
}

// StateOf is the engine's own state.
func StateOf(e *Engine) *State { return &e.state }

// PricedEDF are those of priced EDF.
func PricedEDF() RuleOptions {
	return exported(pricedEDF())
}

// NewPricedRule makes any rule of the family.
func NewPricedRule(t *Tables, o RuleOptions) Policy {
	return newPricedRule(newPriced(t), ruleOptions{order(o.Order), o.Gain, o.Admission, o.Dynamic, o.Caution})
}
