package ort

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// TestThreadsArePinned looks for the thread that a session of two threads adds.
func TestThreadsArePinned(t *testing.T) {
	start(t)
	if len(cores) < 2 {
		t.Skip("needs two cores")
	}
	last := cores[len(cores)-1]
	pinned := func() int {
		n := 0
		files := testkit.Must(filepath.Glob("/proc/self/task/*/status"))(t)
		for _, f := range files {
			status, _ := os.ReadFile(f) // the thread may be gone
			if strings.Contains(string(status), fmt.Sprintf("\nCpus_allowed_list:\t%d\n", last)) {
				n++
			}
		}
		return n
	}
	before := pinned()
	open(t, twoByTwo(), nil, nil, Config{Threads: 2, Cores: []int{cores[0], last}})
	// A thread pins itself when it starts, which may be after the session is open.
	got := pinned()
	for n := 0; got != before+1 && n < 10_000; n++ {
		got = pinned()
	}
	if got != before+1 {
		t.Errorf("%d threads are pinned to core %d, want %d", got, last, before+1)
	}
}
