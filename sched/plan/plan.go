// Package plan is the document between planning and running: the task system,
// the rates it was planned for and the budgets of Algorithm 1.
package plan

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// Plan is what a run needs to know beside the models themselves.
type Plan struct {
	System sched.System `json:"system"`
	// Rates are the releases per second the plan was made for, by model.
	Rates []float64 `json:"rates_per_s"`
	// Capacity is the fluid bound at these rates. The prices that policies use
	// are those of System.Pricing, which leave out accelerators that nothing
	// runs on.
	Capacity fluid.Capacity `json:"capacity"`
	// Budgets are Algorithm 1's, by model. They follow from the system and are
	// here for readers.
	Budgets []sched.Budgets `json:"budgets"`
	// Variants are the layer variants that the system's implementations are, by
	// model that has any.
	Variants []Variants `json:"variants,omitempty"`
}

// New compiles the system and computes budgets, capacity and prices. The tables
// include the prices.
func New(s sched.System, rates []float64) (*Plan, *sched.Tables, error) {
	s.Pricing = nil
	t, err := sched.Compile(s)
	if err != nil {
		return nil, nil, err
	}
	c, err := fluid.CapacityOf(t, rates)
	if err != nil {
		return nil, nil, err
	}
	if s.Pricing, err = fluid.Price(t, rates); err != nil {
		return nil, nil, err
	}
	if t, err = sched.Compile(s); err != nil {
		return nil, nil, err
	}
	p := &Plan{System: s, Rates: rates, Capacity: c}
	for m := range s.Models {
		p.Budgets = append(p.Budgets, t.Budgets(m))
	}
	return p, t, nil
}

const (
	kind    = "plan"
	version = 2
)

// Write writes the plan to a file, atomically.
func (p *Plan) Write(path string) error { return document.Write(path, kind, version, p) }

// ErrStale is wrapped by the error about a plan whose prices are not those of its
// system and rates.
var ErrStale = errors.New("stale plan")

// Read reads a plan and checks that its system compiles, and that the prices
// follow from it.
func Read(path string) (*Plan, *sched.Tables, error) {
	var p Plan
	if err := document.Read(path, kind, version, &p); err != nil {
		return nil, nil, err
	}
	t, err := sched.Compile(p.System)
	if err != nil {
		return nil, nil, fmt.Errorf("read plan %s: %w", path, err)
	}
	if len(p.Rates) != len(p.System.Models) {
		return nil, nil, fmt.Errorf("read plan %s: %d rates for %d models", path, len(p.Rates), len(p.System.Models))
	}
	pricing, err := fluid.Price(t, p.Rates)
	if err != nil {
		return nil, nil, fmt.Errorf("read plan %s: %w", path, err)
	}
	if !reflect.DeepEqual(pricing, p.System.Pricing) {
		return nil, nil, fmt.Errorf("read plan %s: %w: its prices are not those of its system and rates; plan again", path, ErrStale)
	}
	return &p, t, nil
}
