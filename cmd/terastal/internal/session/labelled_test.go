package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
)

// glyphs is a configuration of two networks, of which the first reads labelled glyphs and the second random inputs.
func glyphs(t *testing.T, more string) *config.Config {
	return configured(t, `
accelerators: [{name: first}, {name: second, optimization: basic}]
models:
  - {name: seen, source: "zoo:glyph_mobile", rate: 150, granularity: model, inputs: labelled, `+more+`}
  - {name: blind, source: "zoo:glyph_mobile", rate: 50, granularity: model}
traffic: {duration: 500ms}
profile: {budget: 200ms}
policies: [edf, unscheduled]
drop: none
`)
}

// realOptions are options for runs on this machine's own accelerators.
func realOptions(t *testing.T, notes *[]string) Options {
	o := standingIn(t, notes)
	o.open = nil
	return o
}

// What requests compute from labelled data is scored against the originals, under every policy, with its inputs counted.
// Without labels there is nothing to score.
func TestLabelledRequests(t *testing.T) {
	var notes []string
	s := testkit.Must(Prepare(t.Context(), glyphs(t, "labelled: {source: \"glyphs:test\", count: 40}"), false,
		realOptions(t, &notes)))(t)
	r := testkit.Must(s.Compare(t.Context(), CompareOptions{Repeats: 2}))(t)
	if len(r.Labelled) != 2 || len(r.Later) != 1 {
		t.Fatalf("labelled: %+v", r.Labelled)
	}
	for _, x := range r.Labelled {
		i := slices.Index(s.Config.Policies, x.Policy)
		p, again := &r.Policies[i], &r.Later[0].Policies[i]
		finished := p.Models[0].Met + p.Models[0].Late + again.Models[0].Met + again.Models[0].Late
		if x.Model != "seen" || x.Metric != "top-1" || x.Requests != finished || finished < 100 || x.Inputs < 20 ||
			x.Inputs > 40 || x.Original < .9 || x.Score != x.Original || x.Normalized != 1 || x.Low >= 1 || x.High <= 1 {
			t.Errorf("%d finished: %+v", finished, x)
		}
		if p.Verified != 2*samplesPerModel || p.Wrong != 0 {
			t.Errorf("%s: %d verified, %d wrong", p.Policy, p.Verified, p.Wrong)
		}
	}
	if !said(notes, "seen: 40 inputs from glyphs:test") || said(notes, "blind:") {
		t.Errorf("notes %q", notes)
	}
}

// Outputs that are wrong score less, and a result below its floor is invalid. Data without labels are scored by how
// often the largest output is the original's.
func TestLabelledRequestsBelowTheFloor(t *testing.T) {
	var notes []string
	c := glyphs(t, "labelled: {source: random, count: 40}, metric: agreement")
	c.Faults, c.Policies = []string{"nan model=seen p=0.5"}, []string{"edf"}
	s := testkit.Must(Prepare(t.Context(), c, false, realOptions(t, &notes)))(t)
	h := testkit.Must(s.onHardware(t.Context(), Real{}))(t)
	defer h.close()
	h.scores.models[0].floor = .9
	stage := s.stage(h, "real")
	testkit.OK(t, stage.all(t.Context(), s.Config.Policies))
	r := stage.conclude()
	if x := r.Labelled[0]; x.Metric != "agreement with the original" || x.Original != 1 || x.Normalized > .7 ||
		x.Normalized < .3 || x.High >= .9 || x.Floor != .9 {
		t.Errorf("half of the outputs are wrong: %+v", x)
	}
	if !strings.Contains(strings.Join(r.Reasons, "\n"), "edf: requests of seen kept ") {
		t.Errorf("reasons %q", r.Reasons)
	}
}

// Labels that a metric needs and that are not there are refused before anything runs, in one line.
func TestLabelsThatAreMissing(t *testing.T) {
	var notes []string
	c := glyphs(t, "labelled: {source: random, count: 4}, metric: top-1")
	s := testkit.Must(Prepare(t.Context(), c, false, realOptions(t, &notes)))(t)
	testkit.Refused(s.Run(t.Context(), Real{}))(t, config.ErrInvalid,
		`model "seen": the data do not fit the model: metric top-1 needs labels`)
}

// The samples that are verified are spread over those that are kept.
func TestSpread(t *testing.T) {
	for _, kept := range []int{0, 1, 7, 8, 9, 15, 16, 17, 1000, 4096} {
		var samples []runtime.Sample
		for i := range kept {
			samples = append(samples, runtime.Sample{Model: 1, Job: int64(i)}, runtime.Sample{Job: int64(i)})
		}
		got := [2][]int64{}
		for _, s := range spread(samples, 8) {
			got[s.Model] = append(got[s.Model], s.Job)
		}
		for m := range got {
			n := min(kept, 8)
			if len(got[m]) != n || n > 0 && (got[m][0] != 0 || got[m][n-1] < int64(kept-1-kept/8)) {
				t.Errorf("of %d: %v", kept, got[m])
			}
			for i := 1; i < n; i++ {
				if gap := got[m][i] - got[m][i-1]; gap < int64(kept/8) || gap > int64(kept/8+1) {
					if kept > 8 {
						t.Errorf("of %d: %v", kept, got[m])
					}
				}
			}
		}
	}
}
