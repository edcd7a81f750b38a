package sequential

import "testing"

// Skip ends a test that the race detector has nothing to find in where the detector is on.
func Skip(t testing.TB) {
	t.Helper()
	if Race {
		t.Skip("in one goroutine: it runs in full without the race detector")
	}
}
