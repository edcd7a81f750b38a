package session

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
)

// player plays one policy's turn after the other, on the hardware or in the simulator.
type player interface {
	play(context.Context, turn) (p *result.PolicyResult, interrupted bool, err error)
	// labelled are the accuracies on labelled data so far.
	labelled() []result.LabelledAccuracy
	close()
}

// turn is one policy's turn.
type turn struct {
	policy string
	again  bool // the baseline's second turn in an A/A comparison
	scale  float64
	seed   uint64
	repeat int // from 1
	// first says that what is written once is written now: the trace, outputs.
	first bool
	// alone says that notes about the run are shown as soon as it is over.
	alone bool
	// unlogged leaves no log and no trace.
	unlogged bool
	title    string // for people
}

// stem is the name that the turn's files begin with: the policy's, with what
// tells the turn from others of the same policy.
func (t *turn) stem(driver string) string {
	stem := t.policy
	if driver == eventlog.Simulated {
		stem += "-simulated"
	}
	if t.again {
		stem += ".aa"
	}
	if t.repeat > 1 {
		stem += fmt.Sprintf(".%d", t.repeat)
	}
	return stem
}

// stage is where policies take turns, and the document of how they did.
type stage struct {
	player
	doc  *result.Result
	seed uint64
	// drill says that accelerators are made to fail: it is no doubt then that one is lost.
	drill bool
}

// stage is the session's, for a player that drives the engine; the document describes the plan.
func (s *Session) stage(p player, driver string) *stage {
	c, m := &s.Config.Traffic, s.ground.machine()
	doc := &result.Result{Driver: driver, Hardware: s.ground.describe(), Host: m.Host, ORT: m.ORT.Version,
		Accelerators: m.Specs, Models: s.ModelInfos(), Valid: true,
		Traffic: result.TrafficInfo{Arrivals: c.Arrivals, Phases: c.Phases, Jitter: c.Jitter,
			DurationS: c.Duration.Seconds(), Seed: c.Seed, Drop: s.Config.Drop, Load: s.Plan.Load}}
	if driver == eventlog.Real {
		doc.ClockStepNS = int64(result.ClockStep())
	}
	return &stage{player: p, doc: doc, seed: c.Seed, drill: len(s.Config.Faults) > 0}
}

// turn plays a policy's turn and judges it.
func (s *stage) turn(ctx context.Context, t turn) (*result.PolicyResult, bool, error) {
	p, interrupted, err := s.play(ctx, t)
	if err != nil {
		return nil, false, fmt.Errorf("policy %s: %w", t.policy, err)
	}
	s.doc.Judge(p)
	if !s.drill {
		s.doc.JudgeLost(p)
	}
	return p, interrupted, nil
}

// conclude takes in what was found out over all turns, and writes down why the result is not valid.
func (s *stage) conclude() *result.Result {
	s.doc.Labelled = s.labelled()
	s.doc.JudgeLabelled()
	s.doc.Conclude()
	return s.doc
}

// written is what is concluded, written to a folder.
func (s *stage) written(folder string) (*result.Result, error) {
	doc := s.conclude()
	return doc, doc.Write(folder)
}

// all plays every policy once, in order.
func (s *stage) all(ctx context.Context, policies []string) error {
	for _, policy := range policies {
		t := turn{policy: policy, scale: 1, seed: s.seed, repeat: 1, first: true, alone: true, title: policy}
		p, interrupted, err := s.turn(ctx, t)
		if err != nil {
			return err
		}
		s.doc.Policies = append(s.doc.Policies, *p)
		if interrupted {
			s.doc.Doubt(result.Doubt{About: "interrupted", Text: "it was interrupted during policy " + policy})
			break
		}
	}
	return nil
}

// log writes a policy's log, and in the first repeat its trace, and names them in its result.
func (s *Session) log(log *eventlog.Log, p *result.PolicyResult, t *turn) error {
	if t.unlogged {
		return nil
	}
	stem := filepath.Join(s.Config.Out, t.stem(log.Header.Driver))
	p.Log = stem + ".log.json"
	log.Header.Machine = s.ground.header()
	if err := log.Write(p.Log); err != nil || !t.first {
		return err
	}
	p.Trace = stem + ".trace.json"
	return writeTrace(log, p.Trace)
}

// writeTrace writes the log's Chrome trace, with what happened inside its layers, to path, atomically.
func writeTrace(log *eventlog.Log, path string, inside ...eventlog.Span) error {
	return document.WriteStream(path, func(w io.Writer) error { return log.WriteTrace(w, inside...) })
}

// plain makes a file's name of a name.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
}
