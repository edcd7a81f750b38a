package variants

import (
	"cmp"
	"slices"
	"time"
)

// Frontier is the candidates on an accelerator that no other one beats: sorted by latency, each with less error than
// all that are faster. Those that were refused or not measured there are left out.
func Frontier(list []*Candidate, accelerator int) []*Candidate {
	var usable []*Candidate
	for _, c := range list {
		if c.Refusal == nil && c.at(accelerator) > 0 {
			usable = append(usable, c)
		}
	}
	slices.SortStableFunc(usable, func(a, b *Candidate) int {
		return cmp.Or(cmp.Compare(a.at(accelerator), b.at(accelerator)), cmp.Compare(a.Error, b.Error))
	})
	var out []*Candidate
	for _, c := range usable {
		if len(out) == 0 || c.Error < out[len(out)-1].Error {
			out = append(out, c)
		}
	}
	return out
}

func (c *Candidate) at(accelerator int) time.Duration {
	if accelerator >= len(c.Latency) {
		return 0
	}
	return c.Latency[accelerator]
}

// Choose is the candidate of the frontier with the least error that takes at most the given time on the accelerator, or
// nil. Of those that are lossless it is the fastest.
func Choose(list []*Candidate, accelerator int, most time.Duration) *Candidate {
	var best *Candidate
	for _, c := range Frontier(list, accelerator) {
		if c.at(accelerator) <= most && (best == nil || best.Error > Lossless) {
			best = c
		}
	}
	return best
}
