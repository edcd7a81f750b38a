package session

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

// Skew says how unlike accelerators are, and what choosing one for every layer is worth there.
type Skew struct {
	// Accelerators are those compared: one stream of each device.
	Accelerators []string `json:"accelerators"`
	// Layers are the originals of all models, Models those of each.
	Layers Spread      `json:"layers"`
	Models []ModelSkew `json:"models"`
	// Histogram counts layers by how unlike accelerators are for them.
	Histogram []SkewBin `json:"histogram"`
	// Rates and Deadlines are those of the models; Assumed says so where nobody gave them.
	Rates     []float64       `json:"rates_per_s"`
	Deadlines []time.Duration `json:"deadlines_ns,omitempty"`
	Assumed   string          `json:"assumed,omitempty"`
	// Hopeless are models that meet their deadline nowhere. Capacities count them as if they had none.
	Hopeless []plan.Hopeless `json:"hopeless,omitempty"`
	// Reaches are the capacities of what can be chosen, the first that of whole models.
	Reaches []Reach `json:"capacities"`
	// Low and High enclose what layer by layer serves, in times what whole models do: with changes of accelerator paid
	// for, and free. They are 0 where whole models cannot be served at all.
	Low  float64 `json:"gain_low"`
	High float64 `json:"gain_high"`
	// Helps is "yes", "no", or "perhaps" where it depends on what changes of accelerator cost; Verdict says it in a sentence.
	Helps   string `json:"helps"`
	Verdict string `json:"verdict"`
	// Variants says what these would buy, or why that is not known.
	Variants string `json:"variants"`
}

// Spread is the distribution over layers of the time on the slowest accelerator over that on the fastest. Layers that run
// on one accelerator only are in Only, and nowhere else.
type Spread struct {
	N    int     `json:"n"`
	Only int     `json:"on_one_accelerator_only,omitempty"`
	Min  float64 `json:"min,omitempty"`
	P10  float64 `json:"p10,omitempty"`
	P50  float64 `json:"p50,omitempty"`
	P90  float64 `json:"p90,omitempty"`
	Max  float64 `json:"max,omitempty"`
}

// ModelSkew is how unlike accelerators are for a model.
type ModelSkew struct {
	Model string `json:"model"`
	Spread
	// Fastest is by accelerator how many layers are fastest there; Whole the accelerator on which the layers together are.
	Fastest []int  `json:"fastest"`
	Whole   string `json:"whole_model_fastest_on,omitempty"`
	// Saves is the share of the time there that it saves to run each layer where it is fastest, changes being free.
	Saves float64 `json:"saves"`
	// Cut is how many times as long the layers take there, one after the other, as the whole model; 0 where not measured.
	Cut float64 `json:"layers_over_whole,omitempty"`
}

// SkewBin counts layers whose spread is from From to below To; the last has no end, and To 0.
type SkewBin struct {
	From float64 `json:"from"`
	To   float64 `json:"to,omitempty"`
	N    int     `json:"n"`
}

// Reach is a capacity: requests of all models per second in the ratio of their rates, and the factor on the rates, both
// certified from two sides.
type Reach struct {
	Name  string  `json:"name"`
	PerS  float64 `json:"requests_per_s"`
	Scale float64 `json:"scale"`
	Bound float64 `json:"bound"`
}

// worthIt is from what gain in capacity on choosing layer by layer helps.
const worthIt = 1.05

// unbounded is a deadline that no model misses.
const unbounded = time.Hour

// binEdges divide the histogram.
var binEdges = [...]float64{1, 1.05, 1.1, 1.25, 1.5, 2, 3, 5, 10, 20, 50}

// SkewOf judges a profile or a plan. Rates and deadlines are the configuration's, or the plan's; of a profile alone, no
// deadline is assumed, and rates at which all models need as much time when each layer runs where it is fastest.
func SkewOf(g *Given, c *config.Config) (*Skew, error) {
	switch {
	case c != nil:
		s, err := openProfile(c, g, true, Options{Note: func(string, ...any) {}})
		if err != nil {
			return nil, err
		}
		return PlanSkew(s.Plan.Document, s.Profile)
	case g.Plan != nil:
		return PlanSkew(g.Plan, nil)
	}
	return ProfileSkew(g.Profile)
}

