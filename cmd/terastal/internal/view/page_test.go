package view

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/hostinfo"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/plan"
	"github.com/terastal/terastal/sched/sim"
	"github.com/terastal/terastal/sched/traffic"
)

const msec = time.Millisecond

// system has two models on two accelerators with different tastes; the first
// has a variant.
func system(first string) sched.System {
	layer := func(name string, us ...time.Duration) sched.Layer {
		l := sched.Layer{Name: name, Implementations: []sched.Implementation{{Name: "original"}}}
		for _, x := range us {
			l.Implementations[0].Latency = append(l.Implementations[0].Latency, x*time.Microsecond)
		}
		return l
	}
	s := sched.System{Accelerators: []string{"array", "vector"}, Models: []sched.Model{
		{Name: first, Deadline: 10 * msec, Variants: 1, Valid: []sched.VariantSet{1}, Accuracy: []float64{0.97},
			Layers: []sched.Layer{layer("stem", 900, 4000), layer("middle", 1500, 1200), layer("head", 300, 500)}},
		{Name: "small", Deadline: 6 * msec, Layers: []sched.Layer{layer("only", 800, 700)}},
	}}
	s.Models[0].Layers[0].Implementations = append(s.Models[0].Layers[0].Implementations,
		sched.Implementation{Name: "d2s", Variant: 1, Latency: []time.Duration{800 * time.Microsecond, 1200 * time.Microsecond}})
	return s
}

// simulate is the log of a busy run, said to be of the driver.
func simulate(t testing.TB, first, policy, driver string, d time.Duration) *eventlog.Log {
	t.Helper()
	l := &eventlog.Log{Header: eventlog.Header{Driver: driver, Policy: policy, Drop: "late", Queue: 16, Seed: 7, System: system(first), Rates: []float64{330, 420}, Duration: d}}
	var records eventlog.Buffer
	engine, err := l.Header.Engine(&records, nil)
	if err != nil {
		t.Fatal(err)
	}
	arrivals, err := (&traffic.Config{Rates: l.Header.Rates, Process: traffic.Poisson, Duration: d, Seed: 7}).Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Run(sim.Config{Arrivals: arrivals, Engine: engine}); err != nil {
		t.Fatal(err)
	}
	l.Records = records
	return l
}

