package eventlog

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/terastal/terastal/internal/gobench"
	"github.com/terastal/terastal/sched"
)

// jobColumns are the columns of WriteJobsCSV.
var jobColumns = []string{"run", "policy", "driver", "model", "request", "release_ns", "noticed_ns", "deadline_ns",
	"outcome", "reason", "end_ns", "response_ms", "layers", "failed_attempts", "variants", "accelerators",
	"accuracy"}

// WriteJobsCSV writes a row per job of every log, in the order in which the jobs
// ended, after a line that names the columns:
//
//	run              number of the log, from 1
//	policy, driver   of the log
//	model, job       the job's model and ID
//	release_ns       scheduled release; all instants are nanoseconds from the start of the run
//	noticed_ns       when the release was noticed
//	deadline_ns      absolute deadline
//	outcome          met, late, dropped or failed
//	reason           of a drop or failure
//	end_ns           when the job got its outcome
//	response_ms      from release_ns to end_ns, of jobs that were met or late
//	layers           layers completed
//	failed_attempts  runs of layers that failed
//	variants         the variants used, as LAYER:VARIANT joined by spaces
//	accelerators     those that completed layers, in order of first use, joined by spaces
//	accuracy         normalised accuracy of the variants used, of jobs that were met or late; empty where it is unknown
func WriteJobsCSV(w io.Writer, logs ...*Log) error { return writeCSV(w, jobColumns, (*Log).jobs, logs) }