// ProfileSkew is SkewOf for a profile alone.
func ProfileSkew(p *profiler.Profile) (*Skew, error) {
	s, err := p.System(slices.Repeat([]time.Duration{unbounded}, len(p.Models)), profiler.P50)
	if err != nil {
		return nil, err
	}
	j := judge{system: s, profile: p, assumed: "no deadlines, and rates at which all models need as much accelerator time when " +
		"each layer runs where it is fastest"}
	paths, err := fastest(p)
	if err != nil {
		return nil, err
	}
	j.rates = mapped(paths, func(d time.Duration) float64 { return 1 / d.Seconds() })
	return j.skew()
}

// PlanSkew judges a plan; its profile, which knows what whole models take, may be nil.
func PlanSkew(made *plan.Plan, p *profiler.Profile) (*Skew, error) {
	j := judge{system: made.System, rates: made.Rates(), variants: made.Variants}
	if p != nil {
		names := mapped(made.Models, func(m plan.Model) string { return m.Name })
		if part, err := p.Select(names, made.System.Accelerators); err == nil {
			j.profile = part
		}
	}
	return j.skew()
}

// judge is what a judgement is made from.
type judge struct {
	system   sched.System
	rates    []float64
	profile  *profiler.Profile // nil where it is not there
	variants []plan.Variants
	assumed  string // in place of rates and deadlines; "" where they are given

	tables *sched.Tables
	places []int // one accelerator of each device
	out    Skew
}

func (j *judge) skew() (*Skew, error) {
	var err error
	if j.tables, err = sched.Compile(j.system); err != nil {
		return nil, err
	}
	j.out.Rates, j.out.Assumed, j.out.Hopeless = j.rates, j.assumed, plan.HopelessOf(j.tables)
	if j.assumed == "" {
		j.out.Deadlines = mapped(j.system.Models, func(m sched.Model) time.Duration { return m.Deadline })
	}
	j.spread()
	if err := j.capacities(); err != nil {
		return nil, err
	}
	return &j.out, nil
}

// spread looks at every layer.
func (j *judge) spread() {
	s := &j.system
	for k, name := range s.Accelerators {
		d := slices.IndexFunc(s.Devices, func(d sched.Device) bool { return slices.Contains(d.Accelerators, k) })
		if d >= 0 && len(s.Devices[d].Accelerators) > 1 {
			if k != slices.Min(s.Devices[d].Accelerators) {
				continue
			}
			name = s.Devices[d].Name
		}
		j.places, j.out.Accelerators = append(j.places, k), append(j.out.Accelerators, name)
	}
	var all []float64
	only := 0
	for m := range s.Models {
		x, spreads := j.model(m)
		j.out.Models = append(j.out.Models, x)
		all, only = append(all, spreads...), only+x.Only
	}
	j.out.Layers = spreadOf(all, only)
	j.out.Histogram = histogram(all)
}

// times are what a layer's original takes, by place; 0 where it cannot run.
func (j *judge) times(m, l int) []time.Duration {
	on := j.system.Models[m].Layers[l].Implementations[0].Latency
	if j.profile != nil {
		on = j.profile.Medians(m, l, 0)
	}
	return mapped(j.places, func(k int) time.Duration { return max(0, on[k]) })
}

