package result

import (
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// The sentence about servers holds our best policy against the best server, and is not there where nothing can be said.
func TestGained(t *testing.T) {
	r := &Result{Traffic: TrafficInfo{DurationS: 10}, Policies: []PolicyResult{ran("edf", 9000, 0), ran("fifo", 5000, 0),
		ran("triton-like", 6000, 0), ran("pedf", 7500, 0), ran("rollout-novariants", 7000, 0)}}
	testkit.Equal(t, r.Gained(), "What a user of a server would gain: pedf answered 750 requests per second in time, "+
		"150 (25 %) more than triton-like, the best of 2 ways to keep models whole (600).")
	r.Later = []Repeat{{Policies: []PolicyResult{ran("triton-like", 12000, 0), ran("pedf", 7500, 0)}}}
	if got := r.Gained(); !strings.Contains(got, "150 (17 %) fewer than triton-like") {
		t.Error(got)
	}
	r.Policies = r.Policies[:2]
	testkit.Equal(t, r.Gained(), "")
	r.Policies = []PolicyResult{ran("unscheduled", 100, 0), ran("rollout", 200, 0)}
	testkit.Equal(t, r.Gained(), "What a user of a server would gain: rollout answered 20.0 requests per second in time, "+
		"10.0 (100 %) more than unscheduled, which keeps models whole (10.0).")
	r.Policies[1] = ran("rollout", 100, 0)
	if got := r.Gained(); !strings.Contains(got, "in time, as many as unscheduled") {
		t.Error(got)
	}
	r.Policies = r.Policies[1:]
	testkit.Equal(t, r.Gained(), "")
}

func TestPlaces(t *testing.T) {
	p := ran("unscheduled", 1, 0)
	testkit.Equal(t, p.Places(), "")
	p.Execution = &Execution{Wholes: []Whole{{"a", "cuda", 2_345_678}, {"b", "cpu", 12_000_000}},
		Ignored: []string{"adapt"}}
	testkit.Equal(t, p.Places(), "whole models, each where a few runs took the least time: a on cuda (2.35 ms), "+
		"b on cpu (12 ms); without effect on ordinary sessions: adapt")
	p.Execution = &Execution{Wholes: []Whole{{"a", "cpu", 0}}}
	testkit.Equal(t, p.Places(), "whole models: a on cpu")
}
