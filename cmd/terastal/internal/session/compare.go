package session

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/sched/eventlog"
)

// CompareOptions say how policies are compared.
type CompareOptions struct {
	Real      // unless Simulated
	Simulated bool
	// Repeats is how often every policy plays: with the configuration's seed, the one after it, and so on.
	Repeats int
	// Baseline is the policy that the others are held against; empty means the first.
	Baseline string
	// AA lets the baseline play twice in every repeat, to be held against itself.
	AA bool
}

// MaxRepeats bounds a comparison.
const MaxRepeats = 1000

// Check refuses options that the configuration cannot be compared with.
func (o *CompareOptions) Check(c *config.Config) error {
	if o.Repeats < 1 || o.Repeats > MaxRepeats {
		return fmt.Errorf("%w: %d repeats, must be 1 to %d", config.ErrInvalid, o.Repeats, MaxRepeats)
	}
	if o.Baseline == "" {
		o.Baseline = c.Policies[0]
	}
	if !slices.Contains(c.Policies, o.Baseline) {
		return fmt.Errorf("%w: the baseline %q is not among the policies %v", config.ErrInvalid, o.Baseline, c.Policies)
	}
	return nil
}

// Announce says what a comparison will take, and how to cut it short.
func (o *CompareOptions) Announce(c *config.Config) string {
	turns := len(c.Policies)
	if o.AA {
		turns++
	}
	if o.Simulated {
		return fmt.Sprintf("simulating %d runs of %v", o.Repeats*turns, c.Traffic.Duration)
	}
	total := time.Duration(o.Repeats*turns) * c.Traffic.Duration
	return fmt.Sprintf("%d repeats of %d runs, %v each: %v in all; an interrupt ends it with the repeats that are whole",
		o.Repeats, turns, c.Traffic.Duration, total.Round(time.Second))
}

// Compare plays the same traffic under every policy, repeatedly, each repeat with other arrivals that all policies get,
// and holds the policies against each other. In every repeat they play in another order. An interrupt ends it with what
// there is.
func (s *Session) Compare(ctx context.Context, o CompareOptions) (*result.Result, error) {
	if err := o.Check(s.Config); err != nil {
		return nil, err
	}
	var p player
	var err error
	driver := eventlog.Real
	if o.Simulated {
		driver = eventlog.Simulated
		p, err = s.onSimulator()
	} else {
		p, err = s.onHardware(ctx, o.Real)
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := compared{stage: s.stage(p, driver), options: o, policies: s.Config.Policies}
	for n := range o.Repeats {
		interrupted, err := c.repeat(ctx, n)
		if err != nil {
			return nil, err
		}
		if interrupted {
			c.doc.Doubt(result.Doubt{About: "interrupted", Text: fmt.Sprintf(
				"it was interrupted in repeat %d of %d: what is compared are the whole repeats before", n+1, o.Repeats)})
			break
		}
	}
	if err := c.compare(); err != nil {
		return nil, err
	}
	return c.written(s.Config.Out)
}

// compared is a comparison under way.
type compared struct {
	*stage
	options  CompareOptions
	policies []string
	// Whole repeats: by policy, of the baseline's second turns, and the order of the turns.
	runs  []comparison.Runs
	again *comparison.Runs // nil without
	order [][]string
}

// repeat lets every policy have its turn. The baseline's second one is the last of the turns that are ordered.
func (c *compared) repeat(ctx context.Context, n int) (interrupted bool, err error) {
	o := &c.options
	turns := len(c.policies)
	if o.AA {
		turns++
	}
	seed := c.seed + uint64(n)
	played := make([]*result.PolicyResult, turns)
	var order []string
	for _, i := range turnOrder(turns, n, c.seed) {
		if interrupted = ctx.Err() != nil; interrupted {
			break
		}
		t := turn{policy: o.Baseline, again: i == len(c.policies), scale: 1, seed: seed, repeat: n + 1, first: n == 0}
		if !t.again {
			t.policy = c.policies[i]
		}
		t.title = fmt.Sprintf("%s, %d of %d", t.policy, n+1, o.Repeats)
		order = append(order, t.policy)
		if played[i], interrupted, err = c.turn(ctx, t); err != nil {
			return false, err
		}
		if interrupted {
			break
		}
	}
	c.keep(played, seed, n)
	if !interrupted {
		c.count(played, order)
	}
	return interrupted, nil
}

// keep puts the turns into the result, those that there were.
func (c *compared) keep(played []*result.PolicyResult, seed uint64, n int) {
	r := result.Repeat{Seed: seed}
	for i, p := range played {
		switch {
		case p == nil:
		case i == len(c.policies):
			r.Again = p
		default:
			r.Policies = append(r.Policies, *p)
		}
	}
	if n == 0 {
		c.doc.Policies, c.doc.Again = r.Policies, r.Again
	} else if len(r.Policies) > 0 || r.Again != nil {
		c.doc.Later = append(c.doc.Later, r)
	}
}

// count takes a whole repeat into the comparison.
func (c *compared) count(played []*result.PolicyResult, order []string) {
	c.order = append(c.order, order)
	for i, p := range played {
		var to *comparison.Runs
		switch {
		case i < len(c.runs):
			to = &c.runs[i]
		case i < len(c.policies):
			c.runs = append(c.runs, comparison.Runs{Policy: c.policies[i]})
			to = &c.runs[i]
		default:
			c.again = cmp.Or(c.again, &comparison.Runs{Policy: c.options.Baseline})
			to = c.again
		}
		to.Repeats, to.PerMet = append(to.Repeats, p.Metrics), append(to.PerMet, p.JoulesPerMet())
	}
}

// compare compares the whole repeats, if there are any.
func (c *compared) compare() (err error) {
	if len(c.runs) == 0 {
		return nil
	}
	if c.doc.Comparison, err = comparison.Compare(c.runs, c.options.Baseline, c.again); err != nil {
		return err
	}
	c.doc.Comparison.Order = c.order
	c.doc.JudgeAA()
	return nil
}

// turnOrder is the order in which n play in a repeat, counted from 0. Over n repeats each has every place once, so that
// a machine that slows down from turn to turn favours none; who follows whom is then drawn again.
func turnOrder(n, repeat int, seed uint64) []int {
	order := rand.New(rand.NewPCG(seed, uint64(repeat/n))).Perm(n)
	return slices.Concat(order[repeat%n:], order[:repeat%n])
}
