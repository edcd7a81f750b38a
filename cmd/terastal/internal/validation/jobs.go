package validation

import (
	"cmp"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
)

// ending is how a job ended.
type ending struct {
	job      int64
	release  time.Duration // scheduled
	response time.Duration // of those that finished
	outcome  sched.Outcome
	variants int // layers that ran as one
}

func (e *ending) finished() bool { return e.outcome == sched.Met || e.outcome == sched.Late }

// endings lists a log's jobs by model, in the order of their releases.
func endings(log *eventlog.Log) [][]ending {
	out := make([][]ending, len(log.Header.System.Models))
	variants := map[int64]int{}
	for i := range log.Records {
		r := &log.Records[i]
		switch {
		case r.Kind == sched.Completed && r.Implementation > 0:
			variants[r.Job]++
		case r.Kind == sched.Ended:
			e := ending{job: r.Job, release: r.Start, response: r.At - r.Start, outcome: r.Outcome}
			if e.finished() {
				e.variants = variants[r.Job]
			}
			out[r.Model] = append(out[r.Model], e)
		}
	}
	for m := range out {
		slices.SortStableFunc(out[m], func(a, b ending) int { return cmp.Compare(a.release, b.release) })
	}
	return out
}

// endingsByModel lists those of several logs, by model and log.
func endingsByModel(logs []*eventlog.Log) (out [][][]ending) {
	for _, log := range logs {
		for m, jobs := range endings(log) {
			if m == len(out) {
				out = append(out, nil)
			}
			out[m] = append(out[m], jobs)
		}
	}
	return out
}

// outcomes summarises jobs without the interval of the miss rate.
func outcomes(jobs []ending) Outcomes {
	o := Outcomes{Released: len(jobs)}
	var responses []float64
	for i := range jobs {
		switch jobs[i].outcome {
		case sched.Met:
			o.Met++
		case sched.Late:
			o.Late++
		case sched.Dropped:
			o.Dropped++
		case sched.Failed:
			o.Failed++
		}
		o.VariantsUsed += jobs[i].variants
		if jobs[i].finished() {
			responses = append(responses, ms(jobs[i].response))
		}
	}
	if o.Released > 0 {
		o.MissRate = 1 - float64(o.Met)/float64(o.Released)
	}
	o.quantiles(responses)
	return o
}

func (o *Outcomes) quantiles(responses []float64) {
	if len(responses) == 0 {
		return
	}
	slices.Sort(responses)
	for q := 1; q <= 99; q++ {
		o.Quantiles = append(o.Quantiles, stats.Quantile(responses, float64(q)/100))
	}
	o.P50MS, o.P90MS, o.P99MS = o.Quantiles[49], o.Quantiles[89], o.Quantiles[98]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// blocks is into how many stretches of equally many releases a run is cut for the interval of its miss rate.
const blocks = 20

// measured summarises the jobs of a real run. Misses come in bursts: one late job makes the next late. The interval is
// the wider of Wilson's, which takes them as independent, and Student's over the miss rates of blocks of consecutive
// releases, which does not as long as bursts are short next to a block.
func measured(jobs []ending) Outcomes {
	o := outcomes(jobs)
	o.MissLow, o.MissHigh = wilson(o.Released-o.Met, o.Released)
	if len(jobs) < 5*blocks {
		return o
	}
	var rates []float64
	for b := range blocks {
		part := jobs[b*len(jobs)/blocks : (b+1)*len(jobs)/blocks]
		missed := 0
		for i := range part {
			if part[i].outcome != sched.Met {
				missed++
			}
		}
		rates = append(rates, float64(missed)/float64(len(part)))
	}
	half := student(rates) / math.Sqrt(blocks)
	o.MissLow, o.MissHigh = min(o.MissLow, max(0, o.MissRate-half)), max(o.MissHigh, min(1, o.MissRate+half))
	return o
}

// wilson is the 95 % score interval of a share.
func wilson(k, n int) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	const z = 1.959964
	p, m := float64(k)/float64(n), float64(n)
	middle, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	low, high = (middle-half)/(1+z*z/m), (middle+half)/(1+z*z/m)
	return max(0, min(low, p)), min(1, max(high, p))
}

// student is half the width of the 95 % interval that a single value is expected
// in, but for what is not known of the mean.
func student(xs []float64) float64 {
	n := float64(len(xs))
	if n < 2 {
		return 0
	}
	mean, sum := 0.0, 0.0
	for _, x := range xs {
		mean += x / n
	}
	for _, x := range xs {
		sum += (x - mean) * (x - mean)
	}
	return math.Sqrt(sum/(n-1)) * distuv.StudentsT{Sigma: 1, Nu: n - 1}.Quantile(.975)
}

// predicted summarises the same model's jobs over simulations: counts are means per simulation, quantiles of all
// responses together, and the interval is where a single run is expected.
func predicted(draws [][]ending) Outcomes {
	var sum, o Outcomes
	var rates, responses []float64
	for _, jobs := range draws {
		x := outcomes(jobs)
		rates = append(rates, x.MissRate)
		sum.Released, sum.Late, sum.Dropped, sum.Failed, sum.VariantsUsed = sum.Released+x.Released, sum.Late+x.Late,
			sum.Dropped+x.Dropped, sum.Failed+x.Failed, sum.VariantsUsed+x.VariantsUsed
		o.MissRate += x.MissRate / float64(len(draws))
		for i := range jobs {
			if jobs[i].finished() {
				responses = append(responses, ms(jobs[i].response))
			}
		}
	}
	each := func(n int) int { return int(math.Round(float64(n) / float64(len(draws)))) }
	o.Released, o.Late, o.Dropped, o.Failed, o.VariantsUsed = each(sum.Released), each(sum.Late), each(sum.Dropped),
		each(sum.Failed), each(sum.VariantsUsed)
	o.Met = o.Released - o.Late - o.Dropped - o.Failed
	half := student(rates) * math.Sqrt(1+1/float64(len(draws)))
	o.MissLow, o.MissHigh = max(0, o.MissRate-half), min(1, o.MissRate+half)
	o.quantiles(responses)
	return o
}

// matched holds the measured responses of jobs against the median of those
// predicted, over simulations in which they finished.
func matched(real []ending, draws [][]ending) Agreement {
	predictions := map[int64][]float64{}
	for _, jobs := range draws {
		for i := range jobs {
			if jobs[i].finished() && jobs[i].job < sched.FirstOwnJob {
				predictions[jobs[i].job] = append(predictions[jobs[i].job], ms(jobs[i].response))
			}
		}
	}
	var pairs []pair
	for i := range real {
		if xs := predictions[real[i].job]; real[i].finished() && len(xs) > 0 {
			pairs = append(pairs, pair{median(xs), ms(real[i].response)})
		}
	}
	return agree(pairs)
}
