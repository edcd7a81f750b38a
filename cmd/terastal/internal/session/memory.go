package session

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// What sessions take of a GPU's memory besides weights and tensors, as measured with CUDA 13 on an H100: the handles of
// each and their workspaces, and what a process takes that uses the device at all.
const (
	sessionMemory = 18 << 20
	contextMemory = 512 << 20
)

// need is how much of a device's memory what is to be loaded takes, in bytes.
type need struct {
	device  string
	streams int
	offer   runtime.Offer
	// measured says that bytes is the profile's; the parts are estimates all the same.
	measured bool
	bytes    int64
	models   []string
	parts    []int64 // of the models, whole
	each     int64   // of a stream
}

// needs says what the networks take of every device that tells what it has. The profile may be nil.
func (m *Machine) needs(networks []*runtime.Network, p *profiler.Profile) []need {
	var out []need
	for k := range m.Specs {
		s := &m.Specs[k]
		offer := m.offers[s.OnDevice()]
		told := slices.ContainsFunc(out, func(n need) bool { return n.device == s.OnDevice() })
		if told || offer == nil || offer.Total <= 0 {
			continue
		}
		n := need{device: s.OnDevice(), offer: *offer, streams: 1}
		if streams := m.devices()[s.Of]; s.Of != "" {
			n.streams = len(streams)
		}
		n.estimate(networks)
		if p != nil {
			if d := p.Device(k); d != nil && d.Memory > 0 {
				n.bytes, n.measured = d.Memory, true
			}
		}
		out = append(out, n)
	}
	return out
}

// estimate adds up weights, which streams share, and for every stream the sessions of all implementations and the
// tensors of the requests that it may have to itself.
func (n *need) estimate(networks []*runtime.Network) {
	n.bytes = contextMemory
	for _, x := range networks {
		weights := 4 * x.Model.Parameters()
		units, tensors := int64(0), int64(0)
		for l := range x.Layers {
			units += int64(1 + len(x.Variants[l]))
			for i := range x.Variants[l] {
				weights += int64(len(x.Variants[l][i].ONNX))
			}
			for _, t := range x.Layers[l].Outputs {
				tensors += t.Bytes()
			}
		}
		stream := units*sessionMemory + tensors
		n.each += stream
		n.models = append(n.models, x.Name)
		n.parts = append(n.parts, weights+int64(n.streams)*stream+tensors)
		n.bytes += n.parts[len(n.parts)-1]
	}
}

// holds is how many streams fit into the memory of a device with the networks, of at most so many and at least one.
func (m *Machine) holds(device string, most int, networks []*runtime.Network) int {
	offer := m.offers[device]
	if offer == nil || offer.Total <= 0 {
		return most
	}
	for ; most > 1; most-- {
		n := need{device: device, offer: *offer, streams: most}
		if n.estimate(networks); n.fits() == nil {
			break
		}
	}
	return most
}

// fits returns nil if the device has as much memory, else one line that says what to leave out.
func (n *need) fits() error {
	over := n.bytes - n.offer.Free
	if over <= 0 {
		return nil
	}
	var ways []string
	if fewer := n.streams - int((over+n.each-1)/max(1, n.each)); n.streams > 1 && fewer >= 1 {
		ways = append(ways, fmt.Sprintf("have %d streams of it, not %d", fewer, n.streams))
	}
	order := make([]int, len(n.parts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(n.parts[b], n.parts[a]) })
	var out []string
	for _, i := range order {
		if over <= 0 || len(out) == len(order)-1 {
			break
		}
		out = append(out, fmt.Sprintf("%q (%s)", n.models[i], size(n.parts[i])))
		over -= n.parts[i]
	}
	if len(out) > 0 && over <= 0 {
		ways = append(ways, "leave out "+strings.Join(out, " and "))
	}
	if len(ways) == 0 {
		ways = append(ways, "leave the accelerator out, or free what other programs hold there")
	}
	return fmt.Errorf("device %q: %s: %s", n.device, n, strings.Join(ways, ", or "))
}

func (n *need) String() string {
	how := "estimated"
	if n.measured {
		how = "measured"
	}
	models := fmt.Sprintf("%d models", len(n.models))
	if len(n.models) == 1 {
		models = "one model"
	}
	streams := ""
	if n.streams > 1 {
		streams = fmt.Sprintf(" on %d streams", n.streams)
	}
	return fmt.Sprintf("%s%s take %s of its memory (%s), and %s of %s are free", models, streams, size(n.bytes), how,
		size(n.offer.Free), size(n.offer.Total))
}

// size is a number of bytes for people.
func size(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
