package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/terastal/terastal/internal/ort"
	"github.com/terastal/terastal/internal/ort/orttest"
	"github.com/terastal/terastal/internal/testkit"
)

// TestWalkthrough does what the documents that walk a reader through tell them to do, in order, in an empty folder
// each: it writes the files of ```yaml and ```csv blocks whose first line is a comment with the file's name, runs ```sh
// blocks, and looks for the first line of a ```text block, which shows output, in what the commands before it printed.
// Figures may differ; "..." at the end of that line stands for the rest of it. What a ```sh block has Python do, which
// need not be here, is done in Go.
func TestWalkthrough(t *testing.T) {
	if testing.Short() {
		t.Skip("it measures and runs for some seconds")
	}
	orttest.Start(t)
	library := testkit.Must(ort.Locate(""))(t)
	for _, document := range []struct {
		name     string
		section  string // the heading of the only one that is run; all without
		commands int    // at least
	}{
		{"GUIDE.md", "", 24},
		{"VARIANTS.md", "Bring your own variant", 7},
	} {
		t.Run(document.name, func(t *testing.T) {
			t.Parallel() // they mostly wait; what they measure here is not looked at
			w := walk{dir: t.TempDir(), library: library.Path}
			text := testkit.Must(os.ReadFile(filepath.Join("..", "..", "docs", document.name)))(t)
			part := "\n" + string(text)
			if document.section != "" {
				_, part, _ = strings.Cut(part, "\n## "+document.section+"\n")
				part, _, _ = strings.Cut(part, "\n## ")
			}
			for i, block := range strings.Split(part, "\n```") {
				if i%2 == 0 {
					continue
				}
				kind, body, _ := strings.Cut(block, "\n")
				w.block(t, kind, body)
			}
			if w.commands < document.commands {
				t.Errorf("%d commands were found", w.commands)
			}
		})
	}
}

// walk is one document's progress.
type walk struct {
	dir, library string
	commands     int
	output       string // of the last commands
}

func (w *walk) block(t *testing.T, kind, body string) {
	t.Helper()
	switch kind {
	case "yaml", "csv":
		first, _, _ := strings.Cut(body, "\n")
		name, named := strings.CutPrefix(first, "# ")
		if !named || strings.ContainsAny(name, " /") {
			t.Fatalf("a %s block begins with %q, not with a comment that names its file", kind, first)
		}
		testkit.Write(t, filepath.Join(w.dir, name), body+"\n")
	case "sh":
		if command := strings.Fields(body); command[0] == "python" {
			w.python(t, command[1:])
			return
		}
		w.commands += strings.Count("\n"+body, "\nterastal ")
		w.run(t, body)
	case "text":
		first, _, _ := strings.Cut(body, "\n")
		first, _ = strings.CutSuffix(first, "...")
		if !strings.Contains(likeness(w.output), likeness(first)) {
			t.Errorf("the document shows %q, which is not in\n%s", first, w.output)
		}
	}
}

// python does what factor.py does.
func (w *walk) python(t *testing.T, args []string) {
	t.Helper()
	if len(args) != 4 || args[0] != "factor.py" {
		t.Fatalf("the document runs `python %v`, which is not known here", args)
	}
	l := testkit.Must(openLayer(filepath.Join(w.dir, args[1])))(t)
	rank, err := strconv.Atoi(args[2])
	if err == nil {
		err = l.factor(rank)
	}
	if err == nil {
		err = l.write(filepath.Join(w.dir, args[3]))
	}
	testkit.OK(t, err)
}

var (
	number = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)
	spaces = regexp.MustCompile(`[ \n]+`)
)

// likeness leaves out what differs from run to run: figures, and the spaces that make columns of them.
func likeness(text string) string {
	return spaces.ReplaceAllString(number.ReplaceAllString(text, "0"), " ")
}

// maybeInvalid are the verbs that may exit with 3: where other tests keep the machine busy, a short run may be INVALID.
const maybeInvalid = "run compare validate"

// run runs commands that have to succeed.
func (w *walk) run(t *testing.T, script string) {
	t.Helper()
	tolerant := fmt.Sprintf(`terastal() {
	code=0
	command terastal "$@" || code=$?
	case "$code: %s " in "%d:"*" $1 "*) return 0;; esac
	return $code
}
set -ex
`, maybeInvalid, exitInvalid)
	cmd := exec.Command("sh", "-c", tolerant+script)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"),
		"ONNXRUNTIME_LIB="+w.library, "TERASTAL_CACHE="+filepath.Join(w.dir, ".cache"))
	out, err := cmd.CombinedOutput()
	w.output = string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
