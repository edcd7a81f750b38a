// Package enginecache keeps what execution providers compile from models, from run to run: engines of TensorRT, blobs
// of OpenVINO, contexts of QNN. It is for package ort. It does not know what an engine is: to it, it is a folder of
// files that belongs to a key.
//
// An entry is never stale, because its folder's name is a hash of everything that it was made from and for; never half
// written, because it is filled under another name first; and never damaged, because the hashes of its files are
// checked before it is used. Engines are as good as code: folders are readable by their owner only, and a root that
// others may write to is refused.
package enginecache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Key is everything that an engine depends on.
type Key struct {
	Model    string            `json:"model"`    // SHA-256 of the ONNX model
	Provider string            `json:"provider"` // such as "tensorrt"
	Library  string            `json:"library"`  // what tells the provider's libraries from others
	Runtime  string            `json:"runtime"`  // the same for ONNX Runtime
	Device   string            `json:"device"`   // of the provider's
	Machine  string            `json:"machine"`  // processor, drivers, kernel
	Options  map[string]string `json:"options"`  // of the session, all of them
}

// Sum names the entry: a hash of every part with its length, so that no two keys share one.
func (k Key) Sum() string {
	h := sha256.New()
	parts := []string{"terastal engine 1", k.Model, k.Provider, k.Library, k.Runtime, k.Device, k.Machine}
	for _, key := range slices.Sorted(maps.Keys(k.Options)) {
		parts = append(parts, key, k.Options[key])
	}
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Entry is the folder of a key.
type Entry struct {
	// Dir is where the provider finds its engine, or leaves it.
	Dir string
	// Hit is true where there is one.
	Hit bool

	root, final string
	key         Key
}

// manifest says what an entry holds. It lies next to the folder that the provider
// writes to, so that what it writes later cannot replace it.
type manifest struct {
	Key   Key               `json:"key"`
	Files map[string]string `json:"files"` // SHA-256 by path
}

const (
	manifestName = "engine.json"
	filesName    = "files"
)

// wrap says where an error comes from.
func wrap(err *error) {
	if *err != nil {
		*err = fmt.Errorf("engine cache: %w", *err)
	}
}

// Open finds the entry of a key under root, which is created. Where there is none, or a damaged one, the caller has the
// provider fill Dir, and then calls Commit or Discard.
func Open(root string, k Key) (_ *Entry, err error) {
	defer wrap(&err)
	if err := private(root); err != nil {
		return nil, err
	}
	e := &Entry{root: root, final: filepath.Join(root, k.Sum()), key: k}
	if intact(e.final) == nil {
		e.Dir, e.Hit = filepath.Join(e.final, filesName), true
		// What was used last is kept longest.
		now := time.Now()
		_ = os.Chtimes(e.final, now, now)
		return e, nil
	}
	if err := os.RemoveAll(e.final); err != nil { // it is damaged, if it is there
		return nil, err
	}
	temporary, err := os.MkdirTemp(root, temporaryPrefix)
	if err != nil {
		return nil, err
	}
	e.Dir = filepath.Join(temporary, filesName)
	return e, os.Mkdir(e.Dir, 0o700)
}

const temporaryPrefix = ".filling-"

// Check tells whether entries can be kept under a root, which is created.
func Check(root string) (err error) {
	defer wrap(&err)
	if err := private(root); err != nil {
		return err
	}
	probe, err := os.MkdirTemp(root, temporaryPrefix)
	if err != nil {
		return err
	}
	return os.Remove(probe)
}

// private makes sure that only its owner can write to the root.
func private(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(root)
	if err == nil && info.Mode().Perm()&0o022 != 0 {
		err = fmt.Errorf("others may write to %s, and an engine is as good as code: chmod go-w it", root)
	}
	return err
}

// intact returns nil where a folder holds what its manifest says.
func intact(folder string) error {
	data, err := os.ReadFile(filepath.Join(folder, manifestName))
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	have, err := sums(filepath.Join(folder, filesName))
	switch {
	case err != nil:
		return err
	case m.Key.Sum() != filepath.Base(folder):
		return errors.New("it belongs to another key")
	case len(have) == 0 || !maps.Equal(have, m.Files):
		return errors.New("its files have changed")
	}
	return nil
}

// sums are the hashes of the files below a folder, by path.
func sums(folder string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no file", d.Name())
		}
		name, err := filepath.Rel(folder, path)
		if err == nil {
			out[filepath.ToSlash(name)], err = SHA256(path)
		}
		return err
	})
	return out, err
}

// SHA256 is the hash of a file, in hexadecimal.
func SHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// Commit makes what the provider left in Dir the entry of the key, at once. An entry that another process made
// meanwhile stays; a provider that left nothing makes none. limit bounds the size of all entries in bytes: those used
// longest ago are removed.
func (e *Entry) Commit(limit int64) (err error) {
	if e.Hit {
		return nil
	}
	defer wrap(&err)
	defer e.Discard()
	files, err := sums(e.Dir)
	if err != nil || len(files) == 0 {
		return err
	}
	data, err := json.MarshalIndent(manifest{Key: e.key, Files: files}, "", "  ")
	if err != nil {
		return err
	}
	temporary := filepath.Dir(e.Dir)
	if err := os.WriteFile(filepath.Join(temporary, manifestName), data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, e.final); err != nil && intact(e.final) != nil {
		return err
	}
	return prune(e.root, filepath.Base(e.final), limit)
}

// Discard removes what was not committed, or an entry that turned out to be of no use.
func (e *Entry) Discard() {
	_ = os.RemoveAll(filepath.Dir(e.Dir)) // what is left is removed as abandoned
}

// abandoned is after how long a folder that is being filled belongs to nobody.
const abandoned = 24 * time.Hour

// prune removes entries, but not the one to keep, until the rest is at most as
// large as the limit, and what nobody will finish.
func prune(root, keep string, limit int64) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	type known struct {
		path string
		used time.Time
		size int64
	}
	var list []known
	var total int64
	for _, d := range entries {
		info, err := d.Info()
		if err != nil || !d.IsDir() {
			continue
		}
		path := filepath.Join(root, d.Name())
		if len(d.Name()) != sha256.Size*2 {
			if strings.HasPrefix(d.Name(), temporaryPrefix) && time.Since(info.ModTime()) > abandoned {
				_ = os.RemoveAll(path)
			}
			continue
		}
		size := weight(path)
		total += size
		if d.Name() != keep {
			list = append(list, known{path, info.ModTime(), size})
		}
	}
	slices.SortFunc(list, func(a, b known) int { return a.used.Compare(b.used) })
	for _, k := range list {
		if total <= limit {
			break
		}
		if err := os.RemoveAll(k.path); err != nil {
			return err
		}
		total -= k.size
	}
	return nil
}

// weight is the size of the files below a folder.
func weight(folder string) (size int64) {
	_ = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}
