package profiler

import "github.com/terastal/terastal/runtime"

// Kind and Version of the document, for tests that forge one.
const (
	Kind    = kind
	Version = version
)

// specsOf makes that many accelerators.
func specsOf(n int) []runtime.Spec { return make([]runtime.Spec, n) }