// folder has everything that a report can show. Names are those of a user who
// wants trouble, if first is.
func folder(t testing.TB, first string, duration time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, f func(path string) error) {
		if err := f(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r := result.Result{Driver: eventlog.Real, Hardware: "a machine that was planted", ClockStepNS: 50, Host: hostinfo.Info{OS: "linux", CPU: "planted processor", LogicalCores: 4}, ORT: "1.29.0",
		Accelerators: []runtime.Spec{{Name: "array", Provider: "cpu", Threads: 1, Cores: []int{0}}, {Name: "vector", Provider: "cpu", Options: map[string]string{"b": "2", "a": "1"}}},
		Traffic:      result.TrafficInfo{Arrivals: "poisson", Phases: "random", DurationS: duration.Seconds(), Seed: 7, Drop: "late", Load: .8}, Valid: true,
		Models: []result.ModelInfo{{Name: first, Granularity: "block", Layers: 3, RatePerS: 330, DeadlineMS: 10, LatencyMS: map[string]float64{"array": 2.7}, FastestMS: 2.4, Level: 2, Preferred: map[string]int{"array": 2, "vector": 1}},
			{Name: "small", Granularity: "op", Layers: 1, RatePerS: 420, DeadlineMS: 6, FastestMS: .7, Level: 1, Preferred: map[string]int{"vector": 1}}}}
	for _, policy := range []string{"edf", "terastal"} {
		l := simulate(t, first, policy, eventlog.Real, duration)
		r.Policies = append(r.Policies, result.PolicyResult{Metrics: l.Metrics(), Log: "elsewhere/" + policy + ".log.json", DecisionP99NS: 900,
			Verification: &runtime.Verification{Verified: 8}, Execution: &result.Execution{Preempted: map[string]float64{"array": .01}}})
		write(policy+".log.json", l.Write)
	}
	r.Comparison = compared(first)
	write("result.json", func(path string) error { return writeJSON(path, r) })
	p, _, err := plan.New(system(first), []plan.Model{{Rate: 330}, {Rate: 420}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Variants = []plan.Variants{{Model: first, Proof: plan.Proof{Metric: "top-1 accuracy"}, Theta: .95,
		Chosen: []plan.Variant{{LayerName: "stem", Name: "d2s"}}}}
	write("plan.json", p.Write)
	write("profile.json", profileOf(system(first)).Write)
	write("validation.json", validated(planted(first)).Write)
	write("curves.json", func(path string) error {
		return document.Write(path, comparison.CurvesKind, comparison.CurvesVersion, curves())
	})
	return dir
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return document.WriteFile(path, data)
}

func profileOf(s sched.System) *profiler.Profile {
	p := &profiler.Profile{Created: "2026-01-02T03:04:05Z", ORT: "1.29.0", Host: hostinfo.Info{CPU: "planted processor"}}
	for _, a := range s.Accelerators {
		p.Accelerators = append(p.Accelerators, runtime.Spec{Name: a})
	}
	for m, x := range s.Models {
		pm := profiler.Model{Name: x.Name, SHA256: strings.Repeat("ab", 32), Granularity: "op"}
		for l, y := range x.Layers {
			pl := profiler.Layer{Name: y.Name, Ops: []string{"Conv"}}
			for i, im := range y.Implementations {
				pl.Implementations = append(pl.Implementations, im.Name)
				for k, c := range im.Latency {
					p.Cells = append(p.Cells, profiler.Cell{Model: m, Layer: l, Implementation: i, Accelerator: k, N: 10, P50: c})
				}
			}
			pm.Layers = append(pm.Layers, pl)
		}
		p.Models = append(p.Models, pm)
	}
	// One place where the accelerator refused.
	last := &p.Cells[len(p.Cells)-1]
	*last = profiler.Cell{Model: last.Model, Layer: last.Layer, Implementation: last.Implementation, Accelerator: last.Accelerator, Refused: "no kernel"}
	return p
}

// validated is a document of runs, with two policies in the order that was
// predicted.
func validated(runs ...validation.Validation) *validation.Document {
	return &validation.Document{Notes: []string{"a doubt about the profile"}, Validations: runs,
		Order: []validation.Order{{Better: "terastal", Worse: "edf", RealBetter: .061, RealWorse: .11, PredictedBetter: .05, PredictedWorse: .09, Decided: true, Kept: true}}}
}

func planted(first string) validation.Validation {
	rank, near, far := .98, -.01, .25
	v := validation.Validation{Policy: "terastal", Predictor: "simulator", Decisions: 1234, Valid: true,
		Layers: validation.Agreement{N: 4000, MAPE: .06, Bias: -.01, Within5: .6, Within10: .9, Rank: &rank}}
	for i := range 12 {
		us := 40 * math.Pow(1.5, float64(i))
		v.Cells = append(v.Cells, validation.Cell{Model: first, Layer: fmt.Sprintf("layer %d", i), Implementation: "original", Accelerator: []string{"array", "vector"}[i%2], Runs: 300,
			PredictedUS: us, MeasuredUS: us * (0.9 + .02*float64(i))})
	}
	for _, name := range []string{first, "small"} {
		m := validation.Model{Model: name, Deadline: 10,
			Real:      validation.Outcomes{Released: 700, Met: 680, Late: 20, MissRate: .029, MissLow: .02, MissHigh: .045, P50MS: 3, P90MS: 7, P99MS: 11},
			Predicted: validation.Outcomes{Released: 700, Met: 684, Late: 16, MissRate: .023, MissLow: .015, MissHigh: .037, P50MS: 2.9, P90MS: 6.5, P99MS: 10}}
		for q := 1; q < 100; q++ {
			x := 12 * -math.Log(1-float64(q)/101)
			m.Real.Quantiles, m.Predicted.Quantiles = append(m.Real.Quantiles, x), append(m.Predicted.Quantiles, .95*x)
		}
		given := m.Real
		given.MissRate, given.Quantiles = .0277, m.Predicted.Quantiles
		m.Given = &given
		v.Models = append(v.Models, m)
	}
	v.Accelerators = []validation.Accelerator{{Accelerator: "array", Real: .8, Predicted: .78}}
	v.Sources = []validation.Source{{Name: "interference", What: "layers took longer beside busy neighbours", Share: .6, MeanUS: 12}, {Name: "noise", What: "what is left", Share: .4, MeanUS: -1}}
	v.Checks = []validation.Check{{What: "p50 of small", Real: 3, Predicted: 2.9, Unit: "ms", Off: .03, Limit: .05, OK: true, OffGiven: &far},
		{What: "p99 of small", Real: 11, Predicted: 9, Unit: "ms", Off: -.18, Limit: .1, OffGiven: &near}, {What: "small miss rate", Real: .029, Predicted: .108, Unit: "points", Off: .079, Limit: .02, OffGiven: &near}}
	return v
}

func curves() comparison.Curves {
	c := comparison.Curves{Driver: "simulated", Source: "planted.yaml", DurationS: 12, Limit: .05}
	for n, policy := range []string{"edf", "terastal"} {
		x := comparison.Curve{Policy: policy}
		for s := .5; s < 1.65; s += .1 {
			miss := max(0, math.Pow(s, 3)*.1-.03*float64(n))
			x.Points = append(x.Points, comparison.Point{Scale: s, Load: .7 * s, Miss: miss, Low: .8 * miss, High: 1.2*miss + .01, Runs: 5})
		}
		c.Curves = append(c.Curves, x)
	}
	sustains, surely, not := .8, .7123, .9321
	c.Curves[0].Sustains, c.Curves[0].Surely, c.Curves[0].SurelyNot = &sustains, &surely, &not
	return c
}

func compared(first string) *comparison.Comparison {
	measure := func(x float64, claimed bool) comparison.Measure {
		return comparison.Measure{Median: x, Low: .9 * x, High: 1.1 * x, Values: []float64{x, .9 * x, 1.1 * x}, Claimed: claimed}
	}
	against := func(m comparison.Measure, difference float64, significant bool) comparison.Measure {
		low, high, p := difference-.011, difference+.012, .008
		m.Difference, m.DifferenceLow, m.DifferenceHigh, m.P, m.Significant = &difference, &low, &high, &p, significant
		return m
	}
	ratio := .8
	base := comparison.Model{Model: first, Miss: measure(.1, true), P50: measure(3, true), P99: measure(9, false)}
	return &comparison.Comparison{Driver: "real", Repeats: 3, Confidence: .75, Baseline: "edf", Policies: []comparison.Policy{
		{Policy: "edf", Miss: measure(.1, true), Models: []comparison.Model{base}},
		{Policy: "terastal", Miss: against(measure(.06, true), -.04, true), Geomean: &ratio,
			Models: []comparison.Model{{Model: first, Miss: against(measure(.09, true), -.01, false), P50: measure(3, true), P99: measure(9, true)}}}},
		AA: &comparison.Policy{Policy: "edf", Miss: against(measure(.101, true), .003, false), Models: []comparison.Model{base}}}
}

// render makes the report of a folder and checks what holds for every report.
func rendered(t *testing.T, dir string) string {
	t.Helper()
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return markup(t, p)
}

func markup(t *testing.T, p *Page) string {
	t.Helper()
	data, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, again) {
		t.Error("the same documents gave different bytes")
	}
	page := strings.ReplaceAll(string(data), nbsp, " ")
	wellFormed(t, page)
	offline(t, page)
	linked(t, page)
	return page
}

// wellFormed checks that every element is closed where it has to be, that text
// has no stray markup, and elements no styles or handlers of their own.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	// Script and style are not markup.
	page = regexp.MustCompile(`(?s)(<script[^>]*>).*?(</script>)`).ReplaceAllString(page, "$1$2")
	page = regexp.MustCompile(`(?s)(<style>).*?(</style>)`).ReplaceAllString(page, "$1$2")
	// What HTML leaves open or out, XML does not.
	page = regexp.MustCompile(`<((?:meta|input)\b[^>]*)>`).ReplaceAllString(page, "<$1/>")
	page = strings.ReplaceAll(page, " hidden>", ` hidden="">`)
	d := xml.NewDecoder(strings.NewReader(page))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "style" || strings.HasPrefix(a.Name.Local, "on") {
					t.Errorf("<%s> has the attribute %s=%q, which the page's own policy forbids", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// offline checks that nothing on the page refers to anything outside it, and
// that its policy forbids it.
func offline(t *testing.T, page string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`\s(src|srcset|href|action|xlink:href|data|poster|background)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(m[2], "#") {
			t.Errorf("the page refers to %s=%q", m[1], m[2])
		}
	}
	for _, word := range []string{"http:", "https:", "@import", "url(//", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "import("} {
		if strings.Contains(page, word) {
			t.Errorf("the page has %q", word)
		}
	}
	if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; script-src &#39;sha256-`) {
		t.Error("the page has no policy that forbids all loading")
	}
}

// linked checks that links within the page and references by id resolve, and
// that ids are there once.
func linked(t *testing.T, page string) {
	t.Helper()
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(`\sid="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			t.Errorf("the id %q is there twice", m[1])
		}
	}
	for _, m := range regexp.MustCompile(`\s(?:href="#|aria-labelledby="|aria-describedby=")([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] == 0 {
			t.Errorf("nothing has the id %q that is referred to", m[1])
		}
	}
	if strings.Contains(page, `id="timeline-data"`) != strings.Contains(page, `id="lanes"`) {
		t.Error("the timeline has no data, or the data no timeline")
	}
}

// sections are the ids of a page's sections.
func sections(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`<section id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestWholeFolder(t *testing.T) {
	dir := folder(t, "mobile", time.Second)
	page := rendered(t, dir)
	want := []string{"ran", "misses", "comparison", "responses", "timeline", "layers", "budgets", "accuracy", "validation", "sweep", "machine", "provenance", "reading"}
	if got := sections(page); !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
	for _, text := range []string{
		"terastal missed the fewest deadlines: 6.0 %. Next is edf with 10.0 %, 4.0 points more.", // from the comparison
		"<strong>VALID</strong>", "a machine that was planted", "seed 7", "a=1, b=2", "top-1 accuracy", "0.95",
		"−4.0 points (−5.1 to −2.8)", "~ −1.0 points (−2.1 to +0.2)", "75 % confidence", "3 repeats are too few", "edf again (A/A)",
		"A/A: between two runs of edf in the same repeat the mean miss rate differs by +0.3 points (−0.8 to +1.5)",
		"✗ no", "✓ yes", "interference", "0.8x", "0.712x", "0.932x", "All rates of planted.yaml", ">0.80x<", "too few requests", "not all layers",
		"a doubt about the profile", "it is no prediction, because", "terastal in detail: 1 of 3 checks held", ">1 of 3<", ">2 of 3<", "✓ −1.0 %", "✗ +25.0 %", "✓ −1.0 points", "+7.9 points", ">−18.0 %<", ">2.8 %<", "at its own pace",
		"advances in steps of 0.05 us",
		"cannot run", "planted processor", "SHA-256 abab", "medians over repeats of the whole run", "6.1 % (5.0 %)",
	} {
		if !strings.Contains(html.UnescapeString(page), text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	if strings.Contains(page, "DISTORTED") {
		t.Error("the page doubts times that nothing distorted")
	}
	if save := os.Getenv("TERASTAL_PAGE"); save != "" { // to look at it
		if err := os.WriteFile(save, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSectionsNeedData: every section is there if and only if its data is.
func TestSectionsNeedData(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	for _, c := range []struct {
		without []string
		gone    []string
	}{
		{[]string{"validation.json"}, []string{"validation"}},
		{[]string{"curves.json"}, []string{"sweep"}},
		{[]string{"result.json"}, []string{"comparison", "machine"}},
		{[]string{"edf.log.json", "terastal.log.json"}, []string{"timeline", "budgets"}},
		{[]string{"edf.log.json", "terastal.log.json", "plan.json", "profile.json"}, []string{"timeline", "budgets", "layers", "accuracy"}},
		{[]string{"edf.log.json", "terastal.log.json", "result.json"}, []string{"misses", "comparison", "responses", "timeline", "budgets", "accuracy", "machine"}},
		{[]string{"edf.log.json", "terastal.log.json", "result.json", "profile.json", "plan.json"}, []string{"ran", "misses", "comparison", "responses", "timeline", "layers", "budgets", "accuracy", "machine"}},
	} {
		some := t.TempDir()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains(c.without, e.Name()) {
				copyFile(t, filepath.Join(dir, e.Name()), filepath.Join(some, e.Name()))
			}
		}
		want := []string{"ran", "misses", "comparison", "responses", "timeline", "layers", "budgets", "accuracy", "validation", "sweep", "machine", "provenance", "reading"}
		want = slices.DeleteFunc(want, func(s string) bool { return slices.Contains(c.gone, s) })
		if got := sections(rendered(t, some)); !slices.Equal(got, want) {
			t.Errorf("without %v: sections %v, want %v", c.without, got, want)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestEscapes: names are the user's.
func TestEscapes(t *testing.T) {
	const name = `</script></title></style><img src=x onerror=alert(1)>"'&{{.}}<!--`
	page := rendered(t, folder(t, name, 300*msec))
	if strings.Contains(page, "<img") || strings.Contains(page, "<!--") {
		at := strings.Index(page, "<img")
		t.Errorf("a name is markup: ...%s", page[max(0, at-100):at+60])
	}
	if got, want := strings.Count(page, "</script>"), 2; got != want {
		t.Errorf("%d scripts end, want %d", got, want)
	}
	if !strings.Contains(page, "&lt;img src=x onerror=alert(1)&gt;") {
		t.Error("the name is not there as text")
	}
	var data timeline
	if err := json.Unmarshal([]byte(between2(page, `id="timeline-data">`, "</script>")), &data); err != nil {
		t.Fatal(err)
	}
	if got := data.Systems[0].Models[0].Name; got != name {
		t.Errorf("the timeline has the name %q", got)
	}
}

// between2 is what stands between two texts.
func between2(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// TestInvalid: reasons are shown, and one invalid document makes the page so.
func TestInvalid(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	v := planted("mobile")
	v.Log = "x/terastal.2.log.json"
	v.Valid, v.Reasons = false, []string{"only 30 requests: raise --duration"}
	if err := validated(planted("mobile"), v).Write(filepath.Join(dir, "validation.json")); err != nil {
		t.Fatal(err)
	}
	page := rendered(t, dir)
	if !strings.Contains(page, "<strong>INVALID</strong>") || strings.Contains(page, "<strong>VALID</strong>") || !strings.Contains(page, "<li>terastal: only 30 requests: raise --duration</li>") {
		t.Error("the page does not say that the run is invalid, and why")
	}
	if !strings.Contains(page, ">terastal.2.log.json<") || strings.Count(page, "terastal in detail") != 1 {
		t.Error("the page does not tell repeated runs apart, or shows all in detail")
	}
}

func TestDamaged(t *testing.T) {
	dir := folder(t, "mobile", 100*msec)
	for _, name := range []string{"result.json", "profile.json", "plan.json", "edf.log.json", "validation.json", "curves.json"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{nil, []byte("{"), []byte("no JSON"), good[:len(good)/2], bytes.Replace(good, []byte("10"), []byte("11"), 1)} {
			if name == "result.json" && bytes.HasSuffix(bad, []byte("}")) {
				continue // it has no checksum
			}
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if !errors.Is(err, document.ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s as %.20q: error %v", name, bad, err)
			}
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"other.json": "{}", "list.json": "[]", "cut.json": `{"a":`, "empty.json": "", "kept.json": `{"terastal":"reference","version":9}`,
		"old.profile.json": `{"terastal":"profile","version":1}`, "new.log.json": `{"time": 1, "level": "INFO"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("a file of no concern is in the way: %v", err)
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNothing) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := OpenLogs([]string{filepath.Join(dir, "plan.json")}); !errors.Is(err, document.ErrKind) {
		t.Errorf("a plan as a log: %v", err)
	}
}

// TestOtherRuns: logs that the result does not name stay out, repeats come in.
func TestOtherRuns(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	for _, name := range []string{"edf.2.log.json", "edf.3.log.json", "edf.aa.log.json", "dream.log.json"} {
		if err := simulate(t, "mobile", strings.Split(name, ".")[0], eventlog.Real, 300*msec).Write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "result.json")
	r, err := readResult(path)
	if err != nil {
		t.Fatal(err)
	}
	played := func(log string) result.PolicyResult { return result.PolicyResult{Log: "x/" + log} }
	again := played("edf.aa.log.json")
	r.Again, r.Later = &again, []result.Repeat{{Policies: []result.PolicyResult{played("edf.2.log.json"), played("terastal.2.log.json")}}}
	if err := writeJSON(path, r); err != nil {
		t.Fatal(err)
	}
	p, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, l := range p.Logs {
		files = append(files, l.File)
	}
	if want := []string{"edf.log.json", "edf.2.log.json", "terastal.log.json"}; !slices.Equal(files, want) {
		t.Errorf("logs %v, want %v", files, want)
	}
	page := markup(t, p)
	if !strings.Contains(page, "left out: dream.log.json, edf.3.log.json.") || !strings.Contains(page, "Of repeated runs it shows the first.") {
		t.Error("the page does not say what it leaves out")
	}
	all := p.allSeries()
	if a, b := all[0].models[0].totals.Released, all[1].models[0].totals.Released; a != 2*b {
		t.Errorf("%d requests in two repeats, %d in one", a, b)
	}
}

// TestEarlierValidations: a validation of a run that another has replaced is left
// out, and so is one of a log that no result names.
func TestEarlierValidations(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	if err := simulate(t, "mobile", "dream", eventlog.Real, 300*msec).Write(filepath.Join(dir, "dream.log.json")); err != nil {
		t.Fatal(err)
	}
	of := func(policy string) validation.Validation {
		v := planted("mobile")
		v.Policy, v.Log = policy, "x/"+policy+".log.json"
		l, err := eventlog.Read(filepath.Join(dir, policy+".log.json"))
		if err != nil {
			t.Fatal(err)
		}
		for m, x := range l.Metrics().Models {
			o := &v.Models[m].Real
			o.Released, o.Met, o.Late, o.Dropped, o.Failed = x.Released, x.Met, x.Late, x.Dropped, x.Failed
		}
		return v
	}
	current, replaced, other, elsewhere := of("terastal"), of("edf"), of("dream"), planted("mobile")
	replaced.Models[1].Real.Late++
	elsewhere.Policy, elsewhere.Log = "fcfs", "fcfs.log.json"
	if err := validated(current, replaced, other, elsewhere).Write(filepath.Join(dir, "validation.json")); err != nil {
		t.Fatal(err)
	}
	page := rendered(t, dir)
	for text, want := range map[string]bool{"terastal in detail": true, "fcfs in detail": true, "edf in detail": false, "dream in detail": false, "Order of policies": false,
		"Validations of 2 earlier runs are left out": true, "How far off each prediction is": true} {
		if strings.Contains(page, text) != want {
			t.Errorf("the page says %q: %v, want %v", text, !want, want)
		}
	}
	if err := validated(replaced).Write(filepath.Join(dir, "validation.json")); err != nil {
		t.Fatal(err)
	}
	if page := rendered(t, dir); slices.Contains(sections(page), "validation") || !strings.Contains(page, "Validations of 1 earlier run are left out") {
		t.Error("the page has a validation of nothing that is there")
	}
}

// TestDistorted: a run whose times were distorted says so at the top.
func TestDistorted(t *testing.T) {
	l := simulate(t, "mobile", "edf", eventlog.Real, 100*msec)
	l.Header.Distorted = "a profiler was on"
	page := markup(t, &Page{Logs: []NamedLog{{"edf.log.json", l}}})
	if head, _, _ := strings.Cut(page, "<main"); !strings.Contains(head, "DISTORTED") || !strings.Contains(head, "<li>edf.log.json: a profiler was on</li>") {
		t.Error("the page does not warn of distorted times")
	}
}

// TestLanes: a run without a scheduler has as many lanes as requests ran at once,
// which nobody wants to read one by one.
func TestLanes(t *testing.T) {
	m := eventlog.Metrics{Policy: runtime.Unscheduled, Utilization: map[string]float64{}}
	for i := range 30 {
		m.Utilization[fmt.Sprintf("lane %d", i+1)] = float64(i%2) / 2
	}
	page := markup(t, &Page{Results: []result.Result{{Driver: eventlog.Real, Policies: []result.PolicyResult{{Metrics: m}}}}})
	if !strings.Contains(page, ">mean of 30 lanes 25.0 %<") || strings.Contains(page, "lane 1 ") {
		t.Error("the page lists lanes")
	}
}

func TestSpread(t *testing.T) {
	for _, c := range [][4]string{
		{msText(2), msText(1), msText(3), "2.00 ms (1.00 to 3.00)"},
		{msText(2), msText(.9), msText(3), "2.00 ms (900 us to 3.00 ms)"},
		{points(-.01), points(-.02), points(0), "−1.0 points (−2.0 to +0.0)"},
		{"1", "0", "2", "1 (0 to 2)"},
	} {
		if got := strings.ReplaceAll(spread(c[0], c[1], c[2]), nbsp, " "); got != c[3] {
			t.Errorf("got %q, want %q", got, c[3])
		}
	}
}

// TestBegins: blocks of rows that begin alike are told apart, where there are any.
func TestBegins(t *testing.T) {
	rows := func(names string) (g grid) {
		for _, n := range strings.Fields(names) {
			g.Rows = append(g.Rows, []string{n})
		}
		return g
	}
	for names, want := range map[string]string{"a a b b c": "..x.x", "a b c": "...", "a": ".", "": ""} {
		g, got := rows(names), ""
		for i := range g.Rows {
			got += map[bool]string{true: "x", false: "."}[g.Begins(i)]
		}
		if got != want {
			t.Errorf("rows %q begin blocks at %q, want %q", names, got, want)
		}
	}
}

// TestLogsAlone: logs without a folder, real and simulated together.
func TestLogsAlone(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, driver := range []string{eventlog.Simulated, eventlog.Real} {
		path := filepath.Join(dir, driver+".log.json")
		if err := simulate(t, "mobile", "edf", driver, 300*msec).Write(path); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	p, err := OpenLogs(paths)
	if err != nil {
		t.Fatal(err)
	}
	page := markup(t, p)
	if got, want := sections(page), []string{"ran", "misses", "responses", "timeline", "layers", "budgets", "accuracy", "provenance", "reading"}; !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
	if !strings.Contains(page, "edf (simulated)") || !strings.Contains(page, "edf missed ") || strings.Contains(page, `class="verdict`) || !strings.Contains(page, "95 % intervals of one run") {
		t.Error("the page does not tell the drivers apart, or judges without a result")
	}
}

// TestTimeline decodes what the script decodes and holds it against the log.
func TestTimeline(t *testing.T) {
	p := &Page{Logs: []NamedLog{{"a", simulate(t, "mobile", "terastal", eventlog.Real, 500*msec)}}}
	h := newHistory(p.Logs[0].Log)
	tl, note := newTimeline(p.allSeries(), maxTimeline)
	if note != "" || tl.Logs[0].NJobs != len(h.jobs) || tl.Logs[0].NRuns != len(h.spans) || len(h.spans) < 300 {
		t.Fatalf("%d jobs, %d runs of %d, %d: %s", tl.Logs[0].NJobs, tl.Logs[0].NRuns, len(h.jobs), len(h.spans), note)
	}
	ints := decoder(t, tl.Logs[0].Jobs)
	id, release := int64(-1), int64(0)
	for i := range h.jobs {
		j := &h.jobs[i]
		id += ints.signed() + 1
		model := ints.unsigned()
		release += ints.signed()
		noticed, deadline, outcome := release+ints.unsigned(), release+ints.unsigned(), ints.unsigned()
		end, detail := noticed+ints.unsigned(), tl.Details[ints.unsigned()]
		if id != j.id || int(model) != j.model || release != units(j.release) || deadline != units(j.deadline) || sched.Outcome(outcome) != j.outcome || end != units(j.end) || detail != j.detail {
			t.Fatalf("job %d is %d, model %d, from %d to %d, due %d, outcome %d %q; want %+v", i, id, model, release, end, deadline, outcome, detail, *j)
		}
	}
	ints.finished()
	ints = decoder(t, tl.Logs[0].Runs)
	at, ends, layers := int64(0), [2]int64{}, make([]int, len(h.jobs))
	for i := range h.spans {
		s := &h.spans[i]
		at += ints.signed()
		k, implementation, reason := ints.unsigned(), ints.unsigned(), tl.Reasons[ints.unsigned()]
		from := ends[k] + ints.signed()
		start := from + ints.unsigned()
		end := start + ints.unsigned()
		predicted := end + ints.signed()
		ends[k] = end
		if int(at) != s.job || int(k) != s.accelerator || int(implementation) != s.implementation || reason != s.reason.String() || layers[at] != s.layer ||
			from != units(s.dispatched) || start != units(s.start) || end != units(s.end) || predicted != units(s.predicted) {
			t.Fatalf("run %d differs from %+v", i, *s)
		}
		layers[at]++
	}
	ints.finished()
}

// ints reads variable-length integers.
type ints struct {
	t    *testing.T
	data []byte
}

func decoder(t *testing.T, text string) *ints {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return &ints{t, data}
}

func (d *ints) unsigned() (x int64) {
	for shift := 0; ; shift += 7 {
		b := d.data[0]
		d.data = d.data[1:]
		x |= int64(b&127) << shift
		if b < 128 {
			return x
		}
	}
}

func (d *ints) signed() int64 {
	x := d.unsigned()
	return x>>1 ^ -(x & 1)
}

func (d *ints) finished() {
	if len(d.data) != 0 {
		d.t.Errorf("%d bytes are left", len(d.data))
	}
}

// TestSizeIsBounded: a long run is cut in the timeline, says so, and leaves the
// file below 5 MB; what else the page says is of the whole.
func TestSizeIsBounded(t *testing.T) {
	l := simulate(t, "mobile", "terastal", eventlog.Real, 150*time.Second)
	p := &Page{Logs: []NamedLog{{"a", l}}}
	data, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 5e6 || len(data) < 2e6 {
		t.Errorf("the page has %d bytes", len(data))
	}
	tl, note := newTimeline(p.allSeries(), maxTimeline)
	if n := tl.Logs[0].NJobs + tl.Logs[0].NRuns; n > maxTimeline || n < maxTimeline-2 || !strings.Contains(note, "The timeline holds the first ") || !strings.Contains(string(data), note) {
		t.Errorf("%d entries of %d, %q", n, maxTimeline, note)
	}
	released := 0
	for _, m := range l.Metrics().Models {
		released += m.Released
	}
	if !strings.Contains(string(data), plural(released, "request")+" released") {
		t.Errorf("the page does not speak of all %d requests", released)
	}
}

// TestMissInterval: independent misses give Wilson's interval or close to it,
// clustered ones a wider one that holds the truth more often.
func TestMissInterval(t *testing.T) {
	for _, c := range []struct {
		missed    []bool
		low, high float64
	}{
		{nil, 0, 1},
		{make([]bool, 100), 0, 0.0370}, // Wilson's for 0 of 100
		{slices.Repeat([]bool{true}, 100), 0.9630, 1},
		{slices.Repeat([]bool{true, false}, 50), 0.4038, 0.5962}, // 50 of 100, evenly spread
	} {
		i := missInterval(c.missed)
		if math.Abs(i.low-c.low) > 1e-4 || math.Abs(i.high-c.high) > 1e-4 {
			t.Errorf("%d values: %.4f to %.4f, want %.4f to %.4f", len(c.missed), i.low, i.high, c.low, c.high)
		}
	}
	covered := map[bool]int{}
	const runs, n, p = 400, 2000, 0.1
	r := rand.New(rand.NewPCG(1, 2))
	for range runs {
		missed, state := make([]bool, n), r.Float64() < p
		for i := range missed { // a two-state chain with stretches of 20 misses
			if state {
				state = r.Float64() > 0.05
			} else {
				state = r.Float64() < 0.05*p/(1-p)
			}
			missed[i] = state
		}
		total := 0
		for _, m := range missed {
			if m {
				total++
			}
		}
		clustered, plain := missInterval(missed), wilson(total, n)
		if clustered.low <= p && p <= clustered.high {
			covered[true]++
		}
		if plain.low <= p && p <= plain.high {
			covered[false]++
		}
	}
	if covered[true] < runs*86/100 || covered[false] > runs*60/100 {
		t.Errorf("of %d runs the interval held the truth in %d, without regard to clusters in %d", runs, covered[true], covered[false])
	}
}

func TestScales(t *testing.T) {
	for _, c := range []struct {
		s    scale
		n    int
		want string
	}{
		{scale{min: 0, max: 1}, 5, "[0 0.2 0.4 0.6 0.8 1]"},
		{scale{min: 0, max: 11.5}, 6, "[0 2 4 6 8 10]"},
		{scale{min: .5, max: 3.5}, 6, "[0.5 1 1.5 2 2.5 3 3.5]"},
		{scale{min: 20, max: 4000, log: true}, 6, "[20 50 100 200 500 1000 2000]"},
		{scale{min: 3, max: 3}, 6, "[3]"},
		{scale{min: 1, max: 1e9, log: true}, 6, "[1 10 100 1000 10000 100000 1e+06 1e+07 1e+08 1e+09]"},
	} {
		var text []string
		for _, v := range c.s.ticks(c.n) {
			text = append(text, fmt.Sprintf("%.6g", v))
		}
		if got := "[" + strings.Join(text, " ") + "]"; got != c.want {
			t.Errorf("ticks of %+v: %s, want %s", c.s, got, c.want)
		}
	}
	for x, want := range map[float64]float64{0: 1, .05: .05, .93: 1, 21: 25, 99: 100, math.Inf(1): 1} {
		if got := niceMax(x); math.Abs(got-want) > 1e-9 {
			t.Errorf("niceMax(%v) = %v, want %v", x, got, want)
		}
	}
}
