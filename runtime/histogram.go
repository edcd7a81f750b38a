package runtime

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that are at most 3 % wide. The zero value is empty; adding never allocates.
type Histogram struct {
	counts [histogramBuckets]uint32
	n      uint64
	sum    time.Duration
	most   time.Duration
}

const (
	histogramBits    = 5 // buckets per power of two: 2^5
	histogramBuckets = (40 - histogramBits + 1) << histogramBits
	histogramLargest = time.Duration(1)<<40 - 1 // 18 minutes; more is counted as that
)

// Add counts one duration.
func (h *Histogram) Add(d time.Duration) {
	d = max(0, min(d, histogramLargest))
	h.counts[bucket(uint64(d))]++
	h.n++
	h.sum += d
	h.most = max(h.most, d)
}

func bucket(x uint64) int {
	shift := max(0, bits.Len64(x)-histogramBits-1)
	return shift<<histogramBits + int(x>>shift)
}

// N is how many durations were counted.
func (h *Histogram) N() int { return int(h.n) }

// Sum is their sum.
func (h *Histogram) Sum() time.Duration { return h.sum }

// Max is the longest.
func (h *Histogram) Max() time.Duration { return h.most }

// Quantile is the duration that a share q of those counted does not exceed; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	var seen uint64
	for b, c := range h.counts {
		if seen += uint64(c); c > 0 && (seen > rank || seen == h.n) {
			return min(upper(b), h.most)
		}
	}
	return 0
}

// upper is the longest duration of a bucket.
func upper(b int) time.Duration {
	shift := max(0, b>>histogramBits-1)
	return time.Duration(b-shift<<histogramBits+1)<<shift - 1
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(o *Histogram) {
	for b, c := range o.counts {
		h.counts[b] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.most = max(h.most, o.most)
}
