package glyphs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"testing"

	"github.com/terastal/terastal/internal/glyphs"
	"github.com/terastal/terastal/internal/sequential"
	"github.com/terastal/terastal/internal/testkit"
)

// The published accuracies hold for these very pixels. A change that moves a hash needs new networks.
func TestImagesStayTheSameForEver(t *testing.T) {
	for _, c := range []struct {
		split glyphs.Split
		index uint32
		class string
		sha   string
	}{
		{glyphs.Train, 0, "0", "52a2413ed2262dd4403a3c38b2fc5937dc24372a7597cdc9bde19b33072d3e5b"},
		{glyphs.Train, 299_999, "V", "3dc5a51f16e4cc99c70231112c3af1e495ec117ab7ae7503074e66aa03285855"},
		{glyphs.Calibration, 41, "n", "9e843c922fe1d63746f8df17b78c6814b408bbacfae50ac350fad3dc520d8b20"},
		{glyphs.Test, 0, "0", "bd49ec12cc092dc64124241d13103fc2fe8d2c894e0e5d436a8506cb9a11d173"},
		{glyphs.Test, 1<<32 - 1, "W", "d598110a6d21db5cbc07418252e90a45ae3f0327f609149fe7a087daa5a3f2b8"},
	} {
		pixels, label := glyphs.Image(c.split, c.index)
		sum := sha256.Sum256(pixels)
		if got := hex.EncodeToString(sum[:]); got != c.sha {
			t.Errorf("%s %d: SHA-256 %s, want %s", c.split, c.index, got, c.sha)
		}
		if got := glyphs.Classes[label : label+1]; got != c.class {
			t.Errorf("%s %d: labelled %s, want %s", c.split, c.index, got, c.class)
		}
	}
}

func TestNoTwoImagesAreAlike(t *testing.T) {
	sequential.Skip(t)
	seen := make(map[string]uint64)
	for _, split := range []glyphs.Split{glyphs.Train, glyphs.Calibration, glyphs.Test} {
		for i := range uint32(1000) {
			pixels, _ := glyphs.Image(split, i)
			id := glyphs.ID(split, i)
			if other, ok := seen[string(pixels)]; ok {
				t.Errorf("images %#x and %#x are the same", id, other)
			}
			seen[string(pixels)] = id
		}
	}
}

// The last id of a split is below the first of the next.
func TestSplitsAreRangesOfTheirOwn(t *testing.T) {
	const last = 1<<32 - 1
	for _, split := range []glyphs.Split{glyphs.Train, glyphs.Calibration} {
		if a, b := glyphs.ID(split, last), glyphs.ID(split+1, 0); a+1 != b {
			t.Errorf("%s ends at %#x, %s begins at %#x", split, a, split+1, b)
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	const n = 100
	var forward [n][]byte
	for i := range uint32(n) {
		forward[i], _ = glyphs.Image(glyphs.Test, i)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := n - 1; i >= 0; i-- {
				if pixels, _ := glyphs.Image(glyphs.Test, uint32(i)); !bytes.Equal(pixels, forward[i]) {
					t.Errorf("image %d is another one the second time", i)
				}
			}
		})
	}
	group.Wait()
}

func TestClassesAreBalancedAndDistinct(t *testing.T) {
	if n := len(glyphs.Classes); n < 36 {
		t.Errorf("%d classes, want 36 or more", n)
	}
	counts := make(map[byte]int)
	for i := range uint32(10 * len(glyphs.Classes)) {
		counts[glyphs.Classes[glyphs.Label(i)]]++
	}
	for i := range len(glyphs.Classes) {
		if c := glyphs.Classes[i]; counts[c] != 10 || strings.IndexByte(glyphs.Classes, c) != i {
			t.Errorf("class %q has %d of 10 images, or is listed twice", c, counts[c])
		}
	}
}

func TestTensorIsNormalised(t *testing.T) {
	got := glyphs.Tensor([]byte{0, 128, 255})
	if len(got) != 3 || got[0] != -2 || got[1] != 0 || got[2] != 127./64 {
		t.Errorf("got %v", got)
	}
}

func TestSplitNames(t *testing.T) {
	for _, split := range []glyphs.Split{glyphs.Train, glyphs.Calibration, glyphs.Test} {
		if got, err := glyphs.ParseSplit(split.String()); err != nil || got != split {
			t.Errorf("%s reads as %v, %v", split, got, err)
		}
	}
	testkit.Refused(glyphs.ParseSplit("validation"))(t, "validation")
}
