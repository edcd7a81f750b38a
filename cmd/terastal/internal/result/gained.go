package result

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/terastal/terastal/runtime"
)

// Whole is where a model ran as a whole, and the median time by which that was chosen; 0 where there was no choice.
type Whole struct {
	Model  string `json:"model"`
	On     string `json:"on"`
	TookNS int64  `json:"took_ns,omitempty"`
}

// servers are the policies that do what users have without this scheduler.
var servers = []string{runtime.Unscheduled, runtime.UnscheduledCPU, "fifo", "triton-like", "triton-like-deadlines"}

// ours are those by which they would gain.
var ours = []string{"pedf", "pedf-novariants", "rollout", "rollout-novariants"}

// Gained says in plain words what users of a server that keeps models whole would gain: how many requests per second
// the best policy of ours answers in time against the best of the servers, on the same arrivals. It is empty where one
// of the two kinds was not run.
func (r *Result) Gained() string {
	server, n := r.best(func(p *PolicyResult) bool { return slices.Contains(servers, p.Policy) })
	our, _ := r.best(func(p *PolicyResult) bool { return slices.Contains(ours, p.Policy) })
	if server == nil || our == nil {
		return ""
	}
	rate, other := r.inTime(our.Policy), r.inTime(server.Policy)
	best := ", which keeps models whole"
	if n > 1 {
		best = fmt.Sprintf(", the best of %d ways to keep models whole", n)
	}
	return fmt.Sprintf("What a user of a server would gain: %s answered %s requests per second in time, %s %s%s (%s).",
		our.Policy, perSecond(rate), more(rate, other), server.Policy, best, perSecond(other))
}

// Places words where models ran as a whole, and which options mean nothing then; empty for a policy.
func (p *PolicyResult) Places() string {
	if p.Execution == nil || len(p.Wholes) == 0 {
		return ""
	}
	var models []string
	for _, w := range p.Wholes {
		text := w.Model + " on " + w.On
		if w.TookNS > 0 {
			text += fmt.Sprintf(" (%.3g ms)", time.Duration(w.TookNS).Seconds()*1e3)
		}
		models = append(models, text)
	}
	text := "whole models, each where a few runs took the least time: "
	if p.Wholes[0].TookNS == 0 {
		text = "whole models: "
	}
	text += strings.Join(models, ", ")
	if len(p.Ignored) > 0 {
		text += "; without effect on ordinary sessions: " + strings.Join(p.Ignored, ", ")
	}
	return text
}
