package auto

import (
	"slices"
	"time"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
)

// Profile is what the calibration found about the accelerators that were chosen, with what layers take there and nothing
// else: enough to say how unlike they are. It is nil where nothing was chosen, or where what is kept does not fit it.
func (c *Calibration) Profile() *profiler.Profile {
	if c.Choice == nil {
		return nil
	}
	var s sched.System
	var of []class
	all := c.classes()
	for _, a := range c.Choice.Accelerators {
		streams := 0
		for _, o := range c.Choice.Accelerators {
			if !a.CPU() && o.OnDevice() == a.OnDevice() {
				streams++
			}
		}
		at := slices.IndexFunc(all, func(x class) bool {
			if a.CPU() {
				return x.cpu() && x.kind == c.kind(a.Cores) && x.cores == max(1, len(a.Cores)) &&
					x.spec.Optimization == a.Optimization
			}
			return x.streams == streams && x.spec.Provider == a.Provider
		})
		if at < 0 {
			return nil
		}
		of, s.Accelerators = append(of, all[at]), append(s.Accelerators, a.Name)
		s.Devices = joined(s.Devices, a, len(of)-1)
	}
	for m, model := range c.Models {
		sm := sched.Model{Name: model.Name, Deadline: never}
		for l, name := range model.Layers {
			i := sched.Implementation{Name: runtime.Original}
			for k := range of {
				i.Latency = append(i.Latency, of[k].latency[m][l])
			}
			sm.Layers = append(sm.Layers, sched.Layer{Name: name, Implementations: []sched.Implementation{i}})
		}
		s.Models = append(s.Models, sm)
	}
	now, _ := time.Parse(time.RFC3339, c.Created)
	p, err := profiler.FromSystem(&s, profiler.TableOptions{Source: "a calibration", Now: now})
	if err != nil {
		return nil
	}
	p.Accelerators, p.ORT, p.Host.CPU = slices.Clone(c.Choice.Accelerators), c.ORT, c.CPU
	return p
}

// joined adds a stream to its device.
func joined(devices []sched.Device, a runtime.Spec, at int) []sched.Device {
	if a.Of == "" {
		return devices
	}
	d := slices.IndexFunc(devices, func(d sched.Device) bool { return d.Name == a.Of })
	if d < 0 {
		d, devices = len(devices), append(devices, sched.Device{Name: a.Of})
	}
	devices[d].Accelerators = append(devices[d].Accelerators, at)
	return devices
}
