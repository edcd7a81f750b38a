package runtime

import (
	"github.com/terastal/terastal/internal/cuda"
	"github.com/terastal/terastal/internal/ort"
)

// Offer is what an accelerator's device offers.
type Offer struct {
	// Free and Total are bytes of the device's memory; zero where it does not tell, or has none apart from the host's.
	Free  int64 `json:"free_bytes,omitempty"`
	Total int64 `json:"total_bytes,omitempty"`
	// Streams says that the device works at several layers at once, Graphs that layers are captured as graphs.
	Streams bool `json:"streams,omitempty"`
	Graphs  bool `json:"graphs,omitempty"`
	// Lacks says why there are no streams, where the provider could have them.
	Lacks string `json:"lacks,omitempty"`
}

// Offer opens the accelerator, which Probe has opened before, and closes it again, to see what its device offers. What it
// does not say is not offered.
func (s Spec) Offer() (o Offer) {
	if s.CPU() {
		return o
	}
	a, err := new(Devices).openProbed(s, nil)
	if err != nil {
		return Offer{Lacks: err.Error()}
	}
	defer a.Close()
	m := MemoryOf(a)
	if m == nil {
		return o
	}
	if free, total, err := m.Room(); err == nil {
		o.Free, o.Total = free, total
	}
	if !s.HasStreams() {
		return o
	}
	if e, err := m.NewEvent(); e != nil && err == nil {
		e.Close()
		o.Streams, o.Graphs = true, ort.ProviderName(s.Provider) == "cuda"
		return o
	}
	o.Lacks = "no events"
	if _, err := cuda.Load(""); err != nil {
		o.Lacks = err.Error()
	}
	return o
}
