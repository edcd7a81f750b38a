package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/runtime"
)

// runTables say what held accelerators up, what devices have room for, and what could not be captured.
func runTables(results []result.Result) []*table.Table {
	return []*table.Table{workerTable(results), roomTable(results), uncapturedTable(results)}
}

// workerTable has a row for every policy and accelerator that there is something to tell about, streams of a device
// together.
func workerTable(results []result.Result) *table.Table {
	t := table.New("policy", "accelerator", ">first uses", ">took", ">stalls", ">took", ">of the run", ">captured layers",
		">plain")
	t.Title = "What held accelerators up"
	t.Explain("first uses", "first uses and stalls: layer runs, first and other ones, that took more than three times their "+
		"prediction and a millisecond, and what they took beyond it")
	t.Explain("captured layers", "captured layers: how many were replayed as captured graphs; plain: how many others ran there")
	for i := range results {
		places := placesOf(planned(results[i].Accelerators))
		streams := map[string]int{}
		for _, of := range places {
			streams[of]++
		}
		for n := range results[i].Policies {
			p := &results[i].Policies[n]
			if p.Execution == nil {
				continue
			}
			onDevice := map[string]bool{} // others are for the page
			for _, d := range p.Devices {
				for _, a := range d.Accelerators {
					onDevice[cmp.Or(places[a], a)] = true
				}
			}
			sums := map[string]result.Worker{}
			var order []string
			for _, w := range p.Workers {
				place := cmp.Or(places[w.Accelerator], w.Accelerator)
				if _, known := sums[place]; !known {
					order = append(order, place)
				}
				sums[place] = sum(sums[place], &w)
			}
			for _, place := range order {
				w := sums[place]
				name := place
				if k := streams[place]; k > 1 {
					name = fmt.Sprintf("%s (%d streams)", place, k)
				}
				captured, plain := "", ""
				if w.Captured > 0 {
					captured, plain = fmt.Sprint(w.Captured), fmt.Sprint(w.Plain)
				}
				row := t.Add(p.Policy, name, w.FirstUses, sumText(time.Duration(w.FirstUseNS)), w.Stalls,
					sumText(time.Duration(w.StallNS)), percent(w.Share/float64(max(1, streams[place]))), captured, plain)
				row.Wide = !onDevice[place]
			}
		}
	}
	return t.Dense()
}

// sum adds one stream to others of its device.
func sum(a result.Worker, b *result.Worker) result.Worker {
	return result.Worker{FirstUses: a.FirstUses + b.FirstUses, FirstUseNS: a.FirstUseNS + b.FirstUseNS,
		Stalls: a.Stalls + b.Stalls, StallNS: a.StallNS + b.StallNS, Share: a.Share + b.Share,
		Captured: a.Captured + b.Captured, Plain: a.Plain + b.Plain}
}

// devicesOf are the devices of runs, each as the first run has it that tells of it.
func devicesOf(results []result.Result) (out []result.Device) {
	for i := range results {
		for n := range results[i].Policies {
			p := &results[i].Policies[n]
			if p.Execution == nil {
				continue
			}
			for _, d := range p.Devices {
				if !slices.ContainsFunc(out, func(x result.Device) bool { return x.Name == d.Name }) {
					out = append(out, d)
				}
			}
		}
	}
	return out
}

// roomTable has what devices have room for, and what keeping them warm costs.
func roomTable(results []result.Result) *table.Table {
	t := table.New("device", ">streams", ">memory needed", ">free", ">in all", ">power at rest", ">kept warm", ">costs")
	t.Title = "Devices in the run"
	t.Explain("memory needed", "memory needed: by models, streams and captured graphs")
	t.Explain("costs", "costs: what keeping it warm adds to its power at rest, by the profile")
	room := func(n int64) string {
		if n == 0 {
			return ""
		}
		return bytesText(n)
	}
	for _, d := range devicesOf(results) {
		row := []any{d.Name, max(1, len(d.Accelerators)), room(d.Needed), room(d.Free), room(d.Total)}
		if d.KeepWarm && d.WarmW > 0 && d.IdleW > 0 {
			row = append(row, watts(d.IdleW), watts(d.WarmW), watts(d.WarmW-d.IdleW))
		} else if d.KeepWarm {
			row = append(row, "", "yes")
		}
		t.Add(row...)
	}
	return t.Dense()
}

// uncapturedShown is how many layers with the same reason are named.
const uncapturedShown = 3

// uncapturedTable has a row for every reason why layers of a model could not be captured.
func uncapturedTable(results []result.Result) *table.Table {
	t := table.New("device", "model", ">layers", "why", "which")
	t.Title = "Layers that run without a captured graph"
	for _, d := range devicesOf(results) {
		type reason struct{ model, why string }
		which := map[reason][]string{}
		var order []reason
		for _, u := range d.Uncaptured {
			r := reason{u.Model, strings.TrimPrefix(u.Why, runtime.ErrUncaptured.Error()+": ")}
			if which[r] == nil {
				order = append(order, r)
			}
			name := cmp.Or(shorten(u.Layer, 30), "all")
			if u.Implementation != "" && u.Implementation != "original" {
				name += " as " + u.Implementation
			}
			which[r] = append(which[r], name)
		}
		for _, r := range order {
			n := fmt.Sprint(len(which[r]))
			if which[r][0] == "all" {
				n = "all"
			}
			t.Add(d.Name, r.model, n, r.why, firstOf(which[r], uncapturedShown))
		}
	}
	return t
}
