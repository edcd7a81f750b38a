package view

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// keptPoints is how many stretches of time a curve of accuracy is drawn by, each with the least in it.
const keptPoints = 200

// keptCharts show, for every model that was promised something and used variants, what the last requests kept as the
// first run of every policy went on.
func keptCharts(all []*series) []chart {
	var out []chart
	for _, name := range modelNames(all) {
		if c, any := keptChart(all, name); any {
			out = append(out, c)
		}
	}
	return out
}

func keptChart(all []*series, name string) (c chart, any bool) {
	floor, least, end := 0.0, 1.0, 0.0
	lines := make([][]point, len(all))
	for n, s := range all {
		m := s.model(name)
		if m == nil || len(s.logs) == 0 || m.AccuracyFloor == 0 {
			continue
		}
		floor = max(floor, m.AccuracyFloor)
		lines[n] = keptLine(s.logs[0].Log, name)
		for _, p := range lines[n] {
			least, end, any = min(least, p.y), max(end, p.x), any || p.y < 1
		}
	}
	if !any {
		return c, false
	}
	f := newFigure(360, 240, fmt.Sprintf("Accuracy that the last %d finished requests of %s kept, by policy, against the "+
		"floor of %s", sched.AccuracyWindow, name, floorText(floor)))
	step := niceStep((1 - min(least, floor)) / 4)
	f.y.min, f.x.max = max(0, 1-step*math.Ceil((1-min(least, floor))/step)), niceMax(end)
	f.axes("s since the start", "kept", compact, percentTick)
	if floor < 1 {
		f.level(floor, "deadline", "floor")
	}
	for n, s := range all {
		f.line(lines[n], seriesClass(s.number), s.label)
	}
	return chart{Caption: name, SVG: f.done()}, true
}

// keptLine is what the last finished requests of a model kept, over time; none where it is unknown.
func keptLine(l *eventlog.Log, name string) []point {
	var out []point
	models := l.Header.System.Models
	for m := range models {
		if models[m].Name != name || len(l.Records) == 0 {
			continue
		}
		account, slot := eventlog.NewAccount(&models[m]), -1
		width := max(1e-9, l.Records[len(l.Records)-1].At.Seconds()) / keptPoints
		for r, used := range l.Finished() {
			if int(r.Model) != m {
				continue
			}
			account.Finish(used)
			x := account.Recent()
			if math.IsNaN(x) {
				return nil
			}
			if at := int(r.At.Seconds() / width); at > slot {
				out, slot = append(out, point{r.At.Seconds(), x}), at
			} else if last := &out[len(out)-1]; x < last.y {
				*last = point{r.At.Seconds(), x}
			}
		}
	}
	return out
}
