package live

import (
	"log/slog"
	"math"
	"time"

	"github.com/terastal/terastal/runtime"
)

// Logger writes how a run stands as structured log lines: every second a line per model, and a line whenever an
// accelerator leaves or re-enters service. It is for one goroutine.
type Logger struct {
	log    *slog.Logger
	last   time.Duration // when models were logged
	at     time.Duration // of the last update
	policy string
	down   []bool
}

// NewLogger makes one that writes to log.
func NewLogger(log *slog.Logger) *Logger { return &Logger{log: log} }

// logEvery is how often models are logged.
const logEvery = time.Second

// Update logs what has changed, and what it is time for.
func (l *Logger) Update(policy string, s runtime.Stats) {
	begins := policy != l.policy || s.At < l.at // the same policy may run again
	if l.at = s.At; begins {
		l.policy, l.last, l.down = policy, 0, nil
		l.log.Info("run begins", "policy", policy, "models", len(s.Models), "accelerators", len(s.Accelerators))
	}
	l.down = append(l.down, make([]bool, max(0, len(s.Accelerators)-len(l.down)))...)
	for k := range s.Accelerators {
		a := &s.Accelerators[k]
		if a.Down != l.down[k] {
			l.down[k] = a.Down
			l.log.Warn("accelerator", "policy", policy, "name", a.Name, "in_service", !a.Down, "at_s", s.At.Seconds())
		}
	}
	if s.At-l.last < logEvery {
		return
	}
	l.last = s.At
	for i := range s.Models {
		m := &s.Models[i]
		l.log.Info("model", "policy", policy, "name", m.Name, "at_s", s.At.Seconds(), "released", m.Released, "met", m.Met,
			"late", m.Late, "dropped", m.Dropped, "failed", m.Failed, "active", m.Active, "variants", m.Variants, "p50_ms",
			m.Latency.Quantile(.5).Seconds()*1e3, "p99_ms", m.Latency.Quantile(.99).Seconds()*1e3)
		if k := &m.Kept; k.Floor > 0 && !math.IsNaN(k.Mean) {
			l.log.Info("accuracy", "policy", policy, "name", m.Name, "at_s", s.At.Seconds(), "kept", k.Mean, "recent", k.Recent,
				"worst", k.Worst, "floor", k.Floor)
		}
	}
}
