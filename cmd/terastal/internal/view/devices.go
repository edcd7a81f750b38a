package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/table"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// OneStream is a profile with one stream of every device, named as the device: the others take as long.
func OneStream(p *profiler.Profile) *profiler.Profile {
	var keep, names []string
	for k, a := range p.Accelerators {
		name := a.Name
		if d := p.Device(k); d != nil && len(d.Accelerators) > 1 {
			if k != slices.Min(d.Accelerators) {
				continue
			}
			name = d.Name
		}
		keep, names = append(keep, a.Name), append(names, name)
	}
	if len(keep) == len(p.Accelerators) {
		return p
	}
	var models []string
	for _, m := range p.Models {
		models = append(models, m.Name)
	}
	out, err := p.Select(models, keep)
	if err != nil { // names that are there twice
		return p
	}
	for k := range out.Accelerators {
		out.Accelerators[k].Name = names[k]
	}
	return out
}

// profileDevices are those of a task system, without what only a profile knows.
func profileDevices(devices []sched.Device) []profiler.Device {
	var out []profiler.Device
	for _, d := range devices {
		out = append(out, profiler.Device{Name: d.Name, Accelerators: d.Accelerators, Lead: d.Lead, Waking: d.Waking})
	}
	return out
}

// placeName is the name under which an accelerator of a task system is counted where streams are not told apart.
func placeName(s *sched.System, k int) string {
	for _, d := range s.Devices {
		if len(d.Accelerators) > 1 && slices.Contains(d.Accelerators, k) {
			return d.Name
		}
	}
	return s.Accelerators[k]
}

// placesOf names the devices of accelerators that are their streams, by accelerator.
func placesOf(accelerators []plan.Accelerator) map[string]string {
	count, out := map[string]int{}, map[string]string{}
	for _, a := range accelerators {
		count[a.Of]++
	}
	for _, a := range accelerators {
		if a.Of != "" && count[a.Of] > 1 {
			out[a.Name] = a.Of
		}
	}
	return out
}

// byPlace has a value of every accelerator, or of every device whose streams are not told apart; add adds up what its
// streams have.
func byPlace[V any](of map[string]V, places map[string]string, add func(a, b V) V) map[string]V {
	out := map[string]V{}
	for _, a := range sorted(of) {
		place := cmp.Or(places[a], a)
		if x, twice := out[place]; twice {
			out[place] = add(x, of[a])
		} else {
			out[place] = of[a]
		}
	}
	return out
}

// deviceTables are what was measured of devices: one for each kind of figure.
func deviceTables(devices []profiler.Device, accelerators []string) []*table.Table {
	return []*table.Table{deviceTable(devices, accelerators), contentionTable(devices), wakingTable(devices)}
}

func deviceTable(devices []profiler.Device, accelerators []string) *table.Table {
	t := table.New("device", ">streams", "accelerators", ">lead", ">memory", ">power at rest", ">kept warm", ">costs")
	t.Title = "Devices"
	t.Explain("lead", "lead: how long before the predicted end of a layer the next one may be decided, as long as "+
		"noticing an end takes")
	t.Explain("memory", "memory: what all models, streams and captured graphs take of the device's")
	t.Explain("costs", "costs: what keeping it warm adds to its power at rest")
	for i := range devices {
		d := &devices[i]
		known := func(is bool, text string) string {
			if !is {
				return ""
			}
			return text
		}
		names := fromTo(accelerators[d.Accelerators[0]], accelerators[d.Accelerators[len(d.Accelerators)-1]])
		t.Add(d.Name, len(d.Accelerators), names, known(d.Lead > 0, took(d.Lead)), known(d.Memory > 0, bytesText(d.Memory)),
			known(d.IdleW > 0, watts(d.IdleW)), known(d.WarmW > 0, watts(d.WarmW)),
			known(d.IdleW > 0 && d.WarmW > 0, watts(d.WarmW-d.IdleW)))
	}
	return t.Dense()
}

func watts(w float64) string { return fmt.Sprintf("%.3g W", w) }

// bytesText words an amount of memory.
func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

// contentionTable has what busy streams cost each other, and what they gain together.
func contentionTable(devices []profiler.Device) *table.Table {
	most := 0
	for i := range devices {
		most = max(most, len(devices[i].Contention))
	}
	t := table.New("device", "of its streams busy")
	t.Title = "Contention: what streams of a device cost each other"
	for n := 1; n <= most; n++ {
		t.Column(fmt.Sprintf(">%d", n))
	}
	for i := range devices {
		d := &devices[i]
		if len(d.Contention) < 2 {
			continue
		}
		longer, gain := []any{d.Name, "a layer takes longer by"}, []any{d.Name, "layers per time, of one stream's"}
		for n, x := range d.Contention {
			longer, gain = append(longer, signed(x)), append(gain, fmt.Sprintf("%.2fx", float64(n+1)/(1+x)))
		}
		t.Add(longer...)
		t.Add(gain...)
	}
	return t
}

// wakingTable has what a layer takes longer when its device rested.
func wakingTable(devices []profiler.Device) *table.Table {
	var pauses []time.Duration
	for i := range devices {
		for _, w := range devices[i].Waking {
			pauses = append(pauses, w.Idle)
		}
	}
	slices.Sort(pauses)
	pauses = slices.Compact(pauses)
	t := table.New("device")
	t.Title = "Waking: how much longer a layer takes after a rest of at least"
	for _, p := range pauses {
		t.Column(">" + took(p))
	}
	for i := range devices {
		d := &devices[i]
		if len(d.Waking) == 0 {
			continue
		}
		row := []any{d.Name}
		for _, p := range pauses {
			text := ""
			for _, w := range d.Waking {
				if w.Idle == p {
					text = "+" + took(w.Extra)
				}
			}
			row = append(row, text)
		}
		t.Add(row...)
	}
	return t
}

// devices prints what was measured of devices.
func (v *profileView) devices(w io.Writer) {
	more(w, deviceTables(v.whole.Devices, specNames(v.whole.Accelerators))...)
}

func specNames(specs []runtime.Spec) (out []string) {
	for _, s := range specs {
		out = append(out, s.Name)
	}
	return out
}

// deviceSection shows what devices are like, and how the layers do there against the whole model.
func (p *Page) deviceSection() section {
	s := section{ID: "devices", Title: "Devices and whole models", Wide: true}
	switch {
	case p.Profile != nil:
		v := newProfileView(p.Profile)
		s.Tables = append(deviceTables(p.Profile.Devices, specNames(p.Profile.Accelerators)), v.chainTable())
	case p.Plan != nil:
		s.Tables = deviceTables(profileDevices(p.Plan.System.Devices), p.Plan.System.Accelerators)
	case len(p.Logs) > 0:
		x := &p.Logs[0].Header.System
		s.Tables = deviceTables(profileDevices(x.Devices), x.Accelerators)
	}
	return s
}

// chainTable holds the layers of a model, one after the other, against the whole model, where both were measured.
func (v *profileView) chainTable() *table.Table {
	t := v.modelTable()
	t.Title = "Layers against whole models"
	t.Rows = slices.DeleteFunc(t.Rows, func(r table.Row) bool { return len(r.Cells) < 4 })
	return t
}

// capturedText says how many of a model's layers are captured as graphs.
func capturedText(c *profiler.Chain, layers int) string {
	if c.Captured == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", c.Captured, layers)
}
