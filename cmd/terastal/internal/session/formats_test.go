package session

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/terastal/terastal/cmd/terastal/internal/comparison"
	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/testkit"
	"github.com/terastal/terastal/sched"
	"github.com/terastal/terastal/sched/eventlog"
	"github.com/terastal/terastal/sched/fluid"
	"github.com/terastal/terastal/sched/plan"
)

// fields collects the JSON names of a type's fields, and of the types in it that packages of the given names own.
func fields(t reflect.Type, seen map[reflect.Type]bool, names map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Array {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && name != "" && name != "-" {
			names[name] = true
		}
		fields(f.Type, seen, names)
	}
}

// TestFormatsAreDocumented: docs/FORMATS.md names every field of logs, plans, results and judgements.
func TestFormatsAreDocumented(t *testing.T) {
	text := testkit.Must(os.ReadFile("../../../../docs/FORMATS.md"))(t)
	names := map[string]bool{}
	// What is another document, or a policy's: its fields are not here.
	seen := map[reflect.Type]bool{reflect.TypeFor[sched.Pricing](): true, reflect.TypeFor[fluid.Capacity](): true,
		reflect.TypeFor[sched.Budgets](): true,
		reflect.TypeFor[plan.Variants](): true, reflect.TypeFor[result.Result]().Field(resultField(t, "Host")).Type: true,
		reflect.TypeFor[result.Result]().Field(resultField(t, "Accelerators")).Type.Elem(): true}
	for _, x := range []reflect.Type{reflect.TypeFor[eventlog.Header](), reflect.TypeFor[plan.Plan](),
		reflect.TypeFor[result.Result](), reflect.TypeFor[comparison.Curves](), reflect.TypeFor[Skew]()} {
		fields(x, seen, names)
	}
	if len(names) < 80 {
		t.Fatalf("only %d fields found", len(names))
	}
	for name := range names {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/FORMATS.md does not name the field %q", name)
		}
	}
}

func resultField(t *testing.T, name string) int {
	t.Helper()
	f, ok := reflect.TypeFor[result.Result]().FieldByName(name)
	if !ok {
		t.Fatalf("no field %s", name)
	}
	return f.Index[0]
}
