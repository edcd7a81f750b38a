// Package document reads and writes Terastal's files: JSON documents with a kind, a schema version and a checksum,
// written atomically and refused when damaged, of another kind or of another version. What it reads may be gzipped.
package document

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Why a file is refused.
var (
	ErrDamaged = errors.New("damaged")
	ErrKind    = errors.New("of another kind")
	ErrVersion = errors.New("of another version")
)

// MaxBytes bounds what Read takes into memory.
const MaxBytes = 1 << 30

type envelope struct {
	Kind    string          `json:"terastal"`
	Version int             `json:"version"`
	SHA256  string          `json:"sha256"` // of the body without insignificant space
	Body    json.RawMessage `json:"body"`
}

// Encode returns the document that holds v, indented, with its checksum.
func Encode(kind string, version int, v any) (_ []byte, err error) {
	defer wrap(&err, "encode %s", kind)
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(envelope{kind, version, checksum(body), body}, "", " ")
	return append(data, '\n'), err
}

// Decode checks data and fills v from it. Keys that v does not have are errors.
func Decode(data []byte, kind string, version int, v any) error {
	var e envelope
	if err := strict(data, &e); err != nil {
		return fmt.Errorf("%w: not a terastal document: %w", ErrDamaged, err)
	}
	if e.Kind != kind {
		return fmt.Errorf("%w: it is a %q document, need %q", ErrKind, e.Kind, kind)
	}
	if e.Version != version {
		return fmt.Errorf("%w: it has schema version %d, this terastal reads %d: make it again", ErrVersion, e.Version, version)
	}
	var body bytes.Buffer
	if err := json.Compact(&body, e.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sum := checksum(body.Bytes()); sum != e.SHA256 {
		return fmt.Errorf("%w: its checksum does not match its content; it was changed or cut after it was written", ErrDamaged)
	}
	if err := strict(body.Bytes(), v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Write writes the document that holds v to path, atomically, making the folder it lies in if need be.
func Write(path, kind string, version int, v any) error {
	data, err := Encode(kind, version, v)
	if err != nil {
		return err
	}
	return WriteFile(path, data)
}

// WriteFile writes any file atomically, making the folder it lies in if need be.
func WriteFile(path string, data []byte) error {
	return WriteStream(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteStream writes any file atomically as write gives it, making the folder it
// lies in if need be. After an error the file is as it was.
func WriteStream(path string, write func(io.Writer) error) (err error) {
	defer wrap(&err, "write %s", path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// wrap says what was being done when an error came.
func wrap(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf(format+": %w", append(args, *err)...)
	}
}

// Gzipped is what the name of a document ends with that is gzipped. Read looks at the content, not at the name.
const Gzipped = ".gz"

// Read fills v from the document at path, which may be gzipped; see Decode.
func Read(path, kind string, version int, v any) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", kind, err)
	}
	defer f.Close()
	defer wrap(&err, "read %s %s", kind, path)
	data, err := content(f, MaxBytes)
	if err != nil {
		return err
	}
	return Decode(data, kind, version, v)
}

// content is what is in a file, of at most so many bytes, unpacked where it is gzipped.
func content(f io.Reader, most int64) ([]byte, error) {
	r := bufio.NewReader(f)
	from := io.Reader(r)
	if magic, _ := r.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrDamaged, err)
		}
		from = z
	}
	data, err := io.ReadAll(io.LimitReader(from, most+1))
	switch {
	case err != nil && from != io.Reader(r):
		return nil, fmt.Errorf("%w: gzip: %w", ErrDamaged, err)
	case err != nil:
		return nil, err
	case int64(len(data)) > most:
		return nil, fmt.Errorf("larger than %d bytes", most)
	}
	return data, nil
}