// model looks at one model.
func (j *judge) model(m int) (x ModelSkew, spreads []float64) {
	x = ModelSkew{Model: j.system.Models[m].Name, Fastest: make([]int, len(j.places))}
	sums, fastest := make([]float64, len(j.places)), 0.0
	only := 0
	for l := range j.system.Models[m].Layers {
		low, high, at, runs := math.Inf(1), 0.0, 0, 0
		for k, d := range j.times(m, l) {
			if d == 0 {
				sums[k] = math.Inf(1)
				continue
			}
			runs++
			sums[k] += float64(d)
			if high = max(high, float64(d)); float64(d) < low {
				low, at = float64(d), k
			}
		}
		fastest += low
		x.Fastest[at]++
		if runs > 1 {
			spreads = append(spreads, high/low)
		} else {
			only++
		}
	}
	x.Spread = spreadOf(spreads, only)
	best := slices.Index(sums, slices.Min(sums))
	if !math.IsInf(sums[best], 1) {
		x.Whole, x.Saves = j.out.Accelerators[best], max(0, 1-fastest/sums[best])
		if c := j.chain(m, j.places[best]); c != nil {
			x.Cut = cutting(c)
		}
	}
	return x, spreads
}

// chain is what was measured of a whole model on an accelerator; nil where it was not.
func (j *judge) chain(m, k int) *profiler.Chain {
	if j.profile == nil {
		return nil
	}
	i := slices.IndexFunc(j.profile.Chains, func(c profiler.Chain) bool {
		return c.Model == m && c.Accelerator == k && c.Whole > 0 && c.Chained > 0
	})
	if i < 0 {
		return nil
	}
	return &j.profile.Chains[i]
}

func spreadOf(all []float64, only int) Spread {
	s := Spread{N: len(all), Only: only}
	if len(all) == 0 {
		return s
	}
	all = stats.Sorted(all)
	s.Min, s.Max = all[0], all[len(all)-1]
	s.P10, s.P50, s.P90 = stats.Quantile(all, .1), stats.Quantile(all, .5), stats.Quantile(all, .9)
	return s
}

// histogram has no empty bins at its ends.
func histogram(all []float64) []SkewBin {
	var bins []SkewBin
	for i, from := range binEdges {
		b := SkewBin{From: from}
		if i+1 < len(binEdges) {
			b.To = binEdges[i+1]
		}
		for _, x := range all {
			if x >= b.From && (b.To == 0 || x < b.To) {
				b.N++
			}
		}
		bins = append(bins, b)
	}
	used := func(b SkewBin) bool { return b.N > 0 }
	first := slices.IndexFunc(bins, used)
	if first < 0 {
		return nil
	}
	last := len(bins) - 1
	for !used(bins[last]) {
		last--
	}
	return bins[first : last+1]
}

// capacities computes what can be reached.
func (j *judge) capacities() error {
	sums, whole, impossible, err := j.whole()
	if err != nil {
		return err
	}
	free, err := fluid.CapacityOf(j.tables, j.rates)
	if err != nil {
		return err
	}
	paid, err := fluid.CapacityPaying(j.tables, j.rates)
	if err != nil {
		return err
	}
	if whole != nil {
		j.out.Low, j.out.High = paid.Scale/whole.Bound, free.Bound/whole.Scale
		if whole.Scale > sums.Bound {
			j.add("whole models, as one session each", *whole)
		} else {
			j.out.High = max(1, j.out.High) // it may be less by rounding
		}
		j.add("whole models, their layers in a row", *sums)
	}
	j.add("layer by layer, changes of accelerator paid for", paid)
	j.add("layer by layer, changes free", free)
	j.out.Helps, j.out.Verdict = j.verdict(sums, &free, impossible)
	return j.variantsBuy(free)
}

func (j *judge) add(name string, c fluid.Capacity) {
	requests := 0.0
	for _, r := range fluid.EffectiveRates(j.tables, j.rates) {
		requests += r
	}
	j.out.Reaches = append(j.out.Reaches, Reach{name, requests * c.Scale, c.Scale, c.Bound})
}

