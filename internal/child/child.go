// Package child says why a process that this one started has failed.
package child

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
)

// Tail keeps the end of what is written to it, for the standard error of a child.
type Tail struct{ bytes.Buffer }

const tailBytes = 16 << 10

func (t *Tail) Write(p []byte) (int, error) {
	n := len(p)
	t.Buffer.Write(p)
	if extra := t.Len() - tailBytes; extra > 0 {
		t.Next(extra)
	}
	return n, nil
}

// Line is the last line written.
func (t *Tail) Line() string {
	all := strings.TrimSpace(t.String())
	return strings.TrimSpace(all[strings.LastIndex(all, "\n")+1:])
}

// Crashed reports whether a child ended by a signal or by Go's own crash report, which exits with 2; a child must not
// use that for anything else.
func Crashed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && (exit.ExitCode() == -1 || exit.ExitCode() == 2)
}
