package models

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
)

// sideVariable makes the test binary load one side of the comparison and print its resident memory.
const sideVariable = "TERASTAL_TEST_MEMORY"

// The sessions and buffers of a chain of layers take hardly more memory than those of the whole model. A process
// measures each side, after what loading needed is freed.
func TestChainMemory(t *testing.T) {
	if side := os.Getenv(sideVariable); side != "" {
		printResident(t, side)
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is read from /proc")
	}
	if testing.Short() {
		t.Skip("a large network")
	}
	sequential.Skip(t) // the detector's own memory would be measured, too
	orttest.Start(t)
	whole, chained := resident(t, "whole"), resident(t, "op")
	t.Logf("resident: whole %d MiB, chained %d MiB, ratio %.3f", whole>>10, chained>>10, float64(chained)/float64(whole))
	if most := 1.15; float64(chained) > most*float64(whole) {
		t.Errorf("the chain takes %d KiB, the whole model %d KiB: more than %.2f times as much", chained, whole, most)
	}
}

func resident(t *testing.T, side string) int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChainMemory$", "-test.v")
	// What ONNX Runtime frees while it loads shall not stay in malloc's lists.
	cmd.Env = append(os.Environ(), sideVariable+"="+side,
		"MALLOC_ARENA_MAX=1", "MALLOC_MMAP_THRESHOLD_=65536", "MALLOC_TRIM_THRESHOLD_=65536")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, text, _ := strings.Cut(string(out), "resident KiB ")
	var kib int64
	if _, err := fmt.Sscan(text, &kib); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return kib
}

func printResident(t *testing.T, side string) {
	orttest.Start(t)
	c := open(t, side)
	for range 3 {
		testkit.OK(t, c.run(nil))
	}
	for range 1000 { // the model's mapped files go some time after the model
		debug.FreeOSMemory()
		maps := testkit.Must(os.ReadFile("/proc/self/maps"))(t)
		if !strings.Contains(string(maps), "terastal-optimise-") && !strings.Contains(string(maps), "terastal-model-") {
			break
		}
		runtime.Gosched()
	}
	for range 3 {
		debug.FreeOSMemory()
	}
	status := testkit.Must(os.ReadFile("/proc/self/status"))(t)
	_, text, _ := strings.Cut(string(status), "VmRSS:")
	fmt.Println("resident KiB", strings.Fields(text)[0])
	c.close()
}

// open loads ResNet-50 whole, or as the chain of its layers, and forgets the model.
func open(t *testing.T, side string) *chain {
	m := zooModel(t, "resnet50")
	inputs := RandomInputs(m, 1)
	if side == "whole" {
		return testkit.Must(newWhole(m, inputs, "all"))(t)
	}
	return testkit.Must(newChain(m, cut(t, m, side), inputs, "all"))(t)
}
