package eventlog

import (
	"slices"
	"time"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
)

// Totals counts jobs by outcome; Released is the sum of the other four.
type Totals struct {
	Released int `json:"released"`
	Met      int `json:"met"`
	Late     int `json:"late"`
	Dropped  int `json:"dropped"`
	Failed   int `json:"failed"`
}

// MissRate is the share of released jobs that did not meet their deadline.
func (t Totals) MissRate() float64 {
	if t.Released == 0 {
		return 0
	}
	return 1 - float64(t.Met)/float64(t.Released)
}

// Balanced reports whether every released job has exactly one outcome.
func (t Totals) Balanced() bool { return t.Released == t.Met+t.Late+t.Dropped+t.Failed }

// Count counts the outcome of a job.
func (t *Totals) Count(o sched.Outcome) {
	switch o {
	case sched.Met:
		t.Met++
	case sched.Late:
		t.Late++
	case sched.Dropped:
		t.Dropped++
	case sched.Failed:
		t.Failed++
	}
}

// Add adds those of other jobs.
func (t *Totals) Add(o Totals) {
	t.Released, t.Met, t.Late = t.Released+o.Released, t.Met+o.Met, t.Late+o.Late
	t.Dropped, t.Failed = t.Dropped+o.Dropped, t.Failed+o.Failed
}

// ModelMetrics is what one model's requests got. Latencies are from the
// scheduled release to the end of the last layer, over jobs that finished.
type ModelMetrics struct {
	Model string `json:"model"`
	Totals
	MissRate   float64 `json:"miss_rate"`
	RatePerS   float64 `json:"rate_per_s"`
	DeadlineMS float64 `json:"deadline_ms"`
	P50MS      float64 `json:"p50_ms"`
	P90MS      float64 `json:"p90_ms"`
	P99MS      float64 `json:"p99_ms"`
	// LayersRun counts the layers of finished jobs, VariantsUsed those of them that a variant ran.
	LayersRun    int `json:"layers_run"`
	VariantsUsed int `json:"variants_used"`
	// Variants are the same by variant, those that were used.
	Variants []VariantUse `json:"variants,omitempty"`
	// NormalizedAccuracy is the mean over finished jobs of the accuracy that was measured for the variants each used; 1
	// without variants, absent when it was never measured.
	NormalizedAccuracy *float64 `json:"normalized_accuracy,omitempty"`
	// AccuracyLow and AccuracyHigh hold it with 95 % confidence, as far as accuracy was measured on few requests. Absent
	// where nobody said how exact the measurements are, and where accuracy is only bounded.
	AccuracyLow  *float64 `json:"accuracy_low,omitempty"`
	AccuracyHigh *float64 `json:"accuracy_high,omitempty"`
	// AccuracyFloor is what the model was promised to keep on the mean. DeliveredAccuracy is held against it:
	// NormalizedAccuracy with what was measured above 1 taken for 1. WorstWindow is the least that it was over
	// [sched.AccuracyWindow] requests that finished one after the other, and over the first ones, of which there are fewer.
	// Absent where nothing was promised, no request finished, or accuracy is unknown.
	AccuracyFloor     float64  `json:"accuracy_floor,omitempty"`
	DeliveredAccuracy *float64 `json:"delivered_accuracy,omitempty"`
	WorstWindow       *float64 `json:"worst_window_accuracy,omitempty"`
	// DropReasons counts dropped and failed jobs by reason.
	DropReasons map[string]int `json:"drop_reasons,omitempty"`
}

// VariantShare is the share of the layers of finished jobs that variants ran.
func (m *ModelMetrics) VariantShare() float64 { return share(m.VariantsUsed, m.LayersRun) }

// VariantShare is the same over all models.
func (m *Metrics) VariantShare() float64 {
	used, run := 0, 0
	for i := range m.Models {
		used, run = used+m.Models[i].VariantsUsed, run+m.Models[i].LayersRun
	}
	return share(used, run)
}

