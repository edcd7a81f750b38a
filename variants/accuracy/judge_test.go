package accuracy

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/plan"
)

// TestStandardError: standard errors are how far measured accuracies scatter from one data set to the next. Scores of a
// request are alike with and without variants, so that they are far below those of two separate measurements.
func TestStandardError(t *testing.T) {
	const requests, datasets = 400, 3000
	for name, draw := range map[string]func(*rand.Rand) (original, variant float64){
		"right or wrong": func(rng *rand.Rand) (float64, float64) {
			u := rng.Float64()
			return float64(btoi(u < 0.8)), float64(btoi(u < 0.75 || u > 0.98))
		},
		"graded": func(rng *rand.Rand) (float64, float64) {
			x := rng.Float64()
			return x, 0.9*x + 0.02*rng.NormFloat64()
		},
	} {
		rng := rand.New(rand.NewPCG(3, 4))
		var sum, squares, claimed float64
		covered, truth := 0, 0.0
		for range 200_000 { // what very many requests say
			o, v := draw(rng)
			sum, truth = sum+o, truth+v
		}
		truth, sum = truth/sum, 0
		for range datasets {
			scores := make([][]float64, requests)
			for i := range scores {
				o, v := draw(rng)
				scores[i] = []float64{o, v}
			}
			p := plan.Proof{Sets: []sched.VariantSet{0, 1}}
			judge(&p, scores)
			a, e := p.Accuracy[1], p.StandardError[1]
			sum, squares, claimed = sum+a, squares+a*a, claimed+e
			covered += btoi(math.Abs(a-truth) <= 1.96*e)
			if p.StandardError[0] != 0 || p.Accuracy[0] != 1 {
				t.Fatalf("%s: the original alone: %+v", name, p)
			}
		}
		mean := sum / datasets
		scatter := math.Sqrt(squares/datasets - mean*mean)
		if claimed /= datasets; math.Abs(claimed/scatter-1) > 0.06 {
			t.Errorf("%s: standard error %.5f, accuracies scatter by %.5f", name, claimed, scatter)
		}
		if share := float64(covered) / datasets; share < 0.935 || share > 0.975 {
			t.Errorf("%s: 95 %% intervals hold the accuracy in %.1f %% of cases", name, 100*share)
		}
	}
}

// TestStandardErrorOfNoChange: that no request of a few changed is no certainty; of one request nothing is known.
func TestStandardErrorOfNoChange(t *testing.T) {
	for n, want := range map[int]float64{1: -1, 2: 0.707, 100: 0.01, 500: 0.002} {
		scores := make([][]float64, n)
		for i := range scores {
			scores[i] = []float64{1, 1}
		}
		p := plan.Proof{Sets: []sched.VariantSet{0, 1}}
		judge(&p, scores)
		switch {
		case want < 0 && p.StandardError != nil, want > 0 && math.Abs(p.StandardError[1]-want) > want/100:
			t.Errorf("%d requests: %v, want %v", n, p.StandardError, want)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
