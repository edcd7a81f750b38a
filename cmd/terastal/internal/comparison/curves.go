package comparison

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Kind and version of the document that holds [Curves].
const (
	CurvesKind    = "curves"
	CurvesVersion = 1
)

// Curves is how miss rates grow with the rates.
type Curves struct {
	Driver string `json:"driver"`
	// Source is what was played: a configuration's file or a scenario's name.
	Source string `json:"source"`
	// DurationS is how long requests were released in each run.
	DurationS float64 `json:"duration_s"`
	// Limit is the mean miss rate that a policy may have to sustain a scale.
	Limit  float64 `json:"limit"`
	Curves []Curve `json:"curves"`
	// Reasons say why the curves cannot support what they show, and what to change; none if they can.
	Reasons []string `json:"invalid_reasons,omitempty"`
}

// Curve is one policy.
type Curve struct {
	Policy string  `json:"policy"`
	Points []Point `json:"points"` // in rising order of scale
	// Exceeds is the smallest scale looked at whose miss rate is above the limit,
	// nil if none is; Sustains is the largest below that, nil if no point is.
	Sustains *float64 `json:"sustains,omitempty"`
	Exceeds  *float64 `json:"exceeds,omitempty"`
	// Surely is the largest scale up to which the intervals of all points lie within the limit, SurelyNot the smallest
	// from which on all lie above it: what the policy sustains lies between them. Nil where no point is; a point of one
	// run has no interval.
	Surely    *float64 `json:"surely,omitempty"`
	SurelyNot *float64 `json:"surely_not,omitempty"`
}

// Point is one scale.
type Point struct {
	Scale float64 `json:"scale"` // factor on all rates
	Load  float64 `json:"load"`  // demand over the fluid bound
	Miss  float64 `json:"miss_rate"`
	// Low and High enclose Miss, the mean over runs, with 95 % confidence
	// (Student's t over runs); of one run they are Miss.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	Runs int     `json:"runs"`
}

// Ask is a scale at which a policy is to be looked at.
type Ask struct {
	Policy string
	Scale  float64
}

// Scales are those from one scale to another, both included, in equal steps.
func Scales(from, to, step float64) ([]float64, error) {
	if !(from > 0 && to >= from && step > 0 && to <= maxScale) || (to-from)/step > maxScales {
		return nil, fmt.Errorf("scales from %v to %v in steps of %v: give a positive start, an end from there to %v, and a "+
			"step that makes at most %d of them", from, to, step, float64(maxScale), maxScales)
	}
	var out []float64
	for i := 0; ; i++ {
		x := round(from + float64(i)*step)
		if x > round(to) {
			return out, nil
		}
		out = append(out, x)
	}
}

// Bounds of Scales: beyond, something else is meant.
const (
	maxScale  = 1000
	maxScales = 1000
)

// round cuts off what floating point adds: scales are for people, too.
func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// Find fills in the curves of the policies: their points at all scales, and between the last scale that each sustains
// and the first that it does not by halving, until these are no further apart than the resolution. look measures
// points, in the order asked for.
//
// Halving takes miss rates to grow with the scale. They do so in the mean, not in every run: with other arrivals the
// scale comes out a little different, by as much as the intervals of the points around it suggest. Where a curve
// crosses the limit more than once the first crossing counts.
func (c *Curves) Find(policies []string, scales []float64, resolution float64, look func([]Ask) ([]Point,
	error)) error {
	var asks []Ask
	for _, p := range policies {
		c.Curves = append(c.Curves, Curve{Policy: p})
		for _, s := range scales {
			asks = append(asks, Ask{p, s})
		}
	}
	for len(asks) > 0 {
		points, err := look(asks)
		for i := range points {
			if points[i].Runs == 0 {
				continue
			}
			at := slices.IndexFunc(c.Curves, func(x Curve) bool { return x.Policy == asks[i].Policy })
			c.Curves[at].Points = append(c.Curves[at].Points, points[i])
		}
		asks = nil
		for i := range c.Curves {
			x := &c.Curves[i]
			x.bracket(c.Limit)
			if x.Sustains != nil && x.Exceeds != nil && *x.Exceeds-*x.Sustains > resolution {
				asks = append(asks, Ask{x.Policy, round((*x.Sustains + *x.Exceeds) / 2)})
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bracket sorts the points and finds the first crossing of the limit, and where it may lie.
func (c *Curve) bracket(limit float64) {
	slices.SortFunc(c.Points, func(a, b Point) int { return cmp.Compare(a.Scale, b.Scale) })
	*c = Curve{Policy: c.Policy, Points: c.Points}
	for _, p := range c.Points {
		if p.Miss > limit {
			c.Exceeds = &p.Scale
			break
		}
		c.Sustains = &p.Scale
	}
	for _, p := range c.Points {
		if p.Runs < 2 || p.High > limit {
			break
		}
		c.Surely = &p.Scale
	}
	for _, p := range slices.Backward(c.Points) {
		if p.Runs < 2 || p.Low <= limit {
			break
		}
		c.SurelyNot = &p.Scale
	}
}
