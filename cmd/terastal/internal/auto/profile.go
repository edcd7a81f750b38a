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
	var of []class
	var devices []sched.Device
	all := c.classes()
	for k, a := range c.Choice.Accelerators {
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
		of, devices = append(of, all[at]), joined(devices, a, k)
	}
	s := c.system(of)
	s.Devices = devices
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