// writeCSV writes the columns' names and the rows that each log calls row with.
func writeCSV(w io.Writer, columns []string, rows func(l *Log, row func([]string)), logs []*Log) error {
	out := csv.NewWriter(w)
	out.Write(columns) // errors stay until Flush
	for run, l := range logs {
		rows(l, func(row []string) {
			out.Write(append([]string{strconv.Itoa(run + 1), l.Header.Policy, l.Header.Driver}, row...))
		})
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// job gathers what a row says.
type job struct {
	noticed               time.Duration
	layers, failed        int
	variants, accelerator []string
	used                  sched.VariantSet
}

func (l *Log) jobs(row func([]string)) {
	sys := &l.Header.System
	jobs, accounts := map[int64]*job{}, l.accounts()
	for i := range l.Records {
		r := &l.Records[i]
		j := jobs[r.Job]
		switch r.Kind {
		case sched.Released:
			jobs[r.Job] = &job{noticed: r.At}
		case sched.Requeued, sched.Doomed:
			j.failed++
		case sched.Completed:
			j.layers++
			if a := sys.Accelerators[r.Accelerator]; !slices.Contains(j.accelerator, a) {
				j.accelerator = append(j.accelerator, a)
			}
			if layer := &sys.Models[r.Model].Layers[r.Layer]; r.Implementation > 0 {
				im := &layer.Implementations[r.Implementation]
				j.variants, j.used = append(j.variants, layer.Name+":"+im.Name), j.used|1<<(im.Variant-1)
			}
		case sched.Ended:
			if r.Accelerator >= 0 {
				j.failed++
			}
			response, accuracy := "", ""
			if r.Outcome == sched.Met || r.Outcome == sched.Late {
				response = decimal(ms(r.At - r.Start))
				if x, _ := accounts[r.Model].Accuracy(j.used); !math.IsNaN(x) {
					accuracy = decimal(x)
				}
			}
			row([]string{sys.Models[r.Model].Name, strconv.FormatInt(r.Job, 10), whole(r.Start), whole(j.noticed),
				whole(r.Until), r.Outcome.String(), r.Detail, whole(r.At), response, strconv.Itoa(j.layers), strconv.Itoa(j.failed),
				strings.Join(j.variants, " "), strings.Join(j.accelerator, " "),
				accuracy})
			delete(jobs, r.Job)
		}
	}
}

// layerColumns are the columns of WriteLayersCSV.
var layerColumns = []string{"run", "policy", "driver", "model", "request", "layer_index", "layer", "implementation",
	"accelerator", "from", "reason", "outcome",
	"dispatch_ns", "start_ns", "end_ns", "predicted_us", "measured_us", "predicted_handoff_us"}

// WriteLayersCSV writes a row per run of a layer, failed attempts included, in
// the order in which they ended, after a line that names the columns:
//
//	run, policy, driver, model, job  as in WriteJobsCSV
//	layer_index, layer               the layer's place in its model, from 0, and its name
//	implementation                   original, or the variant's name
//	accelerator                      that ran it
//	from                             that ran the job's layer before; empty for the first
//	reason                           why the policy chose so
//	outcome                          completed, requeued (failed and queued again) or failed
//	dispatch_ns                      when the policy chose, in nanoseconds from the start of the run; the layer before on the
//	                                 accelerator may have ended after that, if it was about to
//	start_ns                         when the layer began; empty where it failed
//	end_ns                           when it ended
//	predicted_us                     from when it could begin to its end as the policy expected, handoff included
//	measured_us                      from start to end; empty where it failed
//	predicted_handoff_us             the part of the prediction that moving tensors from another accelerator takes
func WriteLayersCSV(w io.Writer, logs ...*Log) error {
	return writeCSV(w, layerColumns, (*Log).layerRuns, logs)
}

func (l *Log) layerRuns(row func([]string)) {
	sys := &l.Header.System
	for _, run := range l.Runs() {
		d, r := run.Dispatched, run.Ended
		outcome, start, measured := "failed", "", ""
		switch r.Kind {
		case sched.Completed:
			outcome, start, measured = "completed", whole(r.Start), decimal(micro(r.At-r.Start))
		case sched.Requeued:
			outcome = "requeued"
		}
		layer := &sys.Models[d.Model].Layers[d.Layer]
		from, handoff := "", time.Duration(0)
		if run.From != sched.Idle {
			from = sys.Accelerators[run.From]
			if layer.Handoff != nil {
				handoff = layer.Handoff[run.From][d.Accelerator]
			}
		}
		row([]string{sys.Models[d.Model].Name, strconv.FormatInt(d.Job, 10), strconv.Itoa(int(d.Layer)), layer.Name,
			layer.Implementations[d.Implementation].Name, sys.Accelerators[d.Accelerator], from, d.Reason.String(), outcome,
			whole(d.At), start, whole(r.At), decimal(micro(run.Predicted())), measured, decimal(micro(handoff))})
	}
}

func whole(d time.Duration) string { return strconv.FormatInt(int64(d), 10) }

// micro is in microseconds.
func micro(d time.Duration) float64 { return float64(d) / 1e3 }

func decimal(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// benchUnits are the units of WriteBench of which values are better or worse.
var benchUnits = []struct{ unit, better string }{
	{"miss-rate", gobench.Lower},
	{"p50-ns", gobench.Lower},
	{"p90-ns", gobench.Lower},
	{"p99-ns", gobench.Lower},
	{"accuracy", gobench.Higher},
	{"worst-window-accuracy", gobench.Higher},
	{"mean-miss-rate", gobench.Lower},
	{"release-lag-p99-ns", gobench.Lower},
}

// WriteBench writes the metrics of every log as results of Go benchmarks, which benchstat compares: benchstat -col
// /policy FILE. Several logs of a policy are several samples. The lines are
//
//	BenchmarkModel/model=M/policy=P-1        N  miss-rate p50-ns p90-ns p99-ns accuracy worst-window-accuracy
//	BenchmarkPolicy/policy=P-1               N  mean-miss-rate release-lag-p99-ns
//	BenchmarkAccelerator/acc=A/policy=P-1    N  utilization
//
// where N is how many jobs they are of. Percentiles are of the response times of jobs that finished, and missing where
// none did; accuracy is missing where it was never measured, and that of the worst window where none was promised. Results of different drivers, machines or versions of ONNX
// Runtime, and those of distorted runs, are set apart.
func WriteBench(w io.Writer, logs ...*Log) error {
	out := gobench.NewWriter(w)
	for _, u := range benchUnits {
		out.Unit(u.unit, u.better)
	}
	for _, l := range logs {
		l.bench(out)
	}
	return out.Err()
}

func (l *Log) bench(out *gobench.Writer) {
	h, metrics := &l.Header, l.Metrics()
	out.Config(gobench.Fact{Key: "driver", Value: h.Driver}, gobench.Fact{Key: "goos", Value: h.Machine.OS},
		gobench.Fact{Key: "goarch", Value: h.Machine.Arch},
		gobench.Fact{Key: "cpu", Value: h.Machine.CPU}, gobench.Fact{Key: "governor", Value: h.Machine.Governor},
		gobench.Fact{Key: "onnxruntime", Value: h.Machine.ORT}, gobench.Fact{Key: "distorted", Value: h.Distorted})
	policy := gobench.Part{Key: "policy", Value: h.Policy}
	value := func(x float64, unit string) gobench.Value { return gobench.Value{Number: x, Unit: unit} }
	for i := range metrics.Models {
		m := &metrics.Models[i]
		if m.Released == 0 {
			continue
		}
		values := []gobench.Value{value(m.MissRate, "miss-rate")}
		if m.Met+m.Late > 0 {
			values = append(values, value(math.Round(m.P50MS*1e6), "p50-ns"), value(math.Round(m.P90MS*1e6), "p90-ns"),
				value(math.Round(m.P99MS*1e6), "p99-ns"))
			if m.NormalizedAccuracy != nil {
				values = append(values, value(*m.NormalizedAccuracy, "accuracy"))
			}
			if m.WorstWindow != nil {
				values = append(values, value(*m.WorstWindow, "worst-window-accuracy"))
			}
		}
		out.Result("Model", []gobench.Part{{Key: "model", Value: m.Model}, policy}, m.Released, values...)
	}
	if metrics.Released == 0 {
		return
	}
	out.Result("Policy", []gobench.Part{policy}, metrics.Released, value(metrics.MeanMissRate, "mean-miss-rate"),
		value(math.Round(metrics.ReleaseLagP99US*1e3), "release-lag-p99-ns"))
	for _, a := range h.System.Accelerators {
		out.Result("Accelerator", []gobench.Part{{Key: "acc", Value: a}, policy}, metrics.Released,
			value(metrics.Utilization[a], "utilization"))
	}
}
