// Package live shows how a run stands while it runs: a view for terminals, metrics for Prometheus, structured log
// lines. It only reads the statistics that the runtime hands out ten times a second, on the thread that does so;
// nothing here is on the way of a dispatch.
package live

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// View redraws a table of the run on a terminal. It is for one goroutine.
type View struct {
	w     io.Writer
	lines int
	drawn time.Duration
	busy  []time.Duration // by accelerator, when last drawn
}

// NewView makes a view that draws to a terminal.
func NewView(w io.Writer) *View { return &View{w: w} }

// redrawEvery is how often a person wants new numbers.
const redrawEvery = 500 * time.Millisecond

// Update redraws the view when it is time. total is how long requests are released.
func (v *View) Update(policy string, s runtime.Stats, total time.Duration) {
	if s.At < v.drawn { // another run
		v.drawn, v.busy = 0, nil
	}
	if s.At-v.drawn < redrawEvery {
		return
	}
	text := v.render(policy, s, total)
	v.Clear()
	fmt.Fprint(v.w, text)
	v.lines = strings.Count(text, "\n")
}

// Clear takes the view off the terminal.
func (v *View) Clear() {
	if v.lines > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", v.lines)
	}
	v.lines = 0
}

// render is the view as text; utilisation is since it was last drawn.
func (v *View) render(policy string, s runtime.Stats, total time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %.1f of %.1f s%s\n", policy, s.At.Seconds(), total.Seconds(), floors(s.Models))
	// A wrapped row would break redrawing: what variants cost takes the place of how often they ran.
	variants := ">variants"
	if promised(s.Models) {
		variants = ">accuracy"
	}
	t := table.New("model", ">released", ">missed", ">dropped", ">failed", ">miss rate", ">queue", variants, ">p50", ">p99")
	for i := range s.Models {
		m := &s.Models[i]
		used := fmt.Sprint(m.Variants)
		if promised(s.Models) {
			used = accuracy(&m.Kept)
		}
		t.Add(m.Name, m.Released, m.Late+m.Dropped+m.Failed, m.Dropped, m.Failed, fmt.Sprintf("%.1f %%", 100*m.MissRate()),
			m.Active, used, ms(m.Latency.Quantile(.5)), ms(m.Latency.Quantile(.99)))
	}
	b.WriteString(t.String() + "\n")
	var use []string
	v.busy = append(v.busy, make([]time.Duration, max(0, len(s.Accelerators)-len(v.busy)))...)
	for k := 0; k < len(s.Accelerators); {
		n := streams(s.Accelerators[k:])
		use = append(use, v.use(s.Accelerators[k:k+n], v.busy[k:k+n], s.At-v.drawn))
		k += n
	}
	v.drawn = s.At
	if len(use) > 0 {
		b.WriteString("busy: " + strings.Join(use, ", ") + "\n")
	}
	return b.String()
}

// streams is how many of the first accelerators are streams of one device; at least one.
func streams(list []runtime.AcceleratorStats) int {
	device, first := strings.CutSuffix(list[0].Name, ".0")
	n := 1
	for ; first && n < len(list) && list[n].Name == runtime.StreamName(device, n); n++ {
	}
	return n
}

// use is how busy an accelerator has been, or the streams of a device on average, since busy was noted, which it keeps
// current. A device has one entry, so that the line fits a terminal.
func (v *View) use(list []runtime.AcceleratorStats, busy []time.Duration, since time.Duration) string {
	var sum time.Duration
	down := 0
	for k := range list {
		a := &list[k]
		sum += a.Busy - busy[k]
		busy[k] = a.Busy
		if a.Down {
			down++
		}
	}
	name := list[0].Name
	if len(list) > 1 {
		name = fmt.Sprintf("%s (%d streams)", strings.TrimSuffix(name, ".0"), len(list))
	}
	switch {
	case down == len(list):
		return name + " out of service"
	case down > 0:
		name += fmt.Sprintf(", %d out of service,", down)
	}
	return fmt.Sprintf("%s %.0f %%", name, 100*sum.Seconds()/since.Seconds()/float64(len(list)))
}

func promised(models []runtime.ModelStats) bool {
	return slices.ContainsFunc(models, func(m runtime.ModelStats) bool { return m.Kept.Floor > 0 })
}

// floors says what the column about accuracy is, and the floor that all models with one have in common.
func floors(models []runtime.ModelStats) string {
	if !promised(models) {
		return ""
	}
	text, floor := fmt.Sprintf("; accuracy: of the last %d finished requests", sched.AccuracyWindow), 0.0
	for i := range models {
		switch f := models[i].Kept.Floor; {
		case f == 0 || f == floor:
		case floor != 0:
			return text
		default:
			floor = f
		}
	}
	return text + fmt.Sprintf(", the floor is %.6g %%", 100*floor)
}

// accuracy words what the last requests kept of it.
func accuracy(k *runtime.Kept) string {
	if k.Floor == 0 || math.IsNaN(k.Recent) {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*k.Recent)
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}
