// Package house holds the tests that keep the project's floor plan: what every
// package imports, how long files and functions are, what the words are.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

const module = "github.com/terastal/terastal"

// floors lists what every package imports of the project's packages, exactly: an import that the table does not name
// fails the test, and so does a line of the table that no package needs. Packages point down: a package imports only
// packages that stand above it in the table. Tests are free to import more.
var floors = []struct {
	pkg     string
	imports []string
}{
	// The pure core imports nothing of ours.
	{"sched", nil},
	{"sched/traffic", nil},
	{"sched/fluid", []string{"sched"}},
	{"sched/policy", []string{"sched", "sched/fluid"}},
	{"sched/sim", []string{"sched", "sched/traffic"}},
	{"sched/scenario", []string{"sched"}},
	// Plumbing without ideas of the domain.
	{"internal/stats", nil},
	{"internal/document", nil},
	{"internal/glyphs", nil},
	{"internal/cuda", nil},
	{"internal/nvml", nil},
	{"internal/hostinfo", []string{"internal/nvml"}},
	{"internal/energy", []string{"internal/nvml"}},
	{"internal/onnxpb", nil},
	{"internal/enginecache", nil},
	{"internal/ort", []string{"internal/enginecache", "internal/hostinfo", "internal/onnxpb"}},
	{"internal/numpy", []string{"internal/ort"}},
	{"internal/ort/orttest", []string{"internal/ort"}},
	{"internal/sequential", nil},
	{"internal/testkit", nil},
	{"sched/internal/schedtest", []string{"sched", "sched/traffic", "internal/sequential", "internal/testkit"}},
	{"internal/house", nil},
	{"cmd/terastal/internal/table", nil},
	{"internal/gobench", nil},
	{"internal/child", nil},
	// Views and documents of the core.
	{"sched/plan", []string{"sched", "sched/fluid", "internal/document"}},
	{"sched/eventlog", []string{"sched", "sched/policy", "sched/sim", "internal/document", "internal/gobench", "internal/stats"}},
	// Models, and what runs, measures and replaces their layers.
	{"models", []string{"internal/onnxpb", "internal/ort"}},
	{"models/dense", []string{"models"}},
	{"models/zoo", []string{"internal/onnxpb", "internal/ort"}},
	{"runtime", []string{"models", "models/dense", "sched", "sched/policy", "sched/traffic", "sched/eventlog", "sched/plan", "internal/cuda", "internal/document", "internal/hostinfo", "internal/ort"}},
	{"internal/testkit/rig", []string{"models", "models/zoo", "runtime", "internal/onnxpb", "internal/ort/orttest", "internal/testkit"}},
	{"profiler", []string{"models", "runtime", "sched", "sched/traffic", "sched/sim", "internal/child", "internal/document", "internal/energy", "internal/gobench", "internal/hostinfo", "internal/onnxpb", "internal/ort", "internal/stats"}},
	{"variants/internal/chain", []string{"models", "models/dense", "runtime", "internal/ort"}},
	{"variants/accuracy", []string{"models", "runtime", "sched", "sched/plan", "variants/internal/chain", "internal/ort"}},
	{"variants", []string{"models", "runtime", "sched", "sched/plan", "variants/internal/chain", "internal/onnxpb", "internal/ort"}},
	{"variants/design", []string{"profiler", "runtime", "sched", "sched/fluid", "sched/plan", "variants", "variants/accuracy", "internal/document"}},
	{"models/dataset", []string{"models", "models/dense", "internal/glyphs", "internal/numpy", "internal/ort"}},
	// What results are held against.
	{"cmd/terastal/internal/validation", []string{"profiler", "sched", "sched/traffic", "sched/sim", "sched/eventlog", "internal/document", "internal/stats"}},
	{"cmd/terastal/internal/comparison", []string{"sched/eventlog", "internal/stats"}},
	// What the command line shares between its verbs.
	{"cmd/terastal/internal/study", []string{"sched", "sched/policy", "sched/fluid", "sched/traffic", "sched/sim", "sched/scenario", "sched/plan", "sched/eventlog", "internal/stats"}},
	{"cmd/terastal/internal/auto", []string{"profiler", "runtime", "sched", "sched/fluid", "internal/document", "internal/hostinfo", "internal/stats"}},
	{"cmd/terastal/internal/doctor", []string{"runtime", "internal/child", "internal/hostinfo", "internal/ort", "cmd/terastal/internal/auto", "cmd/terastal/internal/table"}},
	{"cmd/terastal/internal/live", []string{"runtime", "sched", "cmd/terastal/internal/table"}},
	{"cmd/terastal/internal/config", []string{"profiler", "runtime", "variants", "sched", "sched/policy", "sched/traffic"}},
	{"cmd/terastal/internal/result", []string{"runtime", "sched", "sched/policy", "sched/eventlog", "sched/plan", "sched/sim",
		"internal/document", "internal/energy", "internal/hostinfo", "cmd/terastal/internal/comparison"}},
	{"cmd/terastal/internal/session", []string{"models", "models/zoo", "models/dataset", "profiler", "runtime", "variants",
		"variants/accuracy", "variants/design", "sched", "sched/fluid", "sched/traffic", "sched/sim",
		"sched/scenario", "sched/policy", "sched/plan", "sched/eventlog", "cmd/terastal/internal/auto", "cmd/terastal/internal/config",
		"cmd/terastal/internal/comparison", "cmd/terastal/internal/result", "cmd/terastal/internal/study",
		"cmd/terastal/internal/validation", "internal/document", "internal/energy", "internal/hostinfo", "internal/numpy",
		"internal/onnxpb", "internal/ort", "internal/stats"}},
	{"cmd/terastal/internal/inspect", []string{"models", "models/zoo", "cmd/terastal/internal/config",
		"cmd/terastal/internal/session", "internal/numpy", "internal/ort"}},
	{"cmd/terastal/internal/view", []string{"profiler", "runtime", "variants", "sched", "sched/eventlog", "sched/plan",
		"sched/scenario", "internal/document", "internal/energy", "internal/stats", "cmd/terastal/internal/comparison",
		"cmd/terastal/internal/inspect", "cmd/terastal/internal/result", "cmd/terastal/internal/session",
		"cmd/terastal/internal/study", "cmd/terastal/internal/table", "cmd/terastal/internal/validation"}},
	{"cmd/terastal", []string{"profiler", "runtime", "variants", "variants/design", "sched/plan", "sched/eventlog",
		"internal/document", "internal/hostinfo", "internal/ort", "cmd/terastal/internal/comparison",
		"cmd/terastal/internal/auto", "cmd/terastal/internal/config", "cmd/terastal/internal/doctor",
		"cmd/terastal/internal/inspect", "cmd/terastal/internal/live", "cmd/terastal/internal/result", "cmd/terastal/internal/session",
		"cmd/terastal/internal/study", "cmd/terastal/internal/validation", "cmd/terastal/internal/view"}},
	// What makes files of the repository.
	{"scripts/glyphs", []string{"internal/glyphs", "internal/numpy", "internal/ort"}},
	{"scripts/scenario", []string{"profiler", "sched/plan", "sched/scenario", "internal/document"}},
	{"scripts/variants", []string{"models", "models/zoo", "profiler", "runtime", "variants", "variants/accuracy", "variants/design", "sched", "sched/plan", "models/dataset", "internal/document"}},
	{"docs/examples/serve", []string{"models/dense", "runtime", "sched"}},
}

