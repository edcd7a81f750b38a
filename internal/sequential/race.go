//go:build race

package sequential

// Race tells whether the race detector is compiled in.
const Race = true
