package auto

import (
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/fluid"
)

// maxCompared is how many sets a choice names.
const maxCompared = 6

// choice is what was chosen among sets.
func (x *chooser) choice(best set, finalists []set) *Choice {
	c := &Choice{Accelerators: x.specs(best), Free: best.free, Capacity: x.requests(best)}
	for _, m := range x.lateOnes(best) {
		c.Late = append(c.Late, x.Models[m].Name)
	}
	c.Compared = append(c.Compared, x.inWords(best))
	for _, s := range x.telling(best, finalists) {
		c.Compared = append(c.Compared, x.inWords(s))
	}
	c.Lines = x.lines(c)
	return c
}

func (x *chooser) lateOnes(s set) []int {
	var of []class
	for i, n := range s.counts {
		if n > 0 {
			of = append(of, x.all[i])
		}
	}
	return late(of, x.Deadlines)
}

// requests is the bound in requests per second.
func (x *chooser) requests(s set) float64 {
	t, err := x.tables(x.all, x.Deadlines)
	if err != nil {
		return 0 // it was compiled before
	}
	sum := 0.0
	for _, r := range fluid.EffectiveRates(t, x.Rates) {
		sum += r
	}
	return s.bound * sum
}

func (x *chooser) inWords(s set) Set {
	return Set{Name: x.name(s), Capacity: x.requests(s), Late: s.late, Free: s.free}
}

// telling are the sets that say most about a choice: the best of the others that leave a core or do not, that use the
// GPU in another way or not at all, of one level, and of the largest groups.
func (x *chooser) telling(best set, finalists []set) (out []set) {
	seen := map[string]bool{x.shape(best): true}
	for _, s := range finalists {
		if k := x.shape(s); !seen[k] && len(out) < maxCompared-1 {
			seen[k] = true
			out = append(out, s)
		}
	}
	return out
}

// shape tells apart sets that say different things about a choice.
func (x *chooser) shape(s set) string {
	gpu, several, group := "", map[string]bool{}, 1
	for i, n := range s.counts {
		if n == 0 {
			continue
		}
		if c := &x.all[i]; c.cpu() {
			several[c.spec.Optimization] = true
			group = max(group, c.cores)
		} else {
			gpu = c.spec.Provider
		}
	}
	return fmt.Sprint(gpu, len(several), group > 1, s.free)
}

// name is a set in words.
func (x *chooser) name(s set) string {
	var parts []string
	for i, n := range s.counts {
		c := &x.all[i]
		switch {
		case n == 0:
		case !c.cpu() && n == 1:
			parts = append(parts, c.spec.Provider)
		case !c.cpu():
			parts = append(parts, fmt.Sprintf("%s with %d streams", c.spec.Provider, n))
		default:
			cores := "one core"
			if c.cores > 1 {
				cores = fmt.Sprintf("%d cores together", c.cores)
			}
			if n > 1 {
				cores = fmt.Sprintf("%d x %s", n, cores)
			}
			parts = append(parts, cores+" ("+c.spec.Optimization+")")
		}
	}
	return strings.Join(parts, " + ")
}

// specs are the accelerators of a set on the machine's cores. A core that is left is the first, which serves most
// interrupts; a GPU's streams have the last ones.
func (x *chooser) specs(s set) (out []runtime.Spec) {
	left := make([][]int, len(x.Cores))
	for k, cores := range x.Cores {
		left[k] = slices.Clone(cores)
	}
	if s.free && len(left[0]) > 0 {
		left[0] = left[0][1:]
	}
	var gpu []runtime.Spec
	for i, n := range s.counts {
		c := &x.all[i]
		if c.cpu() || n == 0 {
			continue
		}
		one := c.spec
		one.Cores = nil
		gpu = one.Streams(n)
		if cores := left[c.kind]; len(cores) >= n {
			for k, core := range cores[len(cores)-n:] {
				gpu[k].Cores = []int{core}
			}
			left[c.kind] = cores[:len(cores)-n]
		}
	}
	for i, n := range s.counts {
		c := &x.all[i]
		if !c.cpu() {
			continue
		}
		for range n {
			one := c.spec
			one.Name = fmt.Sprintf("cpu%d-%s", len(out), one.Optimization)
			one.Cores = nil
			if cores := left[c.kind]; len(cores) >= c.cores {
				one.Cores, left[c.kind] = cores[:c.cores:c.cores], cores[c.cores:]
			}
			out = append(out, one)
		}
	}
	return append(out, gpu...)
}

// width is what an explaining line has room for.
const width = 120

// lines explain a choice: what, why, and how to have it otherwise.
func (x *chooser) lines(c *Choice) []string {
	one := fmt.Sprintf("auto chose %s: at most %s requests/s of these models (fluid bound)", c.Compared[0].Name,
		figure(c.Capacity))
	if len(c.Late) > 0 {
		one += fmt.Sprintf("; the deadline of %s is too short for all", strings.Join(c.Late, ", "))
	}
	two, sep := "others: ", ""
	for _, s := range c.Compared[1:] {
		text := s.Name
		if s.Free {
			text += ", a core left,"
		}
		text += fmt.Sprintf(" %+.0f %%", 100*(s.Capacity/c.Capacity-1))
		if s.Late > len(c.Late) {
			text += fmt.Sprintf(" (but %d models late)", s.Late)
		}
		if len(two)+len(sep)+len(text) > width && sep != "" {
			break
		}
		two, sep = two+sep+text, "; "
	}
	if sep == "" {
		two = "it compared no other set"
	}
	three := "a core is left for releases"
	if !c.Free {
		three = fmt.Sprintf("no core is left for releases (gains %.2g %% at most)", 100*x.crowded())
	}
	return []string{one, two, three + "; kept in the profile; to overrule: name accelerators, or --auto again"}
}

// figure is a rate with three digits at least.
func figure(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.3g", x)
	}
	return fmt.Sprintf("%.0f", x)
}
