package profiler_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/profiler"
	"github.com/terastal/terastal/runtime"
)

// docs/FORMATS.md names every field of the document, every column of the CSV files and every code of a warning.
func TestDocumented(t *testing.T) {
	data := testkit.Must(os.ReadFile(filepath.Join("..", "docs", "FORMATS.md")))(t)
	text := string(data)
	named := func(what, name string) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/FORMATS.md does not name the %s %q", what, name)
		}
	}
	for _, v := range []any{profiler.Profile{}, profiler.Model{}, profiler.Layer{}, profiler.Cell{}, profiler.Handoff{},
		profiler.Interference{}, profiler.Dispatch{},
		profiler.Chain{}, profiler.Peak{}, profiler.Noise{}, profiler.Warning{}, runtime.Spec{}} {
		for typ, i := reflect.TypeOf(v), 0; i < typ.NumField(); i++ {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "-" && typ.Field(i).IsExported() {
				named("field", name)
			}
		}
	}
	var b bytes.Buffer
	testkit.OK(t, (&profiler.Profile{}).WriteCSV(&b))
	for name := range strings.SplitSeq(strings.TrimSpace(b.String()), ",") {
		named("CSV column", name)
	}
	_, err := profiler.ReadTable(strings.NewReader("nonsense\n"), profiler.TableOptions{})
	list, _, _ := strings.Cut(strings.SplitN(err.Error(), "can be ", 2)[1], ", or x_")
	for name := range strings.SplitSeq(list, ", ") {
		named("table column", name)
	}
	for _, code := range []string{profiler.WarnUnstable, profiler.WarnFailed, profiler.WarnGovernor, profiler.WarnLoad,
		profiler.WarnThrottled, profiler.WarnNoise, profiler.WarnPartial, profiler.WarnImport} {
		named("warning", code)
	}
}
