package plan

import (
	"cmp"
	"slices"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
)

// CapacityAtFloor is the fluid bound with variants, where every model keeps an accuracy floor.
type CapacityAtFloor struct {
	// Floor is the floor of all models that have variants, 1 for originals only; 0 where each keeps its own, and these
	// differ.
	Floor float64 `json:"floor,omitempty"`
	fluid.Capacity
}

// VariantPrice is what a variant of a layer buys, and for how much accuracy.
type VariantPrice struct {
	Model          string `json:"model"`
	Layer          string `json:"layer"`
	Implementation string `json:"implementation"`
	// SavedUS is the time that a request saves with it, where both it and the original run where they are cheapest, in
	// microseconds weighted with the accelerators' prices. It is negative where the variant costs more.
	SavedUS float64 `json:"saved_us"`
	// Loss is the share of the accuracy that a request loses with this variant alone; nil where it is not known, or where
	// it may not be used alone.
	Loss *float64 `json:"loss,omitempty"`
}

// shownFloors are those that every plan with variants has the capacity at.
func shownFloors() []float64 { return []float64{1, 0.999, 0.99, 0.9} }

// capacitiesOf are the capacities at floors that are the same for all, the highest first, and at those of the system
// where these are others; nil without variants.
func capacitiesOf(t *sched.Tables, rates []float64) ([]CapacityAtFloor, error) {
	own := map[float64]bool{}
	models := t.System().Models
	has := false
	for i := range models {
		if models[i].Variants > 0 {
			own[models[i].Floor], has = true, true
		}
	}
	if !has {
		return nil, nil
	}
	all := shownFloors()
	if len(own) == 1 {
		for f := range own {
			if f > 0 && !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	slices.SortFunc(all, func(a, b float64) int { return cmp.Compare(b, a) })
	if len(own) > 1 {
		all = append(all, 0)
	}
	var out []CapacityAtFloor
	for _, f := range all {
		floors := fluid.Same(t, f)
		if f == 0 {
			floors = fluid.FloorsOf(t)
		}
		c, err := fluid.CapacityAt(t, rates, floors)
		if err != nil {
			return nil, err
		}
		out = append(out, CapacityAtFloor{f, c})
	}
	return out, nil
}

// pricesOf are the variants of a system with prices, the best bargain first.
func pricesOf(t *sched.Tables) []VariantPrice {
	var out []VariantPrice
	s := t.System()
	for _, x := range fluid.Savings(t, s.Pricing.Prices) {
		m := &s.Models[x.Model]
		l := &m.Layers[x.Layer]
		v := VariantPrice{Model: m.Name, Layer: l.Name, Implementation: l.Implementations[x.Implementation].Name,
			SavedUS: x.Time * 1e6}
		if x.Loss >= 0 {
			v.Loss = &x.Loss
		}
		out = append(out, v)
	}
	return out
}
