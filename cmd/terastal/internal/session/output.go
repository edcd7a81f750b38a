package session

import (
	"io"
	"path/filepath"
	"strings"

	"github.com/terastal/terastal/cmd/terastal/internal/result"
	"github.com/terastal/terastal/internal/document"
	"github.com/terastal/terastal/sched/eventlog"
)

// output writes what runs leave behind to a folder.
type output struct {
	folder  string
	machine eventlog.Machine
}

// log writes a policy's log, and in the first repeat its trace, and names them in its result.
func (o *output) log(log *eventlog.Log, p *result.PolicyResult, t *turn) error {
	if t.unlogged {
		return nil
	}
	stem := filepath.Join(o.folder, t.stem(log.Header.Driver))
	p.Log = stem + ".log.json"
	log.Header.Machine = o.machine
	if err := log.Write(p.Log); err != nil || !t.first {
		return err
	}
	p.Trace = stem + ".trace.json"
	return writeTrace(log, p.Trace)
}

// writeTrace writes the log's Chrome trace, with what happened inside its layers, to path, atomically.
func writeTrace(log *eventlog.Log, path string, inside ...eventlog.Span) error {
	return document.WriteStream(path, func(w io.Writer) error { return log.WriteTrace(w, inside...) })
}

// plain makes a file's name of a name.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
}