// whole are the capacities of whole models: of their layers in a row, and where each is that or one session, whichever is
// faster. Both are nil where a model cannot be served as a whole; why says which.
func (j *judge) whole() (sums, best *fluid.Capacity, why string, err error) {
	t, err := fluid.WholeModels(j.tables)
	if err != nil {
		return nil, nil, "not every model runs on one accelerator as a whole", nil
	}
	c, err := fluid.CapacityOf(t, j.rates)
	if err != nil {
		return nil, nil, "", err
	}
	s := *t.System()
	s.Models = slices.Clone(s.Models)
	for m := range s.Models {
		layer := s.Models[m].Layers[0]
		im := layer.Implementations[0]
		im.Latency = slices.Clone(im.Latency)
		for k, d := range im.Latency {
			if x := j.chain(m, k); x != nil && d > 0 && cutting(x) > 1 {
				im.Latency[k] = max(1, time.Duration(math.Round(float64(d)/cutting(x))))
			}
		}
		layer.Implementations = []sched.Implementation{im}
		s.Models[m].Layers = []sched.Layer{layer}
	}
	if t, err = sched.Compile(s); err != nil {
		return nil, nil, "", err
	}
	anyhow := fluid.Hopeless(j.tables)
	for _, x := range fluid.Hopeless(t) {
		if !slices.ContainsFunc(anyhow, func(n fluid.Needed) bool { return n.Model == x.Model }) {
			m := &s.Models[x.Model]
			return nil, nil, fmt.Sprintf("as a whole %s meets its deadline of %v nowhere, it takes %v", m.Name, m.Deadline,
				x.Needs.Round(10*time.Microsecond)), nil
		}
	}
	b, err := fluid.CapacityOf(t, j.rates)
	return &c, &b, "", err
}

// verdict says whether choosing layer by layer helps; impossible is why whole models cannot be served.
func (j *judge) verdict(sums, free *fluid.Capacity, impossible string) (helps, text string) {
	const here = "On these accelerators it "
	o := &j.out
	times := fmt.Sprintf("%.2f to %.2f times", o.Low, o.High)
	if one := fmt.Sprintf("%.2f", o.High); one == fmt.Sprintf("%.2f", o.Low) {
		times = one + " times"
	}
	times += " the requests that whole models can"
	switch {
	case impossible != "":
		return "yes", here + "helps: " + impossible + "; layer by layer it can be done."
	case len(j.system.Accelerators) == 1:
		return "no", here + "does not help capacity: there is one accelerator, and nothing to choose."
	case o.Low >= worthIt:
		return "yes", here + "helps: choosing layer by layer serves " + times + "."
	case o.High >= worthIt:
		return "perhaps", here + "helps perhaps: choosing layer by layer serves " + times + ", by what changes of accelerator cost."
	}
	why := "models balance the accelerators as well when they are placed as a whole"
	switch {
	case o.High < 1 || free.Scale >= worthIt*sums.Bound:
		gains, loses := fmt.Sprintf("choosing gains %.2f times, but", free.Bound/sums.Scale), "nearly as much"
		switch {
		case free.Bound < barely*sums.Scale:
			gains, loses = "choosing gains nothing, and", "something"
		case o.High < 1:
			loses = "more"
		}
		why = gains + " cutting the models loses " + loses + ": " + j.worstCut()
	case o.Layers.P90 < alike:
		why = fmt.Sprintf("the accelerators are alike, nine of ten layers take at most %.2f times as long on the slowest as on "+
			"the fastest", o.Layers.P90)
	}
	return "no", here + "does not help capacity: layer by layer serves " + times + "; " + why + "."
}

// barely is below what gain choosing gains nothing.
const barely = 1.005

// alike is up to what ratio of the slowest to the fastest accelerators count as alike.
const alike = 1.1

// worstCut names where cutting costs most.
func (j *judge) worstCut() string {
	worst := slices.MaxFunc(j.profile.Chains, func(a, b profiler.Chain) int { return cmp.Compare(cutting(&a), cutting(&b)) })
	return fmt.Sprintf("layers in a row take up to %.2f times as long as the whole model (%s on %s)", cutting(&worst),
		j.profile.Models[worst.Model].Name, j.profile.Accelerators[worst.Accelerator].Name)
}

// cutting is how many times as long the layers take in a row as the whole model; 0 where that was not measured. The sum
// of the layers has copies that the whole model's time has not, on devices with a memory; the chain is noisier elsewhere.
func cutting(c *profiler.Chain) float64 {
	if c.Whole == 0 {
		return 0
	}
	return float64(min(c.Sum, c.Chained)) / float64(c.Whole)
}
