package view

import (
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched/eventlog"
)

// A terminal shows a policy's accuracy on labelled requests over all models, a page that of each model, too.
func TestLabelledTable(t *testing.T) {
	one := result.LabelledAccuracy{Policy: "pedf", Model: "a", Metric: "top-1", Requests: 300, Inputs: 250, Score: .9801,
		Original: .99, Normalized: .99, Low: .98, High: 1, Floor: .985}
	two := one
	two.Model, two.Requests, two.Normalized, two.Low, two.High = "b", 100, .95, .93, .97
	r := result.Result{Driver: eventlog.Real, Valid: true, Labelled: []result.LabelledAccuracy{one, two},
		Policies: []result.PolicyResult{{Metrics: eventlog.Metrics{Policy: "pedf", Driver: eventlog.Real}}}}
	var text strings.Builder
	Result(&text, &r, "result.json")
	for _, want := range []string{"Accuracy measured on labelled requests", "400", "98.00 %", "97.10 to 98.90 %  98.5 %"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the terminal does not show %q:\n%s", want, &text)
		}
	}
	if strings.Contains(text.String(), "98.00 to 100.00 %") {
		t.Errorf("the terminal shows a model's row:\n%s", &text)
	}
	page := string(testkit.Must((&Page{Results: []result.Result{r}}).HTML())(t))
	for _, want := range []string{"98.5", "93.00 to 97.00", "Accuracy measured on labelled requests"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	r.Labelled = r.Labelled[:1]
	text.Reset()
	Result(&text, &r, "result.json")
	if !strings.Contains(text.String(), "98.00 to 100.00 %") {
		t.Errorf("the only model is not shown:\n%s", &text)
	}
}
