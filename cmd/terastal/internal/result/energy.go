package result

import "github.com/terastal/terastal/internal/energy"

// Energy is what the machine took while a policy ran: GPUs and processor packages as a whole, with what they take when
// idle and what other processes made them do.
type Energy struct {
	// GPUJ and CPUJ are joules, 0 where no such device is metered.
	GPUJ float64 `json:"gpu_j,omitempty"`
	CPUJ float64 `json:"cpu_j,omitempty"`
	// PerMet is all of it by request that met its deadline; 0 if none did.
	PerMet   float64 `json:"j_per_met,omitempty"`
	ElapsedS float64 `json:"elapsed_s"`
	// IdleSubtracted is false: joules are totals.
	IdleSubtracted bool            `json:"idle_subtracted"`
	Sources        []energy.Source `json:"sources"`
}

// NewEnergy is what was metered during a run in which so many requests met their deadlines; nil where nothing was.
func NewEnergy(r energy.Reading, met int) *Energy {
	if len(r.Sources) == 0 {
		return nil
	}
	e := &Energy{GPUJ: r.Joules(energy.GPU), CPUJ: r.Joules(energy.CPU), ElapsedS: r.Took.Seconds(), Sources: r.Sources}
	if met > 0 {
		e.PerMet = (e.GPUJ + e.CPUJ) / float64(met)
	}
	return e
}

// JoulesPerMet is what a request that met its deadline took, 0 where that is not known.
func (p *PolicyResult) JoulesPerMet() float64 {
	if p.Energy == nil {
		return 0
	}
	return p.Energy.PerMet
}