func share(part, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// AccuracyKept is the mean of the models' normalised accuracies over all
// finished jobs; nil when there are none, or a model's was never measured.
func (m *Metrics) AccuracyKept() *float64 {
	sum, n := 0.0, 0
	for i := range m.Models {
		x := &m.Models[i]
		finished := x.Met + x.Late
		if finished == 0 {
			continue
		}
		if x.NormalizedAccuracy == nil {
			return nil
		}
		sum, n = sum+*x.NormalizedAccuracy*float64(finished), n+finished
	}
	if n == 0 {
		sum, n = 1, 1
	}
	return known(sum / float64(n))
}

// VariantUse is how often finished jobs used a variant of a layer.
type VariantUse struct {
	Layer   string `json:"layer"`
	Variant string `json:"variant"`
	Runs    int    `json:"runs"`
}

// Metrics summarises one run.
type Metrics struct {
	Policy string `json:"policy"`
	Driver string `json:"driver"`
	Totals
	// MeanMissRate is the mean of the models' miss rates.
	MeanMissRate float64        `json:"mean_miss_rate"`
	Models       []ModelMetrics `json:"models"`
	// Utilization is the share of the time up to the last event during which each accelerator ran a layer.
	Utilization map[string]float64 `json:"utilization"`
	// Release lag is how long after its scheduled time a release was noticed.
	ReleaseLagP50US float64 `json:"release_lag_p50_us"`
	ReleaseLagP99US float64 `json:"release_lag_p99_us"`
	// IdleLagP99US is the 99th percentile of the part of the lag during which an accelerator was idle. The rest changes
	// nothing: what is released while all accelerators are busy could not start anyway.
	IdleLagP99US float64 `json:"idle_lag_p99_us"`
}

// Metrics computes the summary of the log.
func (l *Log) Metrics() Metrics {
	sys := &l.Header.System
	out := Metrics{Policy: l.Header.Policy, Driver: l.Header.Driver,
		Models: make([]ModelMetrics, len(sys.Models)), Utilization: map[string]float64{}}
	latency := make([][]time.Duration, len(sys.Models))
	busy, ended := make([]time.Duration, len(sys.Accelerators)), make([]time.Duration, len(sys.Accelerators))
	used := map[int64]sched.VariantSet{} // by job, of those that used any
	uses := make([][]int, len(sys.Models))
	for m := range uses {
		uses[m] = make([]int, sys.Models[m].Variants)
	}
	accounts := l.accounts()
	var lags, idleLags []time.Duration
	idle := idleness{ends: make([]bool, len(sys.Accelerators))}
	var end time.Duration
	for i := range l.Records {
		r := &l.Records[i]
		end = r.At
		idle.follow(r)
		switch r.Kind {
		case sched.Released:
			out.Models[r.Model].Released++
			lags = append(lags, r.At-r.Start)
			idleLags = append(idleLags, idle.within(r.Start, r.At))
		case sched.Completed:
			busy[r.Accelerator] += r.At - max(r.Start, ended[r.Accelerator]) // an end may be noticed late
			ended[r.Accelerator] = r.At
			if r.Implementation > 0 {
				used[r.Job] |= variantOf(&sys.Models[r.Model], r)
			}
		case sched.Ended:
			m := &out.Models[r.Model]
			m.Count(r.Outcome)
			if r.Outcome == sched.Met || r.Outcome == sched.Late {
				latency[r.Model] = append(latency[r.Model], r.At-r.Start)
				m.LayersRun += len(sys.Models[r.Model].Layers)
				m.VariantsUsed += used[r.Job].Len()
				for v := range uses[r.Model] {
					uses[r.Model][v] += int(used[r.Job] >> v & 1)
				}
				accounts[r.Model].Finish(used[r.Job])
			} else {
				if m.DropReasons == nil {
					m.DropReasons = map[string]int{}
				}
				m.DropReasons[r.Detail]++
			}
			delete(used, r.Job)
		}
	}
	for i := range out.Models {
		m := &out.Models[i]
		m.Model, m.MissRate = sys.Models[i].Name, m.Totals.MissRate()
		m.RatePerS, m.DeadlineMS = l.Header.Rates[i], ms(sys.Models[i].Deadline)
		slices.Sort(latency[i])
		m.P50MS = ms(stats.Quantile(latency[i], 0.50))
		m.P90MS = ms(stats.Quantile(latency[i], 0.90))
		m.P99MS = ms(stats.Quantile(latency[i], 0.99))
		m.Variants = variantUses(&sys.Models[i], uses[i])
		accounts[i].metrics(m)
		out.MeanMissRate += m.MissRate / float64(len(out.Models))
		out.Totals.Add(m.Totals)
	}
	for k, name := range sys.Accelerators {
		out.Utilization[name] = 0
		if end > 0 {
			out.Utilization[name] = float64(busy[k]) / float64(end)
		}
	}
	slices.Sort(lags)
	slices.Sort(idleLags)
	out.ReleaseLagP50US = stats.Quantile(lags, 0.50).Seconds() * 1e6
	out.ReleaseLagP99US = stats.Quantile(lags, 0.99).Seconds() * 1e6
	out.IdleLagP99US = stats.Quantile(idleLags, 0.99).Seconds() * 1e6
	return out
}

// IdleLags is, by job, how long its release went unnoticed while an accelerator
// was idle; jobs for which that is no time are left out.
func (l *Log) IdleLags() map[int64]time.Duration {
	out := map[int64]time.Duration{}
	idle := idleness{ends: make([]bool, len(l.Header.System.Accelerators))}
	for i := range l.Records {
		r := &l.Records[i]
		idle.follow(r)
		if r.Kind == sched.Released && r.At > r.Start {
			if lag := idle.within(r.Start, r.At); lag > 0 {
				out[r.Job] = lag
			}
		}
	}
	return out
}

// variantUses names the variants that were used, in the order of layers.
func variantUses(m *sched.Model, uses []int) (out []VariantUse) {
	for _, l := range m.Layers {
		for _, im := range l.Implementations[1:] {
			if n := uses[im.Variant-1]; n > 0 {
				out = append(out, VariantUse{l.Name, im.Name, n})
			}
		}
	}
	return out
}

// idleness follows a log and knows when an accelerator was idle.
type idleness struct {
	ends      []bool    // by accelerator: it is about to end a layer, and can take another
	busy      int       // accelerators that can take none
	saturated []stretch // when all were, in order; the last may be open
}

type stretch struct{ from, to time.Duration }

const open = time.Duration(1<<63 - 1)

func (s *idleness) follow(r *Record) {
	was := s.busy
	switch {
	case r.Kind == sched.Dispatched:
		s.busy++
	case r.Kind == sched.Announced:
		s.busy--
		s.ends[r.Accelerator] = true
	case r.Kind == sched.Completed, r.Kind == sched.Requeued, r.Kind == sched.Doomed,
		r.Kind == sched.Ended && r.Accelerator >= 0:
		if !s.ends[r.Accelerator] {
			s.busy--
		}
		s.ends[r.Accelerator] = false
	}
	switch {
	case was < len(s.ends) && s.busy == len(s.ends):
		// A completion and the next dispatch at the same instant are no gap.
		if n := len(s.saturated); n > 0 && s.saturated[n-1].to == r.At {
			s.saturated[n-1].to = open
		} else {
			s.saturated = append(s.saturated, stretch{r.At, open})
		}
	case was == len(s.ends) && s.busy < len(s.ends):
		s.saturated[len(s.saturated)-1].to = r.At
	}
}

// within is how long, from one instant to another not after the last record followed, an accelerator was idle.
func (s *idleness) within(from, to time.Duration) time.Duration {
	idle := to - from
	for i := len(s.saturated) - 1; i >= 0 && s.saturated[i].to > from; i-- {
		x := s.saturated[i]
		if overlap := min(x.to, to) - max(x.from, from); overlap > 0 {
			idle -= overlap
		}
	}
	return max(0, idle)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
