package profiler

// Kind and Version of the document, for tests that forge one.
const (
	Kind    = kind
	Version = version
)
