package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/terastal/terastal/cmd/terastal/internal/session"
	"github.com/terastal/terastal/cmd/terastal/internal/view"
)

// streams is where a command writes, and the flags that every verb takes.
type streams struct {
	out    io.Writer // the result: a table, or one JSON document with --json
	err    io.Writer // everything else: progress, notes, warnings
	json   bool
	ort    string   // --ort: path of the ONNX Runtime library
	models string   // --models-dir: folder that model files may be read from
	plugin []string // --plugin: NAME=PATH of libraries of execution providers
}

// text is where a verb's human-readable result goes: standard output, or
// standard error when standard output carries the JSON document.
func (s *streams) text() io.Writer {
	if s.json {
		return s.err
	}
	return s.out
}

// document writes v as the single JSON document of --json; without --json it does nothing.
func (s *streams) document(v any) error {
	if !s.json {
		return nil
	}
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// shows is what prints a result, and writes it as the document.
func shows[T any](s *streams, text func(io.Writer, T)) func(T, error) error {
	return func(v T, err error) error {
		if err != nil {
			return err
		}
		text(s.text(), v)
		return s.document(v)
	}
}

// said prints a line, and writes v as the document.
func (s *streams) said(v any, line string) error {
	_, err := fmt.Fprintln(s.text(), line)
	return cmp.Or(err, s.document(v))
}

// written names files that were written, and writes v as the document.
func (s *streams) written(v any, files ...string) error {
	return s.said(v, "written: "+strings.Join(files, "\nwritten: "))
}

// concluded writes v as the document. Reasons why it is INVALID become an error.
func (s *streams) concluded(v any, reasons []string) error {
	return cmp.Or(s.document(v), invalid(reasons))
}

// report makes the report of a folder that results were just written to.
func (s *streams) report(dir string) { view.Refresh(dir, s.text(), s.err) }

// progress shows a bar on a terminal and nothing elsewhere.
func (s *streams) progress(what string) session.Meter {
	if f, ok := s.err.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return session.Discard(what)
	}
	return &bar{progressbar.NewOptions(1000, progressbar.OptionSetWriter(s.err),
		progressbar.OptionSetDescription(fmt.Sprintf("%-28s", what)), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100e6))}
}

type bar struct{ b *progressbar.ProgressBar }

func (b *bar) Set(share float64) { b.b.Set(int(share * 1000)) }
func (b *bar) Done()             { b.b.Finish() }
