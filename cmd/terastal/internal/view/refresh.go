package view

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/sched/eventlog"
)

// maxRefreshBytes bounds the logs from which a verb that plays traffic makes the report by itself: reading them back
// takes a second per 20 MB or so, and several times their size in memory.
const maxRefreshBytes = 400 << 20

// Refresh makes the report of a folder, if it has results, and says so on out.
// What it cannot show is no fault of the run; notes says why.
func Refresh(dir string, out, notes io.Writer) {
	if !hasResult(dir) {
		return
	}
	if n := logBytes(dir); n > maxRefreshBytes {
		fmt.Fprintf(notes, "no %s was made, because the logs take %d MB: `terastal report %s` makes it\n", FileName, n>>20,
			dir)
		return
	}
	path := filepath.Join(dir, FileName)
	p, err := Open(dir)
	if err == nil {
		err = p.Write(path)
	}
	if err != nil {
		fmt.Fprintf(notes, "no %s was made: %v\n", FileName, err)
		return
	}
	fmt.Fprintf(out, "report: %s (open it in a browser)\n", path)
}

func hasResult(dir string) bool {
	for _, r := range []result.Result{{Driver: eventlog.Real}, {Driver: eventlog.Simulated}} {
		if _, err := os.Stat(filepath.Join(dir, r.FileName())); err == nil {
			return true
		}
	}
	return false
}

// logBytes is the size of a folder's event logs.
func logBytes(dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		var info fs.FileInfo
		if info, err = e.Info(); err == nil && strings.HasSuffix(e.Name(), ".log.json") {
			n += info.Size()
		}
	}
	return n
}
