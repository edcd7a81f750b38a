package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/sched/eventlog"
)

// player plays one policy after the other, on the hardware or on the simulator.
type player struct {
	driver string
	play   func(context.Context, playing) (p *result.PolicyResult, interrupted bool, err error)
	close  func()
}

// playing is one policy's turn.
type playing struct {
	policy string
	again  bool // the baseline's second turn in an A/A comparison
	scale  float64
	seed   uint64
	repeat int // from 1
	// first says that what is written once is written now: the trace, outputs.
	first bool
	// alone says that notes about the run are shown as soon as it is over.
	alone bool
	// unlogged leaves no log and no trace.
	unlogged bool
	title    string // for people
}

// stem is the name that the turn's files begin with: the policy's, with what
// tells the turn from others of the same policy.
func (p *playing) stem(driver string) string {
	stem := p.policy
	if driver == eventlog.Simulated {
		stem += "-simulated"
	}
	if p.again {
		stem += ".aa"
	}
	if p.repeat > 1 {
		stem += fmt.Sprintf(".%d", p.repeat)
	}
	return stem
}

// playOnce plays every policy once, in their order.
func (f *Flow) playOnce(ctx context.Context, p *player) (*result.Result, error) {
	doc := f.newResult(p.driver)
	for _, policy := range f.Config.Policies {
		turn := playing{policy: policy, scale: 1, seed: f.Config.Traffic.Seed, repeat: 1, first: true, alone: true, title: policy}
		played, interrupted, err := f.turn(ctx, p, turn, doc)
		if err != nil {
			return nil, err
		}
		doc.Policies = append(doc.Policies, *played)
		if interrupted {
			doc.Doubt(result.Doubt{About: "interrupted", Text: "it was interrupted during policy " + policy})
			break
		}
	}
	if err := f.traceInside(doc); err != nil {
		return nil, err
	}
	doc.Conclude()
	return doc, f.WriteResult(doc)
}

// turn plays a policy's turn and judges it.
func (f *Flow) turn(ctx context.Context, p *player, turn playing, doc *result.Result) (*result.PolicyResult, bool, error) {
	played, interrupted, err := p.play(ctx, turn)
	if err != nil {
		return nil, false, fmt.Errorf("policy %s: %w", turn.policy, err)
	}
	doc.Judge(played)
	if len(f.Config.Faults) == 0 {
		doc.JudgeLost(played)
	}
	return played, interrupted, nil
}

// CompareOptions say how policies are compared.
type CompareOptions struct {
	Simulated bool
	// Repeats is how often every policy plays: with the configuration's seed,
	// the one after it, and so on.
	Repeats int
	// Baseline is the policy that the others are held against; empty means the
	// first.
	Baseline string
	// AA lets the baseline play twice in every repeat, to be held against
	// itself.
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

// Compare plays the same traffic under every policy, repeatedly, each repeat
// with arrivals of its own that all policies get, and holds the policies against
// each other. In every repeat they play in another order. An interrupt ends it
// with what there is.
func (f *Flow) Compare(ctx context.Context, o CompareOptions) (*result.Result, error) {
	if err := o.Check(f.Config); err != nil {
		return nil, err
	}
	open := f.onHardware
	if o.Simulated {
		open = f.onSimulator
	}
	p, err := open()
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := compared{options: o, policies: f.Config.Policies, result: f.newResult(p.driver)}
	for n := range o.Repeats {
		interrupted, err := c.repeat(ctx, f, p, n)
		if err != nil {
			return nil, err
		}
		if interrupted {
			c.result.Doubt(result.Doubt{About: "interrupted", Text: fmt.Sprintf("it was interrupted in repeat %d of %d: what is compared are the whole repeats before", n+1, o.Repeats)})
			break
		}
	}
	if err := c.conclude(); err != nil {
		return nil, err
	}
	return c.result, f.WriteResult(c.result)
}

// compared is a comparison under way.
type compared struct {
	options  CompareOptions
	policies []string
	result   *result.Result
	// Whole repeats: by policy, of the baseline's second turns, and the order of
	// the turns.
	runs  []comparison.Runs
	again []eventlog.Metrics
	order [][]string
}

// repeat lets every policy have its turn. The baseline's second one is the last
// of the turns that are ordered.
func (c *compared) repeat(ctx context.Context, f *Flow, p *player, n int) (interrupted bool, err error) {
	o := &c.options
	turns := len(c.policies)
	if o.AA {
		turns++
	}
	seed := f.Config.Traffic.Seed + uint64(n)
	played := make([]*result.PolicyResult, turns)
	var order []string
	for _, i := range turnOrder(turns, n, f.Config.Traffic.Seed) {
		if interrupted = ctx.Err() != nil; interrupted {
			break
		}
		t := playing{policy: o.Baseline, again: i == len(c.policies), scale: 1, seed: seed, repeat: n + 1, first: n == 0}
		if !t.again {
			t.policy = c.policies[i]
		}
		t.title = fmt.Sprintf("%s, %d of %d", t.policy, n+1, o.Repeats)
		order = append(order, t.policy)
		if played[i], interrupted, err = f.turn(ctx, p, t, c.result); err != nil {
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
		c.result.Policies, c.result.Again = r.Policies, r.Again
	} else if len(r.Policies) > 0 || r.Again != nil {
		c.result.Later = append(c.result.Later, r)
	}
}

// count takes a whole repeat into the comparison.
func (c *compared) count(played []*result.PolicyResult, order []string) {
	c.order = append(c.order, order)
	for i, p := range played {
		switch {
		case i == len(c.policies):
			c.again = append(c.again, p.Metrics)
		case i == len(c.runs):
			c.runs = append(c.runs, comparison.Runs{Policy: c.policies[i], Repeats: []eventlog.Metrics{p.Metrics}})
		default:
			c.runs[i].Repeats = append(c.runs[i].Repeats, p.Metrics)
		}
	}
}

// conclude compares what there is.
func (c *compared) conclude() (err error) {
	if len(c.runs) > 0 {
		if c.result.Comparison, err = comparison.Compare(c.runs, c.options.Baseline, c.again); err != nil {
			return err
		}
		c.result.Comparison.Order = c.order
		c.result.JudgeAA()
	}
	c.result.Conclude()
	return nil
}

// turnOrder is the order in which n play in a repeat, counted from 0. Over n
// repeats each has every place once, so that a machine that slows down from turn
// to turn favours none; who follows whom is drawn anew then.
func turnOrder(n, repeat int, seed uint64) []int {
	order := rand.New(rand.NewPCG(seed, uint64(repeat/n))).Perm(n)
	return slices.Concat(order[repeat%n:], order[:repeat%n])
}
