package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// ORTTrace collects what ONNX Runtime's own profiler says of the layers that run on accelerators opened with
// [Devices.OpenTraced]: which nodes ran when. The profiler makes layers take longer, and keeps every event in memory until the
// trace is read: it is for looking into short runs, not for measuring.
//
// A nil trace records nothing.
type ORTTrace struct {
	folder string // private

	mu       sync.Mutex
	sessions []tracedSession
	finished bool
}

type tracedSession struct {
	accelerator string
	unit        Unit // without its model
	session     *ort.Session
	profile     *ort.Profile // once it has ended
	err         error        // why it is missing
}

// NewORTTrace makes a trace, which has to be closed.
func NewORTTrace() (*ORTTrace, error) {
	folder, err := os.MkdirTemp("", "terastal-ort-trace-")
	if err != nil {
		return nil, fmt.Errorf("trace of ONNX Runtime: %w", err)
	}
	return &ORTTrace{folder: folder}, nil
}

// Close removes the trace's files.
func (t *ORTTrace) Close() error { return os.RemoveAll(t.folder) }

// prefix is what the names of the next session's files start with.
func (t *ORTTrace) prefix() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return filepath.Join(t.folder, fmt.Sprint("session", len(t.sessions)))
}

func (t *ORTTrace) add(accelerator string, u Unit, s *ort.Session) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	u.ONNX = nil
	t.sessions = append(t.sessions, tracedSession{accelerator: accelerator, unit: u, session: s})
}

// finish ends all profiles, once: what runs later is not recorded.
func (t *ORTTrace) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.sessions {
		if s := &t.sessions[i]; !t.finished {
			if s.profile, s.err = s.session.EndProfiling(); s.err != nil {
				s.profile = &ort.Profile{}
			}
		}
	}
	t.finished = true
}

// Traced says how much of a run a trace knows.
type Traced struct {
	// Spans are the nodes that ran in the run's layers, on the log's clock.
	Spans []eventlog.Span
	// Layers is how many completed runs of layers were on traced accelerators,
	// Found in how many of them ONNX Runtime's own run was found.
	Layers, Found int
	// Notes say what is missing, and why.
	Notes []string
}

// slack is how far ONNX Runtime's instants, which it cuts off to microseconds,
// may lie before the run of a layer that they are in.
const slack = 2 * time.Microsecond

// Spans ends the recording and finds what happened in the layers of a run that started then; Result.Started says when.
// Sessions serve several runs: what lies in no layer of this one belongs to another, or to none.
func (t *ORTTrace) Spans(l *eventlog.Log, started time.Time) *Traced {
	t.finish()
	sys := &l.Header.System
	type place struct{ accelerator, model, layer, implementation string }
	runs := map[place][]*eventlog.Record{} // in order
	for i := range l.Records {
		if r := &l.Records[i]; r.Kind == sched.Completed {
			m := &sys.Models[r.Model]
			at := place{sys.Accelerators[r.Accelerator], m.Name, m.Layers[r.Layer].Name,
				m.Layers[r.Layer].Implementations[r.Implementation].Name}
			runs[at] = append(runs[at], r)
		}
	}
	zero := time.Duration(started.UnixNano())
	out := &Traced{}
	for _, s := range t.sessions {
		u := &s.unit
		layers := runs[place{s.accelerator, u.Model, u.Layer, u.Implementation}]
		if len(layers) == 0 {
			continue
		}
		p := s.profile
		out.Layers += len(layers)
		switch {
		case s.err != nil:
			out.note("some layers have no spans of ONNX Runtime: %v", s.err)
		case p.Full:
			out.note("ONNX Runtime keeps a million events of a session, and some layers had more, " +
				"which the trace lacks: run for a shorter time")
		}
		if p.Unreadable > 0 {
			out.note("ONNX Runtime wrote events that cannot be read, such as those of nodes with quotation marks " +
				"in their names; the trace lacks them")
		}
		out.add(slices.Index(sys.Accelerators, s.accelerator), layers, p, zero)
	}
	if len(out.Notes) == 0 && out.Found < out.Layers {
		out.note("ONNX Runtime's spans were found in %d of %d runs of layers: "+
			"the wall clock was set meanwhile, or runs failed", out.Found, out.Layers)
	}
	return out
}

// note adds a note, once: most hold for many layers.
func (t *Traced) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(t.Notes, n) {
		t.Notes = append(t.Notes, n)
	}
}

// add finds the spans of one session: of its runs those that lie in a run of its
// layer, and of its nodes those that lie in such a run.
func (t *Traced) add(accelerator int, layers []*eventlog.Record, p *ort.Profile, zero time.Duration) {
	nodes := p.Nodes
	for _, run := range p.Runs {
		from, to := run.Start-zero, run.Start+run.Length-zero
		for len(layers) > 0 && layers[0].At+slack < to {
			layers = layers[1:]
		}
		if len(layers) == 0 {
			return
		}
		if from < layers[0].Start-slack {
			continue // before the run, or of another
		}
		t.Found++
		layers = layers[1:]
		for ; len(nodes) > 0 && nodes[0].Start <= run.Start+run.Length; nodes = nodes[1:] {
			if n := &nodes[0]; n.Start >= run.Start-slack {
				t.Spans = append(t.Spans, span(accelerator, n, zero))
			}
		}
	}
}

func span(accelerator int, n *ort.ProfileEvent, zero time.Duration) eventlog.Span {
	s := eventlog.Span{Accelerator: accelerator, Start: n.Start - zero, End: n.Start + n.Length - zero,
		Name: strings.TrimSuffix(n.Name, "_kernel_time"),
		Args: map[string]string{"category": n.Category}}
	for key, value := range map[string]string{"operator": n.Operator, "provider": n.Provider, "inputs": n.Inputs} {
		if value != "" {
			s.Args[key] = value
		}
	}
	return s
}
