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
	// Limit is the mean miss rate that a policy may have to sustain a scale; Further are more such limits.
	Limit   float64   `json:"limit"`
	Further []float64 `json:"further_limits,omitempty"`
	Curves  []Curve   `json:"curves"`
	// Reasons say why the curves cannot support what they show, and what to change; none if they can.
	Reasons []string `json:"invalid_reasons,omitempty"`
}

// Curve is one policy, at one accuracy floor.
type Curve struct {
	Policy string `json:"policy"`
	// Floor is the accuracy floor of every model that has variants; nil where the models keep theirs, if any.
	Floor  *float64 `json:"accuracy_floor,omitempty"`
	Points []Point  `json:"points"` // in rising order of scale
	Crossing
	// Further are the crossings of the further limits, in their order.
	Further []Crossing `json:"further,omitempty"`
}

// Crossing is where a curve goes beyond a limit.
type Crossing struct {
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
	// Accuracy is the mean normalised accuracy of finished requests over models; nil where it is unknown.
	Accuracy *float64 `json:"normalized_accuracy,omitempty"`
}

// Ask is a scale at which a curve, by its index, is to be looked at.
type Ask struct {
	Curve int
	Scale float64
}

// Lines makes the curves, still without points: of policies that spend accuracy one for every floor, of others one.
// Without floors there is one of each policy.
func (c *Curves) Lines(policies []string, floors []float64, spends func(policy string) bool) {
	for _, p := range policies {
		if len(floors) == 0 || !spends(p) {
			c.Curves = append(c.Curves, Curve{Policy: p})
			continue
		}
		for _, f := range floors {
			c.Curves = append(c.Curves, Curve{Policy: p, Floor: &f})
		}
	}
}

// At is where the curve crosses the limit of that index: 0 is Limit, and Further follow.
func (c *Curve) At(limit int) *Crossing {
	if limit == 0 {
		return &c.Crossing
	}
	return &c.Further[limit-1]
}

// Limits are all of them, Limit first.
func (c *Curves) Limits() []float64 { return append([]float64{c.Limit}, c.Further...) }

// Point is that of a scale; nil if nobody looked there.
func (c *Curve) Point(scale float64) *Point {
	i := slices.IndexFunc(c.Points, func(p Point) bool { return p.Scale == scale })
	if i < 0 {
		return nil
	}
	return &c.Points[i]
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

// Find fills in the curves, which [Curves.Lines] made: their points at all scales, and by each limit, between the last
// scale that each sustains and the first that it does not, by halving, until these are no further apart than the
// resolution. look measures points, in the order asked for.
//
// Halving takes miss rates to grow with the scale. They do so in the mean, not in every run: with other arrivals the
// scale comes out a little different, by as much as the intervals of the points around it suggest. Where a curve
// crosses the limit more than once the first crossing counts.
func (c *Curves) Find(scales []float64, resolution float64, look func([]Ask) ([]Point, error)) error {
	var asks []Ask
	for i := range c.Curves {
		for _, s := range scales {
			asks = append(asks, Ask{i, s})
		}
	}
	for len(asks) > 0 {
		points, err := look(asks)
		for i := range points {
			if points[i].Runs == 0 {
				continue
			}
			x := &c.Curves[asks[i].Curve]
			x.Points = append(x.Points, points[i])
		}
		asks = nil
		for i := range c.Curves {
			c.Curves[i].bracket(c.Limit, c.Further)
			for limit := range c.Limits() {
				x := c.Curves[i].At(limit)
				if x.Sustains == nil || x.Exceeds == nil || *x.Exceeds-*x.Sustains <= resolution {
					continue
				}
				// Two limits may lie between the same scales.
				if a := (Ask{i, round((*x.Sustains + *x.Exceeds) / 2)}); !slices.Contains(asks, a) {
					asks = append(asks, a)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bracket sorts the points and finds the first crossings of the limits, and where they may lie.
func (c *Curve) bracket(limit float64, further []float64) {
	slices.SortFunc(c.Points, func(a, b Point) int { return cmp.Compare(a.Scale, b.Scale) })
	c.Crossing, c.Further = crossing(c.Points, limit), nil
	for _, l := range further {
		c.Further = append(c.Further, crossing(c.Points, l))
	}
}

// crossing is that of sorted points.
func crossing(points []Point, limit float64) (c Crossing) {
	for _, p := range points {
		if p.Miss > limit {
			c.Exceeds = &p.Scale
			break
		}
		c.Sustains = &p.Scale
	}
	for _, p := range points {
		if p.Runs < 2 || p.High > limit {
			break
		}
		c.Surely = &p.Scale
	}
	for _, p := range slices.Backward(points) {
		if p.Runs < 2 || p.Low <= limit {
			break
		}
		c.SurelyNot = &p.Scale
	}
	return c
}
