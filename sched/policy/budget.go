package policy

import (
	"time"

	"github.com/terastal/terastal/sched"
)

// terastalBudget is [sched.Terastal] with variants by the price of accuracy: of the implementations that meet the virtual
// deadline on an idle accelerator, the one that ends first, its price included. What it shows next to priced EDF is how
// much of a gain is the price's and how much the policy's.
func terastalBudget(c sched.Config) (sched.Policy, error) {
	p, err := newPriced(c.Tables, false)
	if err != nil {
		return nil, err
	}
	var o sched.TerastalOptions
	if p.spends {
		o.Accuracy = p.accounts
	}
	inner, err := o.New(c)
	if err != nil {
		return nil, err
	}
	return budgeted{inner, p}, nil
}

// budgeted settles accounts.
type budgeted struct {
	sched.Policy
	*priced
}

func (budgeted) Completed(time.Duration, time.Duration)                 {}
func (p budgeted) Ended(j sched.Job, o sched.Outcome, at time.Duration) { p.ended(&j, o, at) }
func (budgeted) GiveUp(*sched.State, int) int                           { return -1 }
