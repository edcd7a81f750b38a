package session

import (
	"fmt"
	"math"

	"github.com/terastal/terastal/cmd/terastal/internal/config"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/stats"
	"github.com/terastal/terastal/models"
	"github.com/terastal/terastal/models/dataset"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/variants/accuracy"
)

// Outputs of at most scoredBytes are copied of every request, up to mostScored of a model in a run, and of all together
// mostScoredBytes: that takes a microsecond each at most. Larger ones are scored of the requests that are verified, whose
// outputs are copied anyway.
const (
	scoredBytes     = 16 << 10
	mostScored      = 4096
	mostScoredBytes = 16 << 20
)

// scoredOutputs is how many requests of a model keep their outputs to be scored.
func scoredOutputs(m *models.Model) int {
	bytes := int64(0)
	for _, t := range m.Outputs() {
		bytes += t.Bytes()
	}
	if bytes > scoredBytes {
		return samplesPerModel
	}
	return min(mostScored, mostScoredBytes/int(max(1, bytes)))
}

// labelled is a model whose requests read its labelled data.
type labelled struct {
	name   string
	metric accuracy.Metric
	floor  float64
	labels []int // by input
	// originals are, by input, what the whole model computed from it; nil until a request had it.
	originals [][][]float32
}

// newLabelled checks that the model's outputs on the data can be scored.
func newLabelled(c *config.Model, m *models.Model, data *dataset.Set) (*labelled, error) {
	metric, err := accuracy.Named(c.Metric, m.Outputs(), data.Labelled())
	if err != nil {
		return nil, err
	}
	for _, t := range m.Outputs() {
		if t.Type != ort.Float {
			return nil, fmt.Errorf("output %s is not float32 and cannot be scored: name the source of its inputs instead of %q",
				t, config.LabelledInputs)
		}
	}
	l := &labelled{name: c.Name, metric: metric, labels: make([]int, data.Len()), originals: make([][][]float32, data.Len())}
	classes := m.Outputs()[0].Elements()
	for i := range l.labels {
		l.labels[i] = data.Label(i)
		if x := l.labels[i]; metric.Labels && (x < 0 || int64(x) >= classes) {
			return nil, fmt.Errorf("labelled request %d has the label %d, the first output has classes 0 to %d", i, x, classes-1)
		}
	}
	return l, nil
}

// score is how good outputs are on an input; what is no number is worth nothing.
func (l *labelled) score(outputs [][]float32, input int) float64 {
	if s := l.metric.Score(outputs, l.originals[input], l.labels[input]); s >= 0 && !math.IsInf(s, 0) {
		return s
	}
	return 0
}

// scores are those of requests on labelled data, by policy.
type scores struct {
	models   []*labelled // by model; nil where requests read other data
	policies []scored
}

// scored are the scores under one policy, of all its runs.
type scored struct {
	policy string
	pairs  [][]stats.Pairs // by model and input: of the request and of the original
}

// add scores what a run of a policy computed.
func (s *scores) add(e *runtime.Executor, policy string, samples []runtime.Sample) error {
	if s.models == nil {
		return nil
	}
	if err := s.compute(e, samples); err != nil {
		return err
	}
	var to *scored
	for i := range s.policies {
		if s.policies[i].policy == policy {
			to = &s.policies[i]
		}
	}
	if to == nil {
		s.policies = append(s.policies, scored{policy, make([][]stats.Pairs, len(s.models))})
		to = &s.policies[len(s.policies)-1]
	}
	for _, x := range samples {
		l := s.models[x.Model]
		if l == nil {
			continue
		}
		if to.pairs[x.Model] == nil {
			to.pairs[x.Model] = make([]stats.Pairs, len(l.labels))
		}
		to.pairs[x.Model][x.Input].Add(l.score(floats(x.Outputs), x.Input), l.score(l.originals[x.Input], x.Input))
	}
	return nil
}

// compute computes the originals on inputs that no request has had so far.
func (s *scores) compute(e *runtime.Executor, samples []runtime.Sample) error {
	var missing []runtime.Sample
	asked := map[[2]int]bool{}
	for _, x := range samples {
		at := [2]int{x.Model, x.Input}
		if l := s.models[x.Model]; l != nil && l.originals[x.Input] == nil && !asked[at] {
			missing, asked[at] = append(missing, x), true
		}
	}
	outputs, err := e.Originals(missing)
	if err != nil {
		return err
	}
	for i, x := range missing {
		s.models[x.Model].originals[x.Input] = floats(outputs[i])
	}
	return nil
}

func floats(outputs [][]byte) (out [][]float32) {
	for _, b := range outputs {
		out = append(out, ort.Numbers[float32](b))
	}
	return out
}

// accuracies are what the scores come to, by policy and model.
func (s *scores) accuracies() (out []result.LabelledAccuracy) {
	for _, p := range s.policies {
		for m, pairs := range p.pairs {
			if pairs == nil {
				continue
			}
			l := s.models[m]
			a := result.LabelledAccuracy{Policy: p.policy, Model: l.name, Metric: l.metric.Name, Floor: l.floor}
			for _, x := range pairs {
				if x.N > 0 {
					a.Requests, a.Inputs = a.Requests+x.N, a.Inputs+1
					a.Score, a.Original = a.Score+x.X, a.Original+x.Y
				}
			}
			a.Score, a.Original = a.Score/float64(a.Requests), a.Original/float64(a.Requests)
			a.Normalized, a.Low, a.High = stats.PairedRatio(pairs)
			out = append(out, a)
		}
	}
	return out
}

// spread are at most n samples of each model, spread evenly over those that there are.
func spread(samples []runtime.Sample, n int) []runtime.Sample {
	all, seen := map[int]int{}, map[int]int{}
	for _, s := range samples {
		all[s.Model]++
	}
	var out []runtime.Sample
	for _, s := range samples {
		i, of := seen[s.Model], all[s.Model]
		if seen[s.Model]++; of <= n || i == 0 || i*n/of > (i-1)*n/of {
			out = append(out, s)
		}
	}
	return out
}