// pure packages have no clock, goroutine, log, file or process of their own.
var pure = []string{"sched", "sched/policy", "sched/traffic", "sched/fluid", "sched/sim", "sched/scenario"}

var impure = []string{"os", "os/exec", "log", "log/slog", "net", "net/http", "sync", "runtime", "io/fs", "path/filepath"}

// confined libraries serve one place only: elsewhere their formats do not belong.
var confined = map[string]string{
	"github.com/sbinet/npyio/npy": "internal/numpy",
	"golang.org/x/perf/benchfmt":  "internal/gobench",
	"golang.org/x/perf/benchmath": "profiler",
}

func TestImports(t *testing.T) {
	known := map[string][]string{}
	for _, row := range floors {
		for _, imp := range row.imports {
			if _, above := known[imp]; !above {
				t.Errorf("the table lets %s import %s, which does not stand above it", row.pkg, imp)
			}
		}
		known[row.pkg] = row.imports
	}
	packages := list(t)
	for _, row := range floors {
		imports, exists := packages[row.pkg]
		if !exists {
			t.Errorf("the table has %s, which does not exist", row.pkg)
		}
		for _, imp := range row.imports {
			if !slices.Contains(imports, module+"/"+imp) {
				t.Errorf("the table lets %s import %s, which it does not", row.pkg, imp)
			}
		}
	}
	for pkg, imports := range packages {
		allowed, ok := known[pkg]
		if !ok {
			t.Errorf("package %s is not in the table of imports: add it where it belongs", pkg)
			continue
		}
		for _, imp := range imports {
			if only, is := confined[imp]; is && pkg != only {
				t.Errorf("%s imports %s, which only %s may", pkg, imp, only)
			}
			if own, ok := strings.CutPrefix(imp, module+"/"); ok && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s, which it may not", pkg, own)
			}
			if slices.Contains(pure, pkg) && slices.Contains(impure, imp) {
				t.Errorf("%s is pure but imports %s", pkg, imp)
			}
		}
	}
}

// TestArchitecture: docs/ARCHITECTURE.md lists every package once, and imports point down its table.
func TestArchitecture(t *testing.T) {
	const path = "docs/ARCHITECTURE.md"
	text := testkit.Must(os.ReadFile(filepath.Join(root, path)))(t)
	_, table, _ := strings.Cut(string(text), "\n| package |")
	table, _, _ = strings.Cut(table, "\n\n")
	at := map[string]int{} // row, from 1
	for i, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		if at[row[1]] > 0 {
			t.Errorf("%s lists %s twice", path, row[1])
		}
		at[row[1]] = i + 1
	}
	for _, row := range floors {
		if at[row.pkg] == 0 {
			t.Errorf("%s does not list %s", path, row.pkg)
		}
		for _, imp := range row.imports {
			if at[imp] < at[row.pkg] {
				t.Errorf("%s lists %s above %s, which imports it", path, imp, row.pkg)
			}
		}
	}
	if len(at) > len(floors) {
		t.Errorf("%s lists %d packages, there are %d", path, len(at), len(floors))
	}
}

// list returns the imports of every package of the module, tests left out.
func list(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string][]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module+"/")] = p.Imports
	}
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	return packages
}
