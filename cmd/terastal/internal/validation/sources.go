package validation

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/terastal/terastal/internal/stats"
)

// Names of sources.
const (
	Interference = "interference"
	HandoffCost  = "handoff"
	DispatchCost = "dispatch"
	ReleaseLag   = "release-lag"
	Drift        = "drift"
	Outliers     = "outliers"
	Bias         = "bias"
	Noise        = "noise"
)

// sourceNames lists the sources in the order in which they are told apart: what
// an earlier one explains is no longer there for a later one.
var sourceNames = [...]string{ReleaseLag, DispatchCost, Outliers, Interference, HandoffCost, Bias, Drift, Noise}

// rounds is how often effects are fitted to what the others leave.
const rounds = 8

// fewest is how many runs say something about an effect on a group.
const fewest = 8

// anatomy splits the error of every layer run into one part per source. The parts of a run add up to its error, so that
// the shares of the sources, taken over the absolute values of all parts, add up to one.
type anatomy struct {
	predictor *Predictor
	runs      []layerRun
	cells     map[place][]int // indices of runs
	scale     []float64       // by run: predicted nanoseconds of the layer itself
	rest      []float64       // by run: error that no source has taken yet, in nanoseconds
	outlier   []bool
	parts     map[string][]float64 // by source and run, in nanoseconds
	slopes    map[[2]int]float64   // of interference, by accelerator and other
	text      map[string]string    // what was found, for people
}

// dissect finds the sources of the errors of runs.
func dissect(p *Predictor, runs []layerRun, accelerators []string) []Source {
	a := &anatomy{predictor: p, runs: runs, cells: map[place][]int{}, scale: make([]float64, len(runs)),
		rest: make([]float64, len(runs)), outlier: make([]bool, len(runs)), parts: map[string][]float64{},
		slopes: map[[2]int]float64{}, text: map[string]string{}}
	for _, name := range sourceNames {
		a.parts[name] = make([]float64, len(runs))
	}
	for i := range runs {
		r := &runs[i]
		e := p.of(r)
		a.cells[r.place] = append(a.cells[r.place], i)
		a.scale[i] = max(1, float64(e.alone))
		a.rest[i] = float64(r.occupied() + r.lag - e.total())
		a.take(ReleaseLag, i, float64(r.lag))
		a.take(DispatchCost, i, float64(r.started-r.begin-e.dispatch))
	}
	a.outliers()
	// What hangs together in a run, such as moved requests and idle accelerators, comes apart when every effect is fitted
	// again to what the others leave.
	for range rounds {
		a.interference(accelerators)
		a.handoffs()
		a.bias()
		a.drift(accelerators)
	}
	a.describe(accelerators)
	for i := range a.rest {
		a.take(Noise, i, a.rest[i])
	}
	return a.sources()
}

// take moves a part of a run's error to a source.
func (a *anatomy) take(source string, run int, part float64) {
	a.parts[source][run] += part
	a.rest[run] -= part
}

// outliers are runs beyond the third quartile of their cell's errors by more than three interquartile ranges, as
// profiles count them. What lies above the cell's median is their part.
func (a *anatomy) outliers() {
	n := 0
	for _, runs := range a.cells {
		if len(runs) < fewest {
			continue
		}
		errs := make([]float64, len(runs))
		for j, i := range runs {
			errs[j] = a.rest[i]
		}
		slices.Sort(errs)
		q1, middle, q3 := stats.Quantile(errs, .25), stats.Quantile(errs, .5), stats.Quantile(errs, .75)
		for _, i := range runs {
			if a.rest[i] > q3+3*(q3-q1) && a.rest[i] > q3+0.1*a.scale[i] {
				a.outlier[i] = true
				a.take(Outliers, i, a.rest[i]-middle)
				n++
			}
		}
	}
	a.text[Outliers] = fmt.Sprintf("%s of layer runs took longer than the third quartile by more than three "+
		"interquartile ranges", percent(n, len(a.runs)))
}

// interference is what the measured slowdowns do not say: by how much longer layers took on an accelerator for the
// share of the time that another one ran as well, within cells, by least squares; one pair after the other. Slopes
// within two standard errors of zero are left out.
func (a *anatomy) interference(accelerators []string) {
	for k := range accelerators {
		for o := range accelerators {
			slope := 0.0
			if o != k {
				slope = a.slope(k, o)
			}
			if slope == 0 {
				continue
			}
			a.slopes[[2]int{k, o}] += slope
			for i := range a.runs {
				if r := &a.runs[i]; int(r.accelerator) == k {
					a.take(Interference, i, slope*r.overlap[o]*a.scale[i])
				}
			}
		}
	}
}

// leastVaried is the variance of the overlap, as a share of a run, from which on interference can be seen.
const leastVaried = 0.02

// slope is the change of the relative error on accelerator k with the share of
// the time that o runs as well, zero where that may be chance.
func (a *anatomy) slope(k, o int) float64 {
	var xx, xy, yy float64
	n := 0
	for at, runs := range a.cells {
		if int(at.accelerator) != k {
			continue
		}
		var mx, my, m float64
		for _, i := range runs {
			if !a.outlier[i] {
				mx, my, m = mx+a.runs[i].overlap[o], my+a.rest[i]/a.scale[i], m+1
			}
		}
		if m < fewest {
			continue
		}
		for _, i := range runs {
			if a.outlier[i] {
				continue
			}
			x, y := a.runs[i].overlap[o]-mx/m, a.rest[i]/a.scale[i]-my/m
			xx, xy, yy = xx+x*x, xy+x*y, yy+y*y
		}
		n += int(m)
	}
	// Where accelerators are always busy together, or never, their interference cannot be told from the cells' bias.
	if n == 0 || xx/float64(n) < leastVaried {
		return 0
	}
	slope := xy / xx
	if se := math.Sqrt(max(0, yy-slope*xy) / float64(max(1, n-1)) / xx); math.Abs(slope) < 2*se {
		return 0
	}
	return slope
}

