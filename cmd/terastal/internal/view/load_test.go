package view

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/cmd/terastal/internal/validation"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/runtime"
	"github.com/terastal/terastal/sched/eventlog"
)

func TestDamaged(t *testing.T) {
	dir := folder(t, "mobile", 100*msec)
	for _, name := range []string{"result.json", "profile.json", "plan.json", "edf.log.json", "validation.json",
		"curves.json"} {
		path := filepath.Join(dir, name)
		good := testkit.Must(os.ReadFile(path))(t)
		for _, bad := range [][]byte{nil, []byte("{"), []byte("no JSON"), good[:len(good)/2], bytes.Replace(good,
			[]byte("10"), []byte("11"), 1)} {
			if name == "result.json" && bytes.HasSuffix(bad, []byte("}")) {
				continue // it has no checksum
			}
			testkit.Write(t, path, bad)
			testkit.Refused(Open(dir))(t, document.ErrDamaged, path)
		}
		testkit.Write(t, path, good)
	}
	for name, text := range map[string]string{"other.json": "{}", "list.json": "[]", "cut.json": `{"a":`,
		"empty.json": "", "kept.json": `{"terastal":"reference","version":9}`,
		"old.profile.json": `{"terastal":"profile","version":1}`, "new.log.json": `{"time": 1, "level": "INFO"}`} {
		testkit.Write(t, filepath.Join(dir, name), text)
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("a file of no concern is in the way: %v", err)
	}
	testkit.Refused(Open(t.TempDir()))(t, ErrNothing)
	testkit.Refused(Open(filepath.Join(dir, "nowhere")))(t, os.ErrNotExist)
	testkit.Refused(OpenLogs([]string{filepath.Join(dir, "plan.json")}))(t, document.ErrKind)
}

// TestOtherRuns: logs that the result does not name stay out, repeats come in.
func TestOtherRuns(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	for _, name := range []string{"edf.2.log.json", "edf.3.log.json", "edf.aa.log.json", "dream.log.json"} {
		if err := simulate(t, "mobile", strings.Split(name, ".")[0], eventlog.Real, 300*msec).Write(filepath.Join(dir,
			name)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "result.json")
	r := testkit.Must(readResult(path))(t)
	played := func(log string) result.PolicyResult { return result.PolicyResult{Log: "x/" + log} }
	again := played("edf.aa.log.json")
	r.Again, r.Later = &again, []result.Repeat{{Policies: []result.PolicyResult{played("edf.2.log.json"),
		played("terastal.2.log.json")}}}
	testkit.OK(t, writeJSON(path, r))
	p := testkit.Must(Open(dir))(t)
	var files []string
	for _, l := range p.Logs {
		files = append(files, l.File)
	}
	if want := []string{"edf.log.json", "edf.2.log.json", "terastal.log.json"}; !slices.Equal(files, want) {
		t.Errorf("logs %v, want %v", files, want)
	}
	page := markup(t, p)
	if !strings.Contains(page, "left out: dream.log.json, edf.3.log.json.") || !strings.Contains(page,
		"Of repeated runs it shows the first.") {
		t.Error("the page does not say what it leaves out")
	}
	all := p.allSeries()
	if a, b := all[0].models[0].Released, all[1].models[0].Released; a != 2*b {
		t.Errorf("%d requests in two repeats, %d in one", a, b)
	}
}

// TestEarlierValidations: a validation of a run that another has replaced is left
// out, and so is one of a log that no result names.
func TestEarlierValidations(t *testing.T) {
	dir := folder(t, "mobile", 300*msec)
	testkit.OK(t, simulate(t, "mobile", "dream", eventlog.Real, 300*msec).Write(filepath.Join(dir,
		"dream.log.json")))
	of := func(policy string) validation.Validation {
		v := planted("mobile")
		v.Policy, v.Log = policy, "x/"+policy+".log.json"
		l := testkit.Must(eventlog.Read(filepath.Join(dir, policy+".log.json")))(t)
		for m, x := range l.Metrics().Models {
			o := &v.Models[m].Real
			o.Released, o.Met, o.Late, o.Dropped, o.Failed = x.Released, x.Met, x.Late, x.Dropped, x.Failed
		}
		return v
	}
	current, replaced, other, elsewhere := of("terastal"), of("edf"), of("dream"), planted("mobile")
	replaced.Models[1].Real.Late++
	elsewhere.Policy, elsewhere.Log = "fcfs", "fcfs.log.json"
	testkit.OK(t, validated(current, replaced, other, elsewhere).Write(filepath.Join(dir, "validation.json")))
	page := rendered(t, dir)
	for text, want := range map[string]bool{"terastal in detail": true, "fcfs in detail": true, "edf in detail": false,
		"dream in detail": false, "Order of policies": false,
		"Validations of 2 earlier runs are left out": true, "How far off each prediction is": true} {
		if strings.Contains(page, text) != want {
			t.Errorf("the page says %q: %v, want %v", text, !want, want)
		}
	}
	testkit.OK(t, validated(replaced).Write(filepath.Join(dir, "validation.json")))
	if page := rendered(t, dir); slices.Contains(sections(page), "validation") || !strings.Contains(page,
		"Validations of 1 earlier run are left out") {
		t.Error("the page has a validation of nothing that is there")
	}
}

// TestDistorted: a run whose times were distorted says so at the top.
func TestDistorted(t *testing.T) {
	l := simulate(t, "mobile", "edf", eventlog.Real, 100*msec)
	l.Header.Distorted = "a profiler was on"
	page := markup(t, &Page{Logs: []NamedLog{{"edf.log.json", l}}})
	if head, _, _ := strings.Cut(page, "<main"); !strings.Contains(head, "DISTORTED") || !strings.Contains(head,
		"<li>edf.log.json: a profiler was on</li>") {
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
	page := markup(t, &Page{Results: []result.Result{{Driver: eventlog.Real,
		Policies: []result.PolicyResult{{Metrics: m}}}}})
	if !strings.Contains(page, ">30 lanes, mean 25.0 %<") || strings.Contains(page, "lane 1 ") {
		t.Error("the page lists lanes")
	}
}

// TestLogsAlone: logs without a folder, real and simulated together.
func TestLogsAlone(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, driver := range []string{eventlog.Simulated, eventlog.Real} {
		path := filepath.Join(dir, driver+".log.json")
		testkit.OK(t, simulate(t, "mobile", "edf", driver, 300*msec).Write(path))
		paths = append(paths, path)
	}
	p := testkit.Must(OpenLogs(paths))(t)
	page := markup(t, p)
	if got, want := sections(page), []string{"ran", "misses", "responses", "timeline", "layers", "budgets", "accuracy",
		"provenance", "reading"}; !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
	if !strings.Contains(page, "edf (simulated)") || !strings.Contains(page, "edf missed ") || strings.Contains(page,
		`class="verdict`) || !strings.Contains(page, "95 % intervals of one run") {
		t.Error("the page does not tell the drivers apart, or judges without a result")
	}
}
