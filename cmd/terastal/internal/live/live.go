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
	fmt.Fprintf(&b, "%s: %.1f of %.1f s\n", policy, s.At.Seconds(), total.Seconds())
	t := table.New("model", ">released", ">missed", ">dropped", ">failed", ">miss rate", ">queue", ">variants", ">p50",
		">p99")
	promised := slices.ContainsFunc(s.Models, func(m runtime.ModelStats) bool { return m.Kept.Floor > 0 })
	if promised {
		t.Column(">accuracy", fmt.Sprintf(">last %d", sched.AccuracyWindow), ">floor")
	}
	for i := range s.Models {
		m := &s.Models[i]
		row := t.Add(m.Name, m.Released, m.Late+m.Dropped+m.Failed, m.Dropped, m.Failed, fmt.Sprintf("%.1f %%", 100*m.MissRate()),
			m.Active, m.Variants, ms(m.Latency.Quantile(.5)), ms(m.Latency.Quantile(.99)))
		if k := &m.Kept; promised && k.Floor > 0 {
			row.Cells = append(row.Cells, accuracy(k.Mean), accuracy(k.Recent), fmt.Sprintf("%.6g %%", 100*k.Floor))
		}
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

// accuracy words what was kept of it.
func accuracy(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*x)
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", d.Seconds()*1e3)
}