// handoffs is by how much runs whose request came from another accelerator
// differ from those of the same cell that did not, by their medians.
func (a *anatomy) handoffs() {
	for at, runs := range a.cells {
		byFrom := map[int32][]float64{}
		for _, i := range runs {
			if from := a.runs[i].from; !a.outlier[i] {
				byFrom[from] = append(byFrom[from], a.rest[i])
			}
		}
		stay := byFrom[at.accelerator]
		if len(stay) < fewest {
			continue
		}
		middle := median(stay)
		for from, errs := range byFrom {
			if from < 0 || from == at.accelerator || len(errs) < fewest {
				continue
			}
			part := median(errs) - middle
			for _, i := range runs {
				if a.runs[i].from == from {
					a.take(HandoffCost, i, part)
				}
			}
		}
	}
}

// bias is the median of what is left, by cell.
func (a *anatomy) bias() {
	for _, runs := range a.cells {
		var errs []float64
		for _, i := range runs {
			if !a.outlier[i] {
				errs = append(errs, a.rest[i])
			}
		}
		middle := median(errs)
		for _, i := range runs {
			a.take(Bias, i, middle)
		}
	}
}

// windows is into how many stretches of time the run is cut to see the level drift; one needs enough runs.
const (
	windows   = 40
	leastRuns = 20
)

// drift is the median relative error of what ran on an accelerator in a window of time, where that is more than chance.
func (a *anatomy) drift(accelerators []string) {
	for k := range accelerators {
		byWindow := make([][]int, windows)
		for i := range a.runs {
			if r := &a.runs[i]; int(r.accelerator) == k {
				w := int(int64(r.ended) * windows / int64(a.end()+1))
				byWindow[w] = append(byWindow[w], i)
			}
		}
		for _, runs := range byWindow {
			if level := a.level(runs); level != 0 {
				for _, i := range runs {
					a.take(Drift, i, level*a.scale[i])
				}
			}
		}
	}
}

// end is when the last run ended.
func (a *anatomy) end() time.Duration {
	if len(a.runs) == 0 {
		return 0
	}
	return a.runs[len(a.runs)-1].ended
}

// describe says what the effects are that were fitted.
func (a *anatomy) describe(accelerators []string) {
	a.text[Interference] = "accelerators slowed each other down as predicted, or were busy together too evenly to tell"
	largest := 0.0
	for pair, slope := range a.slopes {
		if math.Abs(slope) > math.Abs(largest) {
			largest = slope
			a.text[Interference] = fmt.Sprintf("layers on %s took %+.1f %% of their time more than predicted while %s was busy",
				accelerators[pair[0]], 100*slope, accelerators[pair[1]])
		}
	}
	moved, sum, level := 0, 0.0, 0.0
	for i := range a.runs {
		r := &a.runs[i]
		if r.from >= 0 && r.from != r.accelerator {
			moved, sum = moved+1, sum+a.parts[HandoffCost][i]/1e3
		}
		level = max(level, math.Abs(a.parts[Drift][i])/a.scale[i])
	}
	a.text[HandoffCost] = fmt.Sprintf("%d layer runs continued a request from another accelerator", moved)
	if moved > 0 {
		a.text[HandoffCost] += fmt.Sprintf(" and took %+.1f us more than predicted on average", sum/float64(moved))
	}
	var off []float64
	for _, runs := range a.cells {
		off = append(off, math.Abs(a.parts[Bias][runs[0]])/a.scale[runs[0]])
	}
	a.text[Bias] = fmt.Sprintf("the median of the median cell is off by %.1f %%, whatever the state of the machine",
		100*median(off))
	a.text[Drift] = fmt.Sprintf("the level of all layers of an accelerator moved by up to %.1f %% over windows of %v",
		100*level, (a.end() / windows).Round(time.Millisecond))
}

// level is the median relative error of runs, zero where it may be chance.
func (a *anatomy) level(runs []int) float64 {
	var errs []float64
	for _, i := range runs {
		if !a.outlier[i] {
			errs = append(errs, a.rest[i]/a.scale[i])
		}
	}
	if len(errs) < leastRuns {
		return 0
	}
	slices.Sort(errs)
	if low, high := stats.MedianCI(errs); low <= 0 && high >= 0 {
		return 0
	}
	return median(errs)
}

// sources are what was found, the largest share first.
func (a *anatomy) sources() []Source {
	total := 0.0
	size, mean := map[string]float64{}, map[string]float64{}
	for _, name := range sourceNames {
		for _, x := range a.parts[name] {
			size[name] += math.Abs(x)
			mean[name] += x / float64(len(a.runs)) / 1e3
		}
		total += size[name]
	}
	a.text[DispatchCost] = fmt.Sprintf("from decision to start took %+.1f us more than predicted on average",
		mean[DispatchCost])
	a.text[ReleaseLag] = fmt.Sprintf("releases went unnoticed while an accelerator was idle for %.1f us per layer run",
		mean[ReleaseLag])
	a.text[Noise] = "what no source explains: runs of the same layer differ"
	var out []Source
	for _, name := range sourceNames {
		s := Source{Name: name, What: a.text[name], MeanUS: mean[name]}
		if total > 0 {
			s.Share = size[name] / total
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(x, y Source) int { return cmp.Compare(y.Share, x.Share) })
	return out
}

func percent(n, of int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(max(1, of))) }
