package sched

import (
	"fmt"
	"math"
)

// Pricing is what policies that weigh accelerators and models against each other know of the traffic. It is computed
// offline, as part of a plan; without it they assume that every model is released once per relative deadline.
type Pricing struct {
	// Rates are the releases per second of each model; of triggered ones, what
	// their parents cause. Only their ratios matter.
	Rates []float64 `json:"rates_per_s"`
	// Prices are the accelerators' shadow prices at these rates; they sum to 1. Package sched/fluid computes them.
	Prices []float64 `json:"prices"`
	// Accuracy is what accuracy is worth at these rates, by model: the seconds of accelerator time, each weighted with its
	// price, that a request's whole accuracy is worth; a loss of x costs x times as much. It is 0 where the model's floor
	// does not bind, and nil where no model has a floor below 1.
	Accuracy []float64 `json:"accuracy_prices,omitempty"`
}

func (p *Pricing) validate(s *System) error {
	if len(p.Rates) != len(s.Models) || len(p.Prices) != len(s.Accelerators) {
		return fmt.Errorf("pricing of %d models and %d accelerators, want %d and %d", len(p.Rates), len(p.Prices),
			len(s.Models), len(s.Accelerators))
	}
	if p.Accuracy != nil && len(p.Accuracy) != len(s.Models) {
		return fmt.Errorf("pricing: accuracy prices of %d models, want %d", len(p.Accuracy), len(s.Models))
	}
	for m, r := range p.Rates {
		if !(r > 0) || math.IsInf(r, 0) {
			return fmt.Errorf("pricing: rate %v of model %q, must be positive", r, s.Models[m].Name)
		}
		if p.Accuracy != nil && (!(p.Accuracy[m] >= 0) || math.IsInf(p.Accuracy[m], 1)) {
			return fmt.Errorf("pricing: accuracy price %v of model %q, must be at least 0", p.Accuracy[m], s.Models[m].Name)
		}
	}
	sum := 0.0
	for k, x := range p.Prices {
		if sum += x; !(x >= 0) {
			return fmt.Errorf("pricing: price %v of accelerator %q, must not be negative", x, s.Accelerators[k])
		}
	}
	if !(math.Abs(sum-1) < 1e-6) {
		return fmt.Errorf("pricing: prices sum to %v, want 1", sum)
	}
	return nil
}
