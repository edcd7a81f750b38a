package document

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/terastal/terastal/internal/testkit"
)

// TestWriteStream: a file is there as a whole or as it was, and nothing next to it.
func TestWriteStream(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made")
	path := filepath.Join(folder, "file")
	write := func(text string, err error) error {
		return WriteStream(path, func(w io.Writer) error {
			_, e := io.WriteString(w, text)
			return errors.Join(e, err)
		})
	}
	testkit.OK(t, write("first", nil))
	testkit.Fails(t, write("half", errors.New("disk full")), "disk full", path)
	if data, err := os.ReadFile(path); err != nil || string(data) != "first" {
		t.Errorf("%q, %v", data, err)
	}
	if files, _ := os.ReadDir(folder); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}
